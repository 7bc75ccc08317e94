"""The place that is a namespace of a Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint._redis.clients import (
    TROUBLES,
    TooFewReplicasError,
    refusal,
    unreachable,
)
from flint._stores.place import StorePlace
from flint.errors import FlintConnectionError, FlintError, UnsupportedError

if TYPE_CHECKING:
    from flint._redis.questions import Request

_UNKNOWN = "; whether the call took effect is unknown"
_FAILURES = (*TROUBLES, TooFewReplicasError)


class RedisPlace(StorePlace):
    """A namespace."""

    # None where the client that was given serves the other kind of caller.
    _client: Any
    _loop_client: Any

    def _refuse_caller(self, is_loop: bool) -> None:
        if is_loop and self._loop_client is None:
            raise UnsupportedError(
                "a client of redis serves no coroutines; give one of redis.asyncio or a URL for "
                "calls with await"
            )
        if not is_loop and self._client is None:
            raise UnsupportedError(
                "a client of redis.asyncio serves coroutines alone; give one of redis or a URL for "
                "calls without await"
            )

    def _end_connections(self) -> None:
        for client in (self._client, self._loop_client):
            if client is not None:
                client.close()

    def _exchange(self, request: Request) -> Any:
        self._breaker.enter()
        try:
            try:
                answer = self._client.ask(request)
            except TROUBLES as error:
                if not _may_repeat(request, error):
                    raise
                answer = self._client.ask(request)
        except _FAILURES as error:
            raise self._told(request, error) from None
        self._breaker.worked()
        return answer

    async def _exchange_in_loop(self, request: Request) -> Any:
        self._breaker.enter()
        try:
            try:
                answer = await self._loop_client.ask(request)
            except TROUBLES as error:
                if not _may_repeat(request, error):
                    raise
                answer = await self._loop_client.ask(request)
        except _FAILURES as error:
            raise self._told(request, error) from None
        self._breaker.worked()
        return answer

    def _told(self, request: Request, error: Exception) -> FlintError:
        """What the caller is told, and the breaker."""
        if isinstance(error, TooFewReplicasError):
            self._breaker.worked()
            return FlintConnectionError(str(error))
        found = unreachable(error)
        if found is None:
            self._breaker.worked()  # a refusal is an answer too
            return refusal(error)
        text = f"could not reach Redis: {found}"
        self._breaker.failed(text, is_away=found.is_away)
        unknown = found.was_sent and not request.repeatable
        return FlintConnectionError(text + _UNKNOWN if unknown else text)


def _may_repeat(request: Request, error: Exception) -> bool:
    """Whether a connection has ended, and the request may go through a new one."""
    found = unreachable(error)
    ended = found is not None and found.was_sent and not found.is_away
    return ended and not _is_late(error) and request.repeatable


def _is_late(error: Exception) -> bool:
    return "timeout" in type(error).__name__.lower()
