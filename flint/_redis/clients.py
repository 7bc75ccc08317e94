"""Asking through a client of redis-py: one of our own, or the one that was given."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from flint._remote.connections import LATE, UnreachableError
from flint.errors import FlintConnectionError, FlintError, FlintPermissionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flint._redis.requests import Request

# What redis-py and the network raise; the loop's kind is the same. A cluster's is of another
# family, and a host of which no name can be made is told by UnicodeError.
TROUBLES = (redis.RedisError, redis.exceptions.RedisClusterException, OSError, UnicodeError)
# By its first word, what keeps a server from deciding, and will not for ever.
_FOR_A_TIME = re.compile(
    r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN|UNBLOCKED"
    r"|NOAUTH|WRONGPASS)\b|max number of clients"
)
_FOR_A_TIME_KINDS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AuthenticationError,
    redis.exceptions.BusyLoadingError,
)
_MOST_CONNECTIONS = 64
ALL_IN_USE = "No connection available."
_RAW = {"NEVER_DECODE": True}


def options(timeout_s: float, retry: Any) -> dict[str, Any]:
    """What a pool of our own is made with; `retry` is of the kind that serves its callers, and
    repeats nothing."""
    return {
        "max_connections": _MOST_CONNECTIONS,
        "timeout": timeout_s,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": retry,
    }


class _Idle:
    """What is at hand, last in, first out: as queue.LifoQueue, but without a lock as long as nobody
    has to wait."""

    def __init__(self, most: int) -> None:
        self.queue: deque[Any] = deque()
        self._most = most
        self._freed = threading.Condition()
        self._waiting = 0

    def get(self, timeout: float) -> Any:
        """Raises queue.Empty when the time is over."""
        try:
            return self.queue.pop()
        except IndexError:
            pass
        deadline = time.monotonic() + timeout
        with self._freed:
            self._waiting += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):  # another thread was faster
                        return self.queue.pop()
                    if not self._freed.wait(deadline - time.monotonic()):
                        raise Empty
            finally:
                self._waiting -= 1

    def put_nowait(self, one: Any) -> None:
        """Raises queue.Full when there are as many as may be."""
        if len(self.queue) >= self._most:
            raise Full
        self.queue.append(one)
        if self._waiting:
            with self._freed:
                self._freed.notify()


class _Pool(redis.BlockingConnectionPool):
    """The same with less around it, which took as long as asking. Calls wait for a connection when
    there are as many as may be."""

    def __init__(self, **given: Any) -> None:
        begin: Any = super().__init__  # it has no types
        begin(**{**given, "queue_class": _Idle})

    def get_connection(self, *_args: Any, **_options: Any) -> Any:
        self._checkpid()
        try:
            connection: Any = self.pool.get(timeout=self.timeout)
        except Empty:
            raise redis.ConnectionError(ALL_IN_USE) from None
        try:
            connection = connection or self._new_connection()
            connection.connect()
            if _is_stale(connection):
                connection.disconnect()
                connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def _new_connection(self) -> Any:
        make: Any = self.make_connection  # it has no types
        return make()

    def release(self, connection: Any) -> None:
        self._checkpid()
        if connection is not None:
            if not self.owns_connection(connection):
                # It is of the process that was forked, and here there are as many as may be.
                connection.disconnect()
                return
            # It is to move to another server, which older versions do not know of.
            if getattr(connection, "should_reconnect", bool)():
                connection.disconnect()
        self.pool.put_nowait(connection)


def _is_stale(connection: Any) -> bool:
    """Whether the server has ended it, or has said something unasked."""
    try:
        return bool(connection.can_read())
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return True


def client_of(url: str, timeout_s: float) -> Any:
    """A client of our own. Raises ValueError or TypeError for a URL that connections cannot be made
    with."""
    pool = _Pool.from_url(url, **options(timeout_s, Retry(NoBackoff(), 0)))
    pool.connection_class(**pool.connection_kwargs)
    return redis.Redis.from_pool(pool)


def words(request: Request, *, has_script: bool) -> tuple[bytes | int | str, ...]:
    """The command of a request. `has_script`: the server has been told the script."""
    if request.script is None:
        return request.words
    if has_script:
        return ("EVALSHA", request.script.digest, *request.words)
    return ("EVAL", request.script.text, *request.words)


def of_node(answer: Any) -> Any:
    """What one node of a cluster has answered: redis-py gathers the cursors of several."""
    if isinstance(answer, tuple) and isinstance(answer[0], dict):
        return (*answer[0].values(), answer[1])
    return answer


class Replicas:
    """How many replicas have to have a change before it is answered."""

    def __init__(self, least: int, timeout_s: float) -> None:
        self.least = least
        # Less than the caller waits, who so learns how many there are.
        self.wait = ("WAIT", least, max(int(timeout_s * 500), 1))

    def may_be_asked(self, request: Request) -> bool:
        """Whether a request may change what they have to have."""
        return self.least > 0 and request.has_changed is not None

    def are_asked(self, request: Request, answer: Any) -> bool:
        """Whether it has."""
        return request.has_changed is not None and request.has_changed(answer)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Where it cannot be learnt how many have it, there are too few: it has been changed."""
        try:
            yield
        except TROUBLES as error:
            said = str(error) or type(error).__name__
            raise TooFewReplicasError(
                f"Redis has counted, but not told how many replicas have it: {said}"
            ) from None

    def check(self, reached: int) -> None:
        """Raise what is told where there were not enough."""
        if reached < self.least:
            raise TooFewReplicasError(
                f"Redis has counted, but only {reached} of {self.least} replicas have it"
            )


class TooFewReplicasError(Exception):
    """A change has been made that may be lost."""


class Client:
    """For threads that wait."""

    def __init__(self, client: Any, replicas: Replicas, *, is_own: bool) -> None:
        self._client = client
        self._replicas = replicas
        self._is_own = is_own
        self._is_cluster = isinstance(client, redis.RedisCluster)
        self._runs_alone = is_own and not replicas.least

    def ask(self, request: Request) -> Any:
        """The answer to a request. Raises what redis-py raises, and TooFewReplicasError."""
        try:
            if request.packed is not None and self._runs_alone:
                return self._run((), request.packed)
            return self._send(request, has_script=True)
        except redis.exceptions.NoScriptError:
            return self._send(request, has_script=False)

    def _send(self, request: Request, *, has_script: bool) -> Any:
        sent = words(request, has_script=has_script)
        if self._is_cluster and request.node_key is not None:
            node = self._client.get_node_from_key(request.node_key)
            return of_node(self._client.execute_command(*sent, target_nodes=node, **_RAW))
        if not self._replicas.may_be_asked(request):
            if self._is_own and request.script is not None:
                return self._run(sent)
            return self._client.execute_command(*sent, **_RAW)
        # Both through one connection, whose changes are waited for.
        with self._client.client() as one:
            answer = one.execute_command(*sent, **_RAW)
            if self._replicas.are_asked(request, answer):
                with self._replicas.heard():
                    # Not by another connection, of which it would say nothing.
                    one.connection.send_command(*self._replicas.wait)
                    reached = one.parse_response(one.connection, "WAIT")
                self._replicas.check(reached)
        return answer

    def _run(self, sent: tuple[Any, ...], packed: bytes | None = None) -> Any:
        """What a script answers through a connection of our own."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        is_answered = False
        try:
            if packed is None:
                connection.send_command(*sent)
            else:
                connection.send_packed_command((packed,))
            answer = connection.read_response(disable_decoding=True)
            is_answered = True
        except redis.ResponseError:
            is_answered = True
            raise
        finally:  # also after Ctrl-C, before all of the answer has come
            if not is_answered:
                connection.disconnect()
            pool.release(connection)
        return answer

    def close(self) -> None:
        """That of somebody else is not ended."""
        if self._is_own:
            with contextlib.suppress(*TROUBLES):
                self._client.close()


def unreachable(error: Exception) -> UnreachableError | None:
    """The error of a server that has not answered."""
    said = str(error) or type(error).__name__
    if isinstance(error, _FOR_A_TIME_KINDS):
        return None
    if isinstance(error, (redis.exceptions.TimeoutError, TimeoutError)):
        is_away = "connecting" in said
        return UnreachableError(LATE, is_away=is_away, was_sent=not is_away)
    if isinstance(error, redis.exceptions.MaxConnectionsError) or said == ALL_IN_USE:
        return UnreachableError(LATE, is_away=False, was_sent=False)
    if isinstance(error, (redis.exceptions.ConnectionError, OSError)):
        is_away = "connecting" in said or isinstance(error, MasterNotFoundError)
        return UnreachableError(said.rstrip("."), is_away=is_away, was_sent=not is_away)
    if isinstance(error, UnicodeError):
        return UnreachableError(said, is_away=True)
    if isinstance(error, redis.exceptions.RedisClusterException):
        # There is no node to ask; one that has ended since may have been asked before.
        return UnreachableError(said.rstrip("."), is_away=True, was_sent=True)
    return None


def refusal(error: Exception) -> FlintError:
    """What Redis says of a request that it has not done, as an error of Flint."""
    said = f"Redis says: {error}"
    if isinstance(error, _FOR_A_TIME_KINDS) or _FOR_A_TIME.search(str(error)):
        return FlintConnectionError(said)
    if isinstance(error, redis.exceptions.NoPermissionError) or "NOPERM" in said:
        return FlintPermissionError(said)
    return FlintError(said)
