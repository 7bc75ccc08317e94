"""What PostgresLimiter promises beyond its answers: never one too many, denials that write nothing,
no deadlocks, rows that go when they are fresh."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres.database import clocked, database

import flint
from flint._stores import denials
from flint.postgres import PostgresLimiter
from flint.testing import ManualClock

CLIENTS = 32


@pytest.fixture
def schema() -> str:
    return database().new_schema()


def limiter_of(schema: str, **options: Any) -> PostgresLimiter:
    return PostgresLimiter(database().dsn, schema=schema, **options)


@pytest.mark.parametrize("sync", ["always", "batch"])
@pytest.mark.parametrize(
    "algorithm",
    ["gcra", "fixed_window_counter", "sliding_window_log", "sliding_window_counter"],
)
def test_32_clients_get_what_there_is(schema: str, algorithm: str, sync: Any) -> None:
    start = threading.Barrier(CLIENTS)

    def use(number: int) -> int:
        with limiter_of(schema, sync=sync) as limiter:
            if number == 0:
                limiter.limit("t:*", 100, per="1000d", algorithm=algorithm)
            start.wait()
            # The counter is made by whoever is first.
            return sum(limiter.allow("t:1", 2) for _ in range(10))

    with ThreadPoolExecutor(CLIENTS) as threads:
        admitted = list(threads.map(use, range(CLIENTS)))
    assert sum(admitted) == 50
    with limiter_of(schema) as limiter:
        status = limiter.status("t:1")
        assert status
        assert (status["remaining"], status["total_allowed"], status["total_denied"]) == (
            0,
            50,
            270,
        )


def test_check_all_in_any_order_does_not_deadlock(schema: str) -> None:
    keys = [f"t:{number}" for number in range(6)]

    def use(seed: int) -> int:
        draw = random.Random(seed)
        with limiter_of(schema, sync="batch") as limiter:
            return sum(limiter.allow_all(draw.sample(keys, 3)) for _ in range(25))

    with limiter_of(schema) as limiter:
        limiter.limit_many([("t:*", 100, "1000d"), {"key": "t:5", "rate": 90, "per": "1000d"}])
        limiter.limit("t:*", 120, per="1000d", name="other", stack=True)
        with ThreadPoolExecutor(8) as threads:
            admitted = sum(threads.map(use, range(8)))
        used = sum(100 - limiter.peek(key).remaining for key in keys[:5])
        assert used + 90 - limiter.peek("t:5").remaining == 3 * admitted
        base = database()
        assert base.ask("select deadlocks from pg_stat_database where datname = 'postgres'") == 0


def wal_position() -> int:
    found = database().ask("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    return int(found)


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window_log"])
def test_denials_write_nothing(schema: str, algorithm: Any) -> None:
    with limiter_of(schema) as limiter:
        limiter.limit("a", 1, per="1000d", algorithm=algorithm)
        limiter.limit("t:*", "1/1000d; 2/2000d")
        assert limiter.allow_all(["a", "t:1"])
        assert not limiter.allow("a")
        assert not limiter.allow("t:1")
        before = wal_position()
        for _ in range(100):
            assert not limiter.allow("a")
            assert not limiter.check("t:1")
            assert limiter.peek("t:2")
        # The server writes something itself now and then; a commit with a change has 100 bytes.
        assert wal_position() - before < 5000
        limiter.flush()
        assert wal_position() > before
        found = limiter.status("a")
        assert found
        assert found["total_denied"] == 101


def test_an_admission_changes_no_index(schema: str) -> None:
    """So that PostgreSQL makes room in the page itself (HOT)."""
    base, updates = database(), 400
    with limiter_of(schema, sync="batch") as limiter:
        limiter.limit("t:*", 10**6, per="1000d")
        for _ in range(updates + 1):
            assert limiter.allow("t:1")
    told = "from pg_stat_user_tables where relname = 'counters' and schemaname = %s"
    deadline_s = time.monotonic() + 60
    while base.ask(f"select n_tup_upd {told}", schema) < updates:  # told after a while
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert base.ask(f"select n_tup_hot_upd {told}", schema) >= 0.9 * updates
    size = base.ask("select pg_relation_size(format('%%I.counters', %s::text))", schema)
    assert size <= 4 * 8192


def test_who_reads_waits_for_nobody(schema: str) -> None:
    """A denial and a peek need no lock, so that who holds one does not hold them up."""
    with limiter_of(schema, timeout=60) as limiter, database().connect() as holder:
        limiter.limit("a", 1, per="1000d")
        assert limiter.allow("a")
        name = psycopg.sql.Identifier(schema)
        with holder.transaction():
            holder.execute(psycopg.sql.SQL("select from {}.counters for update").format(name))
            assert not limiter.allow("a")
            assert not limiter.peek("a")


def test_denials_are_told_after_a_while(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "TOLD_EVERY_S", 0.0)
    with limiter_of(schema) as limiter, limiter_of(schema) as other:
        limiter.limit("a", 1, per="1000d")
        assert [limiter.allow("a") for _ in range(4)] == [True, False, False, False]
        found = other.status("a")
        assert found
        assert found["total_denied"] == 3


def test_denials_are_told_with_the_next_admission() -> None:
    clock = ManualClock(1_700_000_000)
    with clocked(clock) as limiter:
        limiter.limit("a", 1, per="1m")
        assert [limiter.allow("a") for _ in range(3)] == [True, False, False]
        clock.advance(60)
        assert limiter.allow("a")
        base, quoted = database(), psycopg.sql.Identifier(limiter.schema).as_string(None)
        assert base.ask(f"select denied from {quoted}.counters") == 2


def test_denials_are_told_with_an_admission_that_makes_the_row_anew() -> None:
    clock = ManualClock(1_700_000_000)
    with clocked(clock) as limiter:
        limiter.limit("t:*", 1, per="1m")
        assert [limiter.allow("t:1") for _ in range(3)] == [True, False, False]
        clock.advance(120)
        assert limiter.allow("t:2")  # which deletes the row
        base, quoted = database(), psycopg.sql.Identifier(limiter.schema).as_string(None)
        assert base.ask(f"select count(*) from {quoted}.counters") == 1
        assert limiter.allow("t:1")
        found = limiter.status("t:*")
        assert found
        assert (found["total_allowed"], found["total_denied"]) == (3, 2)


def test_fresh_rows_go_a_few_at_a_time() -> None:
    clock = ManualClock(1_700_000_000)
    with clocked(clock, sync="batch") as limiter:
        limiter.limit("t:*", 2, per="1m")
        for number in range(600):
            assert limiter.allow(f"t:{number}")
            clock.advance(1)
        base, quoted = database(), psycopg.sql.Identifier(limiter.schema).as_string(None)
        left = base.ask(f"select count(*) from {quoted}.counters")
        assert 30 <= left < 300
        # What they had counted is not lost.
        found = limiter.status("t:*")
        assert found
        assert found["total_allowed"] == 600


def change_often(limiter: PostgresLimiter, clock: ManualClock, times: int) -> None:
    """Changes a template that has nothing to do with the others."""
    schema = psycopg.sql.Identifier(limiter.schema).as_string(None)
    with database().connect() as connection:
        connection.execute(f"set flint.test_ns = '{clock.now_ns}'".encode())
        sql = (
            f"do $$ begin for n in 1 .. {times} loop perform {schema}.v1_template(false, 9000, "
            "'often', 'often', '', 1::int2, n, 1000000000, n, false, false); end loop; end $$"
        )
        connection.execute(sql.encode())


def between(one: Any, change: str) -> None:
    """What the journal says of the counters that are looked at."""
    if change == "other values":
        one.limit("t:*", 50, per="90d")
        one.limit("t:*", 60, per="100d")
    elif change == "reset":
        one.reset("t:*")
    elif change == "a longer one":
        one.limit("t:1*", 50, per="90d")
    elif change == "ended and made again":
        one.remove("t:*")
        one.limit("t:*", 60, per="100d")


@pytest.mark.parametrize(
    "change", ["none", "other values", "reset", "a longer one", "ended and made again"]
)
def test_the_journal_of_changes_ends(change: str) -> None:
    clock, other = ManualClock(1_700_000_000), ManualClock(1_700_000_000)
    with (
        clocked(clock, sync="batch") as limiter,
        PostgresLimiter(database().dsn, schema=limiter.schema) as behind,
        flint.Limiter(":memory:", clock=other) as expected,
    ):
        behind._sessions = limiter._sessions
        for one in (limiter, expected):
            one.limit("t:*", 40, per="100d")
            one.limit("often*", 7, per="1m")
            assert [one.check(key, 30).remaining for key in ("t:1", "t:2")] == [10, 10]
        assert behind.check("often:1").limit == 7
        for each in (clock, other):
            each.advance(86_400)
        for one in (limiter, expected):
            between(one, change)
        change_often(limiter, clock, 1200)
        base, quoted = database(), psycopg.sql.Identifier(limiter.schema).as_string(None)
        assert base.ask(f"select count(*) from {quoted}.changes") < 1064
        for each in (clock, other):
            each.advance(86_400)
        expected.limit("often*", 1200, per="1s")
        for key in ("t:1", "t:2", "often:1"):
            found, wanted = behind.check(key), expected.check(key)
            assert (found.limit, found.remaining, found.reset_after_ns) == (
                *(wanted.limit, wanted.remaining, wanted.reset_after_ns),
            )
        for shown in ("t:*", "t:1", "t:2"):
            assert limiter.status(shown) == expected.status(shown)


def test_many_counters_go_through_old_changes_some_at_a_time() -> None:
    clock = ManualClock(1_700_000_000)
    with clocked(clock, sync="batch") as limiter:
        limiter.limit("t:*", 40, per="100d")
        limiter.limit("often*", 7, per="1m")
        assert limiter.allow("t:0", 30)
        base, quoted = database(), psycopg.sql.Identifier(limiter.schema).as_string(None)
        fields = base.ask(
            "select string_agg(quote_ident(attname), ',') from pg_attribute where attrelid = "
            f"'{quoted}.counters'::regclass and attnum > 1 and not attisdropped"
        )
        base.ask(
            f"insert into {quoted}.counters (id, {fields}) select ('t:' || n)::bytea, {fields} "
            f"from {quoted}.counters, generate_series(1, 3000) n"
        )
        behind = f"select count(*) from {quoted}.counters where epoch < 900"
        changes = f"select count(*) from {quoted}.changes"
        change_often(limiter, clock, 1100)
        assert 0 < base.ask(behind) < 3000
        assert base.ask(changes) >= 1100  # which those go through that are left
        change_often(limiter, clock, 200)
        assert base.ask(behind) == 0
        assert base.ask(changes) < 1064
        assert limiter.check("t:2999").remaining == 9


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


def test_other_clients_see_changes_at_once(schema: str) -> None:
    with limiter_of(schema) as one, limiter_of(schema) as other:
        one.limit("t:*", "5/1000d")
        assert other.check("t:1").limit == 5
        one.limit("t:u*", "7/1000d")
        assert other.check("t:u1").limit == 7
        one.limit("t:1", "9/1000d")
        assert other.check("t:1").remaining == 7
        one.remove("t:u*")
        assert other.check("t:u1").limit == 5
        one.remove("t:*")
        with pytest.raises(flint.NotConfiguredError):
            other.check("t:2")


def test_keys_longer_than_an_index_takes(schema: str) -> None:
    long = "k" * 65_000
    with limiter_of(schema) as limiter:
        limiter.limit(long, "2/1000d")
        limiter.limit(long + "t*", "3/1000d")
        assert [limiter.check(long + end).limit for end in ("", "t1")] == [2, 3]
        assert [one["key"] for one in limiter.list(counters=True)] == [
            *(long, long + "t*", long + "t1")
        ]
        assert limiter.check_all([long])["allowed"]
        assert limiter.check("\0", limit="5/1000d").remaining == 4


def test_the_17th_limit_of_a_key(schema: str) -> None:
    with limiter_of(schema) as limiter, flint.Limiter(":memory:") as expected:
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


def test_the_file_of_the_configuration(schema: str, tmp_path: Path) -> None:
    path = tmp_path / "flint.toml"
    path.write_text(
        f'[storage]\nurl = "{database().dsn}"\nschema = "{schema}"\nsync = "batch"\n'
        '[limits]\n"user:*" = "2/d"\n',
        "utf-8",
    )
    with flint.from_config(path) as limiter:
        assert isinstance(limiter, PostgresLimiter)
        assert (limiter.schema, limiter.sync) == (schema, "batch")
        assert limiter.check("user:1").limit == 2
