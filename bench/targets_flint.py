"""Flint as a side: this one, and Flint 0.2.1, whose methods have the same names."""

from __future__ import annotations

import ctypes
import importlib.metadata
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loops import Loop, Target, percentiles

import flint

# Of one key, an exact limit: so large that everything is allowed.
RATE, PER, PER_NS = 10**9, "36500d", 36500 * 24 * 3600 * 10**9
# Of many keys under a template: a unit comes back in an hour, so that no counter is forgotten.
TEMPLATE_RATE = 10**6
ONE_KEY = "user:42"
# Flint 0.2.1 syncs in the caller when 100 events are not on disk, its default.
MOST_UNSYNCED_OF_02 = 99


# This Flint's or Flint 0.2.1's, as the environment has it.
OPEN: Any = flint.Limiter


def version() -> str:
    found: str = getattr(flint, "__version__", None) or importlib.metadata.version("flint-limiter")
    return found


def made_keys(count: int) -> list[str]:
    return [ONE_KEY] if count == 1 else [f"user:{number:011d}" for number in range(count)]


def drawn(keys: list[str]) -> list[str]:
    """As many again, drawn uniformly, the same at every run and on every side."""
    return keys if len(keys) == 1 else random.Random(7).choices(keys, k=len(keys))


class Flint(Loop):
    """`allow()` of a directory; with `rate=1` every call but the first is denied."""

    def __init__(
        self,
        directory: str,
        sync: str = "batch",
        keys: int = 1,
        rate: int = RATE,
        threads: int = 1,
        exact: bool = True,
    ) -> None:
        self.limiter: Any = OPEN(directory, sync=sync)
        self.is_ours = hasattr(self.limiter, "info")
        names = made_keys(keys)
        super().__init__(self.limiter.allow, drawn(names))
        self.versions = {"flint" if self.is_ours else "flint-limiter 0.2.1": version()}
        self.sync = sync
        self.configure(names, rate, exact)
        self.threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self.thread_names = made_keys(threads)
        self.thread_count = threads

    def configure(self, names: list[str], rate: int, exact: bool) -> None:
        if self.is_ours and not exact:
            self.limiter.limit("user:*", rate=TEMPLATE_RATE, per=PER)
        else:
            for name in names:
                self.limiter.limit(name, rate=rate, per=PER)
        for name in names:  # makes the counters
            self.limiter.allow(name)

    def close(self) -> None:
        if self.threads is not None:
            self.threads.shutdown()
        if self.is_ours:
            self.limiter.close()

    def before(self) -> None:
        self.appended = self.limiter.info()["appended"] if self.is_ours else 0

    def unsynced(self, made: int) -> int | None:
        if not self.is_ours:
            return MOST_UNSYNCED_OF_02 if self.sync == "batch" else 0
        info = self.limiter.info()
        behind: int = info["appended"] - info["durable"]  # bytes of log
        written: int = info["appended"] - self.appended
        return -(-behind * made // max(written, 1))

    def after(self) -> None:
        if self.sync == "batch":
            self.limiter.flush()

    def run(self, calls: int) -> dict[str, Any]:
        if self.threads is None:
            return super().run(calls)
        each = max(calls // self.thread_count, 1)

        def work(name: str) -> int:
            allow = self.limiter.allow
            return sum(1 for _ in range(each) if allow(name))

        for name in self.thread_names:
            self.limiter.limit(name, rate=RATE, per=PER)
        started = time.perf_counter_ns()
        allowed = sum(self.threads.map(work, self.thread_names))
        ns = time.perf_counter_ns() - started
        made = each * self.thread_count
        # In always mode nothing that has been answered is not on disk.
        return {
            "ns": ns,
            "calls": made,
            "allowed": allowed,
            "denied": made - allowed,
            "unsynced": 0,
        }


# ---- Beside a busy thread ----------------------------------------------------------------------


class BusyThread:
    """A Python thread that never waits."""

    def __init__(self) -> None:
        self.stopped = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        while not self.stopped:
            sum(range(100))

    def stop(self) -> None:
        self.stopped = True
        self.thread.join()


class Beside(Flint):
    """Times each call while another thread is busy."""

    def run(self, calls: int) -> dict[str, Any]:
        allow, clock = self.allow, time.perf_counter_ns
        latencies = [0] * calls
        allowed = 0
        self.before()
        busy = BusyThread()
        try:
            begun = clock()
            for number in range(calls):
                started = clock()
                allowed += bool(allow(ONE_KEY))
                latencies[number] = clock() - started
            ns = clock() - begun
        finally:
            busy.stop()
        lag = self.unsynced(calls)
        self.after()
        return {
            "ns": ns,
            "calls": calls,
            "allowed": allowed,
            "denied": calls - allowed,
            "unsynced": lag,
            **percentiles(latencies),
        }


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("sync", ctypes.c_uint32),
        ("defaults", ctypes.c_uint64 * 40),
    ]


class Config(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("key", ctypes.c_char_p),
        ("key_bytes", ctypes.c_uint64),
        ("rate", ctypes.c_uint64),
        ("per_ns", ctypes.c_uint64),
        ("burst", ctypes.c_uint64),
        ("algorithm", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class Decision(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("allowed", ctypes.c_uint32),
        ("algorithm", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("numbers", ctypes.c_uint64 * 7),
    ]


class BesideReleased(Beside):
    """The same call through ctypes, which releases Python's lock around every one."""

    def __init__(self, directory: str) -> None:
        Target.__init__(self)
        self.library = ctypes.CDLL(f"{flint.get_library_dir()}/libflint_limiter.so")
        self.handle = ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), 1)
        path = directory.encode()
        self.must(
            self.library.flint_limiter_open(
                path,
                ctypes.c_uint64(len(path)),
                ctypes.byref(options),
                ctypes.byref(self.handle),
                None,
            )
        )
        key = ONE_KEY.encode()
        config = Config(ctypes.sizeof(Config), 0, key, len(key), RATE, PER_NS, 0, 1, 0)
        limit = self.library.flint_limiter_limit
        self.must(limit(self.handle, ctypes.byref(config), 0, None, None))
        self.decision = Decision(ctypes.sizeof(Decision))
        check, length, one = (
            self.library.flint_limiter_check,
            ctypes.c_uint64(len(key)),
            ctypes.c_uint64(1),
        )
        into = ctypes.byref(self.decision)

        def allow(_key: str) -> bool:
            return check(self.handle, key, length, one, 0, None, into, None) == 0 and bool(
                self.decision.allowed
            )

        self.allow = allow

    def must(self, code: int) -> None:
        if code != 0:
            raise RuntimeError(f"the library returns {code}")

    def close(self) -> None:
        self.library.flint_limiter_close(ctypes.byref(self.handle), None)

    def before(self) -> None:
        pass

    def unsynced(self, made: int) -> int | None:
        """At most all of them: the library tells bytes, and an event has more than one."""
        durable = ctypes.c_uint64()
        self.library.flint_limiter_durable(self.handle, ctypes.byref(durable), None)
        behind: int = self.decision.numbers[6] - durable.value
        return min(made, max(behind, 0))

    def after(self) -> None:
        self.library.flint_limiter_flush(self.handle, None)
