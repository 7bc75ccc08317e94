"""`flint pg`, and what a role may do that it lets use the limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from command import Run, in_process
from postgres.database import Database, database

import flint
from flint import postgres
from flint.postgres import PostgresLimiter


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def empty() -> Iterator[Database]:
    """A database without Flint, and a role `app` that may connect to it."""
    base = database()
    for sql in ("drop schema if exists flint cascade", "drop role if exists app"):
        base.ask(sql)
    base.ask("create role app login")
    yield base
    for sql in ("drop schema if exists flint cascade", "drop role if exists app"):
        base.ask(sql)


def test_what_is_not_installed_says_so(empty: Database) -> None:
    with PostgresLimiter(empty.dsn) as limiter:
        with pytest.raises(flint.UnsupportedError, match="flint pg install"):
            limiter.allow("a")
        postgres.create(empty.dsn)
        with pytest.raises(flint.NotConfiguredError):
            limiter.allow("a")


def test_installing_and_upgrading(empty: Database, run: Run) -> None:
    code, _, said = run("pg", "upgrade", "--url", empty.dsn)
    assert (code, "flint pg install" in said) == (1, True)
    code, out, _ = run("pg", "install", "--url", empty.dsn, "--role", "app")
    assert (code, json.loads(out)) == (0, {"schema": "flint", "made": True})
    with PostgresLimiter(empty.dsn) as limiter:
        limiter.limit("a", "1/d")
        assert limiter.allow("a")
        for words in (("install",), ("upgrade",), ("upgrade", "--role=app")):
            code, _, _ = run("pg", *words, "--url", empty.dsn)
            assert code == 0
            assert not limiter.allow("a")
    empty.ask("update flint.installed set version = 99")
    code, _, said = run("pg", "upgrade", "--url", empty.dsn)
    assert (code, "newer Flint" in said) == (1, True)


def test_what_is_printed_does_the_same(empty: Database, run: Run) -> None:
    code, out, _ = run("pg", "sql", "--schema", "other one", "--role", "app")
    assert code == 0
    with empty.connect() as connection:
        connection.execute(out.encode())
    with PostgresLimiter(empty.dsn, schema="other one") as limiter:
        limiter.limit("a", "2/d")
        assert limiter.check("a").remaining == 1
    empty.ask('drop schema "other one" cascade')


def test_the_schema_of_the_file(
    empty: Database, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = f'[storage]\nurl = "{empty.dsn}"\nschema = "other"\n'
    (tmp_path / "flint.toml").write_text(file, "utf-8")
    assert json.loads(run("pg", "install")[1]) == {"schema": "other", "made": True}
    assert json.loads(run("pg", "install", "--schema", "flint")[1])["made"]
    assert run("limit", "add", "a", "2/d")[0] == 0
    with PostgresLimiter(empty.dsn, schema="other") as limiter:
        assert limiter.check("a").remaining == 1
    empty.ask("drop schema other cascade")


def test_a_role_may_use_and_not_create(empty: Database) -> None:
    postgres.create(empty.dsn, role="app")
    as_app = empty.dsn.replace("flint@", "app@")
    with PostgresLimiter(as_app) as limiter:
        limiter.limit_many([("a", "2/d"), ("t:*", "2/d using sliding_window_log"), ("u*", "1/s")])
        assert limiter.allow_all(["a", "t:1"])
        assert limiter.allow("t:1")
        assert not limiter.allow("t:1")
        limiter.reset("t:*")
        limiter.remove("u*")
        assert len(limiter.list(counters=True)) == 2
        assert [one["key"] for one in limiter.top("allowed")] == ["a"]
    with psycopg.connect(as_app, autocommit=True) as connection:
        for sql in (
            "create table flint.more ()",
            "drop function flint.v1_now()",
            "alter table flint.counters add column more int8",
            "update flint.installed set version = 7",
            "truncate flint.counters",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql)
    other = empty.dsn.replace("flint@", "app@")
    empty.ask("revoke usage on schema flint from app")
    with PostgresLimiter(other) as limiter, pytest.raises(flint.FlintPermissionError):
        limiter.allow("a")
    with pytest.raises(flint.FlintPermissionError):
        postgres.create(other, schema="mine")


def test_the_other_verbs_work_on_a_database(empty: Database, run: Run) -> None:
    postgres.create(empty.dsn)
    assert run("limit", "add", "user:*", "--rate=3", "--per=1d", "--url", empty.dsn)[0] == 0
    code, out, _ = run("limit", "check", "user:1", "--url", empty.dsn)
    assert (code, json.loads(out)["remaining"]) == (0, 2)
    code, out, _ = run("limit", "list", "--url", empty.dsn)
    assert (code, [one["key"] for one in json.loads(out)]) == (0, ["user:*"])


def test_what_names_no_database(run: Run, tmp_path: Path) -> None:
    code, _, said = run("pg", "install", "--data-dir", str(tmp_path))
    assert (code, "must name a database" in said) == (1, True)
    code, _, said = run("pg", "sql", "--schema", 'no"name')
    assert (code, "schema must be" in said) == (1, True)
    code, _, said = run("pg", "install", "--url", "postgresql://127.0.0.1:1/none")
    assert (code, "could not reach PostgreSQL" in said) == (4, True)


def test_what_a_database_does_not_keep(empty: Database, run: Run) -> None:
    postgres.create(empty.dsn)
    with PostgresLimiter(empty.dsn) as limiter:
        for call in (limiter.history, limiter.doctor, limiter.compact):
            with pytest.raises(flint.UnsupportedError, match="no log of Flint"):
                call()
    for words in (("log", "compact"), ("limit", "history", "a"), ("doctor",)):
        code, _, said = run(*words, "--url", empty.dsn)
        assert (code, "no log of Flint" in said) == (1, True), words
    code, _, said = run("top", "--watch", "--url", empty.dsn)
    assert (code, "have no log to watch" in said) == (1, True)
    code, out, _ = run("top", "--url", empty.dsn)
    assert (code, json.loads(out)) == (0, [])
