"""PyrateLimiter on Flint's bucket."""

from __future__ import annotations

import doctest
import threading
from pathlib import Path

import pytest
from pyrate_limiter import Decision, Duration, Limiter, Rate, RateItem

import flint
import flint.plugins.pyrate_limiter
from flint.plugins.pyrate_limiter import FlintBucket

TWO_RATES = [Rate(3, Duration.MINUTE), Rate(4, Duration.HOUR)]


def item(weight: int = 1) -> RateItem:
    return RateItem("item", 0, weight)


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(flint.plugins.pyrate_limiter).failed == 0


def test_each_rate_denies_and_what_one_denies_uses_nothing_up() -> None:
    bucket = FlintBucket(TWO_RATES, ":memory:")
    assert [bucket.put(item()) for _ in range(4)] == [True, True, True, False]
    assert bucket.failing_rate is TWO_RATES[0]
    assert bucket.count() == 3
    assert 59_000 < bucket.waiting(item()) <= 60_000
    decision = bucket.put_decision(item())
    assert isinstance(decision, Decision)
    assert not decision.allowed
    assert decision.retry_after_ms is not None
    assert 59_000 < decision.retry_after_ms <= 60_000


def test_buckets_share_what_has_the_same_key_and_rates() -> None:
    with flint.Limiter(":memory:") as limiter:
        hourly = [Rate(1, Duration.HOUR)]
        assert FlintBucket(hourly, limiter, "mail").put(item())
        assert not FlintBucket(hourly, limiter, "mail").put(item())
        assert FlintBucket(hourly, limiter, "calls").put(item())
        others = FlintBucket([Rate(2, Duration.HOUR)], limiter, "mail")
        assert [others.put(item()) for _ in range(3)] == [True, True, False]


def test_a_weight_that_never_fits() -> None:
    bucket = FlintBucket(TWO_RATES, ":memory:")
    assert not bucket.put(item(4))
    assert bucket.failing_rate is TWO_RATES[0]
    assert bucket.waiting(item(4)) == -1
    assert bucket.count() == 0
    assert bucket.put(item(3))
    assert bucket.failing_rate is None


def test_nothing_is_taken_for_no_weight() -> None:
    bucket = FlintBucket([Rate(1, Duration.HOUR)], ":memory:")
    assert bucket.put(item())
    assert bucket.put(item(0))
    assert bucket.waiting(item(0)) == 0
    assert bucket.count() == 1


def test_what_was_taken_is_still_so_after_a_restart(tmp_path: Path) -> None:
    with flint.Limiter(tmp_path) as limiter:
        assert FlintBucket(TWO_RATES, limiter, "mail").put(item(3))
    with flint.Limiter(tmp_path) as limiter:
        bucket = FlintBucket(TWO_RATES, limiter, "mail")
        assert bucket.count() == 3
        assert not bucket.put(item())
        assert FlintBucket(TWO_RATES, limiter, "other").put(item())


@pytest.mark.parametrize("rates", [TWO_RATES, TWO_RATES[:1]], ids=["two", "one"])
def test_flush(rates: list[Rate]) -> None:
    bucket = FlintBucket(rates, ":memory:")
    bucket.flush()  # of nothing
    assert bucket.put(item(3))
    assert not bucket.put(item())
    bucket.flush()
    assert (bucket.count(), bucket.failing_rate) == (0, None)
    assert bucket.put(item(3))


def test_a_limiter_of_pyrate_waits_until_there_is_room() -> None:
    limiter = Limiter(FlintBucket([Rate(2, 300)], ":memory:"))
    assert all(limiter.try_acquire("one") for _ in range(3))  # the third after 300 ms


def test_threads_never_take_too_much(tmp_path: Path) -> None:
    bucket = FlintBucket([Rate(50, Duration.HOUR)], str(tmp_path))
    taken: list[int] = []

    def take() -> None:
        taken.extend(1 for _ in range(20) if bucket.put(item()))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50


def test_bad_rates_get_the_error_that_is_known() -> None:
    with pytest.raises(ValueError, match="Invalid rate list"):
        FlintBucket([Rate(4, 1000), Rate(3, 2000)], ":memory:")
    with pytest.raises(ValueError, match="Invalid rate list"):
        FlintBucket([], ":memory:")
