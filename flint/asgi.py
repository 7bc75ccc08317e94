"""Rate limits for any ASGI application: Starlette, FastAPI, Quart, Litestar, plain ones.

    from flint.asgi import RateLimitMiddleware

    app = RateLimitMiddleware(app, "data/limits", "100/minute")

A response passes through as it is sent, piece by piece; context variables, background tasks and
lifespan are the application's own. The event loop is never blocked, with `sync="always"` neither.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from flint._surface.arguments import refusal
from flint._web.decision import Verdict, adecide, asettle
from flint._web.gate import DECIDED, Gate
from flint._web.headers import encoded
from flint._web.opening import opened_for
from flint._web.policy import Policy, given_all
from flint._web.response import SentResponse
from flint._web.several import adecide_all

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence
    from typing import TypeAlias

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]
    App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

__all__ = ["AsgiRequest", "Policy", "RateLimitMiddleware"]

TRY_AGAIN_LATER = 1013  # RFC 6455's registry of close codes
_HTTP_RESPONSE = "websocket.http.response"


class AsgiRequest:
    """A request as the core sees it, made of an ASGI scope."""

    def __init__(self, scope: Message, native: object = None) -> None:
        self._scope = scope
        self.native = scope if native is None else native
        self.method: str = scope.get("method", "GET")  # a WebSocket begins with GET
        self.path: str = scope["path"]

    @property
    def route(self) -> str | None:
        return route_of(self._scope)

    @property
    def peer(self) -> str | None:
        client = self._scope.get("client")
        return client[0] if client else None

    @property
    def user(self) -> str | None:
        """Who Starlette's AuthenticationMiddleware has found."""
        user = self._scope.get("user")
        if not getattr(user, "is_authenticated", False):
            return None
        try:
            return str(user.identity)  # type: ignore[union-attr]
        except (AttributeError, NotImplementedError):
            return str(user.display_name)  # type: ignore[union-attr]

    def headers(self, name: str) -> list[str]:
        wanted = name.lower().encode("latin-1")
        return [
            value.decode("latin-1")
            for key, value in self._scope["headers"]
            if key.lower() == wanted
        ]


def route_of(scope: Message) -> str | None:
    """The template of a request's route, behind those of what it is mounted at."""
    # In newer versions of FastAPI the route alone does not know the prefixes of its routers.
    effective = scope["fastapi"].get("effective_route_context") if "fastapi" in scope else None
    template: str | None = getattr(effective or scope.get("route"), "path", None)
    if template is None or scope.get("app_root_path", scope.get("root_path")) == scope.get(
        "root_path"
    ):
        return template
    return mount_of(scope) + template


def mount_of(scope: Message) -> str:
    """The template under which an application is mounted in another one, as Starlette mounts."""
    outer = scope["app_root_path"]
    mounted = scope["root_path"].removeprefix(outer)
    if not scope.get("path_params"):
        return str(mounted)
    # A part of it may be what the client chose: it is read again, from the outermost router in.
    path = scope["path"].removeprefix(outer)
    routes = getattr(scope.get("router"), "routes", ())
    template = ""
    left = len(mounted)
    while left > 0:
        for route in routes:
            found = hasattr(route, "routes") and getattr(route, "path_regex", None)
            match = found and found.match(path)
            if match and "path" in match.groupdict():
                break
        else:
            return template + "/..."
        template += route.path
        rest = "/" + match["path"]
        left -= len(path) - len(rest)
        path, routes = rest, route.routes
    return template


def _response(message: Message) -> SentResponse:
    return SentResponse(message["status"], _decoded(message.get("headers", ())))


# The status of a handshake by what answers it; servers answer a close with 403.
_HANDSHAKE_STATUS = {
    "websocket.accept": 101,
    f"{_HTTP_RESPONSE}.start": 200,
    "websocket.close": 403,
}
_FAILED: Message = {"status": 500}  # an exception instead of a response


class RateLimitMiddleware:
    """Limits an ASGI application's requests, and WebSockets at their handshake.

    `limiter` is a limiter, or a path or URL for `flint.connect`; what was opened here is closed
    with the application. `limits` and the other options are those of `flint.asgi.Policy`, or
    `policy` is one, or several that are decided together: a request counts in all of them or in
    none. `messages` limits what each client sends over its WebSockets, in words
    ("10/second"): a message too many closes the socket with 1013 (try again later). A handshake
    that is denied is answered with the status where the server can (the extension
    `websocket.http.response`), else by a close; `on_denied` is for HTTP.

    A middleware runs before the route is known: `scope` and `key` cannot be "route" here. Headers
    that the application has set itself are left. Raises TypeError or ValueError for an option, with
    its name, ClosedError for a limiter that is closed, and what opening one raises.
    """

    def __init__(
        self,
        app: App,
        limiter: AnyLimiter | str | os.PathLike[str],
        limits: RateLike | None = None,
        *,
        policy: Policy | Sequence[Policy] | None = None,
        messages: RateLike | None = None,
        **options: Any,
    ) -> None:
        self._app = app
        self._policies = given_all(policy, limits, options, knows_route=False)
        self._policy = self._policies[0]
        self._gate = Gate(self._policies, AsgiRequest)
        self._messages = (
            None
            if messages is None
            else Policy(
                messages,
                key=self._policy.key,
                scope=f"{self._policy.scope} messages",
                on_error=self._policy.on_error,
                trusted_proxies=self._policy.trusted_proxies,
                forwarded_header=self._policy.forwarded_header,
                ipv6_prefix=self._policy.ipv6_prefix,
            )
        )
        if self._messages is not None and callable(self._policy.cost):
            raise ValueError(refusal("cost", "a number beside messages", self._policy.cost))
        messages_policy = () if self._messages is None else (self._messages,)
        self._limiter = opened_for((*self._policies, *messages_policy), limiter)
        self._is_ours = self._limiter is not limiter

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http":
            await self._no_http(kind, scope, receive, send)
            return
        client = scope.get("client")
        peer = client[0] if client else None
        found: Any = self._gate.acheck(self._limiter, scope, scope["method"], peer)
        if found.__class__ not in DECIDED:
            found = await found
        if found.__class__ is Verdict:
            await self._judged(found, scope, receive, send)
            return
        if not self._gate.is_shown:
            await self._app(scope, receive, send)
            return
        headers = self._gate.encoded_headers

        def send_on(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                more = with_headers(headers(found), message.get("headers", ()))
                message = {**message, "headers": more}
            return send(message)

        await self._app(scope, receive, send_on)

    async def _no_http(self, kind: str, scope: Message, receive: Receive, send: Send) -> None:
        if kind == "websocket":
            await self._websocket(scope, receive, send)
        elif kind == "lifespan" and self._is_ours:
            await self._lifespan(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    # ---- HTTP ----

    async def _judged(self, verdict: Verdict, scope: Message, receive: Receive, send: Send) -> None:
        """A request that is not let in, or not in the usual way."""
        if not verdict.allowed:
            await self._deny(verdict, scope, receive, send)
            return
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start" and not started:
                started = True
                if verdict.pending:
                    await asettle(self._limiter, verdict, _response(message))
                more = with_headers(encoded(verdict.headers), message.get("headers", ()))
                message = {**message, "headers": more}
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            if not started and verdict.pending:
                await asettle(self._limiter, verdict, _response(_FAILED))
            raise

    async def _deny(self, verdict: Verdict, scope: Message, receive: Receive, send: Send) -> None:
        """The answer to a request that is not let in; `on_denied` returns another application."""
        policy = verdict.policy or self._policy
        if policy.on_denied is not None:
            other = policy.on_denied(scope, verdict)
            other = await other if inspect.isawaitable(other) else other
            await other(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": verdict.status,
                "headers": encoded(verdict.headers),
            }
        )
        body = b"" if scope.get("method") == "HEAD" else verdict.body
        await send({"type": "http.response.body", "body": body})

    # ---- WebSockets ----

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        verdict = await adecide_all(self._limiter, self._policies, AsgiRequest(scope))
        if not verdict.allowed:
            await _refuse_handshake(verdict, scope, receive, send)
            return
        answered = False
        closed_here = False

        async def send_on(message: Message) -> None:
            nonlocal answered
            kind = message["type"]
            if closed_here:
                return
            if not answered and kind in _HANDSHAKE_STATUS:
                answered = True
                if verdict.pending:
                    status = message.get("status", _HANDSHAKE_STATUS[kind])
                    response = _response({**message, "status": status})
                    await asettle(self._limiter, verdict, response)
                if kind != "websocket.close":
                    more = with_headers(encoded(verdict.headers), message.get("headers", ()))
                    message = {**message, "headers": more}
            await send(message)

        async def receive_on() -> Message:
            nonlocal closed_here
            message = await receive()
            if self._messages is None or message["type"] != "websocket.receive":
                return message
            of_message = await adecide(self._limiter, self._messages, AsgiRequest(scope))
            if of_message.allowed:
                return message
            closed_here = True  # what the application sends after that has nowhere to go
            reason = "rate limit exceeded"
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": reason})
            return {"type": "websocket.disconnect", "code": TRY_AGAIN_LATER, "reason": reason}

        await self._app(scope, receive_on, send_on)

    # ---- The end ----

    async def _lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self._limiter.aclose()
            await send(message)

        await self._app(scope, receive, send_on)


async def _refuse_handshake(verdict: Verdict, scope: Message, receive: Receive, send: Send) -> None:
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    if _HTTP_RESPONSE not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
        return
    headers = encoded(verdict.headers)
    start = {"type": f"{_HTTP_RESPONSE}.start", "status": verdict.status, "headers": headers}
    await send(start)
    await send({"type": f"{_HTTP_RESPONSE}.body", "body": verdict.body})


def _decoded(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def with_headers(more: list[tuple[bytes, bytes]], headers: Any) -> list[tuple[bytes, bytes]]:
    """The headers of a response and rate limit headers that it does not have itself."""
    there = list(headers)
    # What all rate limit headers have in their names: without it, none of them is there.
    if b"ratelimit" not in b" ".join(dict(there)).lower():
        return there + more
    names = {name.lower() for name, _ in there}
    return there + [(name, value) for name, value in more if name not in names]
