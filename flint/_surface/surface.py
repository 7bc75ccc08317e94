"""All that a limiter offers, given a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._surface.aio import AsyncSurface

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, SupportsIndex, TypeVar

    from flint._surface.arguments import Duration
    from flint._surface.rate import RateLike
    from flint._surface.types import Algorithm

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")


class Surface(AsyncSurface):
    """The calls, their coroutines, and the decorator."""

    def rate_limit(
        self,
        key: str | Callable[..., str],
        rate: SupportsIndex | RateLike,
        *,
        per: Duration | None = None,
        algorithm: Algorithm = "token_bucket",
        cost: SupportsIndex = 1,
        burst: SupportsIndex | None = None,
        if_absent: bool = False,
    ) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
        """Return a decorator that lets a function be called only within a limit.

        Each call takes `cost` units; when they are not there, `RateLimitExceeded` is raised and the
        function is not called. Without `per`, `rate` is in words (`flint.rates`): `"10/s"`,
        several limits, or the name of a rate of the configuration. A str `key` is taken literally
        and configured now, as by `limit`: new values take effect and what was used counts on;
        `if_absent=True` leaves a limit that exists as it is. Warns (FlintWarning) when this program
        has set the same limit to other values elsewhere. A callable `key` is called with the
        function's arguments and returns the key of the call; such limits are forgotten when nothing
        is used any more, and have the values of the call that began them until then.

        Works on functions, methods (above or below `@staticmethod` and `@classmethod`), generator
        functions (checked when called, not when iterated), coroutine functions and asynchronous
        generator functions (checked without blocking the event loop, when awaited and when first
        iterated), and keeps the function's signature.
        """
        from flint._surface.decorator import RateLimit, decorate

        limit = RateLimit(self, key, rate, per, algorithm, cost, burst, if_absent)
        return lambda function: decorate(limit, function)
