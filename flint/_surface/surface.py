"""All that a limiter offers, given a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._surface.aio import AsyncSurface

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, SupportsIndex, TypeVar

    from flint._surface.arguments import Duration
    from flint._surface.types import Algorithm

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")


class Surface(AsyncSurface):
    """The calls, their coroutines, and the decorator."""

    def rate_limit(
        self,
        key: str | Callable[..., str],
        *,
        rate: SupportsIndex,
        per: Duration,
        algorithm: Algorithm = "token_bucket",
        cost: SupportsIndex = 1,
        burst: SupportsIndex | None = None,
    ) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
        """Return a decorator that lets a function be called only within a limit.

        Each call takes `cost` units; when they are not there, `RateLimitExceeded` is raised and the
        function is not called. A str `key` is configured now, unless it has a limit already, and
        taken literally. A callable `key` is called with the function's arguments and returns the
        key of the call; such limits are forgotten when nothing is used any more.

        Works on functions, methods, generator functions (checked when called, not when iterated),
        coroutine functions and asynchronous generator functions (checked without blocking the event
        loop, when awaited and when first iterated), and keeps the function's signature.
        """
        from flint._surface.decorator import RateLimit, decorate

        limit = RateLimit(self, key, rate, per, algorithm, cost, burst)
        return lambda function: decorate(limit, function)
