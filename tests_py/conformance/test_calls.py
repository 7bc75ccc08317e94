"""The same calls at each place and in memory, plain and as coroutines: the same answers."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flint
from conformance.places import PLACES, Factory
from flint._surface.protocol import AnyLimiter
from flint.testing import ManualClock

START_S = 1_700_000_000
KEYS = ["a", "b", "t:1", "t:2", "t:long:1", "s:1", "nothing"]
WORDS = ["2/s", "3/minute; 5/hour", "4/10s burst 6 using gcra", "9/m using sliding_window_log"]
ALGORITHMS = [
    "token_bucket",
    "gcra",
    "leaky_bucket",
    "fixed_window_counter",
    "sliding_window_log",
    "sliding_window_counter",
]
Call = tuple[str, tuple[Any, ...], dict[str, Any]]
Caller = Callable[[flint.AnyLimiter, Call], Any]


def plainly(limiter: flint.AnyLimiter, call: Call) -> Any:
    name, args, kwargs = call
    return getattr(limiter, name)(*args, **kwargs)


def as_coroutine(limiter: flint.AnyLimiter, call: Call) -> Any:
    name, args, kwargs = call

    async def main() -> Any:
        return await getattr(limiter, "a" + name)(*args, **kwargs)

    return asyncio.run(main())


def answered(caller: Caller, limiter: flint.AnyLimiter, call: Call) -> Any:
    """The answer, or the error with its message."""
    try:
        return caller(limiter, call)
    except (flint.FlintError, ValueError, TypeError) as error:
        return type(error), str(error)


def configuring() -> list[Call]:
    calls: list[Call] = [
        ("limit", (f"exact:{name}",), {"rate": 3, "per": "1m", "algorithm": name})
        for name in ALGORITHMS
    ]
    return [
        *calls,
        ("limit", ("a", "3/minute"), {}),
        ("limit", ("b", "2/s; 5/minute"), {}),
        ("limit", ("t:*",), {"rate": 4, "per": "1h", "burst": 6}),
        ("limit", ("s:*", "7/h"), {"stack": True, "name": "own"}),
        ("limit_many", ([("t:long:*", 2, "10s"), ("m", "1/s"), {"key": "n", "rate": "2/d"}],), {}),
        ("limit", ("a", "9/minute"), {"if_absent": True}),
        ("limit", ("a", 0), {"per": "1m"}),
        ("limit", ("a", "1/x"), {}),
        ("limit", ("",), {"rate": 1, "per": 1}),
    ]


def one_call(draw: random.Random) -> Call:
    key = draw.choice([*KEYS, *(f"exact:{name}" for name in ALGORITHMS)])
    cost = draw.choice([1, 1, 1, 2, 3, 50])
    kind = draw.randrange(12)
    if kind < 5:
        return draw.choice(["allow", "check", "peek"]), (key, cost), {}
    if kind == 5:
        limit = draw.choice(WORDS)
        return draw.choice(["allow", "check", "peek"]), (f"word:{key}", cost), {"limit": limit}
    if kind == 6:
        items = [(one, draw.choice([1, 2])) for one in draw.sample(KEYS[:-1], 3)]
        return draw.choice(["allow_all", "check_all"]), (items,), {}
    if kind == 7:
        return "acquire", (key, cost, 0), {}
    if kind == 8:
        return "status", (draw.choice([key, "t:*", "b"]),), {}
    if kind == 9:
        return draw.choice([("list", (), {}), ("top", ("allowed",), {}), ("flush", (), {})])
    if kind == 10:
        return "reset", (key,), {}
    return "limit", ("a", draw.choice(["3/minute", "5/minute", "2/s; 9/h"])), {}


def script(seed: int) -> Iterator[tuple[Call, float]]:
    """Calls, and how many seconds pass before each."""
    draw = random.Random(seed)
    for call in configuring():
        yield call, 0
    for _ in range(300):
        yield one_call(draw), draw.choice([0, 0, 0.25, 1, 7.5, 61])
    yield ("remove", ("t:*",), {}), 0
    yield ("check", ("t:1",), {}), 0
    yield ("remove", ("nothing",), {}), 0


@pytest.mark.parametrize("caller", [plainly, as_coroutine])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("factory", PLACES.values(), ids=PLACES)
def test_every_call_answers_as_in_memory(
    tmp_path: Path, factory: Factory, seed: int, caller: Caller
) -> None:
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with factory(tmp_path, clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        for number, (call, seconds) in enumerate(script(seed)):
            clock.advance(seconds)
            other.advance(seconds)
            assert answered(caller, limiter, call) == answered(plainly, expected, call), (
                number,
                call,
            )


@pytest.mark.parametrize("factory", PLACES.values(), ids=PLACES)
def test_what_is_closed_says_so(tmp_path: Path, factory: Factory) -> None:
    with factory(tmp_path, ManualClock(START_S)) as limiter:
        assert not limiter.closed
        limiter.close()
        limiter.close()
        assert limiter.closed
        with pytest.raises(flint.ClosedError, match="the limiter is closed"):
            limiter.allow("a")
        with pytest.raises(flint.ClosedError, match="the limiter is closed"):
            asyncio.run(limiter.aallow("a"))


@pytest.mark.parametrize("factory", PLACES.values(), ids=PLACES)
def test_every_call_of_the_protocol_is_there(tmp_path: Path, factory: Factory) -> None:
    with factory(tmp_path, ManualClock(START_S)) as limiter:
        for name, function in vars(AnyLimiter).items():
            if not inspect.isfunction(function) or name.startswith("_"):
                continue
            offered = inspect.signature(getattr(limiter, name)).parameters
            wanted = list(inspect.signature(function).parameters)[1:]
            assert set(wanted) <= set(offered), name
            twin = inspect.iscoroutinefunction(function)
            assert inspect.iscoroutinefunction(getattr(limiter, name)) == twin, name


def test_what_lives_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "https+x://h:1",
        "valkey://u:secret@h/0",
        "mysql://h/db",
        "x-y://z",
    ):
        with pytest.raises(flint.UnsupportedError, match="use a path, a file: URL") as caught:
            flint.connect(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(flint.UnsupportedError, match="three slashes"):
        flint.connect("file://elsewhere/limits")
    with pytest.raises(ValueError, match="options are keywords"):
        flint.connect("file:///tmp/limits?sync=batch")
    with pytest.raises(TypeError, match="url must be"):
        flint.connect(7)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    for url, path in (("c:x", "c:x"), ("file:d%20e", "d e"), ("plain", "plain")):
        with flint.connect(url) as limiter:
            assert isinstance(limiter, flint.Limiter)
            assert limiter.data_dir == str(tmp_path / path)
