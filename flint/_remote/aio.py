"""Kept connections to one server, for event loops: no threads. Loaded by the first coroutine. What
is here asks by HTTP; flint._remote.pipelines does by the Redis protocol."""

from __future__ import annotations

import asyncio
import io
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, cast

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
    from collections.abc import AsyncGenerator, Callable
    from http.client import HTTPResponse

    from flint._remote.http import Request
    from flint._remote.server import Server

Protocol = TypeVar("Protocol", bound=asyncio.Protocol)

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

    async def exchange(self, request: bytes, method: str, attempt: Attempt) -> tuple[Answer, bool]:
        """The answer, and whether another may follow."""
        attempt.was_sent = False
        if self._ended is not None:
            raise self._ended
        assert self.transport is not None
        self.transport.write(request)
        attempt.was_sent = True
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


class Pool:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._keeper = self._keep()
        self.is_over = False

    def close(self) -> None:
        self.is_over = True
        self._end_idle()

    def _end_idle(self) -> None:
        raise NotImplementedError

    async def begin(self) -> None:
        await anext(self._keeper)

    async def _keep(self) -> AsyncGenerator[None, None]:
        """A loop that ends, as asyncio.run's does, ends the asynchronous generators first."""
        try:
            yield
        finally:
            await self._end_all()

    async def _end_all(self) -> None:
        self.close()
        await asyncio.sleep(0)  # the transports close in the next round of the loop

    async def end(self) -> None:
        await self._keeper.aclose()


class Attempt:
    """How far the asking has come."""

    def __init__(self) -> None:
        self.is_connecting = False
        self.was_sent = False
        self.late: Callable[[], object] = lambda: None  # what is to be done then


class LoopConnections:
    """Any event loop may ask; each has connections of its own."""

    def __init__(self, server: Server, token: str | None, timeout_s: float) -> None:
        self._server = server
        self._token = token
        self._timeout_s = timeout_s
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = (
            weakref.WeakKeyDictionary()
        )

    async def ask(self, request: Any) -> Any:
        """The answer to a request. Raises UnreachableError."""
        attempt = Attempt()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(request, await self._pool(), attempt)
        except TimeoutError as error:
            attempt.late()
            is_away, was_sent = attempt.is_connecting, attempt.was_sent
            raise UnreachableError(cause_of(error), is_away=is_away, was_sent=was_sent) from None

    async def _ask(self, request: Any, pool: Any, attempt: Attempt) -> Any:
        raise NotImplementedError

    def _new_pool(self) -> Pool:
        raise NotImplementedError

    async def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or pool.is_over:
            pool = self._pools[loop] = self._new_pool()
            await pool.begin()
        return pool

    async def _connected(self, make: Callable[[], Protocol]) -> Protocol:
        """A new connection. Raises UnreachableError, and TimeoutError as it is."""
        server = self._server
        loop = asyncio.get_running_loop()
        try:
            if server.socket_path:
                _, made = await loop.create_unix_connection(make, server.socket_path)
            else:
                name = server.host if server.tls is not None else None
                _, made = await loop.create_connection(
                    make, server.host, server.port, ssl=server.tls, server_hostname=name
                )
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:
            raise UnreachableError(cause_of(error), is_away=True) from None
        return made

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


class _HttpPool(Pool):
    """A connection is used by one question at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: deque[_Wire] = deque()
        self.turns = asyncio.Semaphore(_MOST_AT_ONCE)

    def _end_idle(self) -> None:
        while self.idle:
            _end(self.idle.pop())


def _end(wire: _Wire) -> None:
    if wire.transport is not None:
        wire.transport.abort()


class HttpLoopConnections(LoopConnections):
    """Asks by HTTP."""

    def _new_pool(self) -> Pool:
        return _HttpPool()

    async def _ask(self, request: Request, pool: _HttpPool, attempt: Attempt) -> Answer:
        async with pool.turns:
            return await self._ask_in_turn(request, pool, attempt)

    async def _ask_in_turn(self, request: Request, pool: _HttpPool, attempt: Attempt) -> Answer:
        data = as_bytes(request, self._server, self._token)
        may_repeat = True
        while True:
            attempt.is_connecting = True
            wire = await self._take(pool)
            attempt.is_connecting = False
            is_done = False
            try:
                answer, may_follow = await wire.exchange(data, request.method, attempt)
                is_done = may_follow
            except TimeoutError:
                raise
            except (OSError, GarbageError) as error:
                is_garbage = isinstance(error, GarbageError)
                repeatable = request.repeatable or not attempt.was_sent
                if is_garbage or not may_repeat or not repeatable:
                    raise UnreachableError(cause_of(error), was_sent=attempt.was_sent) from None
                may_repeat = False
            else:
                return answer
            finally:  # also when it is cancelled
                if is_done and not pool.is_over:
                    wire.idle_since = time.monotonic()
                    pool.idle.append(wire)
                else:
                    _end(wire)

    async def _take(self, pool: _HttpPool) -> _Wire:
        while pool.idle:
            wire = pool.idle.pop()
            if not wire.is_stale():
                return wire
            _end(wire)
        return await self._connected(_Wire)
