"""The calls of a place, offered by an open data directory. The extension has most of them."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from typing import TYPE_CHECKING

from flint import _native
from flint._local.options import MEMORY
from flint._local.tickets import wait_durable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Collection

    from flint._local.options import Options
    from flint._local.watcher import Watcher
    from flint._surface.types import StatusDict

# Those that interpreter exit finds open. Keys are ids: a limiter need not be hashable.
_open_places: weakref.WeakValueDictionary[int, LocalPlace] = weakref.WeakValueDictionary()
_no_watchers: weakref.WeakValueDictionary[AbstractEventLoop, Watcher] = (
    weakref.WeakValueDictionary()
)


@atexit.register
def _close_all() -> None:
    with contextlib.ExitStack() as stack:  # closes the rest when one raises
        for reference in _open_places.valuerefs():
            place = reference()
            if place is not None:
                stack.callback(place.close)


def _adopt_shared() -> None:
    for reference in _open_places.valuerefs():
        place = reference()
        if place is not None and place._is_shared:
            place._adopt()
            place._watchers = weakref.WeakValueDictionary()


os.register_at_fork(after_in_child=_adopt_shared)


class LocalPlace(_native.LimiterBase):
    """A data directory, or the memory of this process."""

    _watchers = _no_watchers
    _is_shared = False

    def _open_directory(self, path: str, read_only: bool, options: Options) -> None:
        self._waiting(lambda: self._open(path, read_only, options), path)
        self._watchers = weakref.WeakValueDictionary()
        self._is_shared = bool(options.get("shared"))
        _open_places[id(self)] = self

    @staticmethod
    def _waiting(call: Callable[[], None], path: str | None) -> None:
        """Make a call that may wait for the disk; Ctrl-C ends the wait and not the call."""
        if path == MEMORY:
            return call()
        from flint._local.interruptible import interruptibly

        return interruptibly(call)

    def flush(self) -> None:
        """Wait until everything decided or configured before the call is on disk."""
        self._waiting(super().flush, self.data_dir)

    def compact(self, *, wait: bool = True) -> None:
        """Replace the log written so far by a snapshot, built from the files and held against the
        state in memory. Checks go on meanwhile; info tells how far it is (compaction_done_bytes of
        compaction_total_bytes). It also starts by itself when the log has outgrown the snapshot.
        wait=False only starts it."""
        compact = super().compact
        self._waiting(lambda: compact(wait=wait), self.data_dir)

    def close(self) -> None:
        self._waiting(self._close, self.data_dir)

    def _close(self) -> None:
        try:
            super().close()
        finally:
            for reference in self._watchers.valuerefs():
                watcher = reference()
                if watcher is not None:
                    watcher.wake()

    def _limits_of(self, keys: Collection[tuple[str, bool]], /) -> list[StatusDict]:
        return [one for one in self._list(None) if (one["key"], one["template"]) in keys]

    def _wait_durable(self, ticket: int) -> None:
        wait_durable(self, ticket)

    async def _await_durable(self, ticket: int) -> None:
        from flint._local.watcher import durable

        await durable(self, self._watchers, ticket)
