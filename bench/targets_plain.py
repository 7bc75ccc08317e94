"""The floors that are written in Python: a dict, a file, and a process."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from loops import Loop, MemoryLoop, Target
from targets_flint import RATE, drawn, made_keys


class DictLimiter:
    """Counts in a dict."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.used: dict[str, int] = {}

    def allow(self, key: str, cost: int = 1) -> bool:
        used = self.used.get(key, 0) + cost
        if used > self.rate:
            return False
        self.used[key] = used
        return True


class Dict(MemoryLoop):
    def __init__(self, keys: int = 1) -> None:
        names = made_keys(keys)
        limiter = DictLimiter(RATE)
        for name in names:
            limiter.allow(name)
        super().__init__(limiter.allow, drawn(names))


class PlainFile(Loop):
    """pwrite and fdatasync of 64 bytes into a file that is prepared as a segment of the log in
    always mode is: allocated, written with zeros, synced."""

    record = bytes(range(64))
    file_bytes = 8 << 20

    def __init__(self, directory: str) -> None:
        super().__init__(self.write, [""])
        path = os.path.join(directory, "plain")  # noqa: PTH118
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(self.descriptor, 0, self.file_bytes)
        os.pwrite(self.descriptor, bytes(self.file_bytes), 0)
        os.fsync(self.descriptor)
        self.offset = 0

    def write(self, _key: str) -> bool:
        os.pwrite(self.descriptor, self.record, self.offset)
        os.fdatasync(self.descriptor)
        self.offset = (self.offset + len(self.record)) % self.file_bytes
        return True

    def unsynced(self, made: int) -> int | None:  # noqa: ARG002
        return 0

    def close(self) -> None:
        os.close(self.descriptor)


class Processes(Target):
    """Runs a command, again and again."""

    def __init__(self, command: list[str]) -> None:
        super().__init__()
        self.command = command

    def run(self, calls: int) -> dict[str, Any]:
        started = time.perf_counter_ns()
        for _ in range(calls):
            subprocess.run(self.command, stdout=subprocess.DEVNULL, check=True)
        ns = time.perf_counter_ns() - started
        return {"ns": ns, "calls": calls, "allowed": 0, "denied": 0, "unsynced": None}
