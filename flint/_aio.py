"""What `Limiter`'s coroutine methods await. Loaded by the first of them that has to wait, so that
`import flint` loads no asyncio.

An admission in always mode has a ticket, its place in the log. One `_Watcher` per limiter and event
loop completes what waits there as the disk catches up: the loop reads one eventfd, however many
wait, and no thread is used. It lives while anybody waits, so a loop or a limiter that is idle holds
nothing of the other, and what a closed loop leaves behind goes with its coroutines.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections import deque
from typing import TYPE_CHECKING

from flint._acquire import Pause
from flint.errors import FlintError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, SupportsIndex, TypeVar

    from flint import _native
    from flint._arguments import Seconds
    from flint.limiter import Limiter

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")


async def in_thread(
    function: Callable[Parameters, Returned], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Returned:
    """The answer of a call that may wait or run long, made in the loop's default executor."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, functools.partial(function, *args, **kwargs))


async def durable(limiter: Limiter, ticket: int) -> None:
    """Return when `ticket` is on disk. Raises PoisonedError or ClosedError if it never will be."""
    loop = asyncio.get_running_loop()
    watcher = limiter._watchers.get(loop)
    if watcher is None:
        try:
            watcher = _Watcher(limiter, loop)
        except FlintError:  # being closed, or the process has no descriptor left
            await in_thread(limiter._wait_durable, ticket)
            return
        limiter._watchers[loop] = watcher
    await watcher.wait(ticket)


class _Watcher:
    """The tickets that one event loop waits for. Only `wake` may be called by other threads."""

    def __init__(self, limiter: Limiter, loop: asyncio.AbstractEventLoop) -> None:
        self._limiter = limiter
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
        self._limiter._watchers.pop(self._loop, None)
        self._pending.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        with contextlib.suppress(FlintError):
            self._limiter._unwatch(self._name)


class _LoopSleeper:
    """Sleeps in a future of its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._wake_here)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _wake_here(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def sleep(self, pause: Pause) -> None:
        """Until woken, also if that was since the sleep before."""
        if not self._woken:
            timer = None
            self._future = self._loop.create_future()
            if pause.seconds is not None:
                timer = self._loop.call_later(pause.seconds, self._wake_here)
            try:
                await self._future
            finally:
                self._future = None
                if timer is not None:
                    timer.cancel()
        self._woken = False


async def acquire(
    limiter: Limiter, key: str, cost: SupportsIndex, timeout: Seconds | None
) -> _native.Result:
    """`Limiter.aacquire`."""
    sleeper = _LoopSleeper()
    lines = limiter._lines
    waiter = lines.join(limiter, key, cost, timeout, sleeper)
    try:
        while True:
            step = lines.step(limiter, waiter)
            if isinstance(step, Pause):
                await sleeper.sleep(step)
                continue
            result, ticket = step or (await in_thread(limiter.check, waiter.key, waiter.cost), 0)
            if lines.settles(waiter, result):
                break
    finally:
        lines.leave(waiter)
    if ticket:
        await durable(limiter, ticket)
    return result
