"""What coroutines await. Loaded by the first of them that has to wait."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from flint._surface.line import Pause, Refusal, all_units, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, SupportsIndex, TypeVar

    from flint._native import Result
    from flint._surface.arguments import Seconds
    from flint._surface.line import Decided, Lines, Waiter
    from flint._surface.protocol import LoopPlace
    from flint._surface.rate import RateLike

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")


async def in_thread(
    function: Callable[Parameters, Returned], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Returned:
    """The answer of a call that may wait or run long, made in the loop's default executor."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, functools.partial(function, *args, **kwargs))


class LoopSleeper:
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
    place: LoopPlace,
    lines: Lines,
    key: str,
    cost: SupportsIndex,
    timeout: Seconds | None,
    limit: RateLike | None,
) -> Result:
    """`Limiter.aacquire`."""
    sleeper = LoopSleeper()
    waiter = lines.stand(await place.apeek(key, cost, limit=limit), timeout, limit, sleeper)
    try:
        while True:
            asked = await place.apeek(waiter.key, waiter.cost, limit=limit)
            move = lines.move(waiter, asked)
            if isinstance(move, Pause):
                await sleeper.sleep(move)
                continue
            decided: Decided | None
            if isinstance(move, Refusal):
                decided = await _refuse(place, waiter, asked, move.units_ahead)
            else:
                decided = place._check_now(waiter.key, waiter.cost, limit=limit)
            result, ticket = decided or (
                await in_thread(place.check, waiter.key, waiter.cost, limit=limit),
                0,
            )
            if lines.settles(waiter, result):
                break
    finally:
        lines.leave(waiter)
    if ticket:
        await place._await_durable(ticket)
    return result


async def _refuse(place: LoopPlace, waiter: Waiter, asked: Result, units_ahead: int) -> Decided:
    """Record a denial of one that gives up behind others."""
    key, cost, limit = waiter.key, waiter.cost, waiter.limit
    decided = await place._arefuse(key, cost, limit=limit)
    units = all_units(waiter, asked, units_ahead)
    later = await place.apeek(key, units, limit=limit)
    return refused(asked, later.retry_after_ns), decided[1]
