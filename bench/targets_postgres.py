"""Limiters whose counters are in one PostgreSQL server: Flint's and others. Runs in the environment
of the peers too, where there is no Flint. A side is told the server's URL, and whether it lets in
or refuses."""

from __future__ import annotations

import importlib.metadata
import os
import random

from targets_places import KEYS, MANY, PATIENCE_S, Awaiting, module
from targets_sharing import Asking

DAY_S = 86_400


def shuffled() -> list[str]:
    """So that clients at the same time do not ask for the same key all the while."""
    return random.Random(os.getpid()).sample(KEYS, len(KEYS))


class Flint(Asking):
    """One of its algorithms."""

    def __init__(self, algorithm: str, url: str, sync: str, *, allows: bool) -> None:
        limiter = module("flint").PostgresLimiter(url, sync=sync, timeout=PATIENCE_S)
        self.limiter = limiter
        rate, per = (MANY, "1s") if allows else (1, "1d")
        self.limiter.limit("user:*", rate, per=per, algorithm=algorithm)
        super().__init__(self.limiter.allow, shuffled())
        self.versions = {"psycopg": importlib.metadata.version("psycopg")}

    def close(self) -> None:
        self.limiter.close()


class Pyrate(Asking):
    """Its bucket limits all keys together, and refuses who finds another one in it."""

    def __init__(self, url: str, *, allows: bool) -> None:
        peer = module("pyrate_limiter")
        self.pool = module("psycopg_pool").ConnectionPool(url, min_size=1, max_size=2, open=True)
        rate = peer.Rate(MANY, 1000) if allows else peer.Rate(1, DAY_S * 1000)
        limiter = peer.Limiter(peer.PostgresBucket(self.pool, "bench", [rate]))
        super().__init__(
            lambda key: bool(limiter.try_acquire(key, blocking=False)),
            shuffled(),
        )
        self.versions = {"pyrate-limiter": importlib.metadata.version("pyrate-limiter")}

    def close(self) -> None:
        self.pool.close()


class Fluxlimit(Awaiting):
    """`token_bucket` or `fixed_window`. Its table has been made."""

    def __init__(self, url: str, policy: str, *, allows: bool) -> None:
        peer = module("fluxlimit")
        if policy == "token_bucket":
            rate, burst = (float(MANY), MANY) if allows else (1 / DAY_S, 1)
            rule = peer.LimitRule(
                "bench", peer.TokenBucket(), peer.TokenBucketConfig("bench", rate, burst)
            )
        else:
            most, window_s = (MANY, 1) if allows else (1, DAY_S)
            rule = peer.LimitRule(
                "bench", peer.FixedWindow(), peer.FixedWindowConfig("bench", most, window_s)
            )
        self.limiter = peer.RateLimiter(peer.PostgresBackend(url), default_rule=rule)
        super().__init__(self.allows, shuffled())
        self.loop.run_until_complete(self.limiter.connect())
        self.versions = {
            name: importlib.metadata.version(name) for name in ("fluxlimit", "asyncpg")
        }

    async def allows(self, key: str) -> bool:
        return bool((await self.limiter.check(key)).allowed)

    def close(self) -> None:
        self.loop.run_until_complete(self.limiter.disconnect())
        super().close()
