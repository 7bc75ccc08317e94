"""slowapi on Flint: `from flint.compat.slowapi import Limiter, _rate_limit_exceeded_handler`.

    limiter = Limiter(key_func=get_remote_address)

is slowapi's, with all that it takes, and counts in Flint: in `limiter`, an open one or where
`flint.connect` opens one with `storage_options`; without it, that is FLINT_URL or FLINT_DATA_DIR,
else the directory .flint. The modules are named as slowapi's (`flint.compat.slowapi.errors`), and
all of their names are here too.

What slowapi 0.1.10 does otherwise:

- Its strategy is "fixed-window" unless one is given, which counts what it denies. Here it is
  "moving-window", and none counts what it denies. RATELIMIT_STRATEGY counts only with
  `strategy=None`, and RATELIMIT_STORAGE_URL not at all.
- Each check holds the event loop. Here coroutine functions and the middlewares do not.
- Two functions of one module and name have each other's limits. Here each has its own.
- A text that is no limit is logged, and the route is not limited. Here it raises ValueError where
  the route is decorated.
- Its middlewares do not see the routes of FastAPI's included routers and fail at what is mounted;
  of several routes that match they take the last. Here it is the one that answers.
- The headers are asked for again when the response is there, and added once for each decorator.
  Here they are those of the decision, once, and the reset is in whole seconds.
- A route that is exempt and limited fails. Here it is exempt.
- A cost may be any number. Here it is a whole one, not negative.

Several limits of a route are decided one after another, as there: what the first has let in counts,
though the second denies. `flint.fastapi` decides them together.

The extra `flint-limiter[slowapi]` brings Starlette.
"""

from __future__ import annotations

try:
    import starlette  # noqa: F401
except ImportError:
    raise ImportError(
        'flint.compat.slowapi needs Starlette: pip install "flint-limiter[slowapi]"'
    ) from None

from flint.compat.slowapi.errors import RateLimitExceeded
from flint.compat.slowapi.extension import Limiter, _rate_limit_exceeded_handler
from flint.compat.slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from flint.compat.slowapi.util import get_ipaddr, get_remote_address

__all__ = [
    "Limiter",
    "RateLimitExceeded",
    "SlowAPIASGIMiddleware",
    "SlowAPIMiddleware",
    "_rate_limit_exceeded_handler",
    "get_ipaddr",
    "get_remote_address",
]
