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
# By process, place and options. What no storage holds any longer is closed.
_open: weakref.WeakValueDictionary[tuple[int, str, str], AnyLimiter] = weakref.WeakValueDictionary()


def opened(url: str, **options: Any) -> AnyLimiter:
    """The limiter at `url`, which is opened with these options unless a plug-in of this process has
    it open with the same ones. Limiters in memory are never shared. Raises what opening raises."""
    place = url if is_served(url) else local_path(url)
    if place == _MEMORY:
        return connect(place, **options)
    if not is_served(place):
        place = os.path.realpath(place)
    key = (os.getpid(), place, repr(sorted(options.items())))
    with _lock:
        found = _open.get(key)
        if found is None or found.closed:
            found = _open[key] = connect(place, **options)
        return found
