"""Rate limits in Starlette.

    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from flint.starlette import RateLimitMiddleware

    limited = Middleware(RateLimitMiddleware, "data/limits", "100/minute")
    app = Starlette(middleware=[limited])

An endpoint has a limit of its own by `flint.rate_limit`. `FlintRateLimitMiddleware` is the
middleware of Flint 0.2. The extra `flint-limiter[starlette]` brings what this module needs;
`flint.fastapi` is for FastAPI.
"""

from __future__ import annotations

import inspect
import json
import operator
import sys
from typing import TYPE_CHECKING, Any

try:
    from starlette.exceptions import HTTPException, WebSocketException
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
except ImportError:
    raise ImportError(
        'flint.starlette needs Starlette: pip install "flint-limiter[starlette]"'
    ) from None

from flint._web.answer import detail
from flint._web.found import Found
from flint._web.headers import (
    encoded_legacy_headers,
    legacy_headers,
    retry_after_s,
)
from flint._web.opening import opened
from flint._web.policy import Policy
from flint.asgi import TRY_AGAIN_LATER, AsgiRequest, RateLimitMiddleware, with_headers
from flint.errors import NotConfiguredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flint._surface.arguments import Duration
    from flint._surface.protocol import AnyLimiter
    from flint._surface.types import Algorithm
    from flint._web.decision import Verdict
    from flint.asgi import App, Message, Receive, Send

__all__ = ["FlintRateLimitMiddleware", "Policy", "RateLimitMiddleware"]


def denial(
    kind: str, verdict: Verdict, http_exception: type[HTTPException] = HTTPException
) -> Exception:
    """What a route raises for a request that is not let in, so that the application's exception
    handlers and CORS apply. `kind` is the scope's type."""
    if kind == "websocket":
        return WebSocketException(TRY_AGAIN_LATER, detail(verdict.reason))
    own = ("content-type", "content-length")
    headers = {name: value for name, value in verdict.headers if name.lower() not in own}
    return http_exception(verdict.status, detail(verdict.reason), headers)


# ---- For flint.rate_limit ----------------------------------------------------------------------

# What FastAPI is asked to give to a function that does not take the request itself.
_REQUEST, _RESPONSE = "flint_request", "flint_response"


class FoundRequest(Found):
    """A request that has been found among a function's arguments."""

    def __init__(self, connection: HTTPConnection, response: Response | None) -> None:
        self._connection = connection
        self._response = response
        self._request = AsgiRequest(connection.scope, connection)

    @property
    def limiter(self) -> AnyLimiter | None:
        app = self._connection.scope.get("app")
        return getattr(getattr(app, "state", None), "limiter", None)

    def denied(self, verdict: Verdict) -> Any:
        fastapi = sys.modules.get("fastapi")  # whose exception is a subclass
        kind = getattr(fastapi, "HTTPException", HTTPException)
        raise denial(self._connection.scope["type"], verdict, kind)

    def allowed(self, verdict: Verdict, answer: Any) -> Any:
        response = answer if isinstance(answer, Response) else self._response
        if response is not None:
            for name, value in verdict.headers:
                response.headers.setdefault(name, value)
        return answer


def found(value: object, kwargs: dict[str, Any]) -> Found | None:
    if not isinstance(value, HTTPConnection):
        return None
    return FoundRequest(value, kwargs.get(_RESPONSE))


def signature_for_fastapi(function: Callable[..., Any]) -> inspect.Signature | None:
    """The function's, and parameters that FastAPI fills with the request and the response; None for
    a function that takes them, as it has been decorated before."""
    try:
        own = inspect.signature(function, eval_str=True)
    except (NameError, TypeError, SyntaxError):
        own = inspect.signature(function)
    if _REQUEST in own.parameters:
        return None
    parameters = list(own.parameters.values())
    rest = []
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        rest = [parameters.pop()]
    kind = inspect.Parameter.KEYWORD_ONLY
    for name, annotation in ((_REQUEST, HTTPConnection), (_RESPONSE, Response)):
        parameters.append(inspect.Parameter(name, kind, default=None, annotation=annotation))
    return own.replace(parameters=[*parameters, *rest])


def without_injected(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are the function's own."""
    return {name: value for name, value in kwargs.items() if name not in (_REQUEST, _RESPONSE)}


# ---- Flint 0.2 ---------------------------------------------------------------------------------


class FlintRateLimitMiddleware:
    """The middleware of Flint 0.2: `app.add_middleware(FlintRateLimitMiddleware, limiter=limiter,
    key_func=lambda request: request.client.host, rate=100, per="1m")`.

    Exactly one of `key` and `key_func(request)`. With `rate` and `per` a key without a limit gets
    this one at its first request. `cost` is a number or `cost(request)`. `exempt_paths` are
    compared as they are. New programs use `RateLimitMiddleware`, whose keys no client can choose.
    """

    def __init__(
        self,
        app: App,
        *,
        limiter: AnyLimiter,
        key: str | None = None,
        key_func: Callable[[Request], str] | None = None,
        rate: int | None = None,
        per: Duration | None = None,
        algorithm: Algorithm = "token_bucket",
        cost: int | Callable[[Request], int] = 1,
        exempt_paths: Iterable[str] | None = None,
    ) -> None:
        if (key is None) == (key_func is None):
            raise ValueError("exactly one of key or key_func is required")
        if (rate is None) != (per is None):
            raise ValueError("rate and per must be provided together")
        self._app = app
        self._limiter = opened(limiter)
        self._key = key
        self._key_func = key_func
        self._rate = rate
        self._per = per
        self._algorithm = algorithm
        self._cost = cost
        self._exempt_paths = frozenset(exempt_paths or ())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or HTTPConnection(scope).url.path in self._exempt_paths:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        result = await self._check(self._key_of(request), self._cost_of(request))
        if not result.allowed:
            added = legacy_headers(result)
            added.append(("Retry-After", str(retry_after_s(result))))
            body = json.dumps({"detail": detail("denied")}, separators=(",", ":")).encode()
            denial = Response(body, 429, dict(added), "application/json")
            await denial(scope, receive, send)
            return
        more = encoded_legacy_headers(result)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = with_headers(more, message.get("headers", ()))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_on)

    def _key_of(self, request: Request) -> str:
        key = self._key if self._key_func is None else self._key_func(request)
        if not isinstance(key, str) or not key:
            raise ValueError("rate limit key must be a non-empty string")
        return key

    def _cost_of(self, request: Request) -> int:
        cost = self._cost(request) if callable(self._cost) else self._cost
        if isinstance(cost, bool) or not hasattr(cost, "__index__"):
            raise ValueError("cost must be an integer")
        if operator.index(cost) < 1:
            raise ValueError("cost must be greater than zero")
        return operator.index(cost)

    async def _check(self, key: str, cost: int) -> Any:
        try:
            return await self._limiter.acheck(key, cost)
        except NotConfiguredError:
            if self._rate is None or self._per is None:
                raise RuntimeError(
                    f"limit {key!r} is not configured and lazy rate/per were not provided"
                ) from None
        await self._limiter.alimit(
            key, rate=self._rate, per=self._per, algorithm=self._algorithm, if_absent=True
        )
        return await self._limiter.acheck(key, cost)
