"""The limiter of a plug-in: one for each directory of a process, however many storages ask."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from flint._places import connect, is_served, local_path

if TYPE_CHECKING:
    from flint._surface.protocol import AnyLimiter

_MEMORY = ":memory:"
_lock = threading.Lock()
# For each limiter the process, the place and the options that it was opened with. What no storage
# holds any longer is closed.
_open: weakref.WeakKeyDictionary[AnyLimiter, tuple[int, str, dict[str, Any]]]
_open = weakref.WeakKeyDictionary()


def opened(url: str, **options: Any) -> AnyLimiter:
    """The limiter at `url`, which is opened with these options unless a plug-in of this process has
    it open with equal ones. Limiters in memory are never shared. Raises what opening raises."""
    place = url if is_served(url) else local_path(url)
    if place == _MEMORY:
        return connect(place, **options)
    if not is_served(place):
        place = os.path.realpath(place)
    wanted = (os.getpid(), place, options)
    with _lock:
        for limiter, found in _open.items():
            if found == wanted and not limiter.closed:
                return limiter
        limiter = connect(place, **options)
        _open[limiter] = wanted
        return limiter
