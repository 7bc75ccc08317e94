"""Kept connections to one server, for threads that wait."""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from flint._remote.http import (
    ENDED,
    GarbageError,
    answer_of,
    as_bytes,
    read_body,
    read_head,
)
from flint._remote.resp import MORE, Reader, greeting, read_greeting

if TYPE_CHECKING:
    from typing import Any

    from flint._remote.commands import Command
    from flint._remote.http import Request
    from flint._remote.server import Server

# A connection that nobody has used for longer is not used again; servers close them too.
KEPT_S = 20.0
_MOST_KEPT = 64
_MOST_RECEIVED = 64 * 1024  # at a time
LATE = "there was no answer in time"


class UnreachableError(Exception):
    """There is no answer. `is_away`: there was not even a connection. `was_sent`: the server may
    have done what was asked."""

    def __init__(self, cause: str, *, is_away: bool = False, was_sent: bool = False) -> None:
        super().__init__(cause)
        self.is_away = is_away
        self.was_sent = was_sent


def cause_of(error: Exception) -> str:
    """What went wrong, in words."""
    if isinstance(error, TimeoutError):
        return LATE
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # event loops have other words
    return str(error) or type(error).__name__


class _Input(io.RawIOBase):
    """What comes through a socket, until a deadline."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.is_over:
            return None
        self._connection.set_timeout()
        return self._connection.socket.recv_into(buffer)


class _Buffered(io.BufferedReader):
    """HTTPResponse closes what it has read to the end; what is behind the end is of interest."""

    def close(self) -> None:
        pass


class Connection:
    """One connection, used by one thread at a time."""

    def __init__(self, connected: socket.socket, server: Server, token: str | None) -> None:
        self.socket = connected
        self.deadline = 0.0
        self.idle_since = 0.0
        self.was_sent = False
        self._server = server
        self._token = token

    def greet(self, deadline: float) -> None:
        """What comes before the first question."""

    def exchange(self, request: Any, deadline: float) -> tuple[Any, bool]:
        """The answer, and whether another may follow."""
        raise NotImplementedError

    def set_timeout(self) -> None:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.socket.settimeout(left_s)

    def is_stale(self) -> bool:
        """Whether the server has ended it, or has said something unasked."""
        if time.monotonic() - self.idle_since > KEPT_S:
            return True
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, data: bytes, deadline: float) -> None:
        self.deadline = deadline
        self.was_sent = False
        self.set_timeout()
        self.socket.sendall(data)
        self.was_sent = True

    def close(self) -> None:
        self.socket.close()


class HttpConnection(Connection):
    """Asks by HTTP."""

    def exchange(self, request: Request, deadline: float) -> tuple[Any, bool]:
        self.send(as_bytes(request, self._server, self._token), deadline)
        source = _Input(self)
        file = _Buffered(source)
        response = read_head(file, request.method)
        body = read_body(response)
        source.is_over = True
        may_follow = not response.will_close and not file.peek(1)
        return answer_of(response, body), may_follow


class NativeConnection(Connection):
    """Asks by the Redis protocol."""

    def greet(self, deadline: float) -> None:
        self._reader = Reader()
        self.send(greeting(self._token), deadline)
        read_greeting(self._reply())

    def exchange(self, request: Command, deadline: float) -> tuple[Any, bool]:
        self.send(request.data, deadline)
        reply = self._reply()
        return reply, self._reader.is_empty

    def _reply(self) -> Any:
        while (reply := self._reader.read()) is MORE:
            self.set_timeout()
            data = self.socket.recv(_MOST_RECEIVED)
            if not data:
                raise ConnectionResetError(ENDED)
            self._reader.feed(data)
        return reply


class Connections:
    """Any thread may ask; each question has a connection to itself."""

    def __init__(self, server: Server, token: str | None, timeout_s: float) -> None:
        self._server = server
        self._token = token
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._make = NativeConnection if server.is_native else HttpConnection
        self._idle: deque[Connection] = deque()
        # Also those in use, for a forked child to close.
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._is_closed = False
        _every_pool.add(self)
        # Who has not closed a limiter leaves nothing open.
        weakref.finalize(self, _close_all, self._idle)

    def ask(self, request: Any) -> Any:
        """The answer to a request. Raises UnreachableError."""
        deadline = time.monotonic() + self._timeout_s
        may_repeat = True
        while True:
            connection = self._take(deadline)
            is_done = False
            try:
                answer, may_follow = connection.exchange(request, deadline)
                is_done = may_follow
            except (OSError, GarbageError) as error:
                may_repeat = may_repeat and _is_safe_to_repeat(request, connection, error)
                if not may_repeat:
                    was_sent = connection.was_sent
                    raise UnreachableError(cause_of(error), was_sent=was_sent) from None
                may_repeat = False
            else:
                return answer
            finally:  # also after Ctrl-C, in the middle of an answer
                if is_done:
                    self._give_back(connection)
                else:
                    connection.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            _close_all(self._idle)

    def forget(self) -> None:
        """In a forked child: the connections are the parent's, which goes on using them. Closing
        them here tells the server nothing."""
        self._lock = threading.Lock()
        for connection in list(self._all):
            connection.close()
        self._idle.clear()

    def _take(self, deadline: float) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if not connection.is_stale():
                return connection
            connection.close()
        try:
            return self._begin(deadline)
        except (OSError, UnicodeError, GarbageError) as error:
            raise UnreachableError(cause_of(error), is_away=True) from None

    def _begin(self, deadline: float) -> Connection:
        connection = self._make(_connect(self._server, deadline), self._server, self._token)
        with self._lock:
            self._all.add(connection)
        try:
            connection.greet(deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            if not self._is_closed and len(self._idle) < _MOST_KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _close_all(idle: deque[Connection]) -> None:
    while idle:
        idle.pop().close()


def _is_safe_to_repeat(request: Any, connection: Connection, error: Exception) -> bool:
    """A request that was not sent whole has not been understood, so it did nothing."""
    if isinstance(error, (TimeoutError, GarbageError)):
        return False
    return bool(request.repeatable) or not connection.was_sent


def _connect(server: Server, deadline: float) -> socket.socket:
    """A connection to the first address that takes one. Each has its share of the time, since one
    of them may be silent."""
    if server.socket_path:
        found: list[tuple[Any, ...]] = [(socket.AF_UNIX, server.socket_path)]
    else:
        addresses = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
        found = [(family, address) for family, _, _, _, address in addresses]
    failure: OSError = TimeoutError()
    for index, (family, address) in enumerate(found):
        left_s = (deadline - time.monotonic()) / (len(found) - index)
        if left_s <= 0:
            break
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            connected.settimeout(left_s)
            connected.connect(address)
            return _prepared(server, connected)
        except OSError as error:
            failure = error
            connected.close()
        except BaseException:
            connected.close()
            raise
    raise failure


def _prepared(server: Server, connected: socket.socket) -> socket.socket:
    if connected.family != socket.AF_UNIX:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.tls is not None:
        return server.tls.wrap_socket(connected, server_hostname=server.host)
    return connected


_every_pool: weakref.WeakSet[Connections] = weakref.WeakSet()


def _forget_in_child() -> None:
    for pool in list(_every_pool):
        with contextlib.suppress(OSError):
            pool.forget()


os.register_at_fork(after_in_child=_forget_in_child)
