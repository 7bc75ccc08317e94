"""A server that does to each connection what a test says."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

CHECKED = {
    "algorithm": "token_bucket",
    "allowed": True,
    "cost": 1,
    "key": "a",
    "limit": 5,
    "remaining": 4,
    "reset_after_ns": 1,
    "reset_at": "2026-01-02T03:04:05.000000006Z",
    "retry_after_ns": 0,
}


def answer(value: Any = CHECKED, status: str = "200 OK", more: str = "") -> bytes:
    """A whole answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """What a test does with one connection."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._file = accepted.makefile("rb")

    def request(self) -> bytes | None:
        """The next request; None when the client has ended the connection."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            if not line:
                return None
            head += line
        length = [
            line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        return head + (self._file.read(int(length[0].split(b":")[1])) if length else b"")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until_closed(self) -> None:
        """Wait for the client to end the connection."""
        with contextlib.suppress(OSError):
            while self.socket.recv(65536):
                pass


_DEADLINE_S = 60


class Faulty:
    """`requests` holds, for each connection, the requests that have come."""

    def __init__(self, behave: Callable[[Any], None], make: Callable[[socket.socket], Any]) -> None:
        self._behave = behave
        self._make = make
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[list[bytes]] = []
        self._ended = threading.Semaphore(0)  # for each connection that is closed
        self._threads: list[threading.Thread] = []

    @property
    def counts(self) -> list[int]:
        return [len(one) for one in self.requests]

    def run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            seen: list[bytes] = []
            self.requests.append(seen)
            thread = threading.Thread(target=self._serve, args=(accepted, seen))
            thread.start()
            self._threads.append(thread)

    def _serve(self, accepted: socket.socket, seen: list[bytes]) -> None:
        connection = self._make(accepted)
        plain = connection.request

        def noted() -> bytes | None:
            request = plain()
            if request is not None:
                seen.append(request)
            return request

        connection.request = noted
        with contextlib.suppress(OSError):
            self._behave(connection)
        connection._file.close()
        accepted.close()
        self._ended.release()

    def wait_for_one_to_end(self) -> None:
        """Until one more connection is closed."""
        assert self._ended.acquire(timeout=_DEADLINE_S)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def faulty(
    behave: Callable[[Any], None], make: Callable[[socket.socket], Any] = Connection
) -> Iterator[Faulty]:
    """A server whose every connection is `behave`'s. What uses it ends its connections first."""
    server = Faulty(behave, make)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
        server.join()
