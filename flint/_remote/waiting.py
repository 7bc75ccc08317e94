"""Coroutines that ask a remote place more than once. They do what `flint._surface` does in the
calls of the same names, with answers that are awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._remote import questions
from flint._surface.line import Pause, Refusal, all_units, refused
from flint._surface.loop import LoopSleeper
from flint._surface.several import fresh, renamed
from flint.errors import NotConfiguredError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import SupportsIndex

    from flint._native import Result
    from flint._remote.questions import Question
    from flint._surface.arguments import Seconds
    from flint._surface.line import Lines
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike, Several


async def decide_several(
    place: AnyLimiter,
    ask: Callable[[Question[None]], Awaitable[None]],
    call: str,
    key: str,
    cost: int,
    several: Several,
) -> Result:
    """The answer of `check` or `peek` about a key that the limits go with."""
    decide = place.apeek if call == "peek" else place.acheck
    try:
        return await decide(key, cost)  # a key that has limits keeps them
    except NotConfiguredError:
        pass
    own_key = several.prefix + key
    try:
        return _renamed(await decide(own_key, cost), key)
    except NotConfiguredError:
        if call == "peek":
            named = sorted(zip(several.names, several.rates, strict=True))
            peeked = [(name, await decide(own_key, cost, limit=rate)) for name, rate in named]
            return fresh(key, peeked)
    for question in questions.limit_many(several.limits, True):
        await ask(question)
    return _renamed(await decide(own_key, cost), key)


def _renamed(result: Result, key: str) -> Result:
    found: Result = renamed(result, key)
    return found


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
