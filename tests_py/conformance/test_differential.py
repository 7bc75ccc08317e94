"""Stores that decide themselves, beside the embedded engine, under one clock: every answer is the
same, to the nanosecond."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from in_redis import redis_server
from postgres import database

import flint
from flint.redis import RedisLimiter
from flint.testing import ManualClock

CLOCKED: dict[str, Callable[[ManualClock], Any]] = {
    "postgres": database.clocked,
    "redis": redis_server.clocked,
    # Most of its checks are decided in another way.
    "redis without totals": partial(redis_server.clocked, totals=False),
}
STEPS = 10_000 if os.environ.get("FLINT_LONG") else 300
START_S = 1_700_000_000
ALGORITHMS = [
    "token_bucket",
    "gcra",
    "leaky_bucket",
    "fixed_window_counter",
    "sliding_window_log",
    "sliding_window_counter",
]
# Rates, periods and bursts whose products have more than 64 bits among them.
NUMBERS = [
    (3, 10**9, None),
    (7, 60 * 10**9, 11),
    (10, 1, 10),
    (2**31 - 1, 86_400 * 10**9, None),
    (2**62, 2**62, None),
    (2**62 - 1, 2**61 + 1, 2**62 - 3),
    (1, 2**60, 4),
    (999_999_937, 10**18 + 9, 123_456_789),
]


def answered(call: Callable[[], Any]) -> Any:
    """The answer, or the error with its message."""
    try:
        return call()
    except (flint.FlintError, ValueError, TypeError) as error:
        return type(error), str(error)


class Pair:
    """Two limiters that are asked the same."""

    def __init__(self, one: flint.AnyLimiter, other: flint.AnyLimiter) -> None:
        self._both = one, other
        self._is_redis = isinstance(one, RedisLimiter)
        self._has_totals = not self._is_redis or one._questions._has_totals

    def shown(self, answer: Any) -> Any:
        """With sums of costs that end where those of stores do. In Redis a counter that another
        template takes over leaves its totals with the one that it was under."""
        if isinstance(answer, list):
            return [self.shown(one) for one in answer]
        if not isinstance(answer, dict):
            return answer
        most = 2**63 - 1
        told = {
            name: min(value, most) if name in ("total_allowed_cost", "total_denied_cost") else value
            for name, value in answer.items()
        }
        if not self._has_totals or (self._is_redis and answer.get("template")):
            told = {
                name: value
                for name, value in told.items()
                if not name.startswith(("total_", "last_"))
            }
        return told

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found, wanted = (
                self.shown(
                    answered(lambda limiter=limiter: getattr(limiter, name)(*args, **kwargs))
                )
                for limiter in self._both
            )
            assert found == wanted, (name, args, kwargs)
            return found

        return call


def costs(draw: random.Random, most: int) -> int:
    """Of every size; some are too large."""
    return draw.choice([1, 1, 1, 2, 3, max(most // 3, 1), max(most - 1, 1), most, most + 1])


def pauses(draw: random.Random, per_ns: int, rate: int) -> int:
    unit_ns = max(per_ns // rate, 1)
    some = [0, 0, 1, unit_ns, unit_ns - 1, unit_ns + 1, per_ns // 3, per_ns, per_ns - 1]
    return min(draw.choice([*some, draw.randrange(unit_ns * 3)]), 2**54)


@pytest.mark.parametrize("place", CLOCKED)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_limit(algorithm: str, place: str) -> None:
    draw = random.Random(algorithm)
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with CLOCKED[place](clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        pair = Pair(limiter, expected)
        rate, per_ns, burst = NUMBERS[0]
        for step in range(STEPS):
            if step % 25 == 0:
                rate, per_ns, burst = draw.choice(NUMBERS)
                if algorithm not in ALGORITHMS[:3]:
                    burst = None
                key = draw.choice(["a", "t:*"])
                rest = {"per_ns": per_ns, "burst": burst, "algorithm": algorithm}
                pair.limit(key, rate, **rest)
            by_ns = pauses(draw, per_ns, rate)
            for each in (clock, other):
                if each.now_ns + by_ns > START_S * 10**9 + 2**61:
                    by_ns = 0
                each.advance_ns(by_ns)
            key = draw.choice(["a", "a", "t:1", "t:2"])
            name = draw.choice(["check", "check", "check", "check", "peek", "status"])
            if name == "status":
                pair.status(key)
            else:
                pair.__getattr__(name)(key, costs(draw, burst or rate))
            if draw.randrange(60) == 0:
                pair.reset(draw.choice(["a", "t:1", "t:*"]))
        pair.list(counters=True)


def any_limit(draw: random.Random) -> dict[str, Any]:
    algorithm = draw.choice(ALGORITHMS)
    rate = draw.choice([1, 2, 3, 5, 8])
    burst = draw.choice([None, rate, rate + 3]) if algorithm in ALGORITHMS[:3] else None
    return {
        "rate": rate,
        "per": draw.choice(["1s", "7s", "1m", "700ms"]),
        "burst": burst,
        "algorithm": algorithm,
    }


def one_change(draw: random.Random, pair: Pair) -> None:
    """To limits: of keys and templates, with names and without, that stack and do not."""
    keys = ["a", "t:1", "t:u:1", "t:*", "t:u:*", "*", "u*"]
    key, name = draw.choice(keys), draw.choice([None, None, "n", "m"])
    kind = draw.randrange(8)
    if kind < 5:
        if_absent = draw.randrange(4) == 0
        stack = draw.randrange(3) == 0
        pair.limit(key, **any_limit(draw), name=name, stack=stack, if_absent=if_absent)
    elif kind == 5:
        pair.remove(key, name=name)
    else:
        pair.reset(key, name=name)


def one_question(draw: random.Random, pair: Pair) -> None:
    keys = ["a", "b", "t:1", "t:2", "t:u:1", "t:u:2", "u1", "i", "j"]
    key, cost = draw.choice(keys), draw.choice([1, 1, 2, 3, 6])
    kind = draw.randrange(12)
    if kind < 5:
        pair.check(key, cost)
    elif kind == 5:
        pair.peek(key, cost)
    elif kind < 8:
        limit = any_limit(random.Random(draw.randrange(3)))
        pair.check(key, cost, **limit)
    elif kind < 10:
        pair.check_all([(one, draw.choice([1, 2])) for one in draw.sample(keys, 3)])
    elif kind == 10:
        pair.status(draw.choice([*keys, "t:*", "*"]), name=draw.choice([None, "n"]))
    else:
        top = pair.list if not pair._has_totals else lambda: pair.top("allowed")
        draw.choice([lambda: pair.list(counters=True), pair.list, top])()


@pytest.mark.filterwarnings("ignore:checks of .* carry two limits in turn")
@pytest.mark.parametrize("seed", range(6 if STEPS == 300 else 20))
@pytest.mark.parametrize("place", CLOCKED)
def test_all_sorts_of_limits_together(seed: int, place: str) -> None:
    draw = random.Random(seed)
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with CLOCKED[place](clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        pair = Pair(limiter, expected)
        for _ in range(STEPS):
            by_ns = draw.choice([0, 0, 1, 10**8, 10**9, 7 * 10**9, 10**9 // 3, 70 * 10**9])
            clock.advance_ns(by_ns)
            other.advance_ns(by_ns)
            if draw.randrange(6) == 0:
                one_change(draw, pair)
            else:
                one_question(draw, pair)


@pytest.mark.filterwarnings("ignore:checks of .* carry two limits in turn")
@pytest.mark.parametrize("place", CLOCKED)
def test_a_cost_above_the_other_limit_changes_nothing(place: str) -> None:
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with CLOCKED[place](clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        pair = Pair(limiter, expected)
        pair.check("i", 6, limit="8/m using gcra")
        assert pair.check("i", 6, limit="5/s using fixed_window_counter")[0] is ValueError
        assert pair.check("i", 1).limit == 8
        assert not pair.check("i", 5, limit="5/s using fixed_window_counter")
        assert pair.peek("i", 1).limit == 5


@pytest.mark.parametrize("if_absent", [True, False])
@pytest.mark.parametrize("place", CLOCKED)
def test_a_limit_of_its_own_ends_counters_of_other_names(place: str, if_absent: bool) -> None:
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with CLOCKED[place](clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        pair = Pair(limiter, expected)
        pair.limit("t:*", 3, per="1m", name="n")
        assert pair.check("t:1").remaining == 2
        pair.limit("t:1", 5, per="1m", if_absent=if_absent)
        assert len(pair.list(counters=True)) == 2
        pair.remove("t:1")
        assert pair.check("t:1").remaining == 2


@pytest.mark.parametrize("place", CLOCKED)
def test_a_limit_of_its_own_that_stacks_leaves_the_template_in_force(place: str) -> None:
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with CLOCKED[place](clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        pair = Pair(limiter, expected)
        pair.limit("t:*", 2, per="1m", name="n")
        pair.limit("t:1", 3, per="1m", stack=True)
        assert [len(pair.check("t:1").results) for _ in range(3)] == [2, 2, 2]
        assert not pair.check("t:1")
