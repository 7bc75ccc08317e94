"""Rate limits in FastAPI and Starlette.

    from fastapi import Depends, FastAPI
    from flint.fastapi import RateLimit, setup

    app = FastAPI()
    setup(app, "data/limits")

    @app.get("/search", dependencies=[Depends(RateLimit("10/minute"))])
    async def search(q: str): ...

`RateLimit` is for routes and routers, `RateLimitMiddleware` for the whole application, and
`FlintRateLimitMiddleware` is the middleware of Flint 0.2. The extra `flint-limiter[fastapi]` brings
what this module needs.
"""

# FastAPI reads the annotations of a dependency when it is used: they have to be there.
from typing import TYPE_CHECKING, Any

try:
    from fastapi import FastAPI, HTTPException, Response, WebSocket, routing
    from starlette.requests import HTTPConnection
except ImportError:
    raise ImportError(
        "Flint FastAPI middleware requires the optional dependency: "
        'pip install "flint-limiter[fastapi]"'
    ) from None

from flint._surface.rate import Rate
from flint._web.answer import detail
from flint._web.decision import Verdict
from flint._web.gate import DECIDED, Gate
from flint._web.headers import encoded
from flint._web.opening import opened, opened_for
from flint._web.policy import Policy, given_all
from flint.asgi import AsgiRequest, RateLimitMiddleware, route_of, with_headers
from flint.starlette import FlintRateLimitMiddleware, denial

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    from flint._native import Result
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike
    from flint.asgi import App, Message, Receive, Send

__all__ = [
    "FlintRateLimitMiddleware",
    "Policy",
    "RateLimit",
    "RateLimitMiddleware",
    "RateLimiter",
    "WebSocketRateLimiter",
    "setup",
]


# Of a request's state: what the nearest limit has left, and what the middleware adds.
_NEAREST, _HEADERS = "flint_nearest", "flint_headers"
_TOO_MANY = {"description": "Too Many Requests: " + detail("denied")}


class RateLimit:
    """A dependency that limits the routes it stands at: `Depends(RateLimit("100/minute"))`.

    Without `limiter` it is `app.state.limiter`. By default each route has a counter of its own for
    each client (`scope="route"`, by the route's template); a `scope` of another name is shared by
    all that have it and the same limits. The other options are those of `Policy`, without `when`,
    `problem` and `on_denied`, which are the middleware's. Several dependencies are decided one
    after the other; limits that belong together are one, "5/minute; 100/day", or `policy` is
    several, which are decided together: a request counts in all of them or in none.

    A denial is an HTTPException with status 429 and Retry-After, so exception handlers and CORS
    apply; a WebSocket's handshake is closed with 1013. The headers of what is let in are added; to
    a Response that the route itself returns they are in an application that `setup` knows. So is
    the 429 on the OpenAPI page; elsewhere `responses` is what to give a route for it.
    """

    def __init__(
        self,
        limits: "RateLike | None" = None,
        *,
        limiter: "AnyLimiter | str | os.PathLike[str] | None" = None,
        policy: "Policy | Sequence[Policy] | None" = None,
        **options: Any,
    ) -> None:
        given = [policy] if isinstance(policy, Policy) else policy or []
        for name in ("when", "problem", "on_denied"):
            if options.get(name) or any(getattr(one, name, None) for one in given):
                raise ValueError(f"{name} is an option of RateLimitMiddleware, not of a dependency")
        own = {"scope": "route", **options} if policy is None else options
        policies = given_all(policy, limits, own)
        self._gate = Gate(policies, _request)
        self._limiter = None if limiter is None else opened_for(policies, limiter)
        self.responses: dict[int | str, dict[str, Any]] = {
            policy.status_code: dict(_TOO_MANY) for policy in policies
        }

    async def __call__(self, request: HTTPConnection, response: Response) -> None:
        found = self._found(request)
        if found.__class__ not in DECIDED:
            found = await found
        if found.__class__ is not Verdict:
            if self._gate.is_shown:
                _show(found, self._gate.encoded_headers, request.scope, response)
        elif not found.allowed:
            await self._denied(request, response, found)
        elif found.result is not None and found.headers:
            _show(found.result, lambda _: encoded(found.headers), request.scope, response)

    def _found(self, request: HTTPConnection) -> Any:
        """What is decided, or is to be awaited."""
        scope = request.scope
        client = scope.get("client")
        return self._gate.acheck(
            self._limiter or _of_application(request),
            request,
            scope.get("method", "GET"),  # a WebSocket begins with GET
            client[0] if client else None,
            route_of(scope),
        )

    async def _denied(
        self, request: HTTPConnection, response: Response | None, verdict: Verdict
    ) -> None:
        del response  # for those who raise something else
        if hasattr(request.state, _HEADERS):
            setattr(request.state, _HEADERS, [])  # the exception has those of what denied
        raise denial(request.scope["type"], verdict, HTTPException)


def _request(request: HTTPConnection) -> AsgiRequest:
    return AsgiRequest(request.scope, request)


def _show(
    result: "Result",
    headers: "Callable[[Result], list[tuple[bytes, bytes]]]",
    scope: "Message",
    response: Response,
) -> None:
    """The headers of what was let in; of several limits those of the nearest to denying."""
    state = scope.get("state")
    if state is None:
        state = scope["state"] = {}
    nearest = state.get(_NEAREST)
    left = result.remaining
    if nearest is not None and left >= nearest:
        return
    state[_NEAREST] = left
    if _HEADERS in state:
        state[_HEADERS] = headers(result)
    elif nearest is None:
        response.raw_headers.extend(headers(result))
    else:
        for name, value in headers(result):
            response.headers[name.decode()] = value.decode()


def _of_application(request: HTTPConnection) -> "AnyLimiter":
    limiter: AnyLimiter | None = getattr(request.app.state, "limiter", None)
    if limiter is None:
        raise RuntimeError(
            "RateLimit needs a limiter: call setup(app, ...), set app.state.limiter, or give it "
            "limiter="
        )
    return limiter


# ---- The application ---------------------------------------------------------------------------


def setup(
    app: FastAPI, limiter: "AnyLimiter | str | os.PathLike[str] | None" = None
) -> "AnyLimiter | None":
    """Let an application show its limits, and return its limiter.

    `limiter` is put into `app.state.limiter`; it is a limiter, or a path or URL for
    `flint.connect`, and what was opened here is closed with the application. Without it the
    application puts one there itself. Rate limit headers are added to responses that routes return
    themselves too, and the OpenAPI page shows the 429 of every route that a `RateLimit` or
    `flint.rate_limit` limits. To be called once, before the first request. Raises what opening the
    limiter raises.
    """
    found = None if limiter is None else opened(limiter)
    if found is not None:
        app.state.limiter = found
    app.add_middleware(_HeadersMiddleware, closing=None if found is limiter else found)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        _add_denials(app, schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return found


class _HeadersMiddleware:
    def __init__(self, app: "App", closing: "AnyLimiter | None") -> None:
        self._app = app
        self._closing = closing

    async def __call__(self, scope: "Message", receive: "Receive", send: "Send") -> None:
        kind = scope["type"]
        if kind == "http":
            state = scope.setdefault("state", {})
            state[_HEADERS] = []
        elif kind != "lifespan" or self._closing is None:
            await self._app(scope, receive, send)
            return

        async def send_on(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = with_headers(state[_HEADERS], message.get("headers", ()))
                message = {**message, "headers": headers}
            elif message["type"].startswith("lifespan.shutdown.") and self._closing is not None:
                await self._closing.aclose()
            await send(message)

        await self._app(scope, receive, send_on)


def _add_denials(app: FastAPI, schema: dict[str, Any]) -> None:
    # Newer versions keep the routes of a router together.
    contexts: Any = getattr(routing, "iter_route_contexts", iter)
    for route in contexts(app.routes):
        codes = _denial_codes(getattr(route, "dependant", None))
        codes.update(_codes_of(getattr(route, "endpoint", None)))
        path = schema.get("paths", {}).get(getattr(route, "path_format", None), {})
        for method in (getattr(route, "methods", None) or ()) if codes else ():
            responses = path.get(method.lower(), {}).get("responses")
            for code in codes if responses is not None else ():
                responses.setdefault(str(code), dict(_TOO_MANY))


def _denial_codes(dependant: Any) -> set[int | str]:
    """The status codes of the limits among the dependencies."""
    codes: set[int | str] = set()
    for dependency in getattr(dependant, "dependencies", ()):
        call = dependency.call
        codes |= set(call.responses) if isinstance(call, RateLimit) else _denial_codes(dependency)
    return codes


def _codes_of(endpoint: Any) -> set[int]:
    """The status codes of what `flint.rate_limit` limits."""
    return set(getattr(endpoint, "flint_status_codes", ()))


# ---- The call shapes of fastapi-limiter --------------------------------------------------------


class RateLimiter(RateLimit):
    """`Depends(RateLimiter(times=2, seconds=5))`, as fastapi-limiter writes it. `identifier` is a
    callable, sync or async, that is given the request; by default it is the client's address and
    the route counts. `callback(request, response, pexpire)` is awaited on a denial, with the time
    to wait in milliseconds, and raises the exception that answers."""

    def __init__(
        self,
        times: int = 1,
        milliseconds: int = 0,
        seconds: int = 0,
        minutes: int = 0,
        hours: int = 0,
        identifier: "Callable[[Any], Any] | None" = None,
        callback: "Callable[[Any, Any, int], Awaitable[Any]] | None" = None,
        *,
        limiter: "AnyLimiter | str | os.PathLike[str] | None" = None,
    ) -> None:
        length_ms = milliseconds + 1000 * (seconds + 60 * (minutes + 60 * hours))
        key: Any = identifier or "ip"
        super().__init__(Rate(times, length_ms * 1_000_000), limiter=limiter, key=key)
        self._callback = callback

    async def _denied(
        self, request: HTTPConnection, response: Response | None, verdict: Verdict
    ) -> None:
        if self._callback is not None:
            wait_ns = 0 if verdict.result is None else verdict.result.retry_after_ns
            await self._callback(request, response, -(-wait_ns // 1_000_000))
        await super()._denied(request, response, verdict)


class WebSocketRateLimiter(RateLimiter):
    """Limits the messages of a WebSocket from inside its route: `limit = WebSocketRateLimiter(
    times=1, seconds=5)`, then `await limit(websocket)` for each message. `context_key` gives a
    counter of its own. A message too many raises WebSocketException, which closes the socket with
    1013; `callback(websocket, pexpire)` may raise another one."""

    def __init__(
        self,
        times: int = 1,
        milliseconds: int = 0,
        seconds: int = 0,
        minutes: int = 0,
        hours: int = 0,
        identifier: "Callable[[Any], Any] | None" = None,
        callback: "Callable[[Any, int], Awaitable[Any]] | None" = None,
        *,
        limiter: "AnyLimiter | str | os.PathLike[str] | None" = None,
    ) -> None:
        length = (times, milliseconds, seconds, minutes, hours)
        super().__init__(*length, identifier, _without_response(callback), limiter=limiter)
        policy = self._gate.policy
        parts = (*policy.parts, _context)
        self._gate = Gate((Policy(policy.limits, key=parts, scope="route"),), _request)

    async def __call__(  # type: ignore[override]
        self, websocket: WebSocket, context_key: str = ""
    ) -> None:
        websocket.state.flint_context = context_key
        found = self._found(websocket)
        if found.__class__ not in DECIDED:
            found = await found
        if found.__class__ is Verdict and not found.allowed:
            await self._denied(websocket, None, found)


def _context(websocket: WebSocket) -> str:
    context: str = websocket.state.flint_context
    return context


def _without_response(
    callback: "Callable[[Any, int], Awaitable[Any]] | None",
) -> "Callable[[Any, Any, int], Awaitable[Any]] | None":
    if callback is None:
        return None
    return lambda websocket, _, wait_ms: callback(websocket, wait_ms)
