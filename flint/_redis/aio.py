"""The same for event loops. Loaded by the first coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from flint._redis.clients import ALL_IN_USE, TROUBLES, Replicas, of_node, options, words
from flint._remote.aio import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._redis.requests import Request


class _Pool(redis.asyncio.BlockingConnectionPool):
    """The same with less around it. Calls wait for a connection when there are as many as may
    be. Who asks waits by a time-out of its own: those of the connections each take a task."""

    def __init__(self, *, socket_timeout: float | None = None, **given: Any) -> None:
        begin: Any = super().__init__  # it has no types
        begin(**given, socket_timeout=None)
        self.answer_timeout_s = socket_timeout
        self._freed = asyncio.Condition()
        self._waiting = 0

    async def get_connection(self, *_args: Any, **_options: Any) -> Any:
        if not self.can_get_connection():
            await self._wait()
        connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
        is_ready = False
        try:
            async with asyncio.timeout(self.answer_timeout_s):
                await self.ensure_connection(connection)
            is_ready = True
        except TimeoutError:
            raise redis.TimeoutError("Timeout connecting to server") from None
        finally:
            if not is_ready:
                await connection.disconnect(nowait=True)
                await self.release(connection)
        return connection

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(self.timeout), self._freed:
                await self._freed.wait_for(self.can_get_connection)
        except TimeoutError:
            raise redis.ConnectionError(ALL_IN_USE) from None
        finally:
            self._waiting -= 1

    async def release(self, connection: Any) -> None:
        await redis.asyncio.ConnectionPool.release(self, connection)
        if self._waiting:
            async with self._freed:
                self._freed.notify()


async def _run(pool: _Pool, request: Request, *, has_script: bool) -> Any:
    """What a script answers through a connection of our own."""
    connection = await pool.get_connection()
    is_answered = False
    try:
        async with asyncio.timeout(pool.answer_timeout_s):
            if request.packed is not None and has_script:
                await connection.send_packed_command(request.packed)
            else:
                await connection.send_command(*words(request, has_script=has_script))
            answer = await connection.read_response(disable_decoding=True)
        is_answered = True
    except redis.ResponseError:
        is_answered = True
        raise
    finally:  # also when it is cancelled, before all of the answer has come
        if not is_answered:
            await connection.disconnect(nowait=True)
        await pool.release(connection)
    return answer


class _OfLoop(Pool):
    """The client of one event loop."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client

    async def _end_all(self) -> None:
        self.is_over = True
        with contextlib.suppress(*TROUBLES):
            await self.client.aclose()

    def end_soon(self) -> None:
        self._ending = asyncio.ensure_future(self.end())


class LoopClient:
    """For coroutines. Each loop has a client of its own, unless one was given, which is its
    owner's."""

    def __init__(self, make: Callable[[], Any], replicas: Replicas, *, is_own: bool) -> None:
        self._make = make
        self._replicas = replicas
        self._is_own = is_own
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = (
            weakref.WeakKeyDictionary()
        )

    async def _client(self) -> Any:
        if not self._is_own:
            return self._make()
        loop = asyncio.get_running_loop()
        here = self._of.get(loop)
        if here is None or here.is_over:
            here = self._of[loop] = _OfLoop(self._make())
            await here.begin()
        return here.client

    async def ask(self, request: Request) -> Any:
        """The answer to a request, as of `Client.ask`."""
        client = await self._client()
        try:
            return await self._send(client, request, has_script=True)
        except NoScriptError:
            return await self._send(client, request, has_script=False)

    async def _send(self, client: Any, request: Request, *, has_script: bool) -> Any:
        if self._is_own and request.script is not None and not self._replicas.least:
            return await _run(client.connection_pool, request, has_script=has_script)
        sent = words(request, has_script=has_script)
        if request.node_key is not None and isinstance(client, redis.asyncio.RedisCluster):
            await client.initialize()
            node = client.get_node_from_key(request.node_key)
            return of_node(
                await client.execute_command(*sent, target_nodes=node, NEVER_DECODE=True)
            )
        if not self._replicas.may_be_asked(request):
            async with self._in_time(client):
                return await client.execute_command(*sent, NEVER_DECODE=True)
        async with client.client() as one:
            async with self._in_time(client):
                answer = await one.execute_command(*sent, NEVER_DECODE=True)
            if self._replicas.are_asked(request, answer):
                with self._replicas.heard():
                    async with self._in_time(client):
                        await one.connection.send_command(*self._replicas.wait)
                        reached = await one.parse_response(one.connection, "WAIT")
                self._replicas.check(reached)
        return answer

    def _in_time(self, client: Any) -> asyncio.Timeout:
        """Ends what takes longer than a client of our own waits."""
        return asyncio.timeout(client.connection_pool.answer_timeout_s if self._is_own else None)

    def close(self) -> None:
        """Those of other loops end with these."""
        for loop, here in list(self._of.items()):
            if not loop.is_closed() and not here.is_over:
                with contextlib.suppress(RuntimeError):  # it has been closed meanwhile
                    loop.call_soon_threadsafe(here.end_soon)

    async def wait_closed(self) -> None:
        """End the one of this loop."""
        here = self._of.get(asyncio.get_running_loop())
        if here is not None:
            await here.end()


def client_of(url: str, timeout_s: float) -> Any:
    """A client of our own for one event loop."""
    given = options(timeout_s, Retry(NoBackoff(), 0))
    pool = _Pool.from_url(url, **given)
    return redis.asyncio.Redis.from_pool(pool)
