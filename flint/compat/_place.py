"""Where the modules of this package count, and under which key."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from flint._places import shared_options
from flint._rate_limit import default_limiter
from flint._web.opening import opened as checked
from flint.plugins._opened import opened

if TYPE_CHECKING:
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import Rate

    Where: TypeAlias = AnyLimiter | str | os.PathLike[str]


class Place:
    """The limiter that an object counts in: an open one; the one at a path or URL, which those of
    this process who name it share (but for one in memory); or, without either, the default one:
    FLINT_URL, FLINT_DATA_DIR or .flint. A directory is shared by the processes of the machine,
    unless the options say otherwise. Raises TypeError for options of a limiter that is open."""

    def __init__(self, where: Where | None, **options: Any) -> None:
        self._where = os.fspath(where) if isinstance(where, os.PathLike) else where
        if options and not isinstance(self._where, str):
            raise TypeError(f"options are for a limiter that is opened here: {', '.join(options)}")
        self._options = options
        self._opening = threading.Lock()
        self._opened_by = 0
        self._limiter: AnyLimiter | None = None

    def limiter(self) -> AnyLimiter:
        """Opened at the first call, and again where it has been closed, or by a process that was
        forked. Any thread. Raises what opening raises."""
        if self._where is None:
            return default_limiter()
        if not isinstance(self._where, str):
            return checked(self._where)
        with self._opening:
            found = self._limiter
            if found is None or found.closed or self._opened_by != os.getpid():
                options = shared_options(self._where, **self._options)
                found = self._limiter = opened(self._where, **options)
                self._opened_by = os.getpid()
            return found


def counter_of(limit: Rate, key: str) -> str:
    """The key under which a limit of its own counts: other numbers are other counters."""
    return f"{limit} @ {key}"
