"""TLS between a limiter and PostgreSQL: who is believed, and what is said of who is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from postgres.database import Database, as_other_user
from postgres.test_faults import as_coroutine, plainly

import flint
from flint import postgres
from flint.postgres import PostgresLimiter

Caller = Callable[[PostgresLimiter, str], Any]
both = pytest.mark.parametrize("caller", [plainly, as_coroutine])
PASSWORD = "hush-hush"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def base(authority: Authority) -> Iterator[Database]:
    """A server that is called by its address alone, and lets `app` in by TLS with a password."""
    found = Database()
    postgres.create(found.dsn)
    found.ask(f"create role app login password '{PASSWORD}'")
    postgres.create(found.dsn, role="app")
    found.stop()
    for path, name in zip(authority.issue("server", "IP:127.0.0.1"), ("crt", "key"), strict=True):
        copy = found.data / f"server.{name}"
        shutil.copy(path, copy)
        copy.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(copy, as_other_user()[1].partition("=")[2])
    rules = found.data / "pg_hba.conf"
    before = rules.read_text("utf-8")
    rules.write_text(
        f"hostssl all app all scram-sha-256\nhost all app all reject\n{before}", "utf-8"
    )
    found.start(ssl="on")
    yield found
    found.remove()


def limiter_of(
    base: Database,
    authority: Path,
    *,
    host: str = "127.0.0.1",
    password: str = PASSWORD,
    **options: Any,
) -> PostgresLimiter:
    return PostgresLimiter(
        f"postgresql://app:{password}@{host}:{base.port}/postgres"
        f"?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={authority}",
        **options,
    )


def refusal(limiter: PostgresLimiter, caller: Caller) -> str:
    """What is said, which has no password."""
    with pytest.raises(flint.FlintConnectionError) as caught:
        caller(limiter, "a")
    said = str(caught.value)
    assert "PostgreSQL says: " in said
    assert PASSWORD not in said + repr(limiter) + repr(caught.value.__cause__)
    return said


@both
def test_the_authority_that_is_believed(
    base: Database, authority: Authority, caller: Caller
) -> None:
    with limiter_of(base, authority.certificate) as limiter:
        limiter.limit("a", "9/1000d")
        assert caller(limiter, "a")
        by_tls = "select bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity using (pid) "
        assert base.ask(by_tls + "where usename = 'app'") is True


@both
def test_an_authority_that_is_not_believed(base: Database, tmp_path: Path, caller: Caller) -> None:
    other = Authority(tmp_path, "other")
    with limiter_of(base, other.certificate) as limiter:
        assert "certificate verify failed" in refusal(limiter, caller)
    with limiter_of(base, other.certificate, on_error="deny") as limiter:
        assert caller(limiter, "a").undecided
    with limiter_of(base, tmp_path / "nothing.pem") as limiter:
        assert "nothing.pem" in refusal(limiter, caller)


@both
def test_a_host_that_the_certificate_does_not_name(
    base: Database, authority: Authority, caller: Caller
) -> None:
    with limiter_of(base, authority.certificate, host="localhost") as limiter:
        assert 'does not match host name "localhost"' in refusal(limiter, caller)


@both
def test_a_wrong_password_by_tls(base: Database, authority: Authority, caller: Caller) -> None:
    wrong = PASSWORD + "-wrong"
    with limiter_of(base, authority.certificate, password=wrong) as limiter:
        assert "password authentication failed" in refusal(limiter, caller)


@both
def test_a_server_that_wants_tls_of_who_does_not_speak_it(base: Database, caller: Caller) -> None:
    url = f"postgresql://app:{PASSWORD}@127.0.0.1:{base.port}/postgres?sslmode=disable"
    with PostgresLimiter(url) as limiter:
        assert "no encryption" in refusal(limiter, caller)


@both
def test_a_server_that_speaks_no_tls_to_who_wants_it(authority: Authority, caller: Caller) -> None:
    plain = Database()
    try:
        with limiter_of(plain, authority.certificate) as limiter:
            assert "does not support SSL" in refusal(limiter, caller)
    finally:
        plain.remove()
