"""`limits`, and what is built on it, on Flint's storage."""

from __future__ import annotations

import asyncio
import doctest
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import limits
import pytest
from limits.aio import strategies as aio_strategies
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)

import flint
import flint.plugins.limits
from flint.plugins.limits import AsyncFlintStorage, FlintStorage

HOURLY = limits.parse("3/hour")
STRATEGIES: list[Callable[[Any], Any]] = [
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
]
ASYNC_STRATEGIES: list[Callable[[Any], Any]] = [
    aio_strategies.FixedWindowRateLimiter,
    aio_strategies.MovingWindowRateLimiter,
    aio_strategies.SlidingWindowCounterRateLimiter,
]


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(flint.plugins.limits).failed == 0


@pytest.mark.parametrize("make", STRATEGIES)
def test_every_strategy(make: Callable[[Any], Any]) -> None:
    storage = storage_from_string("flint+memory://")
    assert isinstance(storage, FlintStorage)
    limiter = make(storage)
    assert limiter.get_window_stats(HOURLY, "alice").remaining == 3
    assert limiter.hit(HOURLY, "alice", cost=2)
    assert limiter.get_window_stats(HOURLY, "alice").remaining == 1
    assert limiter.test(HOURLY, "alice")
    assert not limiter.test(HOURLY, "alice", cost=2)
    assert limiter.hit(HOURLY, "alice")
    assert not limiter.hit(HOURLY, "alice")
    assert not limiter.test(HOURLY, "alice")
    reset_time, remaining = limiter.get_window_stats(HOURLY, "alice")
    assert remaining == 0
    assert time.time() < reset_time <= time.time() + 3600
    assert limiter.hit(HOURLY, "bob")
    limiter.clear(HOURLY, "alice")
    assert limiter.get_window_stats(HOURLY, "alice").remaining == 3
    assert limiter.get_window_stats(HOURLY, "bob").remaining == 2


@pytest.mark.parametrize("make", ASYNC_STRATEGIES)
def test_every_strategy_of_coroutines(make: Callable[[Any], Any]) -> None:
    async def run() -> None:
        storage = storage_from_string("async+flint+memory://")
        assert isinstance(storage, AsyncFlintStorage)
        limiter = make(storage)
        assert await limiter.hit(HOURLY, "alice", cost=2)
        assert (await limiter.get_window_stats(HOURLY, "alice")).remaining == 1
        assert await limiter.test(HOURLY, "alice")
        assert await limiter.hit(HOURLY, "alice")
        assert not await limiter.hit(HOURLY, "alice")
        reset_time, remaining = await limiter.get_window_stats(HOURLY, "alice")
        assert remaining == 0
        assert time.time() < reset_time <= time.time() + 3600
        assert await storage.check()
        assert await storage.reset() == 1
        assert await limiter.hit(HOURLY, "alice", cost=3)
        await limiter.clear(HOURLY, "alice")
        assert await limiter.hit(HOURLY, "alice", cost=3)

    asyncio.run(run())


def test_the_oldest_unit_says_when_a_moving_window_resets() -> None:
    limiter = MovingWindowRateLimiter(storage_from_string("flint+memory://"))
    before = time.time()
    limiter.hit(HOURLY, "alice")
    after = time.time()
    time.sleep(0.05)
    limiter.hit(HOURLY, "alice")
    assert before + 3600 <= limiter.get_window_stats(HOURLY, "alice").reset_time <= after + 3600.001


def test_a_fixed_window_counts_what_was_denied_as_limits_does() -> None:
    limiter = FixedWindowRateLimiter(storage_from_string("flint+memory://"))
    assert not limiter.hit(HOURLY, "alice", cost=4)
    assert not limiter.hit(HOURLY, "alice")


def test_a_cost_of_nothing_and_one_below() -> None:
    storage = FlintStorage("flint+memory://")
    assert storage.incr("key", 60, 0) == 0
    assert storage.acquire_entry("key", 1, 60, 0)
    assert storage.acquire_entry("key", 1, 60)
    assert storage.acquire_entry("key", 1, 60, 0)
    assert not storage.acquire_entry("key", 1, 60, 2)
    for take in (storage.acquire_entry, storage.acquire_sliding_window_entry):
        with pytest.raises(ValueError, match="must not be negative"):
            take("key", 1, 60, -1)


def test_a_directory_is_shared_and_outlives_its_storages(tmp_path: Path) -> None:
    one = storage_from_string(f"flint://{tmp_path}")
    other = storage_from_string(f"async+flint://{tmp_path}/.")
    assert isinstance(one, FlintStorage)
    assert isinstance(other, AsyncFlintStorage)
    assert one.limiter is other.limiter
    assert MovingWindowRateLimiter(one).hit(HOURLY, "alice", cost=3)
    del one, other
    again = storage_from_string(f"flint://{tmp_path}")
    assert not MovingWindowRateLimiter(again).hit(HOURLY, "alice")


def test_memory_is_not_shared() -> None:
    one, other = (storage_from_string("flint+memory://") for _ in range(2))
    assert MovingWindowRateLimiter(one).hit(HOURLY, "alice", cost=3)
    assert MovingWindowRateLimiter(other).hit(HOURLY, "alice", cost=3)


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage_from_string("flint:counters")
    assert (tmp_path / "counters" / "flint.aof").is_file()


@pytest.mark.parametrize("uri", ["flint://", "flint:", "flint://somewhere"])
def test_a_url_without_a_place(uri: str) -> None:
    with pytest.raises(ValueError, match="names no directory: write flint:///var/lib/limits"):
        storage_from_string(uri)


@pytest.mark.parametrize("prefix", ["", "async+"])
@pytest.mark.parametrize("place", ["redis://h:1/2", "rediss://h", "postgresql://u@h/d", "http://h"])
def test_a_url_of_a_store_that_decides(
    prefix: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        flint.plugins.limits, "opened", lambda url, **options: asked.append((url, options))
    )
    storage_from_string(f"{prefix}flint+{place}", timeout=3)
    assert asked == [(place, {"timeout": 3})]


def test_an_open_limiter_and_a_prefix() -> None:
    with flint.Limiter(":memory:") as limiter:
        mine = FlintStorage(limiter=limiter, key_prefix="mine")
        other = FlintStorage(limiter=limiter, key_prefix="mine too")
        for storage in (mine, other):
            assert storage.incr("key", 60) == 1
        limiter.limit("mine", "1/hour")
        limiter.allow("mine")
        assert mine.reset() == 1
        assert (mine.get("key"), other.get("key")) == (0, 1)
        assert not limiter.allow("mine")


def test_errors_are_wrapped_when_asked_for() -> None:
    limiter = flint.Limiter(":memory:")
    plain = FlintStorage(limiter=limiter)
    wrapping = FlintStorage(limiter=limiter, wrap_exceptions=True)
    limiter.close()
    assert not plain.check()
    with pytest.raises(flint.ClosedError):
        plain.incr("key", 60)
    with pytest.raises(StorageError):
        wrapping.incr("key", 60)


@pytest.mark.parametrize("make", STRATEGIES)
def test_threads_never_take_too_much(make: Callable[[Any], Any], tmp_path: Path) -> None:
    limiter = make(storage_from_string(f"flint://{tmp_path}"))
    limit = limits.parse("50/hour")
    taken: list[int] = []

    def take() -> None:
        taken.extend(1 for _ in range(20) if limiter.hit(limit, "alice"))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50
