"""Requests of the Redis protocol that are malformed: sound commands with odd words, and with bytes
changed. Every reply is one of the protocol, and the server is well afterwards. FLINT_LONG=1 sends
100,000; the result is in tests_py/results."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flint_server import DEADLINE_S, FlintServer, needs_server, read_all, running
from test_slow_clients import open_connections

from flint import Limiter

pytestmark = needs_server

REQUESTS = 100_000 if os.environ.get("FLINT_LONG") else 2_000
SEED = 12
EACH_CONNECTION = 4  # requests, until it is closed

COMMANDS = [
    *("FLINT.CHECK", "CL.THROTTLE", "FLINT.CHECKALL", "FLINT.CHECKMANY", "FLINT.PEEK", "THROTTLE"),
    *("FLINT.LIMIT", "FLINT.LIMITMANY", "FLINT.STATUS", "FLINT.LIST", "FLINT.TOP", "FLINT.RESET"),
    *("FLINT.HISTORY", "FLINT.INFO", "HELLO", "AUTH", "CLIENT", "COMMAND", "PING", "flint.check"),
    *("ECHO", "SELECT", "INFO", "QUIT", "NONE", "", "\0", "X" * 300),
]
SOUND = [
    "FLINT.CHECK api COST 2",
    "FLINT.CHECK new LIMIT 5/minute",
    "FLINT.CHECK two LIMIT 5/minute;9/hour LIMITS",
    "CL.THROTTLE crab 15 30 60 1",
    "THROTTLE crab 15 30 60",
    "FLINT.CHECKALL api 1 new 1 LIMIT 5/minute",
    "FLINT.CHECKMANY api 1 none 1",
    "FLINT.LIMIT a RATE 5 PER 1m NAME n",
    "FLINT.LIMITMANY NX exact b n 5 60000000000 5 gcra ALONE",
    "FLINT.LIST COUNT 3",
    "FLINT.HISTORY KEY api COUNT 3",
    "HELLO 3",
]
WORDS = [
    *("api", "1", "LIMIT", "5/minute", "RATE", "PER", "1m", "COST", "BURST", "ALGORITHM", "gcra"),
    *("0", "-1", "18446744073709551616", "5/eon", "strict", "NAME", "STACK", "NX", "EXACT", "KEEP"),
    *("exact", "template", "ALONE", "LIMITS", "REFUSE", "COUNT", "CURSOR", "BY", "denied", "3"),
    *("default", "AUTH", "SETNAME", "DOCS", "", " ", "*", "a*", "\r\n", "\0", "\u00e4", "k" * 300),
]


class Grammar:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def request(self) -> bytes:
        words = [self.random.choice(COMMANDS)]
        if self.random.random() < 0.5:
            words = self.random.choice(SOUND).split()
        for _ in range(self.random.choice((0, 0, 0, 1, 4))):
            words.insert(self.random.randrange(1, len(words) + 1), self.random.choice(WORDS))
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words)]
        return self.mutated(b"*%d\r\n%s" % (len(parts), b"".join(parts)))

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
                del changed[at : at + self.random.randrange(9)]
            elif kind == 2:
                changed[at:at] = self.random.choice([b"9" * 30, b"-", b"\r\n", b"*1\r\n", b"$-2"])
            else:
                del changed[at:]
        return bytes(changed)


def after_reply(data: bytes, at: int) -> int:
    """Where the reply at this place ends. Fails for what is none."""
    end = data.index(b"\r\n", at)
    kind, rest = data[at : at + 1], data[at + 1 : end]
    at = end + 2
    if kind in b"+-:_,(#":
        return at
    count = int(rest)
    if kind == b"$":
        if count < 0:
            return at
        assert data[at + count : at + count + 2] == b"\r\n"
        return at + count + 2
    assert kind in (b"*", b"%"), kind
    for _ in range(count * (2 if kind == b"%" else 1)):
        at = after_reply(data, at)
    return at


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FlintServer]:
    with Limiter(tmp_path / "data") as limiter:
        limiter.limit("api", rate=1_000_000_000, per="1d")
    with running(tmp_path / "data", "--sync=batch", "--redis-bind=127.0.0.1:0") as server:
        yield server


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """All that comes back. The server may have had enough before all is sent."""
    with (
        socket.create_connection(address, DEADLINE_S) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)
    return b""


def test_redis(server: FlintServer) -> None:
    grammar = Grammar(SEED)
    address = ("127.0.0.1", int(server.urls[-1].rpartition(":")[2]))
    kinds: Counter[str] = Counter()
    before_kib = 0
    for sent in range(0, REQUESTS, EACH_CONNECTION):
        data = b"".join(grammar.request() for _ in range(EACH_CONNECTION))
        answer = exchange(address, data)
        at = 0
        while at < len(answer):
            first = answer[at:].split(b"\r\n", 1)[0].split(b" ", 1)[0].decode()
            kinds[first if first.startswith("-") else first[:1]] += 1
            at = after_reply(answer, at)
        if sent < REQUESTS // 5:
            before_kib = server.memory_kib()
    ping = exchange(address, b"*1\r\n$4\r\nPING\r\n")
    assert ping == b"+PONG\r\n"
    deadline_s = time.monotonic() + DEADLINE_S
    while open_connections(server) > 0:
        assert time.monotonic() < deadline_s
    growth_kib = server.memory_kib() - before_kib
    told = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    print(f"{REQUESTS} requests: {told}; grown by {growth_kib} KiB")
    assert {"-ERR", "*", "+", "-NOT_CONFIGURED"} <= kinds.keys()
    assert "-INTERNAL" not in kinds
    if not server.is_sanitized():
        assert growth_kib < 8192
