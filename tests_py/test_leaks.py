"""Nothing that is called often leaks references or memory.

Run as a program, in an interpreter of its own, this file repeats each operation and prints what is
left behind; as a test it reads that. Memory is what Python's allocators still hold; references are
counted on the objects that every call shares.
"""

from __future__ import annotations

import gc
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flint
from flint import Limiter, Result, _native, errors
from flint.testing import ManualClock

SMALLEST_OBJECT_BYTES = 16
MOST_ROUNDS = 20


def is_leak(grown_bytes: float, grown_references: float) -> bool:
    """Whether every second call has left something behind."""
    return grown_bytes >= SMALLEST_OBJECT_BYTES / 2 or grown_references >= 0.5


# ---- The program -------------------------------------------------------------------------------


class Key(str):
    """Makes the extension copy it."""


class FailingIndex:
    def __index__(self) -> int:
        raise ZeroDivisionError


def failing_items() -> Iterator[object]:
    yield "api"
    yield ("api", 1)
    raise ZeroDivisionError


KEY = "api-" + "k" * 40
SUBCLASS_KEY = Key(KEY)
CLOCK = ManualClock(1_700_000_000)


def end_watch(limiter: Limiter, name: int, fd: int) -> None:
    limiter._unwatch(name)
    os.close(fd)


def fast_operations(limiter: Limiter) -> dict[str, Callable[[], object]]:
    """What decides, configures and reads."""
    anything: Any = limiter
    inline: Any = {"rate": 5, "per": "1m", "burst": 9, "algorithm": "gcra"}
    many: Any = [("c", 1, "1h"), {"key": "d", "rate": 1, "per": 1}]
    return {
        "allow": lambda: limiter.allow(KEY),
        "allow_subclass": lambda: limiter.allow(SUBCLASS_KEY, cost=2),
        "allow_inline": lambda: limiter.allow("inline", **inline),
        "check": lambda: limiter.check(KEY),
        "check_subclass": lambda: limiter.check(SUBCLASS_KEY),
        "check_denied": lambda: limiter.check("one"),
        "check_timedelta": lambda: limiter.check("i", rate=1, per=timedelta(hours=1)),
        "peek": lambda: limiter.peek(KEY, 1),
        "allow_all": lambda: limiter.allow_all([KEY, ("free", 1)]),
        "check_all": lambda: limiter.check_all([KEY, ["free", 2], {"key": "e:1", "cost": 1}]),
        "check_all_denied": lambda: limiter.check_all([KEY, "one", "free"]),
        "check_all_iterator": lambda: limiter.check_all(iter((KEY, "free"))),
        "check_now": lambda: anything._check_now(KEY),
        "peek_now": lambda: anything._peek_now(KEY),
        "check_all_now": lambda: anything._check_all_now([KEY, "free"]),
        "check_all_now_denied": lambda: anything._check_all_now(["one"]),
        "durable": lambda: anything._durable(1, True),
        "watch": lambda: end_watch(limiter, *limiter._watch()),
        "acquire": lambda: limiter.acquire(KEY, timeout=1),
        "acquire_refused": lambda: limiter.acquire("one", timeout=0),
        "limit_same": lambda: limiter.limit("free", rate=2**40, per="1h"),
        "limit_change": lambda: [anything.limit("c", rate=rate, per="1h") for rate in (1, 2)],
        "limit_many": lambda: limiter.limit_many(many),
        "remove": lambda: (anything.limit("r*", rate=1, per=1), anything.remove("r*")),
        "reset": lambda: limiter.reset("one"),
        "status": lambda: limiter.status(KEY),
        "status_template": lambda: limiter.status("e:*"),
        "status_none": lambda: limiter.status("unknown"),
        "list": lambda: limiter.list(counters=True),
        "top": lambda: limiter.top("allowed", 5),
        "info": lambda: limiter.info(),
        "attributes": lambda: (limiter.data_dir, limiter.sync, limiter.closed, repr(limiter)),
    }


def object_operations(limiter: Limiter) -> dict[str, Callable[[], object]]:
    """What results, clocks and decorators do."""
    result = limiter.check(KEY)
    clock: Any = CLOCK
    guarded = limiter.rate_limit(lambda x: x, rate=2**40, per="1h")(lambda x: x)
    exhausted = limiter.rate_limit("exhausted", rate=1, per="1h")(lambda: None)
    exhausted()
    return {
        "result_attributes": lambda: [
            getattr(result, name) for name in dir(result) if not name.startswith("_")
        ],
        "result_behaviour": lambda: (bool(result), repr(result), hash(result), result == result),
        "result_pickle": lambda: pickle.loads(pickle.dumps(result)),
        "result_made": lambda: Result("a", True, 1, 1, 1, 1, 1, 1, "gcra"),
        "clock": lambda: (clock.advance_ns(1), clock.set_ns(clock.now_ns), ManualClock(0.5)),
        "decorated": lambda: guarded("x"),
        "decorating": lambda: limiter.rate_limit("exhausted", rate=1, per="1h")(len),
        "bad_exceeded": lambda: exhausted(),
        "bad_result": lambda: Result(*("a",) * 9),  # type: ignore[arg-type]
        "bad_clock": lambda: CLOCK.set_ns(-1),
    }


def slow_operations(
    limiter: Limiter, closed: Limiter, root: Path
) -> dict[str, Callable[[], object]]:
    """What waits for the disk."""
    reopened: Any = closed
    anything: Any = _native.examine
    follower = Limiter.open_readonly(root / "open")
    return {
        "flush": lambda: limiter.flush(),
        "compact": lambda: limiter.compact(),
        "refresh": lambda: follower.refresh(),
        "doctor": lambda: limiter.doctor(),
        "open_readonly": lambda: Limiter.open_readonly(root / "open").close(),
        "bad_read_only": lambda: follower.allow(KEY),
        "bad_refresh": lambda: limiter.refresh(),
        "bad_doctor": lambda: flint.doctor(root / "absent"),
        "bad_examine": lambda: anything(5),
        "close_again": lambda: closed.close(),
        "open_memory": lambda: Limiter(":memory:", clock=CLOCK).close(),
        "open_and_drop": lambda: Limiter(root / "drop", segment_bytes=2**18, ring_bytes=2**18),
        "open_and_reopen": lambda: (reopened.__init__(":memory:"), reopened.close()),
        "bad_open_again": lambda: Limiter.__init__(limiter, root),
        "bad_open_locked": lambda: Limiter(limiter.data_dir or ""),
        "bad_open_option": lambda: Limiter(root, ring_bytes=600_000),
        "bad_open_clock": lambda: Limiter(root, clock=KEY),  # type: ignore[arg-type]
    }


def bad_operations(limiter: Limiter, closed: Limiter) -> dict[str, Callable[[], object]]:
    """What is refused."""
    anything: Any = limiter
    return {
        "bad_key_type": lambda: anything.allow(5),
        "bad_key_surrogate": lambda: limiter.check("\ud800"),
        "bad_key_empty": lambda: limiter.check(""),
        "bad_key_unknown": lambda: limiter.check("unknown"),
        "bad_cost_type": lambda: anything.check(KEY, 1.5),
        "bad_cost_value": lambda: limiter.allow(KEY, 0),
        "bad_cost_burst": lambda: limiter.allow("one", 2),
        "bad_cost_index": lambda: anything.check(KEY, FailingIndex()),
        "bad_keyword": lambda: anything.peek(KEY, kost=1),
        "bad_key_twice": lambda: anything.check(KEY, key=KEY),
        "bad_no_key": lambda: anything.allow(),
        "bad_positions": lambda: anything.allow(KEY, 1, 1),
        "bad_inline": lambda: anything.allow(KEY, rate=1),
        "bad_inline_per": lambda: limiter.allow(KEY, rate=1, per="1x"),
        "bad_inline_algorithm": lambda: anything.allow(KEY, rate=1, per=1, algorithm="x"),
        "bad_items": lambda: anything.check_all(5),
        "bad_items_empty": lambda: limiter.check_all([]),
        "bad_items_twice": lambda: limiter.check_all(["free", "free"]),
        "bad_items_raise": lambda: anything.allow_all(failing_items()),
        "bad_item": lambda: anything.check_all([KEY, {"key": KEY, "x": 1}]),
        "bad_item_cost": lambda: anything.check_all([KEY, ("free", True)]),
        "bad_now": lambda: limiter._check_now("unknown"),
        "bad_now_closed": lambda: closed._check_now(KEY),
        "bad_refuse_now": lambda: closed._refuse_now(KEY),
        "refuse_now": lambda: limiter._refuse_now(KEY),
        "bad_refuse": lambda: closed._refuse(KEY),
        "refuse": lambda: limiter._refuse(KEY),
        "bad_all_now": lambda: anything._check_all_now(["free", 5]),
        "bad_all_now_unknown": lambda: limiter._check_all_now(["unknown"]),
        "bad_durable": lambda: anything._durable("x", True),
        "bad_durable_ticket": lambda: limiter._durable(2**60, False),
        "durable_closed": lambda: closed._durable(2**60, True),
        "bad_watch": lambda: closed._watch(),
        "bad_unwatch": lambda: limiter._unwatch(2**20),
        "bad_acquire": lambda: limiter.acquire("unknown"),
        "bad_limit": lambda: anything.limit("x", rate=1, per=1, algorithm="x"),
        "bad_limit_template": lambda: anything.limit("x", rate=1, per=1, template=1),
        "bad_limit_many": lambda: limiter.limit_many([("a", 1, 1), ("b", 0, 1)]),
        "bad_limit_many_shape": lambda: limiter.limit_many([("a", 1)]),
        "bad_limit_many_form": lambda: anything.limit_many([{"key": "a", "rate": 1, "x": 1}, 5]),
        "bad_limit_many_per": lambda: limiter.limit_many([("a", 1, "1m"), ["b", 1, "1x"]]),
        "bad_remove": lambda: limiter.remove("unknown"),
        "bad_reset": lambda: limiter.reset("unknown*"),
        "bad_top": lambda: anything.top("x"),
        "bad_closed": lambda: closed.allow(KEY),
        "bad_closed_check": lambda: closed.check(KEY),
        "bad_closed_list": lambda: closed.list(),
        "bad_pickle": lambda: pickle.dumps(limiter),
    }


def shared_objects() -> list[object]:
    """What calls hand out or hold, and could keep a reference to."""
    names = ["key", "cost", "allowed", "results", "denied_key", "template", "gcra", "token_bucket"]
    return [
        KEY,
        SUBCLASS_KEY,
        CLOCK,
        Limiter,
        Result,
        ManualClock,
        _native,
        _native.LimiterBase,
        _native.Clock,
        *(getattr(errors, name) for name in errors.__all__),
        *(sys.intern(name) for name in names),
        True,
        None,
    ]


def repeat(operation: Callable[[], object], is_bad: bool, times: int) -> None:
    for _ in range(times):
        try:
            operation()
        except Exception:
            if not is_bad:
                raise
        else:
            if is_bad:
                raise AssertionError("nothing was raised")
    gc.collect()


def measure(operation: Callable[[], object], is_bad: bool, times: int) -> tuple[float, float]:
    """Bytes and references left behind by each of `times` calls: the least of as many rounds as it
    takes to see no leak, since what Python itself caches is none. Its cache of attributes, for one,
    keeps some hundred names that were unpickled."""
    repeat(operation, is_bad, times // 5)
    shared = shared_objects()
    least = math.inf, math.inf
    for _ in range(MOST_ROUNDS):
        references = [sys.getrefcount(one) for one in shared]
        before, _ = tracemalloc.get_traced_memory()
        repeat(operation, is_bad, times)
        after, _ = tracemalloc.get_traced_memory()
        grown = [sys.getrefcount(one) - old for one, old in zip(shared, references, strict=True)]
        least = min(least[0], (after - before) / times), min(least[1], max(grown) / times)
        if not is_leak(*least):
            break
    return least


def open_limiters(root: Path) -> tuple[Limiter, Limiter]:
    """One to use and one that is closed."""
    limiter = Limiter(
        root / "open", sync="batch", clock=CLOCK, segment_bytes=2**18, ring_bytes=2**18
    )
    limiter.limit(KEY, rate=2**40, per="1h")
    limiter.limit("free", rate=2**40, per="1h")
    limiter.limit("one", rate=1, per="1h")
    limiter.limit("e:*", rate=2**40, per="1h")
    closed = Limiter(":memory:")
    closed.close()
    return limiter, closed


def main(root: Path) -> None:
    limiter, closed = open_limiters(root)
    fast = fast_operations(limiter) | object_operations(limiter) | bad_operations(limiter, closed)
    tracemalloc.start()
    measured = {name: measure(call, name.startswith("bad"), 200) for name, call in fast.items()}
    for name, call in slow_operations(limiter, closed, root).items():
        measured[name] = measure(call, name.startswith("bad"), 25)
    print(json.dumps(measured))


# ---- The tests ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left_behind() -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            [sys.executable, __file__, root],
            env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    measured: dict[str, tuple[float, float]] = json.loads(done.stdout)
    return measured


def test_no_operation_leaves_anything_behind(left_behind: dict[str, tuple[float, float]]) -> None:
    assert {name: left for name, left in left_behind.items() if is_leak(*left)} == {}


def test_every_method_is_repeated(left_behind: dict[str, tuple[float, float]]) -> None:
    methods = {name for name in dir(_native.LimiterBase) if not name.startswith("_")}
    assert methods - {"close", "data_dir", "sync", "closed"} <= left_behind.keys()


def test_the_measurement_finds_leaks() -> None:
    kept: list[object] = []
    tracemalloc.start()
    try:
        grown_bytes, _ = measure(lambda: kept.append(object()), False, 200)
        _, grown_references = measure(lambda: kept.append(KEY), False, 200)
    finally:
        tracemalloc.stop()
    assert is_leak(grown_bytes, 0)
    assert is_leak(0, grown_references)


def test_closed_limiters_give_back_their_memory_and_threads(tmp_path: Path) -> None:
    """What the library allocates, which Python does not see."""

    def open_and_close(times: int) -> None:
        for _ in range(times):
            with Limiter(tmp_path, sync="batch", segment_bytes=2**18) as limiter:
                limiter.limit("api", rate=1, per="1s")
                limiter.allow("api")
            Limiter(":memory:").close()

    def resident_kib() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    open_and_close(10)
    threads = len(list(Path("/proc/self/task").iterdir()))
    files = len(list(Path("/proc/self/fd").iterdir()))
    before_kib = resident_kib()
    open_and_close(100)
    assert resident_kib() - before_kib < 20 * 1024
    deadline = time.monotonic() + 60  # what has ended may be there for a moment
    while len(list(Path("/proc/self/task").iterdir())) > threads:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


if __name__ == "__main__":
    main(Path(sys.argv[1]))
