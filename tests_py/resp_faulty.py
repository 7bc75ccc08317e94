"""What `http_faulty` needs to speak the Redis protocol: requests as lists of words, and replies."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from http_faulty import Connection, Faulty, faulty

CHECKED = {
    "allowed": True,
    "key": "a",
    "cost": 1,
    "algorithm": "token_bucket",
    "limit": 5,
    "remaining": 4,
    "retry_after_ns": 0,
    "reset_after_ns": 1,
    "reset_at_ns": 1_767_323_045_000_000_006,
    "undecided": False,
    "limit_count": 0,
    "limit_index": 0,
    "limits": [],
}
HELLO = {"server": "flint", "version": "9", "proto": 3}


def reply(value: Any = CHECKED) -> bytes:
    """A whole reply."""
    if value is None:
        return b"_\r\n"
    if isinstance(value, bool):
        return b"#t\r\n" if value else b"#f\r\n"
    if isinstance(value, int):
        return b"%b%d\r\n" % (b":" if abs(value) < 2**63 else b"(", value)
    if isinstance(value, str):
        text = value.encode()
        return b"$%d\r\n%b\r\n" % (len(text), text)
    if isinstance(value, dict):
        parts = [part for pair in value.items() for part in pair]
        return b"%%%d\r\n%b" % (len(value), b"".join(map(reply, parts)))
    return b"*%d\r\n%b" % (len(value), b"".join(map(reply, value)))


def refusal(text: str) -> bytes:
    return f"-{text}\r\n".encode()


OK = b"+OK\r\n"


class NativeConnection(Connection):
    """What a test does with one connection. HELLO is answered, and is no request."""

    hello = reply(HELLO)

    def words(self) -> list[bytes]:
        """The next request as words; none when the client has ended the connection."""
        line = self._file.readline()
        words = []
        for _ in range(int(line[1:] or b"0")):
            size = int(self._file.readline()[1:])
            words.append(self._file.read(size + 2)[:-2])
        return words

    def request(self) -> bytes | None:
        words = self.words()
        while words[:1] == [b"HELLO"]:
            self.send(self.hello)
            words = self.words()
        return b" ".join(words) or None

    def has_ended(self) -> bool:
        with contextlib.suppress(OSError):
            return self.socket.recv(1) == b""
        return True


def native(
    behave: Callable[[Any], None],
    make: Callable[[socket.socket], Any] = NativeConnection,
) -> AbstractContextManager[Faulty]:
    """`faulty`, for the Redis protocol."""
    return faulty(behave, make)


def url_of(server: Faulty) -> str:
    return f"flint://127.0.0.1:{server.port}"
