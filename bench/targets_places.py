"""Limiters whose counters are in one Redis server: Flint's and others. Runs in the environment of
the peers too, where there is no Flint. A side is told the server's port, and whether it lets in or
refuses."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loops import Target
from targets_sharing import Asking

KEYS = [f"user:{number}" for number in range(1000)]
MANY = 10**6  # a second and key: everything is let in
PATIENCE_S = 30.0


def module(name: str) -> Any:
    return importlib.import_module(name)


class Awaiting(Target):
    """Awaits `allow` with one key after another."""

    def __init__(self, allow: Callable[[str], Awaitable[bool]], keys: Sequence[str]) -> None:
        super().__init__()
        self.allow = allow
        self.keys = itertools.cycle(keys)
        self.loop = asyncio.new_event_loop()

    async def several(self, calls: int) -> int:
        allowed = 0
        for key in itertools.islice(self.keys, calls):
            allowed += await self.allow(key)
        return allowed

    def run(self, calls: int) -> dict[str, Any]:
        started = time.perf_counter_ns()
        allowed = self.loop.run_until_complete(self.several(calls))
        ns = time.perf_counter_ns() - started
        counted = {"allowed": allowed, "denied": calls - allowed}
        return {"ns": ns, "calls": calls, **counted, "unsynced": None}

    def close(self) -> None:
        self.loop.close()


class Flint(Asking):
    """One of its algorithms."""

    def __init__(self, algorithm: str, port: int, *, allows: bool) -> None:
        namespace = f"flint-{algorithm}-{allows}"
        self.limiter = module("flint").RedisLimiter(
            f"redis://127.0.0.1:{port}/0", namespace=namespace, timeout=PATIENCE_S
        )
        rate, per = (MANY, "1s") if allows else (1, "1d")
        self.limiter.limit("user:*", rate, per=per, algorithm=algorithm)
        super().__init__(self.limiter.allow, KEYS)
        self.versions = {"redis-py": importlib.metadata.version("redis")}

    def close(self) -> None:
        self.limiter.close()


class Peer(Asking):
    """`kind` names the method that makes it."""

    def __init__(self, kind: str, port: int, *, allows: bool) -> None:
        self.allows = allows
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        super().__init__(getattr(self, kind)(), KEYS)
        self.versions = {self.package: importlib.metadata.version(self.package)}

    def limits_of(self, strategy: str) -> Any:
        self.package = "limits"
        storage = module("limits.storage").storage_from_string(self.url)
        limiter = getattr(module("limits.strategies"), strategy)(storage)
        words = f"{MANY}/second" if self.allows else "1/day"
        limit = module("limits").parse(words)
        return lambda key: bool(limiter.hit(limit, key))

    def limits_fixed(self) -> Any:
        return self.limits_of("FixedWindowRateLimiter")

    def limits_counter(self) -> Any:
        return self.limits_of("SlidingWindowCounterRateLimiter")

    def limits_moving(self) -> Any:
        return self.limits_of("MovingWindowRateLimiter")

    def throttled_of(self, using: str) -> Any:
        self.package = "throttled-py"
        peer = module("throttled")
        makers = peer.rate_limiter
        quota = makers.per_sec(MANY) if self.allows else makers.per_day(1)
        limiter = peer.Throttled(using=using, quota=quota, store=peer.RedisStore(server=self.url))
        return lambda key: not limiter.limit(key).limited

    def throttled_gcra(self) -> Any:
        return self.throttled_of("gcra")

    def throttled_token(self) -> Any:
        return self.throttled_of("token_bucket")

    def pyrate(self) -> Any:
        """Its bucket limits all keys together."""
        self.package = "pyrate-limiter"
        peer = module("pyrate_limiter")
        rate = peer.Rate(MANY, 1000) if self.allows else peer.Rate(1, 86_400_000)
        client = module("redis").Redis.from_url(self.url)
        limiter = peer.Limiter(peer.RedisBucket.init([rate], client, f"bench-{self.allows}"))
        return lambda key: bool(limiter.try_acquire(key, blocking=False))

    def flux_of(self, policy: str) -> Any:
        """No faster than once in a millisecond, and never undecided."""
        self.package = "flux-limiter"
        flux = module("flux.limiter")
        config = module("flux").FluxConfig(
            redis_port=self.port, fail_silently=False, timeout_ms=int(PATIENCE_S * 1000)
        )
        limits = {"requests": 1000, "period": 1, "burst": MANY}
        if not self.allows:
            limits = {"requests": 1, "period": 86_400}
        elif policy == "fixed_window":
            limits["requests"] = MANY
        limiter = flux.RateLimiter(**limits, policy=policy, config=config)
        return lambda key: limiter.hit(key).allowed

    def flux_gcra(self) -> Any:
        return self.flux_of("gcra")

    def flux_token(self) -> Any:
        return self.flux_of("token_bucket")

    def flux_fixed(self) -> Any:
        return self.flux_of("fixed_window")


class FastapiLimiter(Awaiting):
    """What its dependency asks Redis, without the web framework."""

    def __init__(self, port: int, *, allows: bool) -> None:
        peer = module("fastapi_limiter")
        self.redis = module("redis.asyncio").Redis(port=port)
        times, seconds = (MANY, 1) if allows else (1, 86_400)
        self.limiter = module("fastapi_limiter.depends").RateLimiter(times=times, seconds=seconds)
        super().__init__(self.allows, KEYS)
        self.loop.run_until_complete(peer.FastAPILimiter.init(self.redis))
        version = importlib.metadata.version("fastapi-limiter")
        self.versions = {"fastapi-limiter": version}

    async def allows(self, key: str) -> bool:
        return int(await self.limiter._check(f"fastapi-limiter:{key}:0:0")) == 0

    def close(self) -> None:
        self.loop.run_until_complete(self.redis.aclose())
        super().close()
