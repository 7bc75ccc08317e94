"""Every public name of `flint`, which hands them out from here: what is never asked for need not be
loaded, and `flint version` asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

try:
    from flint._native import Result
    from flint._native import version as __version__
except ModuleNotFoundError as error:
    if error.name != "flint._native":
        raise
    raise ModuleNotFoundError(
        f"Flint's extension is not built in {str(Path(__file__).parent)!r}. In a source checkout "
        "`python setup.py build_ext --inplace` builds it, as every command of ./dev does; to use a "
        "Flint that is installed, start Python in another directory",
        name=error.name,
    ) from None

from flint._places import connect
from flint._surface.protocol import AnyLimiter
from flint._surface.rate import LimitDict
from flint._surface.types import (
    Algorithm,
    CheckAllDict,
    DamageDict,
    DoctorDict,
    HistoryConfigDict,
    HistoryDict,
    HistoryItemDict,
    InfoDict,
    Item,
    ItemDict,
    ItemResultDict,
    Mapped,
    OnError,
    StatusDict,
    Sync,
    Total,
    WhenFull,
)
from flint.errors import (
    ClosedError,
    ConfigError,
    CorruptionError,
    DiskFullError,
    FlintConnectionError,
    FlintError,
    FlintOSError,
    FlintPermissionError,
    FlintServerError,
    FlintWarning,
    ForkedError,
    HistoryGoneError,
    LockedError,
    NotConfiguredError,
    PoisonedError,
    RateError,
    RateLimitExceeded,
    ReadOnlyError,
    TableFullError,
    UnsupportedError,
)
from flint.limiter import Limiter, doctor
from flint.prometheus import CONTENT_TYPE, add_prometheus_route, prometheus_metrics

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    from flint._surface.rate import RateLike
    from flint._what_if import what_if
    from flint.config import from_config
    from flint.postgres import PostgresLimiter
    from flint.redis import RedisLimiter
    from flint.shared import SharedLimiter

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")

__all__ = [
    "CONTENT_TYPE",
    "Algorithm",
    "AnyLimiter",
    "CheckAllDict",
    "CheckResult",
    "ClosedError",
    "ConfigError",
    "CorruptionError",
    "DamageDict",
    "DiskFullError",
    "DoctorDict",
    "FlintConnectionError",
    "FlintError",
    "FlintOSError",
    "FlintPermissionError",
    "FlintServerError",
    "FlintWarning",
    "ForkedError",
    "HistoryConfigDict",
    "HistoryDict",
    "HistoryGoneError",
    "HistoryItemDict",
    "InfoDict",
    "Item",
    "ItemDict",
    "ItemResultDict",
    "LimitDict",
    "Limiter",
    "LockedError",
    "Mapped",
    "NotConfiguredError",
    "OnError",
    "PoisonedError",
    "PostgresLimiter",
    "RateError",
    "RateLimitExceeded",
    "ReadOnlyError",
    "RedisLimiter",
    "Result",
    "SharedCheckResult",
    "SharedLimiter",
    "StatusDict",
    "Sync",
    "TableFullError",
    "Total",
    "UnsupportedError",
    "WhenFull",
    "__version__",
    "add_prometheus_route",
    "connect",
    "doctor",
    "from_config",
    "get_include",
    "get_library_dir",
    "prometheus_metrics",
    "rate_limit",
    "what_if",
]

# Their names in Flint 0.2.
CheckResult = Result
SharedCheckResult = Result


def __getattr__(name: str) -> object:
    if name == "from_config":  # who has no file loads no reader of one
        from flint.config import from_config

        return from_config
    if name == "what_if":
        from flint._what_if import what_if

        return what_if
    if name == "SharedLimiter":  # who asks no server loads no http.client
        from flint.shared import SharedLimiter

        return SharedLimiter
    if name == "PostgresLimiter":  # which needs what an extra brings
        from flint.postgres import PostgresLimiter

        return PostgresLimiter
    if name == "RedisLimiter":
        from flint.redis import RedisLimiter

        return RedisLimiter
    raise AttributeError(f"module 'flint._public' has no attribute {name!r}")


def rate_limit(
    limits: RateLike,
    *,
    key: str | Callable[..., Any] | tuple[Any, ...] | None = None,
    limiter: AnyLimiter | str | os.PathLike[str] | None = None,
    scope: str | None = None,
    **options: Any,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Return a decorator that limits a function, whatever framework calls it, or none.

    >>> @rate_limit("2/day", limiter=Limiter(":memory:"))
    ... def send() -> str:
    ...     return "sent"
    >>> send(), send()
    ('sent', 'sent')

    Where there is a request (an argument that is one of FastAPI, Starlette, Django or aiohttp, or
    Flask's context; FastAPI's routes need not take it), `key` says whose requests count together:
    "ip", the client's address, by default, or what else a `Policy` takes (docs/web.md). What is too
    much is answered as the framework does: by its HTTPException in FastAPI, Starlette and Flask, by
    a response with status 429 in Django and aiohttp. Rate limit headers are added.

    Without a request RateLimitExceeded is raised, and all calls count together, or those with the
    same `key(*args, **kwargs)`. Coroutine functions do not block the event loop.

    Each function has counters of its own, also one that is called like another; a `scope` is shared
    by all that have it and the same limits. The other options are those of `Policy`, without
    `when`, `problem` and `on_denied`. `limiter` is a limiter, or a path or URL, which is opened at
    the first call. Without it it is the application's (`app.state.limiter`, the extension of
    `flint.flask`, `settings.FLINT`, `flint.aiohttp.setup`), else that of the environment's
    FLINT_URL or FLINT_DATA_DIR, else the one in `.flint`.

    Stands below what makes the function a route. Raises TypeError or ValueError for an option, with
    its name, and ClosedError for a limiter that is closed.
    """
    from flint import _rate_limit

    given = options if scope is None else {**options, "scope": scope}
    return _rate_limit.rate_limit(limits, key, limiter, given)


def get_include() -> str:
    """The directory that holds `flint_limiter.h`, the header of the C library."""
    return str(Path(__file__).parent / "include")


def get_library_dir() -> str:
    """The directory that holds `libflint_limiter.so`."""
    return str(Path(__file__).parent / "lib")
