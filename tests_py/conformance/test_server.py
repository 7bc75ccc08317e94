"""The calls of the other suite to the real server, by both of its protocols. Nobody can move its
clock: so with limits so long that what passes meanwhile changes nothing but times, which are held
against each other roughly."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from server.flint_server import FlintServer, needs_server, running

import flint
from conformance.test_calls import Call, answered, as_coroutine, plainly, script
from flint._remote import breaker

pytestmark = needs_server

BIND = "--redis-bind=127.0.0.1:0"
URLS: dict[str, Callable[[FlintServer], str]] = {
    "http": lambda server: server.urls[0],
    "native": lambda server: server.native_url,
}
by_both = pytest.mark.parametrize("url_of", URLS.values(), ids=URLS)

TOLERANCE_S = 3600
DAYS = {
    "s": 100,
    "second": 100,
    "10s": 150,
    "m": 200,
    "minute": 200,
    "h": 300,
    "hour": 300,
    "d": 400,
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)")


def slowed(value: Any) -> Any:
    """The same with periods of many days."""
    if isinstance(value, str):
        value = re.sub(r"(?<=\d/)(10s|\w+)", lambda unit: f"{DAYS.get(unit[0], 0)}d", value)
        return {"1m": "200d", "10s": "150d", "1h": "300d"}.get(value, value)
    if isinstance(value, (tuple, list)):
        return type(value)(slowed(one) for one in value)
    if isinstance(value, dict):
        return {name: slowed(one) for name, one in value.items()}
    return value


def plain(value: Any) -> Any:
    """An answer as values that can be compared, times as seconds."""
    if isinstance(value, flint.Result):
        parts = [] if value.results == (value,) else [plain(one) for one in value.results]
        whole = (value.key, value.allowed, value.cost, value.limit, value.remaining)
        rest = (value.algorithm, value.undecided, value.name)
        times = (value.reset_at_ns / 1e9, value.reset_after_ns / 1e9, value.retry_after)
        return [*whole, *rest, *times, parts]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if isinstance(value, str) and TIME.fullmatch(value):
        return [datetime.fromisoformat(value).timestamp(), value[-1]]
    return value


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (one == 0) == (other == 0) and abs(one - other) < TOLERANCE_S
    if isinstance(one, dict) and isinstance(other, dict):
        same = list(one) == list(other)
        return same and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and bool(one == other)


def calls(seed: int) -> Iterator[Call]:
    for (name, args, kwargs), _ in script(seed):
        yield name, slowed(args), slowed(kwargs)


@by_both
@pytest.mark.parametrize("caller", [plainly, as_coroutine])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_call_answers_as_in_memory(
    tmp_path: Path,
    seed: int,
    caller: Callable[[flint.AnyLimiter, Call], Any],
    url_of: Callable[[FlintServer], str],
) -> None:
    with (
        running(tmp_path / "data", "--sync=batch", BIND, FLINT_SERVER_TOKEN="hush-hush") as server,
        flint.connect(url_of(server), token="hush-hush") as limiter,
        flint.Limiter(":memory:") as expected,
    ):
        for number, call in enumerate(calls(seed)):
            found, wanted = answered(caller, limiter, call), answered(plainly, expected, call)
            if call[0] == "top":  # of equal totals any may be first
                found, wanted = (
                    sorted(r, key=lambda e: (e["key"], e["name"] or "")) for r in (found, wanted)
                )
            assert alike(plain(found), plain(wanted)), (number, call, found, wanted)


@by_both
def test_what_the_server_keeps(tmp_path: Path, url_of: Callable[[FlintServer], str]) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir, BIND) as server, flint.SharedLimiter(url_of(server)) as shared:
        shared.limit_many([("a", 2, "1d"), {"key": "t:*", "rate": "5/d; 9/h", "stack": True}])
        shared.limit("x*", "3/500us burst 7", template=False)
        shared.limit("b", "1/d")
        shared.check_all(["a", "t:1"])
        for _ in range(3):
            shared.check("a", 2)
        shared.reset("a")
        shared.remove("b")
        shared.flush()
        with flint.Limiter.open_readonly(data_dir) as reader:
            assert len(shared.history()) == 11
            for key in (None, "a", "t:1", "t:*", "x*", "nothing", "n*"):
                for newest in (False, True):
                    for most in (None, 0, 1, 3):
                        found = shared.history(key, newest_first=newest, limit=most)
                        assert found == reader.history(key, newest_first=newest, limit=most)
            first_at = reader.history("a", limit=2)[1]["at"]
            since = datetime.fromisoformat(first_at)
            assert shared.history(since=since) == reader.history(since=since)
            assert shared.history(until=since) == reader.history(until=since)
        assert shared.doctor() == flint.doctor(data_dir)
        info = shared.info()
        assert set(info) == set(flint.InfoDict.__annotations__)
        assert (info["sync"], info["limits"]) == ("always", 4)
        shared.compact()
        assert shared.info()["compactions"] == 1


@by_both
def test_damage_is_told_by_doctor(tmp_path: Path, url_of: Callable[[FlintServer], str]) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir, BIND) as server, flint.SharedLimiter(url_of(server)) as shared:
        shared.limit("a", "9/d")
        assert all(shared.allow("a") for _ in range(5))
        shared.flush()
        segment = next(path for path in data_dir.glob("flint.aof*") if path.stat().st_size)
        with segment.open("r+b") as file:
            file.seek(100)
            file.write(b"damage")
        report = shared.doctor()
        assert report == flint.doctor(data_dir)
        assert not report["ok"]
        assert report["findings"]


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@by_both
def test_a_server_that_is_killed_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url_of: Callable[[FlintServer], str]
) -> None:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 0.01)
    data_dir = tmp_path / "data"
    admitted: list[bool] = []
    enough = threading.Event()

    def use(shared: flint.SharedLimiter) -> None:
        while not enough.is_set():
            try:
                admitted.append(shared.allow("a"))
            except flint.FlintConnectionError:
                continue

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(data_dir, BIND))
        shared = stack.enter_context(flint.SharedLimiter(url_of(server)))
        redis_bind = f"--redis-bind=127.0.0.1:{server.urls[-1].rpartition(':')[2]}"
        shared.limit("a", "500/d")
        threads = [threading.Thread(target=use, args=(shared,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = len(admitted)
            until(lambda before=before: len(admitted) >= before + 50)
            server.process.kill()
            server.left(-signal.SIGKILL)
            again = running(data_dir, redis_bind, binds=(f"127.0.0.1:{server.port}",))
            server = stack.enter_context(again)
        until(lambda: not all(admitted[-1:]))
        enough.set()
        for thread in threads:
            thread.join()
        # A call whose server was killed may have counted without an answer.
        assert 500 - 3 * 4 <= sum(admitted) <= 500
        assert shared.peek("a").remaining == 0


ODD_KEYS = ["", "*", "a*", "**", "\0", "é", "/", "..", "%2F", "a?b&c=d", "#", "a b", "\n", '\\"']
ODD_KEYS += ["\U0001f600", "x" * 5000]


def odd_calls(key: str) -> Iterator[Call]:
    day = {"per": "1d"}
    yield "limit", (key, "5/d"), {}
    yield "limit", (key, "5/d"), {"template": False}
    yield "check", (key,), {}
    for template in (None, False, True):
        yield "status", (key, template), {}
    yield "status", (key,), {"name": "é /&?"}
    yield "check_all", ([key, "nothing"],), {}
    yield "reset", (key,), {}
    yield "check", (key, 2), {"limit": "7/d; 9/100d"}
    yield "peek", (key, 2), {"rate": 5, **day, "burst": 9, "algorithm": "gcra"}
    yield "limit", (key, 5), {"per_ns": 86_400 * 10**9 + 1, "name": "é n"}
    yield "limit", (key, 5), {**day, "name": "n" * 300}
    yield "limit", (key, 2**62), day
    yield "limit", (key, 1), {**day, "burst": 2**62}
    yield "list", (), {"counters": True}
    yield "acquire", (key, 1, 0), {}
    yield "remove", (key,), {"name": "é n"}
    for template in (None, None, False):
        yield "remove", (key, template), {}


@by_both
def test_odd_keys(tmp_path: Path, url_of: Callable[[FlintServer], str]) -> None:
    with (
        running(tmp_path / "data", "--sync=batch", BIND) as server,
        flint.connect(url_of(server)) as limiter,
        flint.Limiter(":memory:") as expected,
    ):
        for key in ODD_KEYS:
            for call in odd_calls(key):
                found, wanted = answered(plainly, limiter, call), answered(plainly, expected, call)
                assert alike(plain(found), plain(wanted)), (call, found, wanted)
