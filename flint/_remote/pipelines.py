"""Connections to one server for event loops, by the Redis protocol: no threads. Questions share a
connection and are answered in their order. Loaded by the first coroutine that needs it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from flint._remote.aio import Attempt, LoopConnections, Pool
from flint._remote.connections import KEPT_S, UnreachableError, cause_of
from flint._remote.http import ENDED, GarbageError
from flint._remote.resp import MORE, Reader, greeting, read_greeting

if TYPE_CHECKING:
    from flint._remote.commands import Command

# Of one loop. A server reads so many requests of a connection ahead, so more connections take more.
_MOST_IN_FLIGHT = 16
_MOST_CONNECTIONS = 8
_MOST_SLOW = 4  # questions behind which nobody is asked on the same connection


class _Wire(asyncio.Protocol):
    """One connection. A question that gives up leaves its place behind, so that the answers that
    come are still given to those who asked for them."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._ended: Exception | None = None
        self._used_at = time.monotonic()
        self.is_taken = False  # by a slow question, behind which nobody shall wait
        self.is_given_up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not of that class

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.read()) is not MORE:
                if not self._waiting:
                    raise GarbageError("more came than was asked")
                future, _ = self._waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except GarbageError as error:
            self._fail(error)
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError(ENDED))

    def _fail(self, error: Exception) -> None:
        self._ended = self._ended or error
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._ended)

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer any longer."""
        return all(future.done() for future, _ in self._waiting)

    def is_usable(self, timeout_s: float) -> bool:
        """Whether one may ask: it has not ended, nobody has waited for longer than one does, and
        the server has no reason yet to end it."""
        now = time.monotonic()
        if self._ended is not None or self.is_given_up:
            return False
        if self._waiting:
            return now - self._waiting[0][1] < timeout_s
        return now - self._used_at < KEPT_S

    async def exchange(self, data: bytes, attempt: Attempt) -> Any:
        """The reply. Raises GarbageError, and OSError when the connection ends."""
        attempt.was_sent = False
        if self._ended is not None or self._transport is None:
            raise self._ended or ConnectionResetError(ENDED)
        future = asyncio.get_running_loop().create_future()
        self._used_at = time.monotonic()
        self._waiting.append((future, self._used_at))
        self._transport.write(data)
        attempt.was_sent = True
        reply = await future
        self._used_at = time.monotonic()
        return reply

    async def greet(self, token: str | None) -> None:
        read_greeting(await self.exchange(greeting(token), Attempt()))

    def give_up(self) -> None:
        """Ask no more here; it ends when it is idle."""
        self.is_given_up = True
        if self.is_idle:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _NativePool(Pool):
    def __init__(self) -> None:
        super().__init__()
        self.wires: list[_Wire] = []
        self.opening = asyncio.Lock()
        self.slow = asyncio.Semaphore(_MOST_SLOW)

    def usable(self, timeout_s: float) -> list[_Wire]:
        """The connections that may be used; the others are given up."""
        for wire in self.wires:
            if not wire.is_usable(timeout_s):
                wire.give_up()
        self.wires = [wire for wire in self.wires if not wire.is_given_up]
        return self.wires

    def _end_idle(self) -> None:
        for wire in self.wires:
            wire.give_up()
        self.wires = []


class NativeLoopConnections(LoopConnections):
    """Asks by the Redis protocol."""

    def _new_pool(self) -> Pool:
        return _NativePool()

    async def _ask(self, request: Command, pool: _NativePool, attempt: Attempt) -> Any:
        if not request.is_slow:
            return await self._ask_in_turn(request, pool, attempt)
        async with pool.slow:
            return await self._ask_in_turn(request, pool, attempt)

    async def _ask_in_turn(self, request: Command, pool: _NativePool, attempt: Attempt) -> Any:
        may_repeat = True
        while True:
            attempt.is_connecting = True
            wire = await self._take(pool)
            attempt.is_connecting = False
            attempt.late = wire.give_up
            try:
                return await self._exchange(request, pool, wire, attempt)
            except TimeoutError:
                raise
            except (OSError, GarbageError) as error:
                is_garbage = isinstance(error, GarbageError)
                repeatable = request.repeatable or not attempt.was_sent
                if is_garbage or not may_repeat or not repeatable:
                    raise UnreachableError(cause_of(error), was_sent=attempt.was_sent) from None
                may_repeat = False

    @staticmethod
    async def _exchange(request: Command, pool: _NativePool, wire: _Wire, attempt: Attempt) -> Any:
        is_answered = False
        if request.is_slow:
            wire.is_taken = True
        try:
            reply = await wire.exchange(request.data, attempt)
            is_answered = True
            return reply
        finally:  # also when it is cancelled, or late
            if request.is_slow:
                wire.is_taken = False
            is_unsure = request.is_slow and not is_answered
            if wire.is_given_up or is_unsure or (pool.is_over and wire.is_idle):
                wire.give_up()

    async def _take(self, pool: _NativePool) -> _Wire:
        wire = self._free(pool)
        if wire is not None:
            return wire
        async with pool.opening:
            return self._free(pool) or await self._open(pool)

    def _free(self, pool: _NativePool) -> _Wire | None:
        """A connection to ask on; None where another is to be opened."""
        wires = [wire for wire in pool.usable(self._timeout_s) if not wire.is_taken]
        best = min(wires, key=lambda wire: wire.in_flight, default=None)
        if best is None or best.in_flight < _MOST_IN_FLIGHT or len(wires) >= _MOST_CONNECTIONS:
            return best
        return None

    async def _open(self, pool: _NativePool) -> _Wire:
        wire = await self._connected(_Wire)
        try:
            await wire.greet(self._token)
        except TimeoutError:
            wire.abort()
            raise
        except (OSError, GarbageError) as error:
            wire.abort()
            raise UnreachableError(cause_of(error), is_away=True) from None
        except BaseException:
            wire.abort()
            raise
        pool.wires.append(wire)
        return wire
