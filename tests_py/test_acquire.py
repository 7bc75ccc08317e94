"""`acquire` and `aacquire`: waiting in line, mostly by a clock that stands until it is moved."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flint
from flint import Limiter
from flint._surface import line
from flint.testing import ManualClock

DEADLINE_S = 60


def totals(limiter: Limiter, key: str) -> tuple[int, int]:
    status = limiter.status(key)
    assert status is not None
    return status["total_allowed"], status["total_denied"]


def in_line(limiter: Limiter, key: str) -> int:
    return len(limiter._lines._lines.get(key, ()))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def settle() -> None:
    """Lets every task run as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Callers:
    """Threads that call acquire one after the other, each when the one before stands in line."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.finished: list[tuple[int, Any]] = []
        self.threads: list[threading.Thread] = []

    def start(self, key: str = "api", cost: int = 1, timeout: float | None = None) -> None:
        number = len(self.threads)
        before = in_line(self.limiter, key)

        def call() -> None:
            try:
                result: Any = self.limiter.acquire(key, cost, timeout)
            except flint.FlintError as error:
                result = error
            self.finished.append((number, result))

        self.threads.append(threading.Thread(target=call, daemon=True))
        done = len(self.finished)
        self.threads[-1].start()
        wait_until(lambda: in_line(self.limiter, key) > before or len(self.finished) > done)

    def join(self) -> list[Any]:
        """What each returned, in the order in which they finished."""
        for thread in self.threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        return self.finished


@contextlib.contextmanager
def callers(limiter: Limiter) -> Iterator[Callers]:
    started = Callers(limiter)
    yield started
    started.join()


# ---- At once -----------------------------------------------------------------------------------


def test_it_returns_at_once_when_there_is_room(data_dir: Path) -> None:
    for sync in ("always", "batch"):
        with Limiter(data_dir / sync, sync=sync) as limiter:  # type: ignore[arg-type]
            limiter.limit("api", rate=5, per="1h")
            before = limiter.info()["appended"]
            result = limiter.acquire("api", 2)
            assert (result.allowed, result.cost, result.remaining) == (True, 2, 3)
            allow_bytes = 40  # of an admission's record
            assert sync == "batch" or limiter.info()["durable"] >= before + allow_bytes
            assert asyncio.run(limiter.aacquire("api", cost=3, timeout=5))
            assert totals(limiter, "api") == (2, 0)


def test_it_is_refused_at_once_when_time_is_too_short(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per="1m")
    assert limiter.acquire("api", timeout=0)
    for timeout in (0, 1, 59.999):
        result = limiter.acquire("api", timeout=timeout)
        assert not result
        assert result.retry_after == 60.0
        assert not asyncio.run(limiter.aacquire("api", timeout=timeout))
    assert totals(limiter, "api") == (1, 6)
    assert in_line(limiter, "api") == 0


def test_bad_arguments(limiter: Limiter) -> None:
    limiter.limit("api", rate=2, per="1m")
    anything: Any = limiter
    with pytest.raises(flint.NotConfiguredError):
        limiter.acquire("unknown")
    with pytest.raises(TypeError, match="key must be"):
        anything.acquire(b"api")
    with pytest.raises(ValueError, match="cost"):
        limiter.acquire("api", 3)
    with pytest.raises(ValueError, match="timeout must be"):
        limiter.acquire("api", timeout=-1)
    with pytest.raises(TypeError, match="timeout must be"):
        anything.acquire("api", timeout="1s")
    assert limiter._lines._lines == {}


# ---- Waiting -----------------------------------------------------------------------------------


def test_system_time(data_dir: Path) -> None:
    with Limiter(data_dir, sync="batch") as limiter:
        limiter.limit("api", rate=20, per="1s", burst=1)
        started = time.monotonic()
        for _ in range(3):
            assert limiter.acquire("api", timeout=DEADLINE_S)
            assert asyncio.run(limiter.aacquire("api"))
        assert time.monotonic() - started >= 5 / 20
        assert totals(limiter, "api") == (6, 0)


def test_a_manual_clock_wakes_who_waits(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=1, per="1m")
    with callers(limiter) as threads:
        for _ in range(4):
            threads.start()
        wait_until(lambda: len(threads.finished) == 1)
        clock.advance(59)
        clock.advance(1)
        wait_until(lambda: len(threads.finished) == 2)
        clock.set(1_700_000_000 + 120)
        wait_until(lambda: len(threads.finished) == 3)
        clock.advance_ns(60_000_000_000)
    assert [number for number, _ in threads.finished] == [0, 1, 2, 3]
    assert totals(limiter, "api") == (4, 0)


def test_timeouts_are_one_denial(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=1, per="1m")
    assert limiter.allow("api")
    with callers(limiter) as threads:
        threads.start()
        threads.start(timeout=90)
        clock.advance(60)
        wait_until(lambda: len(threads.finished) == 2)  # the second needs 60 s and has 30
    assert [bool(result) for _, result in threads.finished] == [True, False]
    assert totals(limiter, "api") == (2, 1)


def test_who_gives_up_behind_others_takes_nothing_from_them(
    limiter: Limiter, clock: ManualClock
) -> None:
    limiter.limit("api", rate=10, per="10s")
    assert limiter.allow("api", 10)
    with callers(limiter) as threads:
        threads.start(cost=10)
        threads.start(cost=1, timeout=5)
        clock.advance(5)
        wait_until(lambda: len(threads.finished) == 1)
        clock.advance(5)
    (_, refused), (_, admitted) = threads.finished
    assert (refused.allowed, refused.cost, refused.retry_after) == (False, 1, 5.0)
    assert admitted
    assert limiter.peek("api").remaining == 0
    assert totals(limiter, "api") == (2, 1)


def test_units_taken_beside_the_line(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=2, per="10s")
    assert limiter.allow("api", 2)
    with callers(limiter) as threads:
        threads.start(cost=2)
        clock.advance(5)
        assert limiter.allow("api")
        clock.advance(5)
        time.sleep(0.01)
        assert threads.finished == []
        clock.advance(5)
    assert totals(limiter, "api") == (3, 0)


@pytest.mark.parametrize("change", ["reset", "limit", "limit_many", "remove", "close"])
def test_changes_wake_who_waits(clock: ManualClock, change: str) -> None:
    limiter = Limiter(":memory:", clock=clock)
    limiter.limit("api", rate=2, per="1d")
    assert limiter.allow("api", 2)
    changes: dict[str, Callable[[], object]] = {
        "reset": lambda: limiter.reset("api"),
        "limit": lambda: limiter.limit("api", rate=2**40, per="1ms", burst=2),
        "limit_many": lambda: limiter.limit_many([("api", 2**40, "1ms", "gcra", 2)]),
        "remove": lambda: limiter.remove("api"),
        "close": limiter.close,
    }
    with callers(limiter) as threads:
        threads.start()
        threads.start()
        changes[change]()
        clock.advance(1)
    kinds = {type(result) for _, result in threads.finished}
    expected = {"remove": flint.NotConfiguredError, "close": flint.ClosedError}
    assert kinds == {expected.get(change, flint.Result)}
    assert [number for number, _ in threads.finished] == [0, 1]
    limiter.close()


def test_keys_do_not_wait_for_each_other(limiter: Limiter) -> None:
    limiter.limit("ip:*", rate=1, per="1h")
    assert limiter.acquire("ip:1")
    with callers(limiter) as threads:
        threads.start("ip:1", timeout=7_200)
        assert limiter.acquire("ip:2")
        limiter.reset("ip:1")
    assert limiter._lines._lines == {}


# ---- Cancelling --------------------------------------------------------------------------------


def test_cancelled_waiters_use_up_nothing(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=1, per="1m")

    async def main() -> None:
        assert await limiter.aacquire("api")
        tasks = [asyncio.ensure_future(limiter.aacquire("api")) for _ in range(4)]
        await settle()
        tasks[0].cancel()  # the first of the line
        tasks[2].cancel()
        await settle()
        assert in_line(limiter, "api") == 2
        clock.advance(60)
        assert await tasks[1]
        assert not tasks[3].done()
        clock.advance(60)
        assert await tasks[3]

    asyncio.run(main())
    assert totals(limiter, "api") == (3, 0)
    assert limiter._lines._lines == {}


def test_a_closed_loop_holds_nobody_up(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=1, per="1m")
    assert limiter.allow("api")
    kept: list[asyncio.Task[flint.Result]] = []

    async def start() -> None:
        kept.append(asyncio.ensure_future(limiter.aacquire("api")))
        await settle()

    loop = asyncio.new_event_loop()
    with callers(limiter) as threads:
        threads.start()
        loop.run_until_complete(start())
        threads.start()
        loop.close()
        clock.advance(60)
        wait_until(lambda: len(threads.finished) == 1)
        clock.advance(60)
    assert all(result for _, result in threads.finished)
    kept[0]._log_destroy_pending = False  # type: ignore[attr-defined]


# ---- Many --------------------------------------------------------------------------------------


def test_a_thousand_waiters_in_a_loop(limiter: Limiter, clock: ManualClock) -> None:
    """10 units a second; every cost is served in its turn, at the moment when it can be."""
    limiter.limit("api", rate=10, per="1s")
    assert limiter.allow("api", 10)
    generator = random.Random(1)
    costs = [generator.choice([1, 1, 1, 2, 5, 10]) for _ in range(1_000)]
    started = clock.epoch
    served: list[tuple[int, float]] = []

    async def wait(number: int) -> None:
        assert await limiter.aacquire("api", costs[number])
        served.append((number, clock.epoch))

    async def main() -> None:
        tasks = [asyncio.ensure_future(wait(number)) for number in range(1_000)]
        await settle()
        assert in_line(limiter, "api") == 1_000
        ticks = 0
        while len(served) < 1_000:
            clock.advance(0.1)
            ticks += 1
            await settle()
            assert sum(costs[: len(served)]) <= ticks
        await asyncio.gather(*tasks)

    asyncio.run(main())
    units = 0
    for place, (number, at) in enumerate(served):
        units += costs[number]
        assert number == place
        assert at == pytest.approx(started + units / 10)
    assert totals(limiter, "api") == (1_001, 0)


def work_of_one_more(limiter: Limiter, waiting: int) -> int:
    """Lines of Python that run in Flint, and comparisons of waiters, for one who arrives behind so
    many and leaves from their middle, and for one that gives up behind them."""
    count = 0

    def compare(self: object, other: object) -> bool:
        nonlocal count
        count += 1
        return self is other

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal count
        if "flint" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    async def main() -> None:
        nonlocal count
        tasks = [asyncio.ensure_future(limiter.aacquire("api")) for _ in range(waiting)]
        await settle()
        task = asyncio.ensure_future(limiter.aacquire("api"))
        await settle()
        tasks += [asyncio.ensure_future(limiter.aacquire("api")) for _ in range(waiting)]
        await settle()
        count = 0
        sys.settrace(trace)
        last = asyncio.ensure_future(limiter.aacquire("api"))
        await asyncio.sleep(0)
        task.cancel()
        await settle()
        sys.settrace(None)
        assert in_line(limiter, "api") == 2 * waiting + 1
        last.cancel()
        for waiter in tasks:
            waiter.cancel()
        await settle()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line.Waiter, "__eq__", compare)
        patch.setattr(line.Waiter, "__hash__", object.__hash__)
        asyncio.run(main())
    return count


def test_who_waits_costs_the_next_one_nothing(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per="1h")
    assert limiter.allow("api")
    few, many = work_of_one_more(limiter, 8), work_of_one_more(limiter, 2_048)
    assert many <= few + 8 * 10  # a few lines for each doubling
    assert in_line(limiter, "api") == 0


def test_what_those_before_cost_is_known_whoever_has_left(
    limiter: Limiter, clock: ManualClock
) -> None:
    limiter.limit("api", rate=100, per="100s", burst=100)
    assert limiter.allow("api", 100)
    generator = random.Random(2)
    expected: list[tuple[asyncio.Task[flint.Result], int]] = []

    async def main() -> None:
        for _ in range(1_000):
            cost = generator.randint(1, 3)
            expected.append((asyncio.ensure_future(limiter.aacquire("api", cost)), cost))
            await asyncio.sleep(0)
            if generator.random() < 0.97:
                task, _ = expected.pop(generator.randrange(len(expected)))
                task.cancel()
                await asyncio.sleep(0)
        units = sum(cost for _, cost in expected)
        assert 10 < units < 100
        clock.advance(units - 0.5)  # enough for all but the last of these, one after the other
        result = await limiter.aacquire("api", timeout=0)
        assert not result
        admitted = [await task for task, _ in expected[:-1]]
        assert all(admitted)
        expected[-1][0].cancel()

    asyncio.run(main())
    assert totals(limiter, "api") == (len(expected), 1)


# ---- Time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits_in", ["thread", "loop"])
def test_the_time_goes_on_while_the_machine_sleeps(
    monkeypatch: pytest.MonkeyPatch, waits_in: str
) -> None:
    """Simulated: the clock that counts the sleep is an hour ahead of the other from now on."""
    slept_ns = 0
    real = time.clock_gettime_ns

    def clock_gettime_ns(clock: int) -> int:
        return real(clock) + (slept_ns if clock == time.CLOCK_BOOTTIME else 0)

    monkeypatch.setattr(time, "clock_gettime_ns", clock_gettime_ns)
    monkeypatch.setattr(line, "_LONGEST_SLEEP_S", 0.01, raising=False)
    limiter = Limiter(":memory:")
    limiter.limit("api", rate=1, per="1d")
    assert limiter.allow("api")

    def wait(timeout: int) -> flint.Result:
        if waits_in == "thread":
            return limiter.acquire("api", timeout=timeout)
        return asyncio.run(limiter.aacquire("api", timeout=timeout))

    with ThreadPoolExecutor(2) as executor, contextlib.closing(limiter):
        # Of the first in line nothing is known before its units are there, in a day.
        first = executor.submit(wait, 2 * 86_400)
        wait_until(lambda: in_line(limiter, "api") == 1)
        second = executor.submit(wait, 2 * 86_400)
        wait_until(lambda: in_line(limiter, "api") == 2)
        slept_ns = 3 * 86_400 * 10**9
        assert not second.result(DEADLINE_S)
        assert not first.result(DEADLINE_S)
        assert totals(limiter, "api") == (1, 2)


def test_a_manual_clock_moves_while_limiters_are_opened(clock: ManualClock) -> None:
    """What was seen was "Set changed size during iteration", and nobody was woken."""
    limiter = Limiter(":memory:", clock=clock)
    limiter.limit("api", rate=1, per="1m")
    assert limiter.allow("api")
    opened: list[Limiter] = []
    over = threading.Event()
    interval = sys.getswitchinterval()

    def open_limiters() -> None:
        while not over.is_set():
            opened[:] = [*opened[-100:], Limiter(":memory:", clock=clock)]

    try:
        sys.setswitchinterval(1e-6)
        with callers(limiter) as threads:
            threads.start()
            opening = threading.Thread(target=open_limiters)
            opening.start()
            try:
                for _ in range(1_500):
                    clock.advance(0.001)
            finally:
                over.set()
                opening.join()
                clock.advance(60)
    finally:
        sys.setswitchinterval(interval)
    assert [bool(result) for _, result in threads.finished] == [True]


def test_a_hundred_waiting_threads(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=10, per="1s")
    assert limiter.allow("api", 10)
    costs = [10 if number % 10 == 0 else 1 for number in range(100)]
    with callers(limiter) as threads:
        for cost in costs:
            threads.start(cost=cost)
        units = 0
        for place, cost in enumerate(costs):
            units += cost
            clock.advance(cost / 10)
            wait_until(lambda place=place: len(threads.finished) > place)
            assert len(threads.finished) == place + 1
    assert [number for number, _ in threads.finished] == list(range(100))
    assert totals(limiter, "api") == (101, 0)


def test_threads_and_loops_share_a_line_on_disk(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        limiter.limit("api", rate=1_000, per="1s", burst=5)
        started = time.monotonic()

        async def main() -> None:
            assert all(await asyncio.gather(*(limiter.aacquire("api") for _ in range(100))))

        loop = threading.Thread(target=lambda: asyncio.run(main()))
        loop.start()
        with callers(limiter) as threads:
            for _ in range(20):
                threads.start(cost=5)
        loop.join(DEADLINE_S)
        assert all(result for _, result in threads.finished)
        assert time.monotonic() - started >= 0.195
        assert totals(limiter, "api")[0] == 120
