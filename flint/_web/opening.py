"""The limiter that a skin is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flint._places import connect
from flint._web.keys import limit_of
from flint.errors import ClosedError, LockedError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from flint._surface.protocol import AnyLimiter
    from flint._web.policy import Policy

_HELD = (
    "flint.W003: every worker process of a server opens its limiter, and only one of them can have "
    "the data directory alone. Let them share it, flint.Limiter(path, shared=True), or run one "
    "worker, or let the workers share the limiter of a server: `flint server start` and its URL "
    "here, http://127.0.0.1:7878; see docs/web.md"
)


def opened(limiter: AnyLimiter | str | os.PathLike[str], **options: Any) -> AnyLimiter:
    """The limiter, or the one that `flint.connect` opens at a URL or path, with options. Raises
    ClosedError for one that is closed, and what opening raises."""
    if isinstance(limiter, str) or hasattr(limiter, "__fspath__"):
        try:
            return connect(cast("str", limiter), **options)
        except LockedError as error:
            raise LockedError(f"{error}. {_HELD}") from None
    if not hasattr(limiter, "acheck"):
        raise TypeError(f"limiter must be a limiter, or where flint.connect opens one: {limiter!r}")
    if limiter.closed:
        raise ClosedError("limiter must be open, and this one has been closed")
    return limiter


def opened_for(
    policies: Iterable[Policy], limiter: AnyLimiter | str | os.PathLike[str]
) -> AnyLimiter:
    """The limiter, as `opened` gives it, for these policies. Raises ValueError, too, for limits
    that are the name of no rate which the limiter has."""
    found = opened(limiter)
    try:
        check_names(policies, found)
    except ValueError:
        if found is not limiter:
            found.close()
        raise
    return found


def check_names(policies: Iterable[Policy], limiter: AnyLimiter) -> None:
    for policy in policies:
        try:
            limit_of(limiter, policy)
        except ValueError as error:
            raise type(error)(f"limits: {error}") from None
