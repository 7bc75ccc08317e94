"""Connections to PostgreSQL for threads that wait: kept ones of our own, or those of a pool."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import psycopg
from psycopg import pq

from flint._postgres.wire import READ, WRITE, ServerError, connecting, exchanging
from flint._remote.connections import LATE, UnreachableError, cause_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from flint._postgres.wire import Row, Statement

Returned = TypeVar("Returned")

# PgBouncer and firewalls end connections that nobody uses.
_KEPT_S = 60.0
_MOST_KEPT = 64


class Sessions(Protocol):
    """Where connections come from, for one caller at a time each."""

    def take(self, deadline: float) -> Any:
        """One that nobody else uses. Raises UnreachableError and ServerError."""

    def give_back(self, taken: Any, is_usable: bool) -> None:
        """It is not used any more."""

    def close(self) -> None:
        """Those that nobody uses are ended, and the others when they are given back."""


def run(
    steps: Generator[int, None, Returned], connection: pq.abc.PGconn, deadline: float
) -> Returned:
    """Wait for what the steps wait for."""
    try:
        while True:
            wanted = next(steps)
            poll = select.poll()
            events = select.POLLIN if wanted & READ else 0
            events |= select.POLLOUT if wanted & WRITE else 0
            poll.register(connection.socket, events)
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                raise TimeoutError
    except StopIteration as done:
        returned: Returned = done.value
        return returned


def is_stale(connection: pq.abc.PGconn) -> bool:
    """Whether the server has ended it, or has said something unasked."""
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    return bool(poll.poll(0))


def ask(sessions: Sessions, statement: Statement, timeout_s: float) -> list[Row]:
    """The rows of a statement. Raises UnreachableError and ServerError."""
    deadline = time.monotonic() + timeout_s
    may_repeat = statement.repeatable
    while True:
        taken = sessions.take(deadline)
        is_usable = False
        try:
            rows = run(exchanging(taken.pgconn, statement), taken.pgconn, deadline)
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
        finally:  # also after Ctrl-C, in the middle of an answer
            sessions.give_back(taken, is_usable)


# ---- Our own -----------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A connection that nobody uses, and since when."""

    pgconn: pq.abc.PGconn
    since: float


class OwnSessions:
    """Any thread may take one; what is given back is kept for a while."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo.encode()
        self._lock = threading.Lock()
        self._idle: deque[Kept] = deque()
        self._is_closed = False
        forget_in_child(self)

    def take(self, deadline: float) -> Kept:
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                return Kept(self._connect(deadline), 0.0)
            if time.monotonic() - kept.since < _KEPT_S and not is_stale(kept.pgconn):
                return kept
            kept.pgconn.finish()

    def _connect(self, deadline: float) -> pq.abc.PGconn:
        connection = pq.PGconn.connect_start(self._conninfo)
        try:
            run(connecting(connection), connection, deadline)
        except TimeoutError:
            connection.finish()
            raise UnreachableError(LATE, is_away=True) from None
        except BaseException:
            connection.finish()
            raise
        return connection

    def give_back(self, taken: Kept, is_usable: bool) -> None:
        if is_usable and taken.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            with self._lock:
                if not self._is_closed and len(self._idle) < _MOST_KEPT:
                    self._idle.append(Kept(taken.pgconn, time.monotonic()))
                    return
        taken.pgconn.finish()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            while self._idle:
                self._idle.pop().pgconn.finish()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's. psycopg does not end those that
        another process has made."""
        self._lock = threading.Lock()
        self._idle.clear()


# ---- Those of a pool ---------------------------------------------------------------------------


class PooledSessions:
    """Those of a `psycopg_pool.ConnectionPool`, which stays its owner's."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def take(self, deadline: float) -> Any:
        try:
            return self._pool.getconn(timeout=max(deadline - time.monotonic(), 0.001))
        except psycopg.OperationalError as error:  # PoolTimeout, PoolClosed, TooManyRequests
            raise UnreachableError(cause_of(error)) from None

    def give_back(self, taken: Any, is_usable: bool) -> None:
        if not is_usable:
            taken.close()
        self._pool.putconn(taken)

    def close(self) -> None:
        """The pool is not ours."""


_every_sessions: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_in_child(sessions: Any) -> None:
    """Have a forked child call its `forget`."""
    _every_sessions.add(sessions)


def _forget_in_child() -> None:
    for sessions in list(_every_sessions):
        with contextlib.suppress(OSError):
            sessions.forget()


os.register_at_fork(after_in_child=_forget_in_child)
