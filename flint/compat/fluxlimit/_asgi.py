"""fluxlimit for ASGI: a middleware, and a decorator for endpoints."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flint.compat.fluxlimit._errors import RateLimitExceeded
from flint.compat.fluxlimit._helpers import (
    apply_rate_limit_headers,
    default_exceeded_payload,
    retry_after_headers,
    should_skip_path,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from flint.compat.fluxlimit._core import RateLimiter


def _host(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _exceeded(request: Request, exc: RateLimitExceeded) -> Response:  # noqa: ARG001 - as users' own
    return JSONResponse(
        default_exceeded_payload(exc), status_code=429, headers=retry_after_headers(exc)
    )


class RateLimitMiddleware:
    """Applies the limiter's default rule to each request: keyed by client and path, or by
    `key_func(request)`."""

    def __init__(
        self,
        app: ASGIApp,
        limiter: RateLimiter,
        key_func: Callable[[Request], str] | None = None,
        skip_paths: Iterable[str] | None = None,
        on_exceeded: Callable[[Request, RateLimitExceeded], Response] | None = None,
        auto_connect: bool = False,
    ) -> None:
        self.app = app
        self.limiter = limiter
        self.key_func = key_func or (lambda request: f"{_host(request)}:{request.url.path}")
        self.skip_paths = list(skip_paths or ())
        self.on_exceeded = on_exceeded or _exceeded
        self.auto_connect = auto_connect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or should_skip_path(scope["path"], self.skip_paths):
            await self.app(scope, receive, send)
            return
        if self.auto_connect and not self.limiter._connected:
            await self.limiter.connect()
        request = Request(scope, receive)
        try:
            result = await self.limiter.check_or_raise(self.key_func(request))
        except RateLimitExceeded as error:
            await self.on_exceeded(request, error)(scope, receive, send)
            return
        cost = self.limiter.rule_of(None).cost

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                apply_rate_limit_headers(MutableHeaders(scope=message), result, cost=cost)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _request_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    found = kwargs.get("request")
    for one in (found, *args):
        if isinstance(one, Request):
            return one
    raise RuntimeError("Could not find Request object for rate limiting")


def rate_limit(
    limiter: RateLimiter,
    rule_name: str | None = None,
    cost: int = 1,
    key_func: Callable[[Request], str] | None = None,
    on_exceeded: Callable[[Request, RateLimitExceeded], Response] | None = None,
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """Limits an endpoint that takes a Request: keyed by client, or by `key_func(request)`."""

    def decorate(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(endpoint)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            request = _request_of(args, kwargs)
            key = (key_func or _host)(request)
            try:
                await limiter.check_or_raise(key, rule_name, cost)
            except RateLimitExceeded as error:
                return (on_exceeded or _exceeded)(request, error)
            return await endpoint(*args, **kwargs)

        return limited

    return decorate
