"""A limiter that lives in a Flint server: `flint.SharedLimiter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._native import Result
from flint._remote.coroutines import RemoteSurface
from flint._remote.server import read_token, read_url
from flint._surface.arguments import moment_ns, optional_most, refusal, seconds_to_ns
from flint.errors import FlintConnectionError, FlintServerError

if TYPE_CHECKING:
    import ssl
    from datetime import datetime
    from typing import NoReturn, SupportsIndex

    from flint._remote.questions import Question
    from flint._surface.arguments import Seconds
    from flint._surface.types import DoctorDict, HistoryDict, InfoDict, OnError

__all__ = ["FlintConnectionError", "FlintServerError", "SharedCheckResult", "SharedLimiter"]

# Its name in Flint 0.2.
SharedCheckResult = Result

_ON_ERROR = ("raise", "allow", "deny")
_MOST_TIMEOUT_NS = 86_400 * 1_000_000_000


class SharedLimiter(RemoteSurface):
    """Rate limits that live in a Flint server, for any number of processes and machines.

    `server` is `http://host:port`, `https://host:port` or `http+unix:///path/of/the/socket`; a path
    behind host and port stands before every request's. Or it is where the server speaks the Redis
    protocol: `flint://host:port`, `flints://host:port` (in TLS) or `unix:/path/of/the/socket`.
    Nothing is connected to until the first call. `token` is the server's secret; without it that of
    the environment's FLINT_SERVER_TOKEN is sent, and with `token=""` none. `tls` is an
    `ssl.SSLContext` for https and flints: a certificate authority or a client certificate of your
    own.

    `timeout` is the most seconds that a call takes, from 1 ns to a day: to connect, to send, and
    until the whole answer is there (looking a host's name up is the system's and has its own).
    Connections are kept. A request that cannot count twice is asked once more when the server ends
    its connection; a check is not, once it has been sent.

    `on_error` is what a check answers when the server cannot be reached, takes too long, or cannot
    decide (a status of 500 and above): `"raise"` FlintConnectionError or what the server says, or
    `"allow"` or `"deny"`, with a result that is `undecided`. Of a server that is away the calls of
    the next second learn at once, without asking; then one of them asks again.

    The calls are those of `flint.Limiter`, with the same answers and exceptions; a bad argument is
    refused before anything is sent. FlintServerError is raised for what only servers say (401: the
    token is wrong). Redirects are not followed, and no proxy of the environment is used.

    Any thread and any event loop may use it; coroutines use no threads. A forked child makes
    connections of its own. It cannot be pickled.
    """

    def __init__(
        self,
        server: str = "http://127.0.0.1:7878",
        token: str | None = None,
        timeout: Seconds = 10.0,
        *,
        on_error: OnError = "raise",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if on_error not in _ON_ERROR:
            kind = ValueError if isinstance(on_error, str) else TypeError
            raise kind(refusal("on_error", "'raise', 'allow' or 'deny'", on_error))
        self.server, found = read_url(server, tls)
        self.timeout = timeout
        timeout_ns = seconds_to_ns("timeout", timeout, 1, _MOST_TIMEOUT_NS)
        self._reach(found, read_token(token), timeout_ns / 1e9, on_error)
        self._begin(None)

    @property
    def token(self) -> str | None:
        """The server's secret."""
        return self._token

    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<flint.SharedLimiter {self.server!r}{closed}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SharedLimiter cannot be pickled; make another with the same arguments")

    def close(self) -> None:
        """End the connections. Calls that wait in line raise ClosedError, as does every later
        call. Closing again does nothing."""
        super().close()
        self._lines.look_again()

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        self.close()
        if self._loop_connections is not None:
            await self._loop_connections.wait_closed()

    # ---- What the server keeps -----------------------------------------------------------------

    def history(
        self,
        key: str | None = None,
        *,
        newest_first: bool = False,
        since: datetime | Seconds | None = None,
        until: datetime | Seconds | None = None,
        limit: SupportsIndex | None = None,
        template: bool | None = None,
    ) -> list[HistoryDict]:
        """What has been recorded and is still kept; see `flint.Limiter.history`."""
        return self._ask(self._history(key, newest_first, since, until, limit, template))

    def doctor(self) -> DoctorDict:
        """Have the server verify its directory; see `flint.doctor`."""
        question: Question[DoctorDict] = self._questions.doctor()
        return self._ask(question)

    def info(self) -> InfoDict:
        """Figures of the server's limiter; see `flint.Limiter.info`."""
        question: Question[InfoDict] = self._questions.info()
        return self._ask(question)

    def compact(self) -> None:
        """Have the server replace its log by a snapshot; see `flint.Limiter.compact`. Takes as long
        as that takes, so `timeout` may end the wait for it, but not the work."""
        self._ask(self._questions.log("compact"))

    async def ahistory(
        self,
        key: str | None = None,
        *,
        newest_first: bool = False,
        since: datetime | Seconds | None = None,
        until: datetime | Seconds | None = None,
        limit: SupportsIndex | None = None,
        template: bool | None = None,
    ) -> list[HistoryDict]:
        """`history` as a coroutine."""
        return await self._ask_in_loop(
            self._history(key, newest_first, since, until, limit, template)
        )

    async def adoctor(self) -> DoctorDict:
        """`doctor` as a coroutine."""
        return await self._ask_in_loop(self._questions.doctor())

    async def ainfo(self) -> InfoDict:
        """`info` as a coroutine."""
        return await self._ask_in_loop(self._questions.info())

    async def acompact(self) -> None:
        """`compact` as a coroutine."""
        await self._ask_in_loop(self._questions.log("compact"))

    def _history(
        self,
        key: str | None,
        newest_first: bool,
        since: datetime | Seconds | None,
        until: datetime | Seconds | None,
        limit: SupportsIndex | None,
        template: bool | None,
    ) -> Question[list[HistoryDict]]:
        since_ns = None if since is None else moment_ns("since", since)
        until_ns = None if until is None else moment_ns("until", until)
        most = optional_most("limit", limit)
        found: Question[list[HistoryDict]] = self._questions.history(
            key, template, newest_first, since_ns, until_ns, most
        )
        return found
