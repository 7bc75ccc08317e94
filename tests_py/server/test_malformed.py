"""Requests that are malformed: made by a grammar whose rules are broken here and there, and sound
ones with bytes changed. The server answers or closes, and is well afterwards. FLINT_LONG=1 sends
100,000; the result is in tests_py/results."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flint_server import DEADLINE_S, FlintServer, needs_server, read_all, running

from flint import Limiter

pytestmark = needs_server

REQUESTS = 100_000 if os.environ.get("FLINT_LONG") else 2_000
SEED = 12
EACH_CONNECTION = 4  # requests, until it is closed
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n:]+: [^\r\n]*\r\n)*\r\n")

METHODS = ["GET", "POST", "HEAD", "PUT", "get", "GE T", "", "\0", "PRI", "CONNECT", "X" * 40]
PATHS = [
    *("/v1/check", "/v1/limits", "/v1/limits/a%2fb", "/v1/limits/%", "/healthz", "/v1/top?by=x"),
    *("*", "", "/", "//", "http://localhost/healthz", "https://a", "/v1/check#x", "/\x7f"),
    *("/v1/history?since_ns=-1&limit=99999999999999999999", "/v1/limits?counters=true&x"),
]
VERSIONS = [
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1.1 ",
    "http/1.1",
    "",
    "HTTP/1.10",
]
NAMES = [
    *("Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Connection", "Expect"),
    *("Authorization", "Origin", "Upgrade", "X", "", " X", "X ", "X\0", "Content-Length "),
]
VALUES = [
    *("localhost", "13", "0", "-1", "+13", "0x0d", "13, 13", "99999999999999999999", "chunked"),
    *(
        "gzip, chunked",
        "chunked, identity",
        "application/json",
        "text/plain",
        "close",
        "keep-alive",
    ),
    *("100-continue", "", " ", "\t", "\xff", "a\rb", "a\nb", "Bearer x", "x" * 9000, "\0"),
]
KEYS = ['"key"', '"cost"', '"rate"', '"per"', '"items"', '"limit"', '"details"', '""', "key", "1"]
SCALARS = [
    *('"api"', "1", "-1", "1e400", "18446744073709551616", "true", "null", "nul", '"\\ud800"'),
    *('"\\u0000"', '"', "'a'", "0.1", "01", "NaN", '"' + "k" * 300 + '"'),
]
ENDS = ["\r\n"] * 12 + ["\n", "\r", "", "\r\n\r\n", "\0"]


class Grammar:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, choices: list[str]) -> str:
        """Mostly of the first few, which are sound."""
        few = choices if self.random.random() < 0.3 else choices[:2]
        return self.random.choice(few)

    def value(self, depth: int = 0) -> str:
        kind = self.random.random()
        if depth > 20 or kind < 0.5:
            return self.one(SCALARS)
        parts = [self.value(depth + 1) for _ in range(self.random.randrange(3))]
        if kind < 0.6:
            return "[" + ",".join(parts) + self.one(["]", "]", "", ",]"])
        named = [f"{self.one(KEYS)}:{part}" for part in parts]
        return "{" + ",".join(named) + self.one(["}", "}", "", ",}"])

    def body(self) -> str:
        text = self.one(['{"key":"api"}', '{"items":[{"key":"api","cost":1}]}', self.value()])
        return text if self.random.random() < 0.5 else self.value()

    def chunked(self, body: str) -> str:
        size = self.one([f"{len(body):x}", f"{len(body):x};a=b", "-1", "", "ffffffffffffffff", "x"])
        return f"{size}{self.one(ENDS)}{body}{self.one(ENDS)}0{self.one(ENDS)}{self.one(ENDS)}"

    def request(self) -> bytes:
        body = self.body() if self.random.random() < 0.6 else ""
        first = f"{self.one(METHODS)} {self.one(PATHS)} {self.one(VERSIONS)}"
        lines = [first, "Host: localhost", "Content-Type: application/json"]
        sent = body
        if body and self.random.random() < 0.3:
            lines.append("Transfer-Encoding: chunked")
            sent = self.chunked(body)
        elif body:
            lines.append(f"Content-Length: {len(body.encode('latin-1', 'replace'))}")
        for _ in range(self.random.randrange(4)):
            colon = self.one([": ", ":", "", " : "])
            lines.insert(1, self.one(NAMES) + colon + self.one(VALUES))
        if self.random.random() < 0.1:
            lines.remove("Host: localhost")
        text = "".join(line + self.one(ENDS) for line in lines) + self.one(ENDS) + sent
        return self.mutated(text.encode("latin-1", "replace"))

    def mutated(self, data: bytes) -> bytes:
        if self.random.random() < 0.6:
            return data
        changed = bytearray(data)
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(changed) + 1)
            kind = self.random.randrange(4)
            if kind == 0:
                changed[at : at + 1] = bytes([self.random.randrange(256)])
            elif kind == 1:
                del changed[at : at + self.random.randrange(20)]
            elif kind == 2:
                changed[at:at] = changed[at : at + self.random.randrange(200)]
            else:
                del changed[at:]
        return bytes(changed)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FlintServer]:
    with Limiter(tmp_path / "data") as limiter:
        limiter.limit("api", rate=1_000_000_000, per="1d")
    with running(tmp_path / "data", "--sync=batch") as server:
        yield server


def exchange(server: FlintServer, data: bytes) -> bytes:
    """All that comes back. The server may have had enough before all is sent."""
    with server.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)
    return b""


def until_nobody_is_connected(server: FlintServer, idle: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) > idle:
        assert time.monotonic() < deadline_s


def test_http(server: FlintServer) -> None:
    grammar = Grammar(SEED)
    idle = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    statuses: dict[bytes, int] = {}
    before_kib = 0
    sent = 0
    while sent < REQUESTS:
        data = b"".join(grammar.request() for _ in range(EACH_CONNECTION))
        answer = exchange(server, data)
        if answer:
            head = HEAD.match(answer)
            assert head, (data, answer)
            statuses[head[1]] = statuses.get(head[1], 0) + 1
            assert head[1] != b"500", (data, answer)
        if sent < REQUESTS // 5:
            before_kib = server.memory_kib()
        sent += EACH_CONNECTION
    assert server.ask("GET", "/healthz")[0] == 200
    until_nobody_is_connected(server, idle)
    growth_kib = server.memory_kib() - before_kib
    told = ", ".join(f"{count} x {status.decode()}" for status, count in sorted(statuses.items()))
    print(f"{sent} requests: {told}; grown by {growth_kib} KiB")
    assert {b"200", b"400", b"404", b"405"} <= statuses.keys()
    if not server.is_sanitized():
        assert growth_kib < 4096
