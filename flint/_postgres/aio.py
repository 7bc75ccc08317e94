"""The same for event loops. Loaded by the first coroutine."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import pq

from flint._postgres.connections import Kept, forget_in_child, is_stale
from flint._postgres.wire import READ, WRITE, ServerError, connecting, exchanging
from flint._remote.connections import LATE, UnreachableError, cause_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from flint._postgres.wire import Row, Statement

Returned = TypeVar("Returned")

_KEPT_S = 60.0
_MOST_AT_ONCE = 16  # of one loop; more questions wait for their turn


async def _ready(descriptor: int, wanted: int) -> None:
    """Wait until a socket can be read or written."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    if wanted & READ:
        loop.add_reader(descriptor, wake)
    if wanted & WRITE:
        loop.add_writer(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)


async def run(
    steps: Generator[int, None, Returned], connection: pq.abc.PGconn, deadline: float
) -> Returned:
    """Wait for what the steps wait for."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            while True:
                wanted = next(steps)
                await _ready(connection.socket, wanted)
    except StopIteration as done:
        returned: Returned = done.value
        return returned


async def ask(sessions: Any, statement: Statement, timeout_s: float) -> list[Row]:
    """The rows of a statement. Raises UnreachableError and ServerError."""
    deadline = time.monotonic() + timeout_s
    may_repeat = statement.repeatable
    while True:
        taken = await sessions.take(deadline)
        is_usable = False
        try:
            rows = await run(exchanging(taken.pgconn, statement), taken.pgconn, deadline)
            is_usable = True
        except ServerError:
            is_usable = taken.pgconn.status == pq.ConnStatus.OK
            raise
        except OSError as error:
            if not may_repeat or isinstance(error, TimeoutError):
                raise UnreachableError(cause_of(error), was_sent=True) from None
            may_repeat = False
        else:
            return rows
        finally:  # also when it is cancelled, in the middle of an answer
            await sessions.give_back(taken, is_usable)


# ---- Our own -----------------------------------------------------------------------------------


class _LoopSessions:
    """Those of one event loop."""

    def __init__(self) -> None:
        self.idle: deque[Kept] = deque()
        self.turns = asyncio.Semaphore(_MOST_AT_ONCE)


class OwnLoopSessions:
    """Each loop has its own, since futures belong to one."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo.encode()
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSessions] = (
            weakref.WeakKeyDictionary()
        )
        self._is_closed = False
        forget_in_child(self)

    def _here(self) -> _LoopSessions:
        loop = asyncio.get_running_loop()
        if loop not in self._of:
            self._of[loop] = _LoopSessions()
        return self._of[loop]

    async def take(self, deadline: float) -> Kept:
        here = self._here()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await here.turns.acquire()
        except TimeoutError:
            raise UnreachableError(LATE) from None
        try:
            while here.idle:
                kept = here.idle.pop()
                if time.monotonic() - kept.since < _KEPT_S and not is_stale(kept.pgconn):
                    return kept
                kept.pgconn.finish()
            return Kept(await self._connect(deadline), 0.0)
        except BaseException:
            here.turns.release()
            raise

    async def _connect(self, deadline: float) -> pq.abc.PGconn:
        # In a thread, since libpq looks a host's name up there and then.
        begun = asyncio.to_thread(pq.PGconn.connect_start, self._conninfo)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                connection = await begun
        except TimeoutError:
            raise UnreachableError(LATE, is_away=True) from None
        try:
            await run(connecting(connection), connection, deadline)
        except TimeoutError:
            connection.finish()
            raise UnreachableError(LATE, is_away=True) from None
        except BaseException:
            connection.finish()
            raise
        return connection

    async def give_back(self, taken: Kept, is_usable: bool) -> None:
        here = self._here()
        here.turns.release()
        is_idle = taken.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if is_usable and is_idle and not self._is_closed:
            here.idle.append(Kept(taken.pgconn, time.monotonic()))
        else:
            taken.pgconn.finish()

    def close(self) -> None:
        """End those that nobody uses; of another loop too, as nothing waits for them."""
        self._is_closed = True
        for here in list(self._of.values()):
            while here.idle:
                here.idle.pop().pgconn.finish()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's."""
        self._of = weakref.WeakKeyDictionary()


# ---- Those of a pool ---------------------------------------------------------------------------


class PooledLoopSessions:
    """Those of a `psycopg_pool.AsyncConnectionPool`, which stays its owner's."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def take(self, deadline: float) -> Any:
        try:
            return await self._pool.getconn(timeout=max(deadline - time.monotonic(), 0.001))
        except psycopg.OperationalError as error:  # PoolTimeout, PoolClosed, TooManyRequests
            raise UnreachableError(cause_of(error)) from None

    async def give_back(self, taken: Any, is_usable: bool) -> None:
        if not is_usable:
            await taken.close()
        await self._pool.putconn(taken)

    def close(self) -> None:
        """The pool is not ours."""
