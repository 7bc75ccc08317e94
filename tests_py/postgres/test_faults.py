"""What a caller sees when PostgreSQL is away, slow, full, or only reads."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from postgres.database import Database, database

import flint
from flint import postgres
from flint._remote import breaker
from flint.postgres import PostgresLimiter

Caller = Callable[[PostgresLimiter, str], Any]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Database]:
    """One that a test may end."""
    base = Database()
    yield base
    base.remove()


@pytest.fixture
def base(own_server: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 0.0)
    own_server.ask("drop schema if exists flint cascade")
    postgres.create(own_server.dsn)
    yield own_server
    own_server.stop()
    own_server.start()


def plainly(limiter: PostgresLimiter, key: str) -> Any:
    return limiter.check(key)


def as_coroutine(limiter: PostgresLimiter, key: str) -> Any:
    async def main() -> Any:
        return await limiter.acheck(key)

    return asyncio.run(main())


both = pytest.mark.parametrize("caller", [plainly, as_coroutine])


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_server_that_ends_and_comes_back(
    base: Database, number: signal.Signals, caller: Caller
) -> None:
    with PostgresLimiter(base.dsn) as limiter:
        limiter.limit("a", "3/1000d")
        assert caller(limiter, "a").remaining == 2
        base.stop(number)
        with pytest.raises(flint.FlintConnectionError, match="PostgreSQL"):
            caller(limiter, "a")
        base.start()
        # What was answered is there: also behind a crash.
        assert caller(limiter, "a").remaining == 1


@both
def test_what_on_error_answers(base: Database, caller: Caller) -> None:
    with (
        PostgresLimiter(base.dsn, on_error="allow") as allowing,
        PostgresLimiter(base.dsn, on_error="deny") as denying,
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


def test_of_one_that_is_away_others_learn_at_once(
    base: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 3600.0)
    with PostgresLimiter(base.dsn) as limiter:
        limiter.limit("a", "1/1000d")
        base.stop()
        for _ in range(4):  # the connection that ends, and the next that is not made
            with pytest.raises(flint.FlintConnectionError):
                limiter.allow("a")
        with pytest.raises(flint.FlintConnectionError, match="asked again each second"):
            limiter.allow("a")


@both
def test_a_server_that_stands_still(base: Database, caller: Caller) -> None:
    with (
        PostgresLimiter(base.dsn) as patient,
        PostgresLimiter(base.dsn, timeout=1) as limiter,
    ):
        patient.limit("a", "100/1000d")
        assert limiter.peek("a")
        base.pause(True)
        try:
            with pytest.raises(flint.FlintConnectionError, match="took effect is unknown"):
                limiter.check("a")
            # No connection is left, over which it could have been sent.
            with pytest.raises(flint.FlintConnectionError, match=r"no answer in time$"):
                caller(limiter, "a")
        finally:
            base.pause(False)
        assert caller(patient, "a")


@both
def test_who_waits_for_a_lock_longer_than_its_time(base: Database, caller: Caller) -> None:
    with (
        PostgresLimiter(base.dsn) as patient,
        PostgresLimiter(base.dsn, timeout=0.3) as limiter,
        base.connect() as holder,
    ):
        patient.limit("a", "100/1000d")
        assert caller(patient, "a")
        with holder.transaction():
            holder.execute("select from flint.counters for update")
            with pytest.raises(flint.FlintConnectionError, match=r"no answer in time|55P03"):
                caller(limiter, "a")
            # It does not wait on behind the caller's back.
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            deadline_s = time.monotonic() + 60
            while base.ask(waiting):
                assert time.monotonic() < deadline_s
        assert caller(patient, "a").remaining == 98


def test_a_statement_timeout_of_the_server(base: Database) -> None:
    options = "options=-c%20statement_timeout%3D1s"
    with (
        PostgresLimiter(base.dsn) as patient,
        PostgresLimiter(f"{base.dsn}?{options}") as limiter,
        base.connect() as holder,
    ):
        patient.limit("a", "100/1000d")
        assert patient.allow("a")
        with holder.transaction():
            holder.execute("select from flint.counters for update")
            with pytest.raises(flint.FlintConnectionError, match="57014"):
                limiter.allow("a")
        assert patient.check("a").remaining == 98


def waits_for_a_lock(base: Database) -> None:
    """Until somebody does."""
    deadline_s = time.monotonic() + 60
    while not base.ask("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"):
        assert time.monotonic() < deadline_s


def test_a_deadlock_with_somebody_else(base: Database) -> None:
    """PostgreSQL undoes one of the two: here the check, which is then made again."""
    options = "options=-c%20deadlock_timeout%3D4s"
    with (
        PostgresLimiter(f"{base.dsn}?{options}", timeout=60) as limiter,
        base.connect() as holder,
        ThreadPoolExecutor(1) as threads,
    ):
        limiter.limit_many([("a", "9/1000d"), ("b", "9/1000d")])
        with holder.transaction():
            holder.execute("select from flint.counters where id = 'b' for update")
            asked = threads.submit(limiter.check_all, ["a", "b"])
            waits_for_a_lock(base)
            holder.execute("set local deadlock_timeout = '10min'")
            holder.execute("select from flint.counters where id = 'a' for update")
        assert asked.result()["allowed"]
        assert [limiter.peek(key).remaining for key in ("a", "b")] == [8, 8]


def test_a_connection_that_is_ended_while_it_waits(base: Database) -> None:
    with (
        PostgresLimiter(base.dsn, timeout=60) as limiter,
        base.connect() as holder,
        ThreadPoolExecutor(1) as threads,
    ):
        limiter.limit("a", "9/1000d")
        with holder.transaction():
            holder.execute("select from flint.counters for update")
            asked = threads.submit(limiter.allow, "a")
            waits_for_a_lock(base)
            base.ask(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where wait_event_type = 'Lock'"
            )
            with pytest.raises(flint.FlintConnectionError) as told:
                asked.result()
        assert str(told.value) == (
            "could not reach PostgreSQL: terminating connection due to administrator command; "
            "whether the call took effect is unknown"
        )
        assert limiter.check("a").remaining == 8


@both
def test_a_server_that_ends_connections_which_nobody_uses(base: Database, caller: Caller) -> None:
    options = "options=-c%20idle_session_timeout%3D50"
    with PostgresLimiter(f"{base.dsn}?{options}") as limiter:
        limiter.limit("a", "9/1000d")
        for left in (8, 7):
            assert caller(limiter, "a").remaining == left
            time.sleep(0.3)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_role_whose_transactions_are_isolated(base: Database, level: str) -> None:
    """What comes in another's way is undone, and made again."""
    isolated = level.replace(" ", "\\ ").replace("\\", "%5C").replace(" ", "%20")
    url = f"{base.dsn}?options=-c%20default_transaction_isolation%3D{isolated}"
    start = threading.Barrier(4)
    said = []

    def use(_: int) -> int:
        admitted = 0
        with PostgresLimiter(url, sync="batch", timeout=60) as limiter:
            start.wait()
            for _ in range(10):
                try:
                    admitted += limiter.allow("t:1")
                except flint.FlintConnectionError as error:
                    said.append(str(error))
        return admitted

    with PostgresLimiter(url) as limiter:
        limiter.limit("t:*", "15/1000d")
        with ThreadPoolExecutor(4) as threads:
            admitted = sum(threads.map(use, range(4)))
        assert admitted == 15 - limiter.peek("t:1").remaining
        assert admitted > 4
    # Eight times in a row; nothing was counted then.
    assert all("40001" in one for one in said)


@both
def test_as_many_clients_as_may_be(base: Database, caller: Caller) -> None:
    base.stop()
    base.start(max_connections="4", superuser_reserved_connections="0")
    with contextlib.ExitStack() as stack:
        limiter = stack.enter_context(PostgresLimiter(base.dsn, on_error="deny"))
        limiter.limit("a", "9/1000d")
        raising = stack.enter_context(PostgresLimiter(base.dsn))
        others = []
        while True:
            try:
                others.append(psycopg.connect(base.dsn))
            except psycopg.OperationalError:
                break
        with pytest.raises(flint.FlintConnectionError, match="too many clients"):
            caller(raising, "a")
        others.pop().close()
        deadline_s = time.monotonic() + 60
        while True:  # until the place is free
            try:
                assert caller(raising, "a").remaining == 8
            except flint.FlintConnectionError:
                assert time.monotonic() < deadline_s
            else:
                break
        for one in others:
            one.close()


@both
def test_one_that_only_reads(base: Database, caller: Caller) -> None:
    """As a standby in recovery: it denies what is used up, and cannot admit."""
    with PostgresLimiter(base.dsn) as limiter:
        limiter.limit_many([("a", "1/1000d"), ("b", "1/1000d")])
        assert caller(limiter, "a")
    base.stop()
    (base.data / "standby.signal").touch()
    base.start()
    try:
        assert base.ask("select pg_is_in_recovery()")
        with PostgresLimiter(base.dsn) as limiter:
            assert not caller(limiter, "a")
            assert limiter.peek("b")
            assert [one["key"] for one in limiter.list()] == ["a", "b"]
            with pytest.raises(flint.FlintConnectionError, match="25006"):
                caller(limiter, "b")
            with pytest.raises(flint.FlintConnectionError, match="25006"):
                limiter.limit("b", "2/1000d")
        with PostgresLimiter(base.dsn, on_error="deny") as limiter:
            assert caller(limiter, "b").undecided
    finally:
        base.stop()
        (base.data / "standby.signal").unlink()
        base.start()


@both
def test_no_connection_left(base: Database, caller: Caller) -> None:
    base.ask("create role few login connection limit 1")
    base.ask("grant all on schema flint to few")
    as_few = base.dsn.replace("flint@", "few@")
    try:
        with (
            psycopg.connect(as_few),
            PostgresLimiter(as_few) as limiter,
            pytest.raises(flint.FlintConnectionError, match="too many connections"),
        ):
            caller(limiter, "a")
    finally:
        base.ask("drop owned by few")
        base.ask("drop role few")


@both
def test_a_wrong_password(base: Database, caller: Caller) -> None:
    base.ask("create role secretive login password 'right'")
    rules = base.data / "pg_hba.conf"
    before = rules.read_text("utf-8")
    rules.write_text("host all secretive 127.0.0.1/32 scram-sha-256\n" + before, "utf-8")
    base.ask("select pg_reload_conf()")
    wrong = base.dsn.replace("flint@", "secretive:wr0ng@")
    try:
        while True:  # until it has been read again
            try:
                psycopg.connect(wrong).close()
            except psycopg.OperationalError:
                break
        with PostgresLimiter(wrong) as limiter:
            with pytest.raises(flint.FlintConnectionError, match="password authentication") as told:
                caller(limiter, "a")
            assert "wr0ng" not in str(told.value) + repr(limiter)
    finally:
        rules.write_text(before, "utf-8")
        base.ask("select pg_reload_conf()")
        base.ask("drop role secretive")


def test_never_one_too_many_while_it_crashes_again_and_again(base: Database) -> None:
    admitted: list[bool] = []
    enough = threading.Event()

    def use() -> None:
        with PostgresLimiter(base.dsn) as limiter:
            while not enough.is_set():
                try:
                    admitted.append(limiter.allow("a"))
                except flint.FlintConnectionError:
                    time.sleep(0.01)

    with PostgresLimiter(base.dsn) as limiter:
        limiter.limit("a", "300/1000d")
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + 120
    for _ in range(3):
        before = len(admitted)
        while len(admitted) < before + 40:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        base.stop(signal.SIGQUIT)
        base.start()
    while all(admitted[-1:]):
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    enough.set()
    for thread in threads:
        thread.join()
    # A call that a crash has ended may have counted without an answer.
    assert 300 - 3 * 4 <= sum(admitted) <= 300


def test_what_is_no_database() -> None:
    for wrong in (7, None, b"postgresql://h"):
        with pytest.raises(TypeError, match="database must be"):
            PostgresLimiter(wrong)
    with pytest.raises(ValueError, match="cannot be read"):
        PostgresLimiter("host=a bogus")
    for name, value in (
        *(("sync", "often"), ("on_error", "cry"), ("schema", 'a"b'), ("schema", "")),
        *(("schema", "x" * 64), ("timeout", 0), ("timeout", 10**9)),
    ):
        with pytest.raises(ValueError, match=name):
            PostgresLimiter(database().dsn, **{name: value})
