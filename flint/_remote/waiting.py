"""Coroutines that ask a remote place more than once. They do what `flint._surface` does in the
calls of the same names, with answers that are awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._surface.line import Pause, Refusal, all_units, refused
from flint._surface.loop import LoopSleeper

if TYPE_CHECKING:
    from typing import SupportsIndex

    from flint._native import Result
    from flint._surface.arguments import Seconds
    from flint._surface.line import Lines
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike


async def acquire(
    place: AnyLimiter,
    lines: Lines,
    key: str,
    cost: SupportsIndex,
    timeout: Seconds | None,
    limit: RateLike | None,
) -> Result:
    """`aacquire`."""
    sleeper = LoopSleeper()
    waiter = lines.stand(await place.apeek(key, cost, limit=limit), timeout, limit, sleeper)
    try:
        while True:
            asked = await place.apeek(waiter.key, waiter.cost, limit=limit)
            move = lines.move(waiter, asked)
            if isinstance(move, Pause):
                await sleeper.sleep(move)
                continue
            if isinstance(move, Refusal):
                units = all_units(waiter, asked, move.units_ahead)
                later = await place.apeek(waiter.key, units, limit=limit)
                return refused(asked, later.retry_after_ns)
            result = await place.acheck(waiter.key, waiter.cost, limit=limit)
            if lines.settles(waiter, result):
                return result
    finally:
        lines.leave(waiter)
