"""The calls of a place, made by asking PostgreSQL."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from flint._postgres import connections
from flint._postgres.questions import Questions
from flint._postgres.wire import REPEATABLE, ServerError
from flint._remote.breaker import Breaker
from flint._remote.connections import UnreachableError
from flint._remote.coroutines import RemoteSurface
from flint.errors import ClosedError, FlintConnectionError, FlintError, UnsupportedError

if TYPE_CHECKING:
    from flint._postgres.questions import Question, Steps
    from flint._postgres.wire import Row, Statement
    from flint._surface.types import OnError

_CLOSED = "the limiter is closed"
_UNKNOWN = "; whether the call took effect is unknown"
_MOST_REPEATS = 8


class PostgresPlace(RemoteSurface):
    """A schema of a database."""

    _sessions: Any
    _loop_sessions: Any

    def _reach_database(
        self, schema: str, always: bool, timeout_s: float, on_error: OnError
    ) -> None:
        """To be called once, beside setting where sessions come from: None where a pool of the
        other kind was given. Connects to nothing yet."""
        self._schema = schema
        self._timeout_s = timeout_s
        self._on_error = on_error
        self._questions = Questions(schema, always, timeout_s)
        self._breaker = Breaker()
        self._is_closed = False
        self._begin(None)

    # ---- Asking --------------------------------------------------------------------------------

    def _ask(self, question: Any) -> Any:
        """The answer of the database, or what `on_error` says instead."""
        if self._is_closed:
            raise ClosedError(_CLOSED)
        if self._sessions is None:
            raise UnsupportedError(
                "an AsyncConnectionPool serves coroutines alone; give a ConnectionPool or a "
                "connection string for calls without await"
            )
        steps = question.steps()
        try:
            statement, answer = _next(steps, None)
            while statement is not None:
                try:
                    rows = self._exchange(statement)
                except FlintError as error:
                    statement, answer = _thrown(steps, error)
                else:
                    statement, answer = _next(steps, rows)
        except FlintError as error:
            return self._other(question, error)
        finally:
            steps.close()
        return answer

    def _exchange(self, statement: Statement) -> list[Row]:
        self._breaker.enter()
        for repeats_left in reversed(range(_MOST_REPEATS)):
            try:
                rows = connections.ask(self._sessions, statement, self._timeout_s)
            except (UnreachableError, ServerError) as error:
                if not _may_repeat(error, repeats_left):
                    raise self._told(statement, error) from None
            else:
                self._breaker.worked()
                break
        return rows

    async def _ask_in_loop(self, question: Any) -> Any:
        """The same for event loops."""
        if self._is_closed:
            raise ClosedError(_CLOSED)
        if self._loop_sessions is None:
            raise UnsupportedError(
                "a ConnectionPool serves no coroutines; give an AsyncConnectionPool or a "
                "connection string for calls with await"
            )
        steps = question.steps()
        try:
            statement, answer = _next(steps, None)
            while statement is not None:
                try:
                    rows = await self._exchange_in_loop(statement)
                except FlintError as error:
                    statement, answer = _thrown(steps, error)
                else:
                    statement, answer = _next(steps, rows)
        except FlintError as error:
            return self._other(question, error)
        finally:
            steps.close()
        return answer

    async def _exchange_in_loop(self, statement: Statement) -> list[Row]:
        from flint._postgres import aio

        self._breaker.enter()
        for repeats_left in reversed(range(_MOST_REPEATS)):
            try:
                rows = await aio.ask(self._loop_sessions, statement, self._timeout_s)
            except (UnreachableError, ServerError) as error:
                if not _may_repeat(error, repeats_left):
                    raise self._told(statement, error) from None
            else:
                self._breaker.worked()
                break
        return rows

    def _told(self, statement: Statement, error: UnreachableError | ServerError) -> FlintError:
        """What the caller is told, and the breaker."""
        if isinstance(error, ServerError):
            told = error.told(self._schema)
            if error.is_away:
                self._breaker.failed(str(told), is_away=True)
            else:
                self._breaker.worked()  # a refusal is an answer too
            return told
        text = f"could not reach PostgreSQL: {error}"
        self._breaker.failed(text, is_away=error.is_away)
        unknown = error.was_sent and not statement.repeatable
        return FlintConnectionError(text + _UNKNOWN if unknown else text)

    def _other(self, question: Question[Any], error: FlintError) -> Any:
        """What `on_error` answers, else the error."""
        is_trouble = isinstance(error, FlintConnectionError)
        if self._is_closed or self._on_error == "raise" or not is_trouble:
            raise error
        if question.undecided is None:
            raise error
        return question.undecided(self._on_error == "allow")

    def close(self) -> None:
        """Tell of what has been denied, and end the connections."""
        if self._is_closed:
            return
        if self._sessions is not None:
            with contextlib.suppress(FlintError):  # nothing but totals is lost
                self._ask(self._questions.flush())
        self._give_up()

    async def _tell_in_loop(self) -> None:
        with contextlib.suppress(FlintError):  # nothing but totals is lost
            await self._ask_in_loop(self._questions.flush())

    def _give_up(self) -> None:
        self._is_closed = True
        for sessions in (self._sessions, self._loop_sessions):
            if sessions is not None:
                sessions.close()


def _may_repeat(error: UnreachableError | ServerError, repeats_left: int) -> bool:
    """Whether the transaction has been undone, and may go well now."""
    return isinstance(error, ServerError) and error.sqlstate in REPEATABLE and repeats_left > 0


def _next(steps: Steps[Any], rows: Any) -> tuple[Statement | None, Any]:
    """The next statement, or None and what the steps have come to."""
    try:
        return steps.send(rows), None
    except StopIteration as done:
        return None, done.value


def _thrown(steps: Steps[Any], error: FlintError) -> tuple[Statement | None, Any]:
    """The same behind a statement that has failed."""
    try:
        return steps.throw(error), None
    except StopIteration as done:
        return None, done.value
