"""The place that is a namespace of a Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint._redis.clients import (
    TROUBLES,
    TooFewReplicasError,
    refusal,
    unreachable,
)
from flint._remote.place import UNKNOWN
from flint._stores.place import StorePlace
from flint.errors import FlintConnectionError, FlintError, UnsupportedError

if TYPE_CHECKING:
    from typing import SupportsIndex

    from flint._redis.questions import RedisQuestions
    from flint._redis.requests import Request
    from flint._surface.arguments import Duration
    from flint._surface.rate import RateLike
    from flint._surface.types import Algorithm

_FAILURES = (*TROUBLES, TooFewReplicasError)


class RedisPlace(StorePlace):
    """A namespace."""

    # None where the client that was given serves the other kind of caller.
    _client: Any
    _loop_client: Any
    _questions: RedisQuestions

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

    async def _end_loop(self) -> None:
        if self._loop_client is not None:
            await self._loop_client.wait_closed()

    # ---- Deciding ------------------------------------------------------------------------------

    def allow(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> bool:
        """Whether `cost` units may be used under `key` now; then they are counted."""
        found = self._decide("allow", key, cost, rate, per, burst, algorithm, limit)
        return found if isinstance(found, bool) else found.allowed

    def _decide(self, call: str, key: str, cost: SupportsIndex, *limit: Any) -> Any:
        """The result; of `allow` it may be the bool alone."""
        request = None
        if self._client is not None and not self._is_closed:
            request = self._questions.plain_request(call, key, cost, limit)
        answer = None
        if request is not None:
            try:
                answer = self._exchange(request)
            except FlintError as error:
                asked = self._questions.read_check(self._rates, key, cost, *limit)
                return self._instead(self._questions.decision(_whole(call), asked), error)
        if answer is None:
            return super()._decide(_whole(call), key, cost, *limit)
        return self._questions.plain_result(key, cost, answer)

    async def aallow(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> bool:
        """`allow` as a coroutine; see `acheck`."""
        found = await self._decide_in_loop("allow", key, cost, rate, per, burst, algorithm, limit)
        return found if isinstance(found, bool) else found.allowed

    async def _decide_in_loop(self, call: str, key: str, cost: SupportsIndex, *limit: Any) -> Any:
        """The same for event loops."""
        request = None
        if self._loop_client is not None and not self._is_closed:
            request = self._questions.plain_request(call, key, cost, limit)
        answer = None
        if request is not None:
            try:
                answer = await self._exchange_in_loop(request)
            except FlintError as error:
                asked = self._questions.read_check(self._rates, key, cost, *limit)
                return self._instead(self._questions.decision(_whole(call), asked), error)
        if answer is None:
            return await super()._decide_in_loop(_whole(call), key, cost, *limit)
        return self._questions.plain_result(key, cost, answer)

    # ---- Asking --------------------------------------------------------------------------------

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
            raise self._failed(request, error) from None
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
            raise self._failed(request, error) from None
        self._breaker.worked()
        return answer

    def _failed(self, request: Request, error: Exception) -> FlintError:
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
        return FlintConnectionError(text + UNKNOWN if unknown else text)


def _whole(call: str) -> str:
    """The call of which all of the answer is read."""
    return "check" if call == "allow" else call


def _may_repeat(request: Request, error: Exception) -> bool:
    """Whether a connection has ended, and the request may go through a new one."""
    found = unreachable(error)
    ended = found is not None and found.was_sent and not found.is_away
    return ended and not _is_late(error) and request.repeatable


def _is_late(error: Exception) -> bool:
    return "timeout" in type(error).__name__.lower()
