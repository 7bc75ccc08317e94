"""aiolimiter's limiter on Flint."""

from __future__ import annotations

import asyncio
import doctest
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import flint
from flint.compat import _place, aiolimiter
from flint.compat.aiolimiter import AsyncLimiter
from flint.testing import ManualClock

HOUR_S = 3600


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What waits for an hour has failed."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(aiolimiter).failed == 0


def test_attributes() -> None:
    limiter = AsyncLimiter(42, 81)
    assert (limiter.max_rate, limiter.time_period) == (42, 81)
    assert repr(limiter) == "<AsyncLimiter(max_rate=42, time_period=81)>"
    assert AsyncLimiter(1).time_period == 60


def test_capacity() -> None:
    async def use() -> None:
        limiter = AsyncLimiter(3, HOUR_S)
        assert limiter.has_capacity(3)
        assert not limiter.has_capacity(4)
        await limiter.acquire(2)
        assert limiter.has_capacity()
        assert not limiter.has_capacity(2)
        await limiter.acquire(0)
        async with limiter:
            assert not limiter.has_capacity()
            assert limiter.has_capacity(0)

    run(use())


@pytest.mark.parametrize("amount", [-1, float("-inf"), float("inf"), float("nan"), 4])
def test_amounts_that_cannot_be(amount: float) -> None:
    assert not AsyncLimiter(3).has_capacity(amount)
    with pytest.raises(ValueError, match="Amount must be a number between 0 and"):
        run(AsyncLimiter(3).acquire(amount))


def test_parts_of_a_unit() -> None:
    async def use() -> None:
        limiter = AsyncLimiter(2.5, HOUR_S)
        await limiter.acquire(1.5)
        assert limiter.has_capacity()
        await limiter.acquire(0.5)
        assert not limiter.has_capacity()
        with pytest.raises(ValueError, match=r"must be a multiple of 1/2, .* not 0\.3"):
            await limiter.acquire(0.3)

    run(use())


def test_each_counts_for_itself_without_a_key() -> None:
    async def use() -> None:
        for limiter in (AsyncLimiter(1, HOUR_S), AsyncLimiter(1, HOUR_S)):
            await limiter.acquire()
            assert not limiter.has_capacity()

    run(use())


def test_it_waits_until_there_is_room() -> None:
    async def use() -> None:
        clock = ManualClock(1_700_000_000)
        with flint.Limiter(":memory:", clock=clock) as place:
            limiter = AsyncLimiter(2, 10, key="mails", limiter=place)
            order: list[int] = []

            async def take(number: int, amount: int) -> None:
                await limiter.acquire(amount)
                order.append(number)

            await limiter.acquire(2)
            waiting = [asyncio.create_task(take(1, 2)), asyncio.create_task(take(2, 1))]
            await asyncio.sleep(0)
            clock.advance(9.9)
            await asyncio.sleep(0.01)
            assert order == []
            clock.advance(0.1)
            await asyncio.wait_for(waiting[0], 60)
            assert order == [1]
            clock.advance(5)
            await asyncio.wait_for(waiting[1], 60)

    run(use())


def test_what_has_a_key_is_shared_and_outlives_the_process(tmp_path: Path) -> None:
    async def use(where: str) -> bool:
        limiter = AsyncLimiter(1, HOUR_S, key="mails", limiter=where)
        return limiter.has_capacity()

    with flint.Limiter(tmp_path) as place:
        run(AsyncLimiter(1, HOUR_S, key="mails", limiter=place).acquire())
        assert not AsyncLimiter(1, HOUR_S, key="mails", limiter=place).has_capacity()
        assert AsyncLimiter(2, HOUR_S, key="mails", limiter=place).has_capacity(2)
        assert AsyncLimiter(1, HOUR_S, key="other", limiter=place).has_capacity()
    assert not run(use(str(tmp_path)))


def test_arguments_that_cannot_be() -> None:
    with pytest.raises(TypeError, match="a limiter needs a key"):
        AsyncLimiter(1, limiter=":memory:")
    with pytest.raises(TypeError, match="time_period must be a number"):
        AsyncLimiter(1, "minute")  # type: ignore[arg-type]
    for wrong in (0, -1, float("inf")):
        with pytest.raises(ValueError, match="rate must be"):
            AsyncLimiter(wrong)


def test_without_a_limiter_it_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with flint.Limiter(":memory:") as place:
        monkeypatch.setattr(_place, "default_limiter", lambda: place)
        run(AsyncLimiter(1, key="mine").acquire())
        [status] = place.list(counters=True)
        assert status["key"] == "1/minute using leaky_bucket @ mine"
