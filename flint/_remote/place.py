"""The calls of a place, made by asking a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from flint._remote import commands, questions
from flint._remote.breaker import Breaker
from flint._remote.connections import Connections, UnreachableError
from flint._remote.http import GarbageError, is_servers_trouble
from flint._remote.steps import come_to, come_to_in_loop
from flint.errors import ClosedError, FlintConnectionError, FlintError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import SupportsIndex

    from flint._native import Result
    from flint._remote.aio import LoopConnections
    from flint._remote.questions import Question
    from flint._remote.server import Server
    from flint._surface.arguments import Duration
    from flint._surface.protocol import Limits
    from flint._surface.rate import Rate, RateLike
    from flint._surface.types import Algorithm, CheckAllDict, Item, OnError, StatusDict, Total

Returned = TypeVar("Returned")

_CLOSED = "the limiter is closed"
_UNREACHABLE = "could not reach Flint server"
UNKNOWN = "; whether the call took effect is unknown"


class RemotePlace:
    """A Flint server, by HTTP or by the Redis protocol."""

    _rates: Mapping[str, tuple[Rate, ...]] = {}
    # What makes questions of calls; other places have other ones.
    _questions: Any = questions

    def _reach(
        self, server: Server, token: str | None, timeout_s: float, on_error: OnError
    ) -> None:
        """To be called once; connects to nothing yet."""
        self._server = server
        self._token = token
        self._timeout_s = timeout_s
        self._on_error = on_error
        self._breaker = Breaker()
        if server.is_native:
            self._questions = commands
        self._connections = Connections(server, token, timeout_s)
        self._loop_connections: LoopConnections | None = None
        self._is_closed = False

    @property
    def closed(self) -> bool:
        """Whether the limiter has been closed."""
        return self._is_closed

    # ---- Asking --------------------------------------------------------------------------------

    def _ask(self, question: Question[Returned]) -> Returned:
        """The answer of the server, or what `on_error` says instead."""
        try:
            return come_to(question.steps(), self._exchange)
        except FlintError as error:
            return self._instead(question, error)

    def _exchange(self, asked: Any) -> Any:
        """What the server answers to one request."""
        if self._is_closed:
            raise ClosedError(_CLOSED)
        self._breaker.enter()
        try:
            answer = asked.answered(self._connections.ask(asked.request))
        except Exception as error:
            raise self._failed(asked, error) from None
        self._breaker.worked()
        return answer

    async def _ask_in_loop(self, question: Question[Returned]) -> Returned:
        """The same for event loops."""
        try:
            return await come_to_in_loop(question.steps(), self._exchange_in_loop)
        except FlintError as error:
            return self._instead(question, error)

    async def _exchange_in_loop(self, asked: Any) -> Any:
        if self._is_closed:
            raise ClosedError(_CLOSED)
        self._breaker.enter()
        try:
            answer = asked.answered(await self._loop_pools().ask(asked.request))
        except Exception as error:
            raise self._failed(asked, error) from None
        self._breaker.worked()
        return answer

    def _loop_pools(self) -> LoopConnections:
        if self._loop_connections is None:
            from flint._remote import aio, pipelines

            is_native = self._server.is_native
            make = pipelines.NativeLoopConnections if is_native else aio.HttpLoopConnections
            self._loop_connections = make(self._server, self._token, self._timeout_s)
        return self._loop_connections

    def _failed(self, asked: Any, error: Exception) -> Exception:
        """What is raised for what has gone wrong; the breaker is told."""
        if isinstance(error, (UnreachableError, GarbageError)):
            return self._unreachable(asked.request, error)
        self._breaker.worked()  # a refusal is an answer too
        return error

    def _unreachable(
        self, request: Any, error: UnreachableError | GarbageError
    ) -> FlintConnectionError:
        text = f"{_UNREACHABLE}: {error}"
        is_away = isinstance(error, UnreachableError) and error.is_away
        was_sent = isinstance(error, GarbageError) or error.was_sent
        self._breaker.failed(text, is_away=is_away)
        unknown = was_sent and not request.repeatable
        return FlintConnectionError(text + UNKNOWN if unknown else text)

    def _instead(self, question: Question[Returned], error: FlintError) -> Returned:
        """What `on_error` answers, else the error."""
        is_trouble = isinstance(error, FlintConnectionError) or is_servers_trouble(error)
        if self._is_closed or self._on_error == "raise" or not is_trouble:
            raise error
        if question.undecided is None:
            raise error
        return question.undecided(self._on_error == "allow")

    # ---- Deciding ------------------------------------------------------------------------------

    def check(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """Decide, count and record on the server; see `flint.Limiter.check`."""
        return self._decide("check", key, cost, rate, per, burst, algorithm, limit)

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
        return self._decide("check", key, cost, rate, per, burst, algorithm, limit).allowed

    def peek(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """What `check` would answer, counting nothing."""
        return self._decide("peek", key, cost, rate, per, burst, algorithm, limit)

    def _decide(self, call: str, key: str, cost: SupportsIndex, *limit: Any) -> Result:
        asked = self._questions.read_check(self._rates, key, cost, *limit)
        question: Question[Result] = self._questions.decision(call, asked)
        return self._ask(question)

    def check_all(self, items: Iterable[Item]) -> CheckAllDict:
        """Decide several items, all or nothing; see `flint.Limiter.check_all`. A server takes 64
        items at most by HTTP, and 1,024 by the Redis protocol."""
        question: Question[CheckAllDict] = self._questions.check_all(items)
        return self._ask(question)

    def allow_all(self, items: Iterable[Item]) -> bool:
        """Several keys, all or nothing."""
        return self.check_all(items)["allowed"]

    def _check_now(
        self, key: str, cost: SupportsIndex = 1, **limit: Any
    ) -> tuple[Result, int] | None:
        return self.check(key, cost, **limit), 0

    def _peek_now(self, key: str, cost: SupportsIndex = 1, **limit: Any) -> Result | None:
        return self.peek(key, cost, **limit)

    def _refuse_now(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> tuple[Result, int] | None:
        return self._refuse(key, cost, limit=limit)

    def _refuse(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> tuple[Result, int]:
        return self.peek(key, cost, limit=limit), 0

    def _check_all_now(self, items: Iterable[Item], /) -> tuple[CheckAllDict, int] | None:
        return self.check_all(items), 0

    def _wait_durable(self, ticket: int) -> None:
        """A server answers what is as durable as it promises."""

    async def _await_durable(self, ticket: int) -> None:
        """The same."""

    # ---- Configuring and looking ---------------------------------------------------------------

    def _limit(self, *limit: Any) -> None:
        self._ask(self._questions.limit(*limit))

    def _limit_many(self, limits: Limits, if_absent: bool, /) -> None:
        for question in self._questions.limit_many(limits, if_absent):
            self._ask(question)

    def _remove(self, key: str, template: bool | None = None, *, name: str | None = None) -> None:
        self._ask(self._questions.change("remove", key, template, name))

    def _reset(self, key: str, template: bool | None = None, *, name: str | None = None) -> None:
        self._ask(self._questions.change("reset", key, template, name))

    def _list(self, counters: bool | None, /) -> list[StatusDict]:
        return self._ask(self._questions.listing(counters))

    def _limits_of(self, keys: Collection[tuple[str, bool]], /) -> list[StatusDict]:
        return [one for question in self._questions.limits_of(keys) for one in self._ask(question)]

    def status(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> StatusDict | None:
        """What a limit is and what has happened to it; see `flint.Limiter.status`."""
        question: Question[StatusDict | None] = self._questions.status(key, template, name)
        return self._ask(question)

    def top(self, by: Total = "denied", limit: SupportsIndex = 20) -> list[StatusDict]:
        """The keys with the largest totals; see `flint.Limiter.top`."""
        return self._ask(self._questions.top(by, limit))

    def flush(self) -> None:
        """Wait until all that the server has answered is on its disk."""
        self._ask(self._questions.flush())

    def close(self) -> None:
        """Give the connections up."""
        self._is_closed = True
        self._connections.close()
        if self._loop_connections is not None:
            self._loop_connections.close()
