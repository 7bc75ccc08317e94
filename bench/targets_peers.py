"""Limiters from PyPI as sides, each as its documentation has it, with the kindest settings."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from loops import Loop, MemoryLoop

KEY = "user:42"
RATE = 10**9
SECOND_MS = 1000


class Limits(MemoryLoop):
    """limits: one of its strategies over its MemoryStorage."""

    def __init__(self, strategy: str) -> None:
        limits = importlib.import_module("limits")
        strategies = importlib.import_module("limits.strategies")
        storage = importlib.import_module("limits.storage").MemoryStorage()
        hit, item = getattr(strategies, strategy)(storage).hit, limits.RateLimitItemPerYear(RATE)
        super().__init__(lambda key: hit(item, key), [KEY])
        self.versions = {"limits": importlib.metadata.version("limits")}


class Throttled(MemoryLoop):
    """throttled-py: one of its algorithms over a MemoryStore."""

    def __init__(self, using: str) -> None:
        throttled: Any = importlib.import_module("throttled")
        store = throttled.MemoryStore()
        quota = throttled.rate_limiter.per_day(RATE)
        limit = throttled.Throttled(using=using, quota=quota, store=store).limit
        super().__init__(lambda key: not limit(key).limited, [KEY])
        self.versions = {"throttled-py": importlib.metadata.version("throttled-py")}


class Pyrate(MemoryLoop):
    """PyrateLimiter in memory: its list of times, or its token bucket. A list of a longer time than
    a second would only grow."""

    def __init__(self, bucket: str) -> None:
        pyrate: Any = importlib.import_module("pyrate_limiter")
        factory: Any = importlib.import_module("pyrate_limiter.limiter_factory")
        self.limiter = (
            factory.create_token_bucket_limiter(RATE, SECOND_MS)
            if bucket == "token_bucket"
            else pyrate.Limiter(pyrate.InMemoryBucket([pyrate.Rate(RATE, SECOND_MS)]))
        )
        acquire = self.limiter.try_acquire
        super().__init__(lambda key: acquire(key, blocking=False), [KEY])
        self.versions = {"pyrate-limiter": importlib.metadata.version("pyrate-limiter")}


class PyrateSqlite(Loop):
    """PyrateLimiter's SQLite bucket. It commits, and SQLite syncs, within each call. It counts the
    rows of its window in each call too, so the window is a second."""

    chunk = 10

    def __init__(self, directory: str) -> None:
        factory: Any = importlib.import_module("pyrate_limiter.limiter_factory")
        self.limiter = factory.create_sqlite_limiter(
            RATE, SECOND_MS, str(Path(directory, "pyrate.sqlite"))
        )
        acquire = self.limiter.try_acquire
        super().__init__(lambda key: acquire(key, blocking=False), [KEY])
        self.versions = {"pyrate-limiter": importlib.metadata.version("pyrate-limiter")}

    def unsynced(self, made: int) -> int | None:  # noqa: ARG002
        return 0

    def close(self) -> None:
        self.limiter.close()


class Diskcache(Loop):
    """diskcache's throttle around a function that does nothing. Its SQLite (WAL, synchronous =
    NORMAL) syncs at checkpoints only; the file's header counts them."""

    chunk = 10

    def __init__(self, directory: str) -> None:
        diskcache: Any = importlib.import_module("diskcache")
        self.cache = diskcache.Cache(directory)
        admitted = diskcache.throttle(self.cache, RATE, 1, name=KEY)(lambda: True)
        super().__init__(lambda _key: admitted(), [KEY])
        self.wal = Path(directory, "cache.db-wal")
        self.checkpoint, self.since, self.seen = b"", 0, 0
        self.versions = {"diskcache": importlib.metadata.version("diskcache")}

    def before(self) -> None:
        self.seen = 0

    def unsynced(self, made: int) -> int | None:
        self.since += made - self.seen
        self.seen = made
        with self.wal.open("rb") as file:
            checkpoint = file.read(16)[12:]
        if checkpoint != self.checkpoint:
            self.checkpoint, self.since = checkpoint, min(self.since, self.chunk)
        return self.since

    def close(self) -> None:
        self.cache.close()
