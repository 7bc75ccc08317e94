"""What is counted of decisions for those who observe a limiter."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import flint
from flint._surface.decisions import BOUNDS_NS, MOST_POLICIES, OTHER, Decisions, observe
from flint._surface.observed import observed


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:") as opened:
        opened.limit("a", "2/day")
        yield opened


def results(limiter: flint.Limiter) -> dict[str, dict[str, int]]:
    return {name: numbers.results for name, numbers in observe(limiter).snapshot().items()}


def test_the_bounds_of_the_histogram() -> None:
    decisions = Decisions()
    for took_ns in (0, BOUNDS_NS[0], BOUNDS_NS[0] + 1, BOUNDS_NS[-1], BOUNDS_NS[-1] + 1):
        decisions.add("p", "allowed", took_ns)
    decisions.add("p", "settle_denied")
    [numbers] = decisions.snapshot().values()
    assert numbers.buckets == (2, 1, *[0] * (len(BOUNDS_NS) - 3), 1, 1)
    assert numbers.sum_ns == 2 * BOUNDS_NS[0] + 1 + 2 * BOUNDS_NS[-1] + 1
    assert numbers.results == {"allowed": 5, "settle_denied": 1}
    assert list(BOUNDS_NS) == sorted(set(BOUNDS_NS))


def test_policies_are_bounded() -> None:
    decisions = Decisions()
    told = []
    decisions.listen(lambda *decision: told.append(decision))
    for number in range(MOST_POLICIES + 20):
        decisions.add(str(number), "allowed", 1)
        decisions.add("0", "denied", 1)
    found = decisions.snapshot()
    assert len(found) == MOST_POLICIES + 1
    assert (found["0"].results["denied"], found[OTHER].results) == (120, {"allowed": 20})
    assert told[-2] == (OTHER, "allowed", 1)


def test_threads_lose_nothing() -> None:
    decisions = Decisions()

    def add() -> None:
        for number in range(1000):
            decisions.add(f"p{number % 3}", "allowed", number)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(numbers.results["allowed"] for numbers in decisions.snapshot().values()) == 4000


def test_a_listener_that_is_forgotten_is_told_nothing() -> None:
    decisions = Decisions()
    told: list[Any] = []
    decisions.listen(told.append)
    decisions.forget(told.append)
    decisions.add("p", "allowed")
    assert told == []


def test_the_checks_of_an_observed_limiter(limiter: flint.Limiter) -> None:
    seen = observed(limiter, "mail")
    assert [seen.allow("a"), seen.check("a").allowed, seen.allow("a")] == [True, True, False]
    assert (seen.allow_all(["a"]), seen.check_all(["a"])["allowed"]) == (False, False)
    assert seen.peek("a").allowed is False
    with pytest.raises(flint.NotConfiguredError):
        seen.check("unknown")
    with pytest.raises(ValueError, match="cost"):
        seen.check("a", 0)
    assert results(limiter) == {"mail": {"allowed": 2, "denied": 3, "error_raised": 1}}
    assert sum(observe(limiter).snapshot()["mail"].buckets) == 6
    limiter.check("a")  # not through it
    assert sum(results(limiter)["mail"].values()) == 6
    status = limiter.status("a")
    assert status is not None
    assert (status["total_allowed"], status["total_denied"]) == (2, 4)


def test_the_coroutines_of_an_observed_limiter(limiter: flint.Limiter) -> None:
    async def ask() -> None:
        async with observed(limiter, "mail") as seen:
            assert await seen.aallow("a")
            assert (await seen.acheck("a")).allowed
            assert not await seen.aallow_all(["a"])
            assert not (await seen.acheck_all([("a", 1)]))["allowed"]
            with pytest.raises(flint.NotConfiguredError):
                await seen.acheck("unknown")

    asyncio.run(ask())
    assert limiter.closed
    assert results(limiter) == {"mail": {"allowed": 2, "denied": 2, "error_raised": 1}}


def test_waits_in_line_are_counted_and_not_timed(limiter: flint.Limiter) -> None:
    async def wait(seen: flint.Limiter) -> bool:
        return bool(await seen.aacquire("a", 1, 1))

    seen = observed(limiter, "line")
    assert [seen.acquire("a").allowed, asyncio.run(wait(seen))] == [True, True]
    assert [seen.acquire("a", 1, 1).allowed, asyncio.run(wait(seen))] == [False, False]
    with pytest.raises(flint.NotConfiguredError):
        seen.acquire("unknown")
    assert results(limiter) == {"line": {"allowed": 2, "denied": 2, "error_raised": 1}}
    assert sum(observe(limiter).snapshot()["line"].buckets) == 0


def test_the_decorator_of_an_observed_limiter(limiter: flint.Limiter) -> None:
    @observed(limiter, "send").rate_limit("send", "1/day")
    def send() -> str:
        return "sent"

    assert send() == "sent"
    with pytest.raises(flint.RateLimitExceeded):
        send()
    assert results(limiter) == {"send": {"allowed": 1, "denied": 1}}


@pytest.mark.parametrize(("on_error", "expected"), [("allow", "allowed"), ("deny", "denied")])
def test_what_on_error_answers(on_error: Any, expected: str) -> None:
    with flint.Limiter(":memory:", max_keys=1, on_error=on_error) as limiter:
        limiter.check("taken", limit="1/day")
        observed(limiter, "mail").check("new", limit="1/day")
        assert results(limiter) == {"mail": {f"error_{expected}": 1}}


def test_an_observed_limiter_is_the_limiter_otherwise(limiter: flint.Limiter) -> None:
    with observed(limiter, "mail") as seen:
        assert seen.data_dir == ":memory:"
        assert seen.status("b") is None
        assert repr(seen) == f"<{limiter!r} observed as 'mail'>"
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(seen)
    assert limiter.closed
    assert results(limiter) == {}


@pytest.mark.parametrize(
    ("policy", "error"), [("", ValueError), ("a\ud800", ValueError), (None, TypeError)]
)
def test_bad_policies(limiter: flint.Limiter, policy: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="policy must be"):
        observed(limiter, policy)
