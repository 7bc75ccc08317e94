"""Kept connections to one server, for event loops: no threads. Loaded by the first coroutine."""

from __future__ import annotations

import asyncio
import io
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, cast

from flint._remote.connections import KEPT_S, UnreachableError, cause_of
from flint._remote.http import (
    ENDED,
    MOST_BODY_BYTES,
    MOST_HEAD_BYTES,
    Answer,
    GarbageError,
    answer_of,
    as_bytes,
    read_head,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from http.client import HTTPResponse

    from flint._remote.http import Request
    from flint._remote.server import Server

_MOST_AT_ONCE = 64  # of one loop; more questions wait for their turn
_HEAD_END = b"\r\n\r\n"
_MOST_CHUNK_LINE = 1024


class _Wire(asyncio.Protocol):
    """One connection, used by one question at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._ended: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.was_sent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is not of that class

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MOST_BODY_BYTES + MOST_HEAD_BYTES and self.transport is not None:
            self._ended = GarbageError(f"the answer is longer than {MOST_BODY_BYTES} bytes")
            self.transport.abort()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = self._ended or error or ConnectionResetError(ENDED)
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def is_stale(self) -> bool:
        """Whether the server has ended it, or has said something unasked."""
        late = time.monotonic() - self.idle_since > KEPT_S
        return late or self._ended is not None or bool(self._received)

    async def exchange(self, request: bytes, method: str) -> tuple[Answer, bool]:
        """The answer, and whether another may follow."""
        self.was_sent = False
        if self._ended is not None:
            raise self._ended
        assert self.transport is not None
        self.transport.write(request)
        self.was_sent = True
        response = await self._head(method)
        body = await self._body(response)
        may_follow = not response.will_close and not self._received and self._ended is None
        return answer_of(response, body), may_follow

    async def _head(self, method: str) -> HTTPResponse:
        while True:
            end = await self._find(_HEAD_END, MOST_HEAD_BYTES)
            head = self._take(end + len(_HEAD_END))
            if not head.startswith(b"HTTP/1.1 100"):
                return read_head(io.BytesIO(head), method)

    async def _body(self, response: HTTPResponse) -> bytes:
        if response.chunked:
            return await self._chunks()
        if response.length is None:
            while self._ended is None:
                await self._more()
            if isinstance(self._ended, GarbageError):
                raise self._ended
            return self._take(len(self._received))
        while len(self._received) < response.length:
            await self._more()
        return self._take(response.length)

    async def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            line = self._take(await self._find(b"\r\n", _MOST_CHUNK_LINE) + 2)
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                size = -1
            if not 0 <= size <= MOST_BODY_BYTES - len(body):
                raise GarbageError(f"the answer has a chunk of {line[:40]!r} bytes")
            if size == 0:
                break
            while len(self._received) < size + 2:
                await self._more()
            body += self._take(size + 2)[:size]
        while self._take(await self._find(b"\r\n", MOST_HEAD_BYTES) + 2) != b"\r\n":
            pass  # trailing headers
        return bytes(body)

    async def _find(self, mark: bytes, most: int) -> int:
        start = 0
        while (at := self._received.find(mark, start)) < 0:
            if len(self._received) > most:
                raise GarbageError("the answer is not HTTP: a line or the head has no end")
            start = max(0, len(self._received) - len(mark))
            await self._more()
        return at

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _more(self) -> None:
        if self._ended is not None:
            raise self._ended
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None


class _LoopPool:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.idle: deque[_Wire] = deque()
        self.turns = asyncio.Semaphore(_MOST_AT_ONCE)
        self._keeper = self._keep()
        self.is_over = False

    async def begin(self) -> None:
        await anext(self._keeper)

    async def _keep(self) -> AsyncGenerator[None, None]:
        """A loop that ends, as asyncio.run's does, ends the asynchronous generators first."""
        try:
            yield
        finally:
            self.is_over = True
            self.close()
            await asyncio.sleep(0)  # the transports close in the next round of the loop

    async def end(self) -> None:
        await self._keeper.aclose()

    def close(self) -> None:
        while self.idle:
            _end(self.idle.pop())


def _end(wire: _Wire) -> None:
    if wire.transport is not None:
        wire.transport.abort()


class LoopConnections:
    """Any event loop may ask; each has connections of its own."""

    def __init__(self, server: Server, token: str | None, timeout_s: float) -> None:
        self._server = server
        self._token = token
        self._timeout_s = timeout_s
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = (
            weakref.WeakKeyDictionary()
        )
        self._is_closed = False

    async def ask(self, request: Request) -> Answer:
        """The answer to a request. Raises UnreachableError."""
        wire: list[_Wire] = []  # the one in use
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(request, wire)
        except TimeoutError as error:
            was_sent = bool(wire) and wire[-1].was_sent
            raise UnreachableError(cause_of(error), is_away=not wire, was_sent=was_sent) from None

    async def _ask(self, request: Request, used: list[_Wire]) -> Answer:
        pool = await self._pool()
        async with pool.turns:
            return await self._ask_in_turn(request, pool, used)

    async def _ask_in_turn(self, request: Request, pool: _LoopPool, used: list[_Wire]) -> Answer:
        data = as_bytes(request, self._server, self._token)
        may_repeat = True
        while True:
            wire = await self._take(pool)
            used.append(wire)
            is_done = False
            try:
                answer, may_follow = await wire.exchange(data, request.method)
                is_done = may_follow
            except TimeoutError:
                raise
            except (OSError, GarbageError) as error:
                is_garbage = isinstance(error, GarbageError)
                repeatable = request.repeatable or not wire.was_sent
                if is_garbage or not may_repeat or not repeatable:
                    raise UnreachableError(cause_of(error), was_sent=wire.was_sent) from None
                may_repeat = False
            else:
                return answer
            finally:  # also when it is cancelled
                if is_done and not pool.is_over:
                    wire.idle_since = time.monotonic()
                    pool.idle.append(wire)
                else:
                    _end(wire)

    async def _pool(self) -> _LoopPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or pool.is_over:
            pool = self._pools[loop] = _LoopPool()
            await pool.begin()
        return pool

    async def _take(self, pool: _LoopPool) -> _Wire:
        while pool.idle:
            wire = pool.idle.pop()
            if not wire.is_stale():
                return wire
            _end(wire)
        server = self._server
        loop = asyncio.get_running_loop()
        try:
            if server.socket_path:
                _, wire = await loop.create_unix_connection(_Wire, server.socket_path)
            else:
                name = server.host if server.tls is not None else None
                _, wire = await loop.create_connection(
                    _Wire, server.host, server.port, ssl=server.tls, server_hostname=name
                )
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:
            raise UnreachableError(cause_of(error), is_away=True) from None
        return wire

    def close(self) -> None:
        """Those of this loop are ended now, those of others by their loops."""
        for loop, pool in list(self._pools.items()):
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(pool.close)
                except RuntimeError:  # it has been closed meanwhile
                    continue

    async def wait_closed(self) -> None:
        """Until those of this loop are ended, after `close`."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None:
            await pool.end()
