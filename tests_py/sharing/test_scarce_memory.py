"""A process that shares a directory, without memory. The address sanitizer has taken all that it
wants of it before, so this file is not among those that run under it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import flint

# Memory that was freed once must not make room for what is to fail.
WITHOUT_ARENAS = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
# Has a call fail for want of memory at each step, and closes.
SCARCE = """
import resource, sys
import flint
limiter = flint.Limiter(sys.argv[1], shared=True)
assert limiter.info()["role"] == "client"
failed = succeeded = 0
for more in range(200):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + more * 2**19, resource.RLIM_INFINITY))
    try:
        entries = limiter.list()
    except MemoryError:
        failed += 1
        entries = None
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    if entries is not None:
        break
assert len(entries) == 100, entries
assert limiter.allow("k")
limiter.close()
print(failed)
"""


def test_a_call_that_finds_no_memory_keeps_nobody_from_closing(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with flint.Limiter(path, shared=True) as owner:
        owner.limit_many([(f"{i:060000}", 5, "1h") for i in range(99)])
        owner.limit("k", rate=5, per="1h")
        command = [sys.executable, "-c", SCARCE, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=WITHOUT_ARENAS
        )
        assert done.stderr == ""
        assert int(done.stdout) > 3
