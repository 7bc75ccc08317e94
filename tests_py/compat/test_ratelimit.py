"""ratelimit's decorators on Flint."""

from __future__ import annotations

import asyncio
import doctest
from pathlib import Path
from typing import Any

import pytest

import flint
from flint.compat import _place, ratelimit
from flint.compat.ratelimit import RateLimitException, limits, rate_limited, sleep_and_retry
from flint.testing import ManualClock

START_S = 1_700_000_000


def named() -> bool:
    return True


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(ratelimit).failed == 0


def test_a_window_begins_with_a_call() -> None:
    clock = ManualClock(START_S)
    with flint.Limiter(":memory:", clock=clock) as limiter:
        call = limits(calls=2, period=10, limiter=limiter)(lambda value: value)
        clock.advance(7)
        assert (call("a"), call(value="b")) == ("a", "b")
        clock.advance(4)
        with pytest.raises(RateLimitException, match="too many calls") as caught:
            call("c")
        assert caught.value.period_remaining == 6.0
        clock.advance(6)
        assert call("d") == "d"


def test_the_defaults_are_15_in_15_minutes() -> None:
    with flint.Limiter(":memory:") as limiter:
        decorator = rate_limited(limiter=limiter)
        assert (decorator.clamped_calls, decorator.period) == (15, 900)
        call = decorator(lambda: True)
        assert all(call() for _ in range(15))
        with pytest.raises(RateLimitException):
            call()


def test_nothing_is_raised_where_that_is_said() -> None:
    with flint.Limiter(":memory:") as limiter:
        call = limits(1, 60, raise_on_limit=False, limiter=limiter)(lambda: "called")
        assert (call(), call()) == ("called", None)

        @limits(1, 60, raise_on_limit=False, key="async", limiter=limiter)
        async def later() -> str:
            return "called"

        async def use() -> list[Any]:
            return [await later(), await later()]

        assert asyncio.run(use()) == ["called", None]


def test_calls_are_whole_and_at_least_one() -> None:
    assert [limits(calls).clamped_calls for calls in (2.9, 0, -5)] == [2, 1, 1]
    with pytest.raises(ValueError, match="per_ns"):
        limits(1, 0)
    with pytest.raises(TypeError, match="period must be a number of seconds"):
        limits(1, "minute")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        limits(1, 1, clock=lambda: 0)  # type: ignore[call-arg]


def test_who_shares_a_limit(tmp_path: Path) -> None:
    place = str(tmp_path / "limits")
    one = limits(1, 3600, key="shared", limiter=place)(lambda: True)
    other = limits(1, 3600, key="other", limiter=place)
    assert one()
    assert other(lambda: True)()
    with pytest.raises(RateLimitException):
        other(lambda: True)()


def test_it_is_still_used_after_a_restart(tmp_path: Path) -> None:
    for denied in (False, True):
        with flint.Limiter(tmp_path) as limiter:
            call = limits(1, 3600, limiter=limiter)(named)
            if denied:
                with pytest.raises(RateLimitException):
                    call()
            else:
                assert call()


def test_without_a_limiter_it_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with flint.Limiter(":memory:") as limiter:
        monkeypatch.setattr(_place, "default_limiter", lambda: limiter)
        assert limits(1, 60, key="mine")(lambda: True)()
        [status] = limiter.list(counters=True)
        assert status["key"] == "ratelimit 1/minute using fixed_window_counter @ mine"


def test_sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(START_S)
    monkeypatch.setattr(ratelimit.time, "sleep", clock.advance)

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    monkeypatch.setattr(ratelimit.asyncio, "sleep", sleep)
    with flint.Limiter(":memory:", clock=clock) as limiter:

        @sleep_and_retry
        @limits(2, 10, limiter=limiter)
        def call() -> float:
            return clock.epoch - START_S

        assert [call() for _ in range(5)] == [0, 0, 10, 10, 20]

        @sleep_and_retry
        @limits(1, 10, limiter=limiter)
        async def later() -> float:
            return clock.epoch - START_S

        async def use() -> list[float]:
            return [await later() for _ in range(2)]

        assert asyncio.run(use()) == [20, 30]
