"""One statement at a time over a connection of libpq. Nothing here waits: what has to be waited for
is yielded, so that threads and event loops share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import psycopg
from psycopg import pq

from flint.errors import FlintConnectionError, FlintError, FlintPermissionError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    Value: TypeAlias = bool | int | bytes | str | None
    Row: TypeAlias = list[bytes | None]

READ, WRITE = 1, 2  # what is waited for
_RESULTS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_MISSING = {"3F000", "42883", "42P01", "42704"}  # schema, function, table, type
_REFUSED_LOGIN = "28"
# By its class or the whole of it, what keeps a server from deciding, and will not for ever.
_TROUBLES = ("08", "28", "40", "53", "57", "58", "XX", "25006", "3D000", "55P03")
# The transaction has been undone, so that it may be made again.
REPEATABLE = ("40001", "40P01")


class Statement(NamedTuple):
    """A call of a function. `repeatable`: asked twice it does no more than once."""

    sql: bytes
    values: tuple[bytes | None, ...]
    repeatable: bool


class ServerError(Exception):
    """What PostgreSQL says of a statement that it has not done, or of a connection."""

    def __init__(self, sqlstate: str, message: str, *, is_away: bool = False) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.is_away = is_away  # there was not even a connection

    def told(self, schema: str) -> FlintError:
        """As an error of Flint."""
        said = f"PostgreSQL says: {self} ({self.sqlstate})"
        if self.sqlstate in _MISSING:
            return UnsupportedError(
                f"there is no schema {schema!r} of Flint in this database, or it is an older one; "
                f"`flint pg install` or `flint pg upgrade` makes it. {said}"
            )
        if self.sqlstate == "42501":
            return FlintPermissionError(said)
        if self.sqlstate.startswith(_TROUBLES):
            return FlintConnectionError(said)
        return FlintError(said)


def text(value: Value) -> bytes | None:
    """A value as PostgreSQL reads it."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return str(value).encode()


def array(values: Iterable[int | bytes | None]) -> bytes:
    """Values as an array."""
    texts = (
        "NULL" if one is None else f'"\\\\x{one.hex()}"' if isinstance(one, bytes) else str(one)
        for one in values
    )
    return f"{{{','.join(texts)}}}".encode()


def integer(value: bytes | None) -> int:
    """A number that was read; 0 for NULL."""
    return 0 if value is None else int(value)


def binary(value: bytes | None) -> bytes:
    """Bytes that were read."""
    return b"" if value is None else bytes.fromhex(value[2:].decode())


def connecting(connection: pq.abc.PGconn) -> Generator[int, None, None]:
    """Go on with a connection that has been begun."""
    connection.nonblocking = 1
    while True:
        status = connection.connect_poll()
        if status == pq.PollingStatus.OK:
            return
        if status == pq.PollingStatus.FAILED:
            said = _words(connection.error_message)
            raise ServerError(_state_of(connection), said, is_away=True)
        yield READ if status == pq.PollingStatus.READING else WRITE


def _state_of(connection: pq.abc.PGconn) -> str:
    """libpq keeps no code for what ends a connection that is being made."""
    said = connection.error_message.decode("utf-8", "replace")
    is_login = "authentication failed" in said or "no password supplied" in said
    return f"{_REFUSED_LOGIN}P01" if is_login else "08001"


def _words(said: bytes) -> str:
    return " ".join(said.decode("utf-8", "replace").split())


def exchanging(connection: pq.abc.PGconn, statement: Statement) -> Generator[int, None, list[Row]]:
    """Send a statement and return its rows. Raises ServerError if it was refused, and OSError if
    the connection is lost."""
    try:
        connection.send_query_params(statement.sql, statement.values)
        while connection.flush():
            yield READ | WRITE
            connection.consume_input()
        results = []
        while True:
            while connection.is_busy():
                yield READ
                connection.consume_input()
            result = connection.get_result()
            if result is None:
                break
            results.append(result)
    except psycopg.Error as error:
        raise ConnectionResetError(_last_words(error)) from None
    if not results:
        raise ConnectionResetError("the connection is lost")
    return _rows(results[-1], connection)


def _last_words(error: psycopg.Error) -> str:
    """What was said before the connection ended: without what psycopg and libpq were at, and where
    in a function the server was just then, which are lines of their own."""
    said = str(error).strip().partition("\n")[0]
    return said.removeprefix("consuming input failed: ")


def _rows(result: pq.abc.PGresult, connection: pq.abc.PGconn) -> list[Row]:
    if result.status not in _RESULTS:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        if connection.status == pq.ConnStatus.BAD and not state:
            raise ConnectionResetError(_words(said))
        raise ServerError(state, _words(said))
    columns = range(result.nfields)
    return [[result.get_value(row, n) for n in columns] for row in range(result.ntuples)]
