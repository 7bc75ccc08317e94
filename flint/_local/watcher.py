"""How coroutines wait for the disk. Loaded by the first of them that has to.

An admission in always mode has a ticket, its place in the log. One `Watcher` per limiter and event
loop completes what waits there as the disk catches up: the loop reads one eventfd, however many
wait, and no thread is used. It lives while anybody waits, so a loop or a limiter that is idle holds
nothing of the other, and what a closed loop leaves behind goes with its coroutines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING

from flint._local.tickets import wait_durable
from flint._surface.loop import in_thread
from flint.errors import FlintError

if TYPE_CHECKING:
    from typing import TypeAlias
    from weakref import WeakValueDictionary

    from flint._native import LimiterBase

    Watchers: TypeAlias = WeakValueDictionary[asyncio.AbstractEventLoop, "Watcher"]


async def durable(limiter: LimiterBase, watchers: Watchers, ticket: int) -> None:
    """Return when `ticket` is on disk. Raises PoisonedError or ClosedError if it never will be."""
    loop = asyncio.get_running_loop()
    watcher = watchers.get(loop)
    if watcher is None:
        try:
            watcher = Watcher(limiter, watchers, loop)
        except FlintError:  # being closed, or the process has no descriptor left
            await in_thread(wait_durable, limiter, ticket)
            return
        watchers[loop] = watcher
    await watcher.wait(ticket)


class Watcher:
    """The tickets that one event loop waits for. Only `wake` may be called by other threads."""

    def __init__(
        self, limiter: LimiterBase, watchers: Watchers, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._limiter = limiter
        self._watchers = watchers
        self._loop = loop
        self._waiting = 0
        # In order of their tickets, since only this loop's thread takes them.
        self._pending: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._name, self._fd = limiter._watch()
        loop.add_reader(self._fd, self._read)

    async def wait(self, ticket: int) -> None:
        if not self._pending:
            # The sync starts when everything that is ready to run now has taken its ticket.
            self._loop.call_soon(self._advance)
        future = self._loop.create_future()
        self._pending.append((ticket, future))
        self._waiting += 1
        try:
            await future
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self._end()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._advance)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        self._advance()

    def _advance(self) -> None:
        while self._pending:
            ticket, future = self._pending[0]
            try:
                if not self._limiter._durable(ticket, False):
                    return
            except FlintError as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():  # otherwise it was cancelled
                    future.set_result(None)
            self._pending.popleft()

    def _end(self) -> None:
        """Also called when a coroutine is thrown away with its loop."""
        self._watchers.pop(self._loop, None)
        self._pending.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        with contextlib.suppress(FlintError):
            self._limiter._unwatch(self._name)
