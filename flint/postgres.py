"""A limiter that lives in PostgreSQL: `flint.PostgresLimiter`. The extra `postgres` brings what it
needs: psycopg 3."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError:
    raise ImportError(
        'flint.postgres needs psycopg 3: pip install "flint-limiter[postgres]"'
    ) from None

from flint._postgres import install
from flint._postgres.aio import OwnLoopSessions, PooledLoopSessions
from flint._postgres.connections import OwnSessions, PooledSessions
from flint._postgres.place import PostgresPlace
from flint._surface.arguments import refusal, seconds_to_ns
from flint.errors import UnsupportedError

if TYPE_CHECKING:
    from typing import NoReturn

    from flint._surface.arguments import Seconds
    from flint._surface.types import OnError, Sync

__all__ = ["PostgresLimiter", "create", "sql", "upgrade"]

_KEEPS_NO_LOG = (
    "limits in PostgreSQL have no log of Flint: history, doctor and compact are for a data "
    "directory (flint.Limiter) and a Flint server"
)
_MOST_TIMEOUT_NS = 86_400 * 1_000_000_000


class PostgresLimiter(PostgresPlace):
    """Rate limits that live in a PostgreSQL database, for any number of processes and machines.

    `database` is a connection string (`postgresql://user@host/db`, or libpq's `host=… dbname=…`), a
    `psycopg_pool.ConnectionPool` (for calls without await) or an `AsyncConnectionPool` (for those
    with await). With a string, connections are made when they are needed and kept, for threads and
    for each event loop; nothing is connected to until the first call. A pool stays its owner's.
    PgBouncer may stand between, also with transactions as its unit.

    `schema` is where `flint pg install` has put the tables and functions; PostgreSQL 14 or newer.

    `sync="always"` answers an admission when its transaction is as durable as the server's
    `synchronous_commit` says (and on its disk where that is off); `"batch"` does not wait for the
    disk, so that a crash of the server may forget the last second or less. A denial writes nothing;
    its count is told with the key's next admission, or after some seconds, or by `flush` and
    `close`.

    `timeout` is the most seconds that a statement takes, from 1 ns to a day, and the connection for
    it. `on_error` is what a check answers when the database cannot be reached, takes too long, or
    cannot decide now (it is shut down, has no connection left, or only reads): `"raise"`
    FlintConnectionError, or `"allow"` or `"deny"`, with a result that is `undecided`. Of a database
    that is away the calls of the next second learn at once, without asking; then one of them asks
    again.

    The calls are those of `flint.Limiter`, with the same answers and exceptions; a bad argument is
    refused before anything is sent. UnsupportedError says that the schema is not there. Any thread
    and any event loop may use it. A forked child makes connections of its own. It cannot be
    pickled.
    """

    def __init__(
        self,
        database: Any,
        *,
        schema: str = "flint",
        sync: Sync = "always",
        timeout: Seconds = 10.0,
        on_error: OnError = "raise",
    ) -> None:
        _check_word("sync", sync, ("always", "batch"))
        _check_word("on_error", on_error, ("raise", "allow", "deny"))
        install.check_name("schema", schema)
        timeout_ns = seconds_to_ns("timeout", timeout, 1, _MOST_TIMEOUT_NS)
        self._sessions, self._loop_sessions = _sessions(database)
        self._shown = _shown(database)
        self.schema = schema
        self.sync = sync
        self._reach_database(schema, sync == "always", timeout_ns / 1e9, on_error)

    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<flint.PostgresLimiter {self._shown} schema {self.schema!r}{closed}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PostgresLimiter cannot be pickled; make another with the same arguments")

    # ---- What the database keeps ---------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """`sync`, and `engine_time_ns`: the database's time."""
        return {"sync": self.sync, "engine_time_ns": self._ask(self._questions.now())}

    def history(self, *_: Any, **__: Any) -> NoReturn:
        """Raises UnsupportedError: a database keeps totals, not what happened one by one."""
        raise UnsupportedError(_KEEPS_NO_LOG)

    def doctor(self) -> NoReturn:
        """Raises UnsupportedError: a database verifies itself."""
        raise UnsupportedError(_KEEPS_NO_LOG)

    def compact(self) -> NoReturn:
        """Raises UnsupportedError: there is no log; autovacuum keeps the tables small."""
        raise UnsupportedError(_KEEPS_NO_LOG)


def _check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(refusal(name, " or ".join(map(repr, words)), value))


def _sessions(database: object) -> tuple[Any, Any]:
    """Where threads and event loops have their connections from."""
    if isinstance(database, str):
        try:
            conninfo = make_conninfo(database, **_defaults(database))
        except psycopg.Error as error:
            raise ValueError(f"the connection string cannot be read: {error}") from None
        return OwnSessions(conninfo), OwnLoopSessions(conninfo)
    if not hasattr(database, "getconn") or not hasattr(database, "putconn"):
        kinds = "a connection string, a ConnectionPool or an AsyncConnectionPool"
        raise TypeError(refusal("database", kinds, database))
    if inspect.iscoroutinefunction(database.getconn):
        return None, PooledLoopSessions(database)
    return PooledSessions(database), None


def _defaults(database: str) -> dict[str, str]:
    return {} if "application_name" in conninfo_to_dict(database) else {"application_name": "flint"}


def _shown(database: object) -> str:
    """Where it is, without a password."""
    if not isinstance(database, str):
        return type(database).__name__
    found = conninfo_to_dict(database)
    parts = (f"{name}={found[name]}" for name in ("host", "port", "dbname") if name in found)
    return repr(" ".join(parts))


def sql(schema: str = "flint", *, role: str | None = None) -> str:
    """The statements that make the tables and functions in an empty database, and let a role use
    them, to be run as one transaction."""
    install.check_name("schema", schema)
    text = install.tables(schema) + "\n" + install.functions(schema)
    if role is not None:
        install.check_name("role", role)
        text += install.grants(schema, role)
    return text


def create(database: str, *, schema: str = "flint", role: str | None = None) -> bool:
    """Make the tables and functions that are missing, in one transaction, and let a role use them,
    which may then decide and configure, and create nothing. Whether the tables were made: done
    twice it does nothing more than `upgrade`. `database` is a connection string, of a role that may
    create a schema. Raises FlintConnectionError, FlintPermissionError, and UnsupportedError for
    tables of a newer Flint."""
    _check_names(schema, role)
    return install.bring_up(database, schema, role, may_create=True)


def upgrade(database: str, *, schema: str = "flint", role: str | None = None) -> None:
    """Replace the functions by those of this version; limiters go on meanwhile. Raises what
    `create` raises, and UnsupportedError where there is nothing yet."""
    _check_names(schema, role)
    install.bring_up(database, schema, role, may_create=False)


def _check_names(schema: str, role: str | None) -> None:
    install.check_name("schema", schema)
    if role is not None:
        install.check_name("role", role)
