"""Many threads on one limiter, closing while others are inside, and what happens to Python's lock
during calls into the library."""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import flint
from flint import Limiter, _native
from flint.testing import ManualClock

DEADLINE_S = 60


def run_threads(*targets: Callable[[], object]) -> list[BaseException | None]:
    """Runs each in a thread; returns what each raised. None may hang."""
    raised: list[BaseException | None] = [None] * len(targets)

    def run(index: int, target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as error:
            raised[index] = error

    threads = [
        threading.Thread(target=run, args=(index, target), daemon=True)
        for index, target in enumerate(targets)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    return raised


# ---- Deciding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_threads_are_admitted_exactly_as_often_as_the_limit_says(
    data_dir: Path, clock: ManualClock, sync: flint.Sync
) -> None:
    with Limiter(data_dir, sync=sync, clock=clock) as limiter:
        limiter.limit("shared", rate=100, per="1h")
        limiter.limit("other", rate=1_000, per="1h")
        admitted: list[bool] = []

        def check() -> None:
            for _ in range(50):
                admitted.append(limiter.allow("shared"))
                admitted.append(bool(limiter.check("shared")))
                admitted.append(limiter.allow_all(["other", "shared"]))

        assert run_threads(*[check] * 4) == [None] * 4
        assert Counter(admitted) == {True: 100, False: 500}
        status = limiter.status("shared")
        assert status is not None
        assert (status["total_allowed"], status["total_denied"]) == (100, 500)


def test_threads_configure_and_read(data_dir: Path) -> None:
    with Limiter(data_dir, sync="batch") as limiter:
        limiter.limit("ip:*", rate=1, per="1d")

        def work(name: int) -> None:
            for number in range(100):
                key = f"{name}:{number}"
                limiter.limit(key, rate=1, per="1h")
                assert limiter.allow(key)
                assert limiter.allow(f"ip:{key}")
                limiter.reset(key)
                assert limiter.status(key)
                if number % 20 == 0:
                    assert len(limiter.list(counters=True)) >= number
                    limiter.top("allowed")
                    limiter.flush()
                    limiter.compact()
                limiter.remove(key)

        raised = run_threads(*(lambda name=name: work(name) for name in range(4)))
        assert raised == [None] * 4
        assert [entry["key"] for entry in limiter.list()] == ["ip:*"]
        assert limiter.info()["counters"] == 400


# ---- Closing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_close_while_others_wait(data_dir: Path, sync: flint.Sync) -> None:
    limiter = Limiter(data_dir, sync=sync)
    limiter.limit("api", rate=2**40, per="1h")
    calls: list[Callable[[], object]] = [
        lambda: limiter.allow("api"),
        lambda: limiter.check("api"),
        lambda: limiter.check_all(["api"]),
        lambda: limiter.flush(),
        lambda: limiter.compact(),
        lambda: limiter.list(),
    ]
    busy = threading.Barrier(len(calls) + 1)

    def repeat(call: Callable[[], object]) -> None:
        call()
        busy.wait(DEADLINE_S)
        while True:
            call()

    def close() -> None:
        busy.wait(DEADLINE_S)
        time.sleep(0.05)
        limiter.close()
        Limiter(data_dir).close()  # the directory is free when close returns

    raised = run_threads(close, *(lambda call=call: repeat(call) for call in calls))
    assert raised[0] is None
    assert [type(error) for error in raised[1:]] == [flint.ClosedError] * len(calls)


def test_threads_close_together(data_dir: Path) -> None:
    for _ in range(20):
        limiter = Limiter(data_dir, sync="batch")
        limiter.limit("api", rate=5, per="1h")
        limiter.allow("api")
        start = threading.Barrier(4)

        def close(limiter: Limiter = limiter, start: threading.Barrier = start) -> None:
            start.wait(DEADLINE_S)
            limiter.close()
            assert limiter.closed

        assert run_threads(*[close] * 4) == [None] * 4
        Limiter(data_dir).close()


def test_a_thread_may_hold_the_last_reference(data_dir: Path) -> None:
    limiters = [Limiter(data_dir, sync="batch")]
    limiters[0].limit("api", rate=5, per="1h")
    assert run_threads(lambda: limiters.pop().allow("api")) == [None]
    Limiter(data_dir).close()


# ---- Python's lock -----------------------------------------------------------------------------


@contextmanager
def spinning_thread() -> Iterator[Callable[[], int]]:
    """A Python thread that counts whenever it gets Python's lock. No thread is ever asked to give
    the lock away, so while a call into the library runs, it counts only if the call lets go."""
    count = 0
    stop = False

    def spin() -> None:
        nonlocal count
        while not stop:
            count += 1
            time.sleep(0)  # gives the lock back

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=spin)
    thread.start()
    sys.setswitchinterval(1_000)
    try:
        yield lambda: count
    finally:
        stop = True
        sys.setswitchinterval(interval)
        thread.join()


class Subject:
    """Calls that reach each function of the table, every one with something to do."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.numbers = itertools.count(1)
        self.limiter = Limiter(data_dir / "used")
        self.limiter.limit_many((f"key:{number}", 1, "1h") for number in range(2_000))
        self.limiter.limit("free", rate=2**40, per="1h")
        self.limiter.limit("api", rate=1, per="1h")
        for number in range(200):
            self.limiter.peek(f"key:{number}")
        self.opened = Limiter(data_dir / "other", sync="batch")
        self.follower = Limiter.open_readonly(data_dir / "used")

    def reopen(self) -> None:
        self.opened.close()
        self.opened = Limiter(self.data_dir / "other", sync="batch")

    def close(self) -> None:
        self.limiter.close()
        self.opened.close()
        self.follower.close()

    def follow(self) -> None:
        self.follower.close()
        self.follower = Limiter.open_readonly(self.data_dir / "used")

    def calls(self) -> dict[str, Callable[[], object]]:
        limiter = self.limiter
        return {
            "flint_limiter_check": lambda: limiter.allow("free"),
            "flint_limiter_check_limits": lambda: limiter.check("free"),
            "flint_limiter_check_all": lambda: limiter.check_all(["free"]),
            "flint_limiter_open": self.reopen,
            "flint_limiter_open_readonly": self.follow,
            "flint_limiter_refresh": lambda: self.follower.refresh(),
            "flint_limiter_doctor": lambda: limiter.doctor(),
            "flint_limiter_shutdown": self.reopen,
            "flint_limiter_close": self.reopen,
            "flint_limiter_limit": lambda: limiter.limit("api", rate=next(self.numbers), per="1h"),
            "flint_limiter_limit_many": lambda: limiter.limit_many(
                [("api", next(self.numbers), "1h")]
            ),
            "flint_limiter_remove_named": self.remove,
            "flint_limiter_reset_named": lambda: limiter.reset("api"),
            "flint_limiter_status_named": lambda: limiter.status("api"),
            "flint_limiter_list_page": lambda: limiter.list(),
            "flint_limiter_top": lambda: limiter.top(),
            "flint_limiter_get_info": lambda: limiter.info(),
            "flint_limiter_flush": lambda: limiter.flush(),
            "flint_limiter_history": lambda: limiter.history("api"),
            "flint_limiter_compact": lambda: limiter.compact(),
            "flint_limiter_wait": self.wait,
            "flint_limiter_watch": self.watch,
            "flint_limiter_unwatch": self.watch,
        }

    def wait(self) -> None:
        decided = self.limiter._check_now("free")
        assert decided is not None
        assert self.limiter._durable(decided[1], True)

    def watch(self) -> None:
        name, fd = self.limiter._watch()
        self.limiter._unwatch(name)
        os.close(fd)

    def remove(self) -> None:
        self.limiter.limit("gone", rate=1, per="1h")
        self.limiter.remove("gone")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    subject = Subject(tmp_path_factory.mktemp("subject"))
    yield subject
    subject.close()


RELEASING = sorted(function for function, use in _native.gil_table.items() if use != "HELD")


@pytest.mark.parametrize("function", RELEASING)
def test_python_goes_on_during_calls_that_wait(subject: Subject, function: str) -> None:
    call = subject.calls()[function]
    deadline = time.monotonic() + DEADLINE_S
    with spinning_thread() as count:
        while True:
            before = count()
            call()
            if count() > before:
                break
            assert time.monotonic() < deadline, "the spinning thread never got Python's lock"


def test_python_waits_during_calls_that_do_not() -> None:
    """Nothing waits for a disk, and nobody else holds a lock."""
    with Limiter(":memory:", sync="batch") as limiter:
        limiter.limit("api", rate=2**40, per="1h")
        with spinning_thread() as count:
            before = count()
            for _ in range(1_000):
                limiter.allow("api")
                limiter.check("api")
                limiter.peek("api")
                limiter.allow_all(["api"])
            assert count() == before


def test_the_table_lists_what_is_called_and_nothing_else(subject: Subject) -> None:
    sources = Path(__file__).parent.parent / "flint" / "_ext"
    header = Path(flint.get_include(), "flint_limiter.h").read_text()
    functions = set(re.findall(r"FLINT_LIMITER_API.*?\b(flint_limiter_\w+)\(", header))
    used = {
        word
        for source in sources.glob("*.c")
        for word in re.findall(r"\bflint_limiter_\w+\b", source.read_text())
    }
    assert used & functions == set(_native.gil_table)
    assert sorted(subject.calls()) == RELEASING
