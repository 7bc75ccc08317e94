"""fluxlimit's surface on Flint: `from flint.compat import fluxlimit`.

>>> import asyncio
>>> from flint.compat.fluxlimit import LimitRule, RateLimiter, TokenBucket, TokenBucketConfig
>>> rule = LimitRule("api", TokenBucket(), TokenBucketConfig("api", rate=1, burst=2))
>>> async def ask() -> list[bool]:
...     async with RateLimiter(default_rule=rule) as limiter:
...         return [(await limiter.check("alice")).allowed for _ in range(3)]
>>> asyncio.run(ask())
[True, True, False]

`FlintBackend` counts wherever `flint.connect` leads: a directory, a Flint server, PostgreSQL,
Redis. `MemoryBackend`, `PostgresBackend` and `RedisBackend` are that with fluxlimit's own
arguments.

What fluxlimit 0.1.1 does otherwise:

- Its Redis back end cuts fractions of a second off retry_after, trusts the clients' clocks, and its
  sliding window never slides while it is polled. Its PostgreSQL back end can overrun a limit and
  counts denied requests. Here each decision is one, exact, and uses nothing up when it denies.
- Its memory grows without an end. Here what is as good as new is forgotten.
- A cost above the burst is denied there with a retry_after that does not come true. Here it is
  infinity, and no Retry-After is sent.
- A rate must be at least 1e-9 a second here, and a burst at least 1: ConfigurationError.
- `X-RateLimit-Limit` is what remains and the cost there; fluxlimit's tests hold it to that, so it
  is here.
- Its gauge of what remains has a series for each key. Here it has one for each rule.
- Its Flask extension starts an event loop for each request. Here one serves all of them.

The extras that bring what the parts need: `[fastapi]`, `[flask]`, `[prometheus]`, `[postgres]`,
`[redis]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint.compat.fluxlimit._algorithms import (
    AlgorithmConfig,
    BaseAlgorithm,
    FixedWindow,
    FixedWindowConfig,
    LeakyBucket,
    LeakyBucketConfig,
    LimitResult,
    SlidingWindow,
    SlidingWindowConfig,
    TokenBucket,
    TokenBucketConfig,
)
from flint.compat.fluxlimit._backends import (
    BaseBackend,
    FlintBackend,
    MemoryBackend,
    PostgresBackend,
    RedisBackend,
)
from flint.compat.fluxlimit._core import LimitRule, RateLimiter
from flint.compat.fluxlimit._errors import (
    BackendError,
    ConfigurationError,
    FluxlimitError,
    RateLimitExceeded,
)

if TYPE_CHECKING:
    from flint.compat.fluxlimit._asgi import RateLimitMiddleware, rate_limit
    from flint.compat.fluxlimit._flask import Fluxlimit, init_fluxlimit
    from flint.compat.fluxlimit._metrics import RateLimitMetrics

__version__ = "0.1.1"

__all__ = [
    "AlgorithmConfig",
    "BackendError",
    "BaseAlgorithm",
    "BaseBackend",
    "ConfigurationError",
    "FixedWindow",
    "FixedWindowConfig",
    "FlintBackend",
    "Fluxlimit",
    "FluxlimitError",
    "LeakyBucket",
    "LeakyBucketConfig",
    "LimitResult",
    "LimitRule",
    "MemoryBackend",
    "PostgresBackend",
    "RateLimitExceeded",
    "RateLimitMetrics",
    "RateLimitMiddleware",
    "RateLimiter",
    "RedisBackend",
    "SlidingWindow",
    "SlidingWindowConfig",
    "TokenBucket",
    "TokenBucketConfig",
    "__version__",
    "init_fluxlimit",
    "rate_limit",
]

# What needs a framework is imported when it is asked for.
_ELSEWHERE = {
    "RateLimitMiddleware": "_asgi",
    "rate_limit": "_asgi",
    "Fluxlimit": "_flask",
    "init_fluxlimit": "_flask",
    "RateLimitMetrics": "_metrics",
}


def __getattr__(name: str) -> object:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE[name]}"), name)
