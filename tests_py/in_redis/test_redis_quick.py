"""What the quick scripts decide, beside the embedded engine, under one clock."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from conformance.test_differential import ALGORITHMS, START_S, Pair, pauses
from in_redis.redis_server import clocked, limiter_of, new_namespace, server

import flint
from flint._redis.plain import PlainChecks
from flint.testing import ManualClock

STEPS = 10_000 if os.environ.get("FLINT_LONG") else 400
# Rates, periods and bursts that doubles hold, near and far from where they do not.
NUMBERS = [
    (3, 10**9, None),
    (1, 86_400 * 10**9, None),
    (5, 7 * 10**9 + 1, 12),
    (100, 60 * 10**9, 1),
    (1000, 86_400 * 10**9, None),
    (10**6, 10**9, None),
    (999_983, 999_999_937, 1_999_966),
    (2**31 - 1, 2**31 - 1, None),
    (2**31, 2**20, None),
    (2**52 - 1, 2**52 - 1, None),
    (2**51 + 1, 10**9 + 7, None),
    (20, 10**3, 40),
]
# A clock for tests ends at 2^62 ns.
FARTHEST_NS = 2**61


class Watched:
    """A client that counts what the quick scripts decide."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.quick = self.undecided = 0

    def ask(self, request: Any) -> Any:
        answer = self._client.ask(request)
        is_quick = request.packed is not None
        self.quick += is_quick and answer is not None
        self.undecided += is_quick and answer is None
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def one_cost(draw: random.Random, left: int, most: int) -> int:
    """Often what just fits, or just does not."""
    return draw.choice([1, 1, 2, most // 3, most - 1, most, most + 1, left, left + 1, left - 1])


@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_decides_as_the_engine_does(algorithm: str, numbers: tuple[Any, ...]) -> None:
    rate, per_ns, burst = numbers
    if algorithm not in ALGORITHMS[:3]:
        burst = None
    draw = random.Random(f"{algorithm} {numbers}")
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with (
        clocked(clock, totals=False) as limiter,
        flint.Limiter(":memory:", clock=other) as expected,
    ):
        watched: Any = Watched(limiter._client)
        limiter._client = watched
        pair = Pair(limiter, expected)
        for key in ("t:*", "own"):
            pair.limit(key, rate, per_ns=per_ns, burst=burst, algorithm=algorithm)
        passed_ns = 0
        for _ in range(STEPS):
            by_ns = pauses(draw, per_ns, rate)
            if passed_ns + by_ns > FARTHEST_NS:
                by_ns = draw.randrange(1000)
            passed_ns += by_ns
            clock.advance_ns(by_ns)
            other.advance_ns(by_ns)
            key = draw.choice(["t:1", "t:1", "t:2", "own"])
            cost = one_cost(draw, expected.peek(key).remaining, burst or rate)
            call = draw.choice(["check", "check", "peek", "allow", "allow", "allow"])
            pair.__getattr__(call)(key, max(cost, 1))
        pair.list(counters=True)
    fits = algorithm != "sliding_window_log" or rate < 2**31
    assert not fits or watched.quick > STEPS / 2
    assert watched.undecided < STEPS / 4


def watched_limiter(**options: Any) -> tuple[Any, Any]:
    limiter: Any = limiter_of(server(), namespace=new_namespace(), **options)
    limiter._client = Watched(limiter._client)
    return limiter, limiter._client


def test_a_key_about_which_it_takes_more_is_remembered() -> None:
    limiter, watched = watched_limiter()
    with limiter:
        limiter.limit("t:*", 5, per="1d")
        limiter.limit("t:1", 2, per="1d", stack=True)
        assert [limiter.allow("t:1") for _ in range(4)] == [True, True, False, False]
        assert (watched.quick, watched.undecided) == (0, 1)
        limiter.remove("t:1")
        assert [limiter.allow("t:1") for _ in range(6)] == [True] * 5 + [False]
        assert (watched.quick, watched.undecided) == (5, 1)


def test_a_limit_of_a_key_that_another_process_changes() -> None:
    limiter, watched = watched_limiter()
    with limiter, limiter_of(server(), namespace=limiter.namespace) as other:
        limiter.limit("a", 2, per="1d")
        assert limiter.check("a").remaining == 1
        assert limiter.check("a").remaining == 0
        assert (watched.quick, watched.undecided) == (1, 0)
        other.limit("a", 7, per="1d")
        assert limiter.check("a").remaining == 4
        assert limiter.check("a").remaining == 3
        assert (watched.quick, watched.undecided) == (2, 1)
        other.limit("a", 1, per="1d", name="more")
        assert [limiter.allow("a") for _ in range(2)] == [True, False]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flint._redis.plain._MOST_KEPT", 3)
    limiter, _ = watched_limiter()
    with limiter:
        limiter.limit("t:*", 1000, per="1d")
        plain: PlainChecks = limiter._questions._plain
        for number in range(8):
            limiter.limit(f"own{number}", 1, per="1d")
            assert [limiter.allow(f"own{number}") for _ in range(2)] == [True, False]
            assert limiter.allow("t:1", number + 1)
            assert 0 < len(plain._own) <= 3
            assert 0 < len(plain._frames) <= 3
        assert not limiter.allow("own0")


def test_an_answer_that_was_not_waited_for_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, _ = watched_limiter()
    with limiter:
        limiter.limit("t:*", 3, per="1d")
        assert limiter.check("t:1").remaining == 2
        pool = limiter._client._client._client.connection_pool
        connection = pool.get_connection()
        pool.release(connection)

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(connection, "read_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                limiter.check("t:1")
        assert limiter.check("t:2").remaining == 2
        assert limiter.check("t:1").remaining in (0, 1)  # whether it was sent is not known


def test_admissions_of_one_time_are_one_entry() -> None:
    with clocked(ManualClock(START_S), totals=False) as limiter, server().client() as client:
        watched: Any = Watched(limiter._client)
        limiter._client = watched
        limiter.limit("t:*", 9, per="1d", algorithm="sliding_window_log")
        assert all(limiter.allow("t:1", 2) for _ in range(4))
        assert watched.quick == 4
        assert client.zcard(limiter._questions._prefix + b"l:t:1") == 1
        assert limiter.peek("t:1").remaining == 1
