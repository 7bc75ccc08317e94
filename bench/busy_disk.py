"""Keeps a disk busy until it is killed: 4 MiB written and synced, again and again."""

from __future__ import annotations

import os
import sys

CHUNK = os.urandom(4 << 20)
FILE_BYTES = 64 << 20

descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
offset = 0
print("busy", flush=True)
while True:
    os.pwrite(descriptor, CHUNK, offset)
    os.fdatasync(descriptor)
    offset = (offset + len(CHUNK)) % FILE_BYTES
