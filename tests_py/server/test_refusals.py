"""What is refused of HTTP itself: what two readers could read in two ways, and what is too much."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flint_server import DEADLINE_S, FlintServer, needs_server, read_all, running

from flint import Limiter

pytestmark = needs_server

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CHECK = b'{"key":"api"}'
SMUGGLED = b"GET /v1/limits HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    data = tmp_path_factory.mktemp("refusals") / "data"
    with Limiter(data) as limiter:
        limiter.limit("api", rate=1000, per="1d")
    with running(data) as server:
        yield server


def post(fields: bytes, rest: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /v1/check HTTP/" + version + b"\r\n" + HOST + JSON + fields + b"\r\n" + rest


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


LENGTH = b"Content-Length: %d\r\n" % len(CHECK)
CHUNKS = b"Transfer-Encoding: chunked\r\n"
CHUNKED = b"d\r\n" + CHECK + b"\r\n0\r\n\r\n"

# Each would be followed by another request, if it were read so that this one ends somewhere.
SMUGGLING = {
    "both lengths": post(LENGTH + CHUNKS, CHUNKED),
    "both lengths, the other way": post(CHUNKS + LENGTH, CHUNKED),
    "two lengths": post(LENGTH + b"Content-Length: 1\r\n", CHECK),
    "two equal lengths": post(LENGTH + LENGTH, CHECK),
    "a list of lengths": post(b"Content-Length: 13, 13\r\n", CHECK),
    "a signed length": post(b"Content-Length: +13\r\n", CHECK),
    "a hexadecimal length": post(b"Content-Length: 0xd\r\n", CHECK),
    "an empty length": post(b"Content-Length:\r\n", CHECK),
    "a huge length": post(b"Content-Length: 18446744073709551617\r\n", CHECK),
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip\r\n", CHUNKED),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked\r\n", CHUNKED),
    "two codings": post(CHUNKS + CHUNKS, CHUNKED),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", CHUNKED),
    "quoted chunked": post(b'Transfer-Encoding: "chunked"\r\n', CHUNKED),
    "chunked in HTTP/1.0": post(CHUNKS, CHUNKED, b"1.0"),
    "space before the colon": post(b"Content-Length : 13\r\n", CHECK),
    "a folded field": post(b"Transfer-Encoding:\r\n chunked\r\n", CHUNKED),
    "a folded value": post(LENGTH + b"X: a\r\n b\r\n", CHECK),
    "a field without a name": post(LENGTH + b": x\r\n", CHECK),
    "a field without a colon": post(LENGTH + b"nothing\r\n", CHECK),
    "a zero byte": post(LENGTH + b"X: a\x00b\r\n", CHECK),
    "a bare CR": post(LENGTH + b"X: a\rTransfer-Encoding: chunked\r\n", CHECK),
    "a bare LF": post(LENGTH + b"X: a\nTransfer-Encoding: chunked\r\n", CHECK),
    "bare LFs": post(LENGTH, CHECK).replace(b"\r\n", b"\n"),
    "a chunk that is no number": post(CHUNKS, b"x\r\n" + CHECK + b"\r\n0\r\n\r\n"),
    "a signed chunk": post(CHUNKS, b"-1\r\n" + CHECK + b"\r\n0\r\n\r\n"),
    "a chunk beyond 64 bits": post(CHUNKS, b"1000000000000000d\r\n" + CHECK + b"\r\n0\r\n\r\n"),
    "a chunk without its end": post(CHUNKS, b"d\r\n" + CHECK + b"xx0\r\n\r\n"),
    "a chunk ended by LF": post(CHUNKS, b"d\n" + CHECK + b"\n0\n\n"),
    "no Host": b"GET /v1/health HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /v1/health HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "a Host that is none": b"GET /v1/health HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a list of Hosts": b"GET /v1/health HTTP/1.1\r\nHost: localhost,evil\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "a relative target": b"GET v1/health HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /v1/health\r\n" + HOST + b"\r\n",
    "an unknown method": b"HELLO /v1/health HTTP/1.1\r\n" + HOST + b"\r\n",
    "a small method": b"get /v1/health HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_could_be_read_in_two_ways(server: FlintServer, name: str) -> None:
    answer = server.send(SMUGGLING[name] + SMUGGLED)
    assert statuses(answer) == [400], answer
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
def test_other_versions(server: FlintServer, version: bytes) -> None:
    answer = server.send(b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n" + SMUGGLED)
    assert statuses(answer) in ([505], [400])


def test_other_codings(server: FlintServer) -> None:
    assert statuses(server.send(post(b"Transfer-Encoding: gzip\r\n") + SMUGGLED)) in ([501], [400])


def test_another_protocol_is_not_taken_up(server: FlintServer) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    last = b"GET /v1/health HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    assert statuses(server.send(post(upgrade + LENGTH, CHECK) + last)) == [200, 200]
    assert statuses(server.send(b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n")) == [400]
    assert statuses(server.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) in ([400], [505])


# ---- Bounds --------------------------------------------------------------------------------------

TOO_MUCH = {
    "a long field": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 17000 + b"\r\n\r\n"),
    "many fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n"),
    "a long name": (431, b"GET / HTTP/1.1\r\n" + HOST + b"x" * 17000 + b": y\r\n\r\n"),
    "an endless head": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X:" + b" " * 200_000),
    "a long target": (414, b"GET /" + b"x" * 4096 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a long body": (413, post(b"Content-Length: 65537\r\n")),
    "a long chunked body": (413, post(CHUNKS, b"10001\r\n" + b" " * 0x10001 + b"\r\n0\r\n\r\n")),
    "a chunk with a long extension": (431, post(CHUNKS, b"d;" + b"x" * 17000)),
    "long trailers": (431, post(CHUNKS, b"d\r\n" + CHECK + b"\r\n0\r\nX: " + b"x" * 17000)),
    "what cannot be expected": (417, post(LENGTH + b"Expect: the best\r\n", CHECK)),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_is_too_much(server: FlintServer, name: str) -> None:
    status, request = TOO_MUCH[name]
    answer = server.send(request)
    assert statuses(answer) == [status], answer
    assert b"\r\nConnection: close\r\n" in answer


def test_what_is_just_enough(server: FlintServer) -> None:
    health = b"GET /v1/health HTTP/1.1\r\nConnection: close\r\n" + HOST
    assert statuses(server.send(health + b"X: y\r\n" * 98 + b"\r\n")) == [200]
    assert statuses(server.send(health + b"X: " + b"x" * 16000 + b"\r\n\r\n")) == [200]
    body = CHECK.ljust(65536)
    length = b"Content-Length: 65536\r\nConnection: close\r\n"
    assert statuses(server.send(post(length, body))) == [200]


# ---- Connections ---------------------------------------------------------------------------------


def test_requests_byte_by_byte(server: FlintServer) -> None:
    data = post(LENGTH, CHECK) + post(CHUNKS + b"Connection: close\r\n", CHUNKED)
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
        assert statuses(read_all(connection)) == [200, 200]


def test_many_requests_at_once(server: FlintServer) -> None:
    """More than may be in flight, and more than may be queued: the rest is read later."""
    data = SMUGGLED * 500 + b"GET /v1/health HTTP/1.0\r\n" + HOST + b"\r\n"
    answers = server.send(data)
    assert statuses(answers) == [200] * 501
    assert answers.count(b'"key":"api"') == 500


def test_keep_alive(server: FlintServer) -> None:
    old = b"GET /v1/health HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n"
    answers = server.send(old + old + b"GET /v1/health HTTP/1.0\r\n" + HOST + b"\r\n" + SMUGGLED)
    assert statuses(answers) == [200] * 3
    assert answers.count(b"\r\nConnection: keep-alive\r\n") == 2
    absolute = b"GET http://127.0.0.1/v1/health HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    assert statuses(server.send(absolute)) == [200]
    absolute = absolute.replace(b"127.0.0.1", b"evil.example")
    assert statuses(server.send(absolute)) == [403]


def test_a_client_that_has_said_all(server: FlintServer) -> None:
    with server.connect() as connection:
        connection.sendall(SMUGGLED + b"GET /v1/hea")
        connection.shutdown(socket.SHUT_WR)
        assert statuses(read_all(connection)) == [200]


def test_expecting_to_continue(server: FlintServer) -> None:
    expecting = LENGTH + b"Expect: 100-continue\r\nConnection: close\r\n"
    with server.connect() as connection:
        connection.sendall(post(expecting))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(CHECK)
        assert statuses(read_all(connection)) == [200]
    refused = expecting.replace(b"13", b"70000")
    assert statuses(server.send(post(refused))) == [413]


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\n", b"\r\n", post(LENGTH), post(CHUNKS, b"d\r\n{")],
    ids=["nothing", "some of a head", "an empty line", "no body", "some of a body"],
)
def test_who_does_not_go_on_is_left(tmp_path: Path, sent: bytes) -> None:
    waits = [f"--{phase}-timeout=50ms" for phase in ("header", "body", "idle")]
    with running(tmp_path / "data", *waits) as server:
        assert server.send(sent) == b""


def descriptors(server: FlintServer) -> list[Path]:
    return list(Path(f"/proc/{server.process.pid}/fd").iterdir())


def test_who_does_not_read_is_left(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Limiter(data) as limiter:
        limiter.limit_many([(f"{i:04}" + "k" * 1000, 1, "1d") for i in range(1000)])
    with running(data, "--write-timeout=100ms") as server:
        idle = len(descriptors(server))
        deadline_s = time.monotonic() + DEADLINE_S
        connection = server.connect()
        # Some of it fits into what the system keeps for who does not read: so ask for much.
        connection.sendall(SMUGGLED * 16)
        while len(descriptors(server)) == idle:  # until it is accepted
            assert time.monotonic() < deadline_s
        while len(descriptors(server)) > idle:
            assert time.monotonic() < deadline_s
        connection.close()


def test_descriptors_run_out(tmp_path: Path) -> None:
    """Who finds no room waits, and is answered when others have gone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        starting = running(tmp_path / "data")
        server = starting.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with contextlib.ExitStack() as stack:
        stack.push(starting)
        many = [server.connect() for _ in range(80)]
        for connection in many:
            connection.sendall(b"GET /v1/health HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        for connection in many:
            with connection:
                assert statuses(read_all(connection)) == [200]
        assert server.leave().count("no more connections are accepted") == 1
