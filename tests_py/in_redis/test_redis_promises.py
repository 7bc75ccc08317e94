"""What RedisLimiter promises beyond its answers: never one too many, denials that write nothing,
keys that go when they are fresh, and limits that hold again in a Redis that was emptied."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from in_redis.redis_server import clocked, limiter_of, new_namespace, server

import flint
from flint._redis import questions
from flint._stores import denials
from flint.redis import RedisLimiter
from flint.testing import ManualClock

CLIENTS = 32


@pytest.fixture
def namespace() -> str:
    return new_namespace()


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with server().client() as found:
        yield found


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    "algorithm",
    ["gcra", "fixed_window_counter", "sliding_window_log", "sliding_window_counter"],
)
def test_32_clients_get_what_there_is(namespace: str, algorithm: Any) -> None:
    start = threading.Barrier(CLIENTS)

    def use(number: int) -> int:
        with limiter_of(server(), namespace=namespace, totals=True) as limiter:
            if number == 0:
                limiter.limit("t:*", 100, per="1000d", algorithm=algorithm)
            start.wait()
            # The counter is made by whoever is first.
            return sum(limiter.allow("t:1", 2) for _ in range(10))

    with ThreadPoolExecutor(CLIENTS) as threads:
        admitted = list(threads.map(use, range(CLIENTS)))
    assert sum(admitted) == 50
    with limiter_of(server(), namespace=namespace, totals=True) as limiter:
        for key in ("t:1", "t:*"):
            status = limiter.status(key)
            assert status
            assert (status["total_allowed"], status["total_denied"]) == (50, 270)


def test_32_coroutines_get_what_there_is(namespace: str) -> None:
    async def main() -> None:
        async with limiter_of(server(), namespace=namespace) as limiter:
            await limiter.alimit("a", "20/1000d; 25/2000d")
            answers = await asyncio.gather(*(limiter.aallow_all(["a"]) for _ in range(CLIENTS)))
            assert sum(answers) == 20
            # Of a call that is cancelled nothing stays behind that others would find.
            for _ in range(10):
                task = asyncio.ensure_future(limiter.acheck("a"))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert not await limiter.aallow("a")

    asyncio.run(main())


@pytest.mark.parametrize("is_plain", [True, False])
def test_waiting_in_line(namespace: str, is_plain: bool) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("a", 1, per="300ms")
        assert limiter.allow("a")
        if is_plain:
            assert limiter.acquire("a", timeout=60)
        else:
            assert asyncio.run(limiter.aacquire("a", timeout=60))
        limiter.limit("b", 1, per="1000d")
        assert limiter.acquire("b", timeout=0)
        assert not limiter.acquire("b", timeout=0)


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window_log"])
def test_denials_write_nothing(namespace: str, client: redis.Redis, algorithm: Any) -> None:
    def changes() -> int:
        # Of this namespace: others may be at work on the same server.
        keys = sorted(client.scan_iter(f"{namespace}:*"))
        return hash(tuple((key, client.dump(key)) for key in keys))

    with limiter_of(server(), namespace=namespace, totals=True) as limiter:
        limiter.limit("a", 1, per="1000d", algorithm=algorithm)
        limiter.limit("t:*", "1/1000d; 2/2000d")
        assert limiter.allow_all(["a", "t:1"])
        assert not limiter.allow("a")
        assert not limiter.allow("t:1")
        before = changes()
        for _ in range(20):
            assert not limiter.allow("a")
            assert not limiter.check("t:1")
            assert limiter.peek("t:2")
        assert changes() == before
        limiter.flush()
        assert changes() != before
        found = limiter.status("a")
        assert found
        assert found["total_denied"] == 21


def test_denials_are_told_after_a_while(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "TOLD_EVERY_S", 0.0)
    options: dict[str, Any] = {"namespace": namespace, "totals": True}
    with limiter_of(server(), **options) as limiter, limiter_of(server(), **options) as other:
        limiter.limit("a", 1, per="1000d")
        assert [limiter.allow("a") for _ in range(4)] == [True, False, False, False]
        found = other.status("a")
        assert found
        assert found["total_denied"] == 3


def test_without_totals(namespace: str) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("t:*", 1, per="1000d")
        assert [limiter.allow("t:1") for _ in range(3)] == [True, False, False]
        for key in ("t:1", "t:*"):
            found = limiter.status(key)
            assert found
            assert (found["total_allowed"], found["last_allowed_at"]) == (0, None)
        with pytest.raises(flint.UnsupportedError, match="totals=True"):
            limiter.top()


@pytest.mark.parametrize("algorithm", ["leaky_bucket", "sliding_window_log"])
def test_keys_go_when_they_are_fresh(namespace: str, client: redis.Redis, algorithm: Any) -> None:
    def keys() -> list[Any]:
        return list(client.scan_iter(f"{namespace}:*:[kl]:*"))

    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("t:*", 2, per="100ms", algorithm=algorithm)
        limiter.limit("slow:*", 2, per="1h", algorithm=algorithm)
        limiter.limit("own", 2, per="1ms", algorithm=algorithm)
        for key in ("t:1", "t:2", "slow:1", "own"):
            assert limiter.allow(key)
        for kind in ("k", "l") if algorithm == "sliding_window_log" else ("k",):
            name = f"{namespace}:{{{namespace}}}:{kind}:"
            left_ms: Any = client.pttl(name + "slow:1")
            # A log may stay for a period more.
            most_ms = {"k": 3_600_000, "l": 7_200_000}[kind]
            most_ms //= 2 if algorithm == "leaky_bucket" else 1
            assert most_ms - 600_000 < left_ms <= most_ms + 1000
            assert client.pttl(name + "own") == -1
        until(lambda: not any(b":t:" in key for key in keys()))
        assert any(b"slow:1" in key for key in keys())
        # One that is given a limit of its own stays.
        limiter.limit("slow:1", 9, per="1h", algorithm=algorithm)
        assert all(client.pttl(key) == -1 for key in keys() if b"slow" in key)
        limiter.remove("slow:1")
        limiter.remove("own")
        assert not keys()


def test_a_log_whose_record_has_gone(namespace: str, client: redis.Redis) -> None:
    """It stays for a period more, and is no business of who comes then."""
    with limiter_of(server(), namespace=namespace) as limiter:
        limit: dict[str, Any] = {"rate": 2, "per": "1h", "algorithm": "sliding_window_log"}
        limiter.limit("t:*", **limit, name="n")
        assert limiter.allow("t:1")
        assert client.delete(f"{namespace}:{{{namespace}}}:k:t:1") == 1
        limiter.remove("t:*")
        limiter.limit("t:*", **limit)
        assert limiter.allow("t:1")
        assert client.zcard(f"{namespace}:{{{namespace}}}:l:t:1") == 1
        assert [limiter.allow("t:1") for _ in range(2)] == [True, False]


def test_a_log_beside_one_that_may_go(namespace: str, client: redis.Redis) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limit: dict[str, Any] = {"rate": 2, "per": "1h", "algorithm": "sliding_window_log"}
        limiter.limit("t:*", **limit, name="n")
        assert limiter.allow("t:1")
        log = f"{namespace}:{{{namespace}}}:l:t:1"
        assert client.pttl(log) > 0
        limiter.limit("t:1", **limit, name="m", stack=True)
        assert limiter.allow("t:1")
        assert client.pttl(log) == -1


def test_the_log_that_is_searched() -> None:
    """What has to leave until a large cost fits is found among many entries."""
    clock, other = ManualClock(1_700_000_000), ManualClock(1_700_000_000)
    with clocked(clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        for one in (limiter, expected):
            one.limit("a", 500, per="1h", algorithm="sliding_window_log", name="n" * 255)
            one.limit("a", 600, per="1h", algorithm="sliding_window_log")
        for number in range(100):
            for each in (clock, other):
                each.advance_ns(7 * 10**9 + number)
            for one in (limiter, expected):
                assert one.allow("a", 1 + number % 9) == (number < 100)
        for cost in (1, 5, 33, 111, 250, 499, 500):
            assert limiter.check("a", cost) == expected.check("a", cost)
            assert limiter.peek("a", cost) == expected.peek("a", cost)


def test_time_does_not_go_back_for_a_key() -> None:
    clock, other = ManualClock(1_700_000_000), ManualClock(1_700_000_000)
    with clocked(clock) as limiter, flint.Limiter(":memory:", clock=other) as expected:
        for one in (limiter, expected):
            one.limit("a", 2, per="1m")
            assert one.allow("a")
        for each in (clock, other):
            each.advance(-3600)
        found, wanted = limiter.check("a"), expected.check("a")
        assert (found.remaining, found.reset_after_ns) == (wanted.remaining, wanted.reset_after_ns)
        assert not limiter.allow("a")


def test_other_clients_see_changes_at_once(namespace: str) -> None:
    with (
        limiter_of(server(), namespace=namespace) as one,
        limiter_of(server(), namespace=namespace, tag="other") as elsewhere,
        limiter_of(server(), namespace=namespace) as other,
    ):
        one.limit("t:*", "5/1000d")
        assert other.check("t:1").limit == 5
        one.limit("t:u*", "7/1000d")
        assert other.check("t:u1").limit == 7
        one.limit("t:1", "9/1000d")
        assert other.check("t:1").remaining == 7
        one.remove("t:u*")
        assert other.check("t:u1").limit == 5
        one.remove("t:*")
        for limiter, key in ((other, "t:2"), (elsewhere, "t:1")):
            with pytest.raises(flint.NotConfiguredError):
                limiter.check(key)


def test_a_redis_that_was_emptied(namespace: str, client: redis.Redis) -> None:
    with (
        limiter_of(server(), namespace=namespace) as limiter,
        limiter_of(server(), namespace=namespace) as other,
    ):
        limiter.limit("t:*", "2/1000d; 9/2000d")
        limiter.limit("a", "3/1000d")
        limiter.limit("gone", "3/1000d")
        limiter.remove("gone")
        assert limiter.check("t:1").remaining == 1
        assert other.check("a").remaining == 2
        for key in client.scan_iter(f"{namespace}:*"):
            client.delete(key)
        with pytest.raises(flint.NotConfiguredError):
            other.check("a")  # it has configured nothing
        assert limiter.check("a").remaining == 2
        assert [one.name for one in limiter.check("t:1").results] == ["per 1000d", "per 2000d"]
        assert other.check("a").remaining == 1
        with pytest.raises(flint.NotConfiguredError):
            limiter.check("gone")


def test_a_change_when_no_more_is_remembered(
    namespace: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "_MOST_REMEMBERED", 1)
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("a", "3/1000d")
        limiter.limit("b", "3/1000d")
        limiter.limit("a", "7/1000d")
        for key in client.scan_iter(f"{namespace}:*"):
            client.delete(key)
        assert limiter.check("a").limit == 7
        with pytest.raises(flint.NotConfiguredError):
            limiter.check("b")


@pytest.mark.parametrize("part", ["epoch", "templates", "changes", "sums"])
def test_a_shared_key_that_is_evicted(namespace: str, client: redis.Redis, part: str) -> None:
    name = f"{namespace}:{{{namespace}}}:{part}"
    with (
        limiter_of(server(), namespace=namespace, totals=True) as limiter,
        limiter_of(server(), namespace=namespace) as loaded,
        limiter_of(server(), namespace=namespace) as other,
    ):
        limiter.limit_many([("t:*", 9, "1000d"), ("u:*", 8, "1000d"), ("own", 7, "1000d")])
        for key, limit in (("t:1", 9), ("t:2", 9), ("u:1", 8), ("own", 7)):
            assert limiter.check(key).limit == limit
        limiter.limit("t:*", 6, per="1000d")
        assert loaded.check("t:1").limit == 6

        assert client.delete(name) == 1
        for one in (loaded, other):
            for key in ("t:1", "t:2", "t:3", "u:1"):
                try:
                    assert one.check(key).limit == (8 if key == "u:1" else 6)
                except flint.NotConfiguredError:
                    assert part in ("epoch", "templates")
            assert one.check("own").limit == 7
        # Who has configured them tells them again, where they are missed.
        assert [limiter.check(key).limit for key in ("t:1", "t:2", "t:4", "u:1")] == [6, 6, 6, 8]

        client.delete(name)
        limiter.limit("t:*", 5, per="1000d")
        for one in (limiter, loaded, other):
            assert [one.check(key).limit for key in ("t:1", "t:5", "u:1")] == [5, 5, 8]
            assert one.check("own").limit == 7
            with limiter_of(server(), namespace=namespace) as new:
                assert [new.check(key).limit for key in ("t:1", "u:1", "own")] == [5, 8, 7]
        # What is used goes on through changes.
        assert limiter.check("t:7").remaining == 4
        limiter.limit("t:*", 4, per="1000d")
        assert limiter.check("t:7").remaining == 2
        before = limiter.status("t:*")
        assert limiter.allow("t:6")
        after = limiter.status("t:*")
        assert before
        assert after
        assert after["total_allowed"] == before["total_allowed"] + 1


def test_a_limit_begins_a_store_that_was_evicted(namespace: str, client: redis.Redis) -> None:
    epoch = f"{namespace}:{{{namespace}}}:epoch"
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("a", 9, per="1000d")
        assert limiter.check("a").remaining == 8
        before = client.getdel(epoch)
        limiter.limit("a", 5, per="1000d")
        after = client.get(epoch)
        assert isinstance(after, bytes)
        assert after.endswith(b":0")
        assert after != before
        assert limiter.check("a").remaining == 3  # it keeps what was used


def test_removing_what_was_evicted(namespace: str, client: redis.Redis) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("t:*", 9, per="1000d")
        client.delete(f"{namespace}:{{{namespace}}}:epoch")
        with pytest.raises(flint.NotConfiguredError):
            limiter.remove("t:*")
        with pytest.raises(flint.NotConfiguredError):
            limiter.check("t:1")


def test_a_script_cache_that_is_flushed(namespace: str, client: redis.Redis) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("a", "9/1000d")
        for left in (8, 7):
            client.script_flush()
            assert limiter.check("a").remaining == left
        client.script_flush()
        assert asyncio.run(limiter.acheck("a")).remaining == 6


def test_long_keys_and_odd_ones(namespace: str) -> None:
    long = "k" * 65_000
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit(long, "2/1000d")
        limiter.limit(long + "t*", "3/1000d")
        assert [limiter.check(long + end).limit for end in ("", "t1")] == [2, 3]
        assert [one["key"] for one in limiter.list(counters=True)] == [
            *(long, long + "t*", long + "t1")
        ]
        for key in ("\0", "a{b}c", "*?[x]\\", "ключ"):
            assert limiter.check(key, limit="5/1000d").remaining == 4
            assert limiter.check(key, limit="5/1000d").remaining == 3


def test_the_17th_limit_of_a_key(namespace: str) -> None:
    with (
        limiter_of(server(), namespace=namespace) as limiter,
        flint.Limiter(":memory:") as expected,
    ):
        for number in range(16):
            for one in (limiter, expected):
                one.limit("a", 9, per="1d", name=f"n{number}")
                one.limit("t:*", 9, per="1d", name=f"n{number}", stack=True)
        for key in ("a", "t:*"):
            told = []
            for one in (limiter, expected):
                with pytest.raises(ValueError, match="17th") as caught:
                    one.limit(key, 9, per="1d", name="more")
                told.append(str(caught.value))
            assert told[0] == told[1]
        assert len(limiter.list()) == 32
        assert len(limiter.check("a").results) == 16
        for one in (limiter, expected):
            one.limit("*", 9, per="1d")
        told = []
        for one in (limiter, expected):
            with pytest.raises(ValueError, match="more than 16") as caught:
                one.check("t:1")
            told.append(str(caught.value))
        assert told[0] == told[1]


def test_listing_more_than_a_page(namespace: str) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit_many([(f"key {number}", 9, "1d") for number in range(300)])
        assert len(limiter.list()) == 300
        with limiter_of(server(), namespace=namespace[:-1] + "?") as other:
            assert other.list() == []


def test_clients_that_are_given(namespace: str) -> None:
    for decodes in (False, True):
        for protocol in (2, 3):
            given = server().client(decode_responses=decodes, protocol=protocol)
            with given, RedisLimiter(given, namespace=namespace, totals=True) as limiter:
                limiter.limit("a*", "9/1000d", if_absent=True)
                assert limiter.allow("a\xff")
                assert limiter.list(counters=True)[0]["key"] == "a*"
                with pytest.raises(flint.UnsupportedError, match=r"redis\.asyncio"):
                    asyncio.run(limiter.aallow("a"))
                limiter.close()
                assert given.ping()  # it is its owner's, and works

    async def main() -> None:
        for decodes in (False, True):
            found = redis.asyncio.Redis(port=server().port, decode_responses=decodes)
            async with found, RedisLimiter(found, namespace=namespace) as limiter:
                assert (await limiter.acheck("a\xff")).limit == 9
                with pytest.raises(flint.UnsupportedError, match="give one of redis or a URL"):
                    limiter.allow("a")

    asyncio.run(main())


def test_a_forked_child(namespace: str) -> None:
    with limiter_of(server(), namespace=namespace) as limiter:
        limiter.limit("a", "3/1000d")
        assert limiter.allow("a")
        child = os.fork()
        if child == 0:
            os._exit(0 if limiter.check("a").remaining == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert limiter.check("a").remaining == 0


def test_the_file_of_the_configuration(namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "flint.toml"
    path.write_text(
        f'[storage]\nurl = "{server().url}"\nnamespace = "{namespace}"\ntotals = true\n'
        'timeout = 30.0\n[limits]\n"user:*" = "2/d"\n',
        "utf-8",
    )
    with flint.from_config(path) as limiter:
        assert isinstance(limiter, RedisLimiter)
        assert limiter.namespace == namespace
        assert limiter.check("user:1").limit == 2


def test_what_is_no_redis() -> None:
    for wrong in (7, None, b"redis://h"):
        with pytest.raises(TypeError, match="server must be"):
            RedisLimiter(wrong)
    with pytest.raises(ValueError, match="cannot be read"):
        RedisLimiter("http://h")
    for name, value in (
        *(("namespace", ""), ("namespace", "a b"), ("namespace", "a{"), ("tag", "}")),
        *(("on_error", "cry"), ("timeout", 0), ("timeout", 10**9)),
        *(("min_replicas", -1), ("min_replicas", 10**9)),
    ):
        with pytest.raises(ValueError, match=name):
            RedisLimiter(server().url, **{name: value})
    for name, odd in (("namespace", 7), ("on_error", 7), ("totals", 1), ("min_replicas", True)):
        with pytest.raises(TypeError, match=name):
            RedisLimiter(server().url, **{name: odd})  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    for url, shown in (
        ("redis://me:hu%2Fsh@127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        ("redis://:hu@sh@127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        ("unix://me:hush@/run/redis", "unix:///run/redis"),
        ("redis://127.0.0.1:1/0?password=hush", "redis://127.0.0.1:1/0"),
        ("redis://127.0.0.1:1/0?password=hu@sh", "redis://..."),
        ("redis://me:hush@127.0.0.1:1/0?client_name=a@b", "redis://127.0.0.1:1/0"),
    ):
        assert (
            repr(RedisLimiter(url, namespace="n"))
            == f"<flint.RedisLimiter '{shown}' namespace 'n'>"
        )
    for url in (
        *("redis://:hu/sh@h", "redis://me:12/hush@h:1/0", "redis://me:12#hush@h:1/0"),
        *("redis://me:12?hush@h:1/0", "redis://me:12?hush=x@h:1/0", "redis://:hu#sh@h"),
        *("redis://[hush", "redis://h?hush=1", "unix://me:hu/sh@/run/redis", "redis://h:hush"),
    ):
        with pytest.raises(ValueError, match="cannot be read") as caught:
            RedisLimiter(url)
        assert not re.search("hu|sh@|12", str(caught.value))
        assert caught.value.__cause__ is None


def test_without_the_extra() -> None:
    program = (
        "import sys\nsys.modules['redis'] = None\nimport flint\n"
        "try:\n    flint.connect('redis://h')\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 'pip install "flint-limiter[redis]"' in done.stdout
