"""slowapi on Flint: `from flint.compat.slowapi import Limiter, _rate_limit_exceeded_handler`.

    limiter = Limiter(key_func=get_remote_address)

is slowapi's, with all that it takes, and counts in Flint: in `limiter`, an open one or where
`flint.connect` opens one with `storage_options`; without it, that is FLINT_URL or FLINT_DATA_DIR,
else the directory .flint. RATELIMIT_STRATEGY of the configuration counts only with `strategy=None`.
`get_remote_address`, `RateLimitExceeded`, `SlowAPIMiddleware` and `SlowAPIASGIMiddleware` are here
too, as they are in slowapi.

What slowapi does otherwise: its strategy is "fixed-window" unless one is given, which counts what
it denies. Here it is "moving-window", which does not, and is exact to the nanosecond. The docstring
of `flint.plugins.limits` says how each strategy counts. What slowapi decides itself is as there:
several limits of a route one after another, and the event loop waits for a check; `flint.fastapi`
decides them together, and does not hold the loop.

The extra `flint-limiter[slowapi]` brings slowapi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import slowapi
    from slowapi import _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
    from slowapi.util import get_ipaddr, get_remote_address
except ImportError:
    raise ImportError(
        'flint.compat.slowapi needs slowapi: pip install "flint-limiter[slowapi]"'
    ) from None

from flint.compat._storage import storage_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint.compat._place import Where

__all__ = [
    "Limiter",
    "RateLimitExceeded",
    "SlowAPIASGIMiddleware",
    "SlowAPIMiddleware",
    "_rate_limit_exceeded_handler",
    "get_ipaddr",
    "get_remote_address",
]


class Limiter(slowapi.Limiter):
    """slowapi's, counting in Flint; the module's docstring says where. Raises what `flint.connect`
    raises."""

    def __init__(
        self,
        key_func: Callable[..., str],
        default_limits: Any = (),
        application_limits: Any = (),
        headers_enabled: bool = False,
        strategy: str | None = "moving-window",
        storage_uri: None = None,
        storage_options: dict[str, Any] | None = None,
        *args: Any,
        limiter: Where | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            key_func,
            list(default_limits),
            list(application_limits),
            headers_enabled,
            strategy,
            *storage_on(limiter, storage_uri, storage_options),
            *args,
            **options,
        )
