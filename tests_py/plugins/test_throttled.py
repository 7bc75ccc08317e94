"""throttled-py on Flint's store."""

from __future__ import annotations

import asyncio
import doctest
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import throttled
import throttled.asyncio
from throttled import RateLimiterType, per_duration, per_hour
from throttled.exceptions import DataError, StoreUnavailableError

import flint
import flint.plugins.throttled
from flint.plugins.throttled import AsyncFlintStore, FlintStore
from flint.testing import ManualClock

HOUR_S = 3600
KINDS = RateLimiterType.choice()
# Far from the end of a window: it begins where the test does.
CENTURY = timedelta(days=36_500)


def limiter_of(kind: str, store: Any, quota: Any = None) -> throttled.Throttled:
    return throttled.Throttled(using=kind, quota=quota or per_duration(CENTURY, 3), store=store)


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(flint.plugins.throttled).failed == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm(kind: str) -> None:
    limiter = limiter_of(kind, FlintStore(":memory:"))
    assert limiter.peek("alice").remaining == 3
    first = limiter.limit("alice", cost=2)
    assert (first.limited, first.state.limit, first.state.remaining) == (False, 3, 1)
    assert (first.state.retry_after, first.state.reset_after > HOUR_S) == (0, True)
    assert limiter.peek("alice").remaining == 1
    denied = limiter.limit("alice", cost=2)
    assert (denied.limited, denied.state.remaining) == (True, 1)
    assert denied.state.retry_after > HOUR_S
    nothing = limiter.limit("alice", cost=0)
    assert (nothing.limited, nothing.state.remaining) == (False, 1)
    never = limiter.limit("alice", cost=4)
    assert (never.limited, never.state.remaining) == (True, 1)
    assert never.state.retry_after > HOUR_S
    assert not limiter.limit("alice").limited
    assert limiter.limit("alice").limited
    assert limiter.peek("alice").remaining == 0
    nothing = limiter.limit("alice", cost=0)
    assert (nothing.limited, nothing.state.remaining) == (False, 0)
    assert nothing.state.reset_after > HOUR_S
    assert not limiter.limit("bob", cost=3).limited


@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_of_coroutines(kind: str) -> None:
    async def run() -> None:
        limiter = throttled.asyncio.Throttled(
            using=kind, quota=per_duration(CENTURY, 3), store=AsyncFlintStore(":memory:")
        )
        assert (await limiter.peek("alice")).remaining == 3
        assert not (await limiter.limit("alice", cost=2)).limited
        assert (await limiter.limit("alice", cost=2)).limited
        assert not (await limiter.limit("alice", cost=0)).limited
        assert (await limiter.limit("alice", cost=4)).limited
        assert (await limiter.peek("alice")).remaining == 1
        assert not (await limiter.limit("alice")).limited
        assert (await limiter.peek("alice")).remaining == 0

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["token_bucket", "leaking_bucket", "gcra"])
def test_without_a_burst_nothing_is_let_in(kind: str) -> None:
    limiter = limiter_of(kind, FlintStore(":memory:"), per_hour(60, burst=0))
    assert not limiter.limit("alice", cost=0).limited
    assert limiter.limit("alice").limited
    assert limiter.limit("alice").state.retry_after == 60


@pytest.mark.parametrize("kind", ["token_bucket", "leaking_bucket", "gcra"])
def test_a_rate_is_exact_that_came_as_a_float(kind: str) -> None:
    clock = ManualClock(1_700_000_000)
    with flint.Limiter(":memory:", clock=clock) as opened:
        limiter = limiter_of(kind, FlintStore(limiter=opened), throttled.per_day(7))
        assert not limiter.limit("alice", cost=7).limited
        clock.advance_ns(86_400 * 10**9 // 7)  # rounded down: a nanosecond is missing
        assert limiter.limit("alice").limited
        clock.advance_ns(1)
        assert not limiter.limit("alice").limited


def test_a_sliding_window_goes_on_where_a_fixed_one_begins_anew() -> None:
    store = FlintStore(":memory:")
    for kind, limited in (("sliding_window", 1), ("fixed_window", 0)):
        take = limiter_of(kind, store, per_hour(3)).limiter._atomic_actions["limit"]
        assert take.do([f"{kind}:period:1", f"{kind}:period:0"], [HOUR_S, 3, 3, 0])[0] == 0
        assert take.do([f"{kind}:period:2", f"{kind}:period:1"], [HOUR_S, 3, 1, 0])[0] == limited


def test_what_a_store_tells_of_counters() -> None:
    store = FlintStore(":memory:")
    limiters = {kind: limiter_of(kind, store, per_hour(5)) for kind in KINDS}
    for limiter in limiters.values():
        limiter.limit("alice", cost=2)
    names = {kind: f"throttled:v1:{kind}:alice" for kind in KINDS}
    assert store.hgetall(names["token_bucket"])["tokens"] == 3
    assert store.hgetall(names["leaking_bucket"])["tokens"] == 2
    assert store.get(names["gcra"]) == 2
    assert store.exists(names["gcra"])
    assert 0 < store.ttl(names["gcra"]) <= HOUR_S
    assert (store.get("other"), store.hgetall("other"), store.ttl("other")) == (None, {}, -2)
    assert not store.exists("other")


def test_values_are_not_kept() -> None:
    async def run() -> None:
        store = AsyncFlintStore(":memory:")
        with pytest.raises(DataError, match="keeps counters and no values"):
            await store.set("key", 1, 60)

    asyncio.run(run())
    store = FlintStore(":memory:")
    for words in (("set", "key", 1, 60), ("hset", "key", "field", 1), ("expire", "key", 60)):
        with pytest.raises(DataError, match="keeps counters and no values"):
            getattr(store, words[0])(*words[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_used_is_still_so_after_a_restart(kind: str, tmp_path: Path) -> None:
    for limited in (False, True):
        with flint.Limiter(tmp_path) as opened:
            limiter = limiter_of(kind, FlintStore(limiter=opened))
            assert limiter.limit("alice", cost=3).limited == limited


def test_a_directory_is_shared_by_stores(tmp_path: Path) -> None:
    one = FlintStore(str(tmp_path), {"sync": "batch"})
    other = AsyncFlintStore(str(tmp_path), {"sync": "batch"})
    assert one._backend.limiter is other._backend.limiter


def test_threads_never_take_too_much(tmp_path: Path) -> None:
    limiter = limiter_of("gcra", FlintStore(str(tmp_path)), per_duration(CENTURY, 50))
    taken: list[int] = []

    def take() -> None:
        taken.extend(1 for _ in range(20) if not limiter.limit("alice").limited)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50


def test_errors_are_those_that_are_known() -> None:
    opened = flint.Limiter(":memory:")
    limiter = limiter_of("gcra", FlintStore(limiter=opened))
    opened.close()
    with pytest.raises(StoreUnavailableError) as caught:
        limiter.limit("alice")
    assert isinstance(caught.value.__cause__, flint.ClosedError)
    with pytest.raises(DataError, match="needs a server"):
        FlintStore()
    limiter = limiter_of("gcra", FlintStore(":memory:"), per_duration(CENTURY, 1, burst=9))
    with pytest.raises(DataError, match="Invalid quota"):
        limiter.limit("alice")
