"""The place that is a schema of a PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint._postgres import connections
from flint._postgres.questions import PostgresQuestions
from flint._postgres.wire import REPEATABLE, ServerError
from flint._remote.connections import UnreachableError
from flint._remote.place import UNKNOWN
from flint._stores.place import StorePlace
from flint.errors import FlintConnectionError, FlintError, UnsupportedError

if TYPE_CHECKING:
    from flint._postgres.wire import Row, Statement
    from flint._surface.types import OnError

_MOST_REPEATS = 8


class PostgresPlace(StorePlace):
    """A schema of a database."""

    # Where connections come from; None where a pool of the other kind was given.
    _sessions: Any
    _loop_sessions: Any

    def _reach_database(
        self, schema: str, always: bool, timeout_s: float, on_error: OnError
    ) -> None:
        """To be called once, beside setting where sessions come from."""
        self._schema = schema
        self._reach_store(PostgresQuestions(schema, always, timeout_s), timeout_s, on_error)

    def _refuse_caller(self, is_loop: bool) -> None:
        if is_loop and self._loop_sessions is None:
            raise UnsupportedError(
                "a ConnectionPool serves no coroutines; give an AsyncConnectionPool or a "
                "connection string for calls with await"
            )
        if not is_loop and self._sessions is None:
            raise UnsupportedError(
                "an AsyncConnectionPool serves coroutines alone; give a ConnectionPool or a "
                "connection string for calls without await"
            )

    def _end_connections(self) -> None:
        for sessions in (self._sessions, self._loop_sessions):
            if sessions is not None:
                sessions.close()

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
        return FlintConnectionError(text + UNKNOWN if unknown else text)


def _may_repeat(error: UnreachableError | ServerError, repeats_left: int) -> bool:
    """Whether the transaction has been undone, and may go well now."""
    return isinstance(error, ServerError) and error.sqlstate in REPEATABLE and repeats_left > 0
