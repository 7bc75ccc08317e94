"""slowapi's middlewares: the default limits, for routes that have none of their own."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, cast

from starlette.datastructures import MutableHeaders
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.routing import Match, Mount, compile_path

from flint.compat.slowapi.extension import Limiter, _rate_limit_exceeded_handler

try:
    from fastapi import routing
except ImportError:  # Starlette alone
    routing = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_pattern = functools.lru_cache(maxsize=4096)(lambda path: compile_path(path)[0])
# Newer versions of FastAPI keep the routes of a router together.
_each: Callable[[Iterable[Any]], Iterable[Any]] = getattr(routing, "iter_route_contexts", iter)


def _handler(routes: Iterable[Any], scope: Any) -> Callable[..., Any] | None:
    """The function that answers; None where none does."""
    root = scope.get("root_path", "")
    path = scope["path"].removeprefix(root)
    for route in _each(routes):
        mount = getattr(route, "original_route", route)
        if isinstance(mount, Mount):
            match, child = mount.matches(scope)
            if match is Match.FULL:
                return _handler(mount.routes, {**scope, **child})
            continue
        methods = getattr(route, "methods", None)
        if methods and scope["method"] not in methods:
            continue
        if getattr(route, "path", None) is not None and _pattern(route.path).match(path):
            return cast("Callable[..., Any] | None", getattr(route, "endpoint", None))
    return None


async def _denial(limiter: Limiter, request: Request, handler: Any) -> tuple[Response | None, bool]:
    """The answer to a request that is not let in, and whether headers are to be added to that of
    one that is."""
    if not limiter._auto_check or getattr(request.state, "_rate_limiting_complete", False):
        return None, False
    try:
        await limiter._acheck_request_limit(request, handler, True)
    except Exception as error:
        # The application's own handlers are behind the middleware.
        handlers = request.app.exception_handlers
        answer = handlers.get(type(error))
        if answer is None:
            if not hasattr(error, "limit"):
                raise
            answer = _rate_limit_exceeded_handler
        found = answer(request, error)
        return (await found if inspect.isawaitable(found) else found), False
    return None, True


class SlowAPIMiddleware(BaseHTTPMiddleware):
    """slowapi's, for Starlette."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        limiter: Limiter = request.app.state.limiter
        handler = _handler(request.app.routes, request.scope) if limiter.enabled else None
        if handler is None or limiter._is_left_out(handler):
            return await call_next(request)
        denial, adds_headers = await _denial(limiter, request, handler)
        if denial is not None:
            return denial
        response = await call_next(request)
        if adds_headers:
            limiter._inject_headers(response, request.state.view_rate_limit)
        return response


class SlowAPIASGIMiddleware:
    """slowapi's, for any ASGI application of Starlette's; bodies pass piece by piece."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limiter: Limiter | None = None
        if scope["type"] == "http":
            limiter = scope["app"].state.limiter
        if limiter is None or not limiter.enabled:
            await self.app(scope, receive, send)
            return
        handler = _handler(scope["app"].routes, scope)
        if handler is None or limiter._is_left_out(handler):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        denial, adds_headers = await _denial(limiter, request, handler)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                limiter._inject_asgi_headers(headers, request.state.view_rate_limit)
            await send(message)

        answer = self.app if denial is None else denial
        await answer(scope, receive, with_headers if adds_headers else send)
