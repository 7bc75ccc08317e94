"""Rate limits for any WSGI application.

    from flint.wsgi import RateLimitMiddleware

    app = RateLimitMiddleware(app, "data/limits", "100/minute")

A server that forks its workers has to make the application, and with it the limiter, in the worker,
as gunicorn does without `--preload`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flint._web.decision import Verdict, settle
from flint._web.gate import Gate
from flint._web.opening import opened_for
from flint._web.policy import Policy, given_all
from flint._web.response import SentResponse, added

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike
__all__ = ["Policy", "RateLimitMiddleware", "WsgiRequest"]

_REASONS = {403: "Forbidden", 429: "Too Many Requests", 503: "Service Unavailable"}


class WsgiRequest:
    """A request as the core sees it, made of a WSGI environment."""

    route: str | None = None

    def __init__(self, environ: WSGIEnvironment, native: object = None) -> None:
        self._environ = environ
        self.native = environ if native is None else native
        self.method: str = environ["REQUEST_METHOD"]
        # WSGI has the bytes of the path as characters.
        self.path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        self.peer: str | None = environ.get("REMOTE_ADDR") or None  # empty for a unix socket
        self.user: str | None = environ.get("REMOTE_USER") or None

    def headers(self, name: str) -> list[str]:
        """Fields of one name are joined by the server."""
        variable = name.upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        value = self._environ.get(variable)
        return [] if value is None else [value]


class RateLimitMiddleware:
    """Limits a WSGI application's requests.

    `limiter` is a limiter, or a path or URL for `flint.connect`; what was opened here is closed by
    `close()`, or with the interpreter. `limits` and the other options are those of
    `flint.wsgi.Policy`, or `policy` is one, or several that are decided together: a
    request counts in all of them or in none. A middleware does not know the route: `scope` and
    `key` cannot be "route". `on_denied` is given the environment and the verdict and returns
    another WSGI application. Headers that the application has set itself are left. Any thread.
    Raises TypeError or ValueError for an option, with its name, ClosedError for a limiter that is
    closed, and what opening one raises.
    """

    def __init__(
        self,
        app: WSGIApplication,
        limiter: AnyLimiter | str | os.PathLike[str],
        limits: RateLike | None = None,
        *,
        policy: Policy | Sequence[Policy] | None = None,
        **options: Any,
    ) -> None:
        self._app = app
        self._policies = given_all(policy, limits, options, knows_route=False)
        self._policy = self._policies[0]
        self._gate = Gate(self._policies, WsgiRequest)
        self._limiter = opened_for(self._policies, limiter)
        self._is_ours = self._limiter is not limiter

    def close(self) -> None:
        """Close the limiter if it was opened here."""
        if self._is_ours:
            self._limiter.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = self._gate.check(
            self._limiter, environ, environ["REQUEST_METHOD"], environ.get("REMOTE_ADDR")
        )
        if isinstance(found, Verdict):
            return self._judged(found, environ, start_response)
        if not self._gate.is_shown:
            return self._app(environ, start_response)
        headers_of = self._gate.headers

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + added(headers_of(found), headers), *error)

        return self._app(environ, cast("StartResponse", start))

    def _judged(
        self, verdict: Verdict, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """A request that is not let in, or not in the usual way."""
        if not verdict.allowed:
            return self._deny(verdict, environ, start_response)
        exchange = _Exchange(self, verdict, start_response)
        with exchange.failing():
            body = self._app(environ, exchange.start)
        return _Body(body, exchange) if verdict.pending else body

    def _deny(
        self, verdict: Verdict, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        policy = verdict.policy or self._policy
        if policy.on_denied is not None:
            other: WSGIApplication = policy.on_denied(environ, verdict)
            return other(environ, start_response)
        reason = _REASONS.get(verdict.status, "Denied")
        start_response(f"{verdict.status} {reason}", verdict.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [verdict.body]

    def _settle(self, verdict: Verdict, response: SentResponse) -> None:
        if verdict.pending:
            settle(self._limiter, verdict, response)


class _Exchange:
    """One request that was let in, until its response starts."""

    def __init__(
        self, middleware: RateLimitMiddleware, verdict: Verdict, start_response: StartResponse
    ) -> None:
        self._middleware = middleware
        self._verdict = verdict
        self._start_response = start_response

    def start(self, status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        self._middleware._settle(self._verdict, SentResponse(int(status[:3]), headers))
        return self._start_response(status, headers + added(self._verdict.headers, headers), *error)

    def failing(self) -> _Failing:
        return _Failing(self._middleware, self._verdict)


class _Failing:
    """An exception before the response has started counts as one with status 500."""

    def __init__(self, middleware: RateLimitMiddleware, verdict: Verdict) -> None:
        self._middleware = middleware
        self._verdict = verdict

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, frames: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            self._middleware._settle(self._verdict, SentResponse(500))


class _Body:
    """A body whose application may start the response, or fail, while it is read."""

    def __init__(self, body: Iterable[bytes], exchange: _Exchange) -> None:
        self._body = body
        self._parts = iter(body)
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._exchange.failing():
            return next(self._parts)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
