"""The limiter that a module of this package counts in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from flint._rate_limit import default_limiter
from flint._web.opening import opened as checked
from flint.plugins._opened import opened

if TYPE_CHECKING:
    from flint._surface.protocol import AnyLimiter

    Where: TypeAlias = AnyLimiter | str | os.PathLike[str]


def placed(where: Where | None, **options: Any) -> AnyLimiter:
    """The limiter; the one at a path or URL, which those of this process who name it share; or,
    without either, the default one: FLINT_URL, FLINT_DATA_DIR or .flint. Raises what opening
    raises, and TypeError for options of a limiter that is open."""
    if isinstance(where, (str, os.PathLike)):
        return opened(os.fspath(where), **options)
    if options:
        raise TypeError(f"options are for a limiter that is opened here: {', '.join(options)}")
    return default_limiter() if where is None else checked(where)
