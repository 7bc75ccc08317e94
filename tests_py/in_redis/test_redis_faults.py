"""What a caller sees when Redis is away, slow, full, or only reads."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis.asyncio.retry
import redis.retry
from in_redis.redis_server import PATIENCE_S, RedisServer, limiter_of

import flint
from flint._redis import aio, clients
from flint._remote import breaker
from flint._remote.connections import LATE
from flint.redis import RedisLimiter

Caller = Callable[[RedisLimiter, str], Any]
UNREACHED = "could not reach Redis"


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """One that a test may end."""
    base = RedisServer()
    yield base
    base.remove()


@pytest.fixture
def base(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 0.0)
    yield own_server
    own_server.stop()
    own_server.start()


@pytest.fixture
def replica(base: RedisServer) -> Iterator[RedisServer]:
    with base.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    found = RedisServer(f"--replicaof 127.0.0.1 {base.port}")
    with found.client() as client:
        until(lambda: client.info("replication")["master_link_status"] == "up")
    yield found
    found.remove()


def until(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def plainly(limiter: RedisLimiter, key: str) -> Any:
    return limiter.check(key)


def as_coroutine(limiter: RedisLimiter, key: str) -> Any:
    async def main() -> Any:
        return await limiter.acheck(key)

    return asyncio.run(main())


both = pytest.mark.parametrize("caller", [plainly, as_coroutine])


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_and_comes_back_empty(
    base: RedisServer, number: signal.Signals, caller: Caller
) -> None:
    with limiter_of(base) as limiter, limiter_of(base) as other:
        limiter.limit("a", "3/1000d")
        assert caller(limiter, "a").remaining == 2
        base.stop(number)
        with pytest.raises(flint.FlintConnectionError, match=UNREACHED):
            caller(limiter, "a")
        base.start()
        # It has no files, so that what was used is forgotten; what was configured is told again.
        assert caller(limiter, "a").remaining == 2
        assert caller(other, "a").remaining == 1


@both
def test_a_host_that_has_no_name(caller: Caller) -> None:
    with RedisLimiter("redis://a..b", on_error="deny") as limiter:
        assert caller(limiter, "a").undecided


@both
def test_what_on_error_answers(base: RedisServer, caller: Caller) -> None:
    with (
        limiter_of(base, on_error="allow") as allowing,
        limiter_of(base, on_error="deny") as denying,
    ):
        allowing.limit("a", "1/1000d")
        base.stop()
        for limiter, allowed in ((allowing, True), (denying, False)):
            result = caller(limiter, "a")
            assert (result.allowed, result.undecided) == (allowed, True)
        assert allowing.check_all(["a"])["allowed"]
        assert denying.check_all(["a"])["denied_key"] == "a"
        with pytest.raises(flint.FlintConnectionError):
            allowing.status("a")
        with pytest.raises(ValueError, match="key"):
            allowing.check("")
        base.start()
        assert allowing.allow("a")
        assert not allowing.allow("a")


@both
def test_of_one_that_is_away_others_learn_at_once(
    base: RedisServer, monkeypatch: pytest.MonkeyPatch, caller: Caller
) -> None:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 3600.0)
    with limiter_of(base) as limiter:
        limiter.limit("a", "1/1000d")
        base.stop()
        for _ in range(4):
            with pytest.raises(flint.FlintConnectionError):
                caller(limiter, "a")
        with pytest.raises(flint.FlintConnectionError, match="asked again each second"):
            caller(limiter, "a")


@both
def test_a_server_that_stands_still(base: RedisServer, caller: Caller) -> None:
    with limiter_of(base) as patient, RedisLimiter(base.url, timeout=0.3) as limiter:
        patient.limit("a", "100/1000d")
        assert caller(patient, "a")
        base.send(signal.SIGSTOP)
        try:
            for _ in range(2):
                with pytest.raises(flint.FlintConnectionError, match="no answer in time"):
                    caller(limiter, "a")
        finally:
            base.send(signal.SIGCONT)
        assert caller(patient, "a")


CALLS = 300
THREADS = 150


def test_many_calls_at_once(base: RedisServer) -> None:
    """More than there are connections: the others wait for one."""
    begun = threading.Semaphore(0)

    def use(limiter: RedisLimiter) -> bool:
        begun.release()
        return limiter.allow("a")

    async def main(limiter: RedisLimiter) -> list[bool]:
        return await asyncio.gather(*(limiter.aallow("a") for _ in range(CALLS)))

    with limiter_of(base) as limiter, ThreadPoolExecutor(THREADS) as threads:
        limiter.limit("a", f"{THREADS + CALLS}/1000d")
        base.send(signal.SIGSTOP)  # so that all are under way together
        try:
            answers = [threads.submit(use, limiter) for _ in range(THREADS)]
            for _ in answers:
                assert begun.acquire(timeout=60)
        finally:
            base.send(signal.SIGCONT)
        assert all(one.result() for one in answers)
        assert all(asyncio.run(main(limiter)))
        assert not limiter.allow("a")


@pytest.mark.parametrize(
    ("is_plain", "kind"), [(True, redis.retry.Retry), (False, redis.asyncio.retry.Retry)]
)
def test_connections_of_our_own_repeat_nothing(is_plain: bool, kind: type) -> None:
    async def main() -> Any:
        made = clients.client_of if is_plain else aio.client_of
        return made("redis://h", 1.0).connection_pool.make_connection().retry

    retry = asyncio.run(main())
    assert type(retry) is kind
    assert retry._retries == 0


def test_no_connection_in_time(base: RedisServer) -> None:
    """Where one is waited for in vain nothing was sent, and the server is not away."""

    async def main(limiter: RedisLimiter) -> None:
        assert limiter._loop_client
        pool = (await limiter._loop_client._client()).connection_pool
        taken = await pool.get_connection()
        with pytest.raises(flint.FlintConnectionError, match=r"in time$"):
            await limiter.aallow("a")
        await pool.release(taken)

    with RedisLimiter(base.url + "?max_connections=1&timeout=0.01", timeout=PATIENCE_S) as limiter:
        limiter.limit("a", "1/1000d")
        pool = limiter._client._client.connection_pool
        taken = pool.get_connection()
        with pytest.raises(flint.FlintConnectionError, match=r"in time$"):
            limiter.allow("a")
        pool.release(taken)
        asyncio.run(main(limiter))
        assert limiter.allow("a")
    found = clients.unreachable(redis.exceptions.MaxConnectionsError("Too many connections"))
    assert found
    assert (str(found), found.is_away, found.was_sent) == (LATE, False, False)


@both
def test_one_that_only_reads(base: RedisServer, replica: RedisServer, caller: Caller) -> None:
    with limiter_of(base) as limiter:
        limiter.limit_many([("a", "1/1000d"), ("b", "1/1000d")])
        assert caller(limiter, "a")
    with replica.client() as client, base.client() as primary:
        until(lambda: client.dbsize() == primary.dbsize())
    with limiter_of(replica) as limiter:
        assert not caller(limiter, "a")
        assert limiter.peek("b")
        assert [one["key"] for one in limiter.list()] == ["a", "b"]
        with pytest.raises(flint.FlintConnectionError, match="read only replica"):
            caller(limiter, "b")
        with pytest.raises(flint.FlintConnectionError, match="read only replica"):
            limiter.limit("b", "2/1000d")
    with limiter_of(replica, on_error="deny") as limiter:
        assert caller(limiter, "b").undecided


@both
@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window_log"])
def test_a_memory_that_is_full(base: RedisServer, algorithm: Any, caller: Caller) -> None:
    with base.client() as client, limiter_of(base, totals=True) as limiter:
        limiter.limit_many([("t:*", 3, "1000d", algorithm), ("new", 3, "1000d", algorithm)])
        assert caller(limiter, "t:1")
        client.config_set("maxmemory", 1)
        for key in ("t:1", "new", "t:2"):
            with pytest.raises(flint.FlintConnectionError, match="maxmemory"):
                caller(limiter, key)
        assert limiter.peek("t:1").remaining == 2
        with pytest.raises(flint.FlintConnectionError, match="maxmemory"):
            limiter.limit("a", "1/d")
        client.config_set("maxmemory", 0)
        # Nothing was counted.
        assert caller(limiter, "t:1").remaining == 1


@both
def test_a_wrong_password(base: RedisServer, caller: Caller) -> None:
    with base.client() as client:
        client.config_set("requirepass", "right")
        wrong = base.url.replace("//", "//:wr0ng@")
        with RedisLimiter(wrong, timeout=PATIENCE_S) as limiter:
            with pytest.raises(flint.FlintConnectionError, match="password") as told:
                caller(limiter, "a")
            assert "wr0ng" not in str(told.value) + repr(limiter)
        with RedisLimiter(wrong.replace("wr0ng", "right"), timeout=PATIENCE_S) as limiter:
            limiter.limit("a", "1/d")
            assert caller(limiter, "a")


@both
def test_what_a_user_may_not_do(base: RedisServer, caller: Caller) -> None:
    with base.client() as client, limiter_of(base) as limiter:
        limiter.limit("a", "3/d")
        client.acl_setuser("no", enabled=True, nopass=True, keys=["flint:*"], commands=["+ping"])
        client.acl_setuser(
            "app", enabled=True, nopass=True, keys=["flint:*"], categories=["+@all", "-@dangerous"]
        )
        with (
            RedisLimiter(base.url.replace("//", "//no:x@"), timeout=PATIENCE_S) as other,
            pytest.raises(flint.FlintPermissionError, match="Redis says"),
        ):
            caller(other, "a")
        with RedisLimiter(base.url.replace("//", "//app:x@"), timeout=PATIENCE_S) as other:
            assert caller(other, "a")


def test_a_memory_that_evicts(base: RedisServer) -> None:
    with base.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with limiter_of(base) as limiter, pytest.warns(flint.FlintWarning, match="allkeys-lru"):
            limiter.limit("a", "3/d")
        client.config_set("maxmemory-policy", "volatile-ttl")
        with limiter_of(base) as limiter, warnings.catch_warnings():
            warnings.simplefilter("error")
            assert limiter.allow("a")


@both
def test_what_evicts_is_told_later(
    base: RedisServer, monkeypatch: pytest.MonkeyPatch, caller: Caller
) -> None:
    """A server that stands still costs the first call one time-out."""
    with limiter_of(base) as plain:
        plain.limit("a", "3/d")
    with base.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with RedisLimiter(base.url, timeout=0.3) as limiter:
        failed: list[Exception] = []
        with monkeypatch.context() as patched:
            patched.setattr(limiter._breaker, "failed", lambda error, **_: failed.append(error))
            base.send(signal.SIGSTOP)
            try:
                with pytest.raises(flint.FlintConnectionError, match="no answer in time"):
                    caller(limiter, "a")
            finally:
                base.send(signal.SIGCONT)
        assert len(failed) == 1
    with limiter_of(base) as patient:
        patient._questions = limiter._questions
        with pytest.warns(flint.FlintWarning, match="allkeys-lru") as told:
            assert caller(patient, "a")
        assert [one.filename for one in told] == [__file__]


@both
def test_replicas_that_are_waited_for(
    base: RedisServer, replica: RedisServer, caller: Caller
) -> None:
    with limiter_of(base) as plain:
        plain.limit("a", "3/1000d")
    with limiter_of(base, min_replicas=1) as limiter:
        assert caller(limiter, "a").remaining == 2
    replica.send(signal.SIGSTOP)
    with RedisLimiter(base.url, min_replicas=1, timeout=1) as limiter:
        with pytest.raises(flint.FlintConnectionError, match="only 0 of 1 replicas"):
            caller(limiter, "a")
        assert limiter.peek("a").remaining == 1
    with RedisLimiter(base.url, min_replicas=1, timeout=1, on_error="allow") as limiter:
        assert caller(limiter, "a").undecided
        waits = calls_of(base, "wait")
        # It changes nothing, so it waits for nobody.
        assert not caller(limiter, "a")
        assert calls_of(base, "wait") == waits
    replica.send(signal.SIGCONT)


def calls_of(base: RedisServer, command: str) -> int:
    with base.client() as client:
        found: int = client.info("commandstats")[f"cmdstat_{command}"]["calls"]
        return found


@both
def test_replicas_that_are_not_heard_of(base: RedisServer, caller: Caller) -> None:
    with limiter_of(base, min_replicas=1) as limiter:
        with limiter_of(base) as plain:
            plain.limit("a", "2/1000d")
        for client in (limiter._client, limiter._loop_client):
            client._replicas.wait = ("WAIT", "what", 1)
        with pytest.raises(flint.FlintConnectionError, match="has counted, but not told"):
            caller(limiter, "a")
        with pytest.raises(flint.FlintConnectionError, match="has counted, but not told"):
            limiter.limit("b", "2/1000d")
        assert limiter.peek("a").remaining == 1
        assert limiter.peek("b").remaining == 2


@both
def test_a_replica_that_is_asked_for_replicas(
    base: RedisServer, replica: RedisServer, caller: Caller
) -> None:
    with limiter_of(base, min_replicas=1) as limiter:
        limiter.limit_many([("a", "1/1000d"), ("b", "1/1000d")])
        assert caller(limiter, "a")
    with limiter_of(replica, min_replicas=1) as limiter:
        assert not caller(limiter, "a")
        with pytest.raises(flint.FlintConnectionError, match="read only replica"):
            caller(limiter, "b")


def test_never_one_too_many_while_it_is_killed_again_and_again() -> None:
    base = RedisServer("--appendonly yes", "--appendfsync always")
    admitted: list[bool] = []
    enough = threading.Event()

    def use() -> None:
        with limiter_of(base) as limiter:
            while not enough.is_set():
                try:
                    admitted.append(limiter.allow("a"))
                except flint.FlintConnectionError:
                    time.sleep(0.01)

    with limiter_of(base) as limiter:
        limiter.limit("a", "300/1000d")
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = len(admitted)
            until(lambda: len(admitted) >= before + 40)  # noqa: B023 - called at once
            base.stop()
            base.start()
        until(lambda: not all(admitted[-1:]))
    finally:
        enough.set()
        for thread in threads:
            thread.join()
        base.remove()
    # A call that a kill has ended may have counted without an answer.
    assert 300 - 3 * 4 <= sum(admitted) <= 300
