"""TLS between a limiter and Redis: who is believed, and what is said of who is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from in_redis.redis_server import PATIENCE_S, RedisServer, free_port
from in_redis.test_redis_faults import as_coroutine, plainly

import flint
from flint.redis import RedisLimiter

Caller = Callable[[RedisLimiter, str], Any]
both = pytest.mark.parametrize("caller", [plainly, as_coroutine])
PASSWORD = "hush-hush"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    """Where a server speaks TLS, which is called by its address alone and wants a password."""
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    found = free_port()
    words = [
        f"--tls-port {found} --tls-cert-file {certificate} --tls-key-file {key}",
        f"--tls-ca-cert-file {authority.certificate} --tls-auth-clients no",
        f"--requirepass {PASSWORD}",
    ]
    with RedisServer(*words):
        yield found


def limiter_of(
    port: int,
    authority: Path | None,
    *,
    host: str = "127.0.0.1",
    password: str = PASSWORD,
    **options: Any,
) -> RedisLimiter:
    believed = "" if authority is None else f"?ssl_ca_certs={authority}"
    url = f"rediss://:{password}@{host}:{port}/0{believed}"
    return RedisLimiter(url, timeout=PATIENCE_S, **options)


def refusal(limiter: RedisLimiter, caller: Caller) -> str:
    """What is said, which has no password."""
    with pytest.raises(flint.FlintConnectionError) as caught:
        caller(limiter, "a")
    said = str(caught.value)
    assert "Redis" in said
    assert PASSWORD not in said + repr(limiter) + repr(caught.value.__cause__)
    return said


@both
def test_the_authority_that_is_believed(port: int, authority: Authority, caller: Caller) -> None:
    with limiter_of(port, authority.certificate) as limiter:
        limiter.limit("a", "9/1000d")
        assert caller(limiter, "a")


@both
def test_an_authority_that_is_not_believed(port: int, tmp_path: Path, caller: Caller) -> None:
    other = Authority(tmp_path, "other")
    for believed in (other.certificate, None):  # None: those that the system believes
        with limiter_of(port, believed) as limiter:
            assert "certificate verify failed" in refusal(limiter, caller)
    with limiter_of(port, other.certificate, on_error="deny") as limiter:
        assert caller(limiter, "a").undecided


@both
def test_a_host_that_the_certificate_does_not_name(
    port: int, authority: Authority, caller: Caller
) -> None:
    with limiter_of(port, authority.certificate, host="localhost") as limiter:
        said = refusal(limiter, caller)
        assert "Hostname mismatch" in said
        assert "localhost" in said


@both
def test_a_wrong_password_by_tls(port: int, authority: Authority, caller: Caller) -> None:
    wrong = PASSWORD + "-wrong"
    with limiter_of(port, authority.certificate, password=wrong) as limiter:
        assert "invalid username-password pair" in refusal(limiter, caller)


@both
def test_who_does_not_speak_tls(port: int, caller: Caller) -> None:
    with RedisLimiter(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", timeout=PATIENCE_S) as limiter:
        assert refusal(limiter, caller)
