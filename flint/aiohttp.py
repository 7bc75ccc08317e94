"""Rate limits in aiohttp's server.

    from aiohttp import web
    from flint.aiohttp import setup

    app = web.Application()
    setup(app, "data/limits", "100/minute", scope="route")

The extra `flint-limiter[aiohttp]` brings what this module needs.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

try:
    from aiohttp import web
except ImportError:
    raise ImportError('flint.aiohttp needs aiohttp: pip install "flint-limiter[aiohttp]"') from None

from flint._web.decision import Verdict, asettle
from flint._web.found import Found
from flint._web.gate import DECIDED, Gate
from flint._web.opening import opened_for
from flint._web.policy import Policy, given_all
from flint._web.response import SentResponse, added

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["Policy", "setup"]


_LIMITER: web.AppKey[Any] = web.AppKey("flint", object)


class _Request:
    def __init__(self, request: web.Request) -> None:
        self.native = request
        self.method = request.method
        self.path = request.path
        self.user: str | None = None  # aiohttp knows none; a callable key does
        self.route = _route(request)
        self.peer = _peer(request)

    def headers(self, name: str) -> list[str]:
        return self.native.headers.getall(name, [])


def _route(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _peer(request: web.Request) -> str | None:
    name = None if request.transport is None else request.transport.get_extra_info("peername")
    return name[0] if isinstance(name, tuple) and name else None


def setup(
    app: web.Application,
    limiter: AnyLimiter | str | os.PathLike[str],
    limits: RateLike | None = None,
    *,
    policy: Policy | Sequence[Policy] | None = None,
    **options: Any,
) -> AnyLimiter:
    """Limit the requests of an application, and return the limiter.

    `limiter` is a limiter, or a path or URL for `flint.connect`; what was opened here is closed
    with the application. `limits` and the other options are those of `flint.aiohttp.Policy`, or
    `policy` is one, or several that are decided together: a request counts in all of them or in
    none. May be called several times, for several limits: the first to deny answers. The event loop
    is never blocked. `on_denied` is given the request and the verdict and returns a response.
    Headers that the application has set itself are left.

    Raises TypeError or ValueError for an option, with its name, ClosedError for a limiter that is
    closed, and what opening one raises.
    """
    policies = given_all(policy, limits, options)
    if any("user" in one.parts for one in policies):
        raise ValueError("key cannot be 'user' in aiohttp, which knows none; give a callable")
    gate = Gate(policies, _Request)
    chosen = gate.policy
    is_by_route = chosen.scope == "route"
    found = opened_for(policies, limiter)
    # Newer versions ask for a key of their own kind.
    kind: Any = getattr(web, "RequestKey", None)
    name = f"flint.{id(policies)}"
    key = name if kind is None else kind(name, object)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = _route(request) if is_by_route else None
        decided: Any = gate.acheck(found, request, request.method, _peer(request), route)
        if decided.__class__ not in DECIDED:
            decided = await decided
        if decided.allowed:
            if gate.is_shown or decided.__class__ is Verdict:
                request[key] = decided
            return await handler(request)
        return await _denial(decided.policy or chosen, request, decided)

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        decided: Any = request.get(key)
        if decided is None:
            return
        if decided.__class__ is not Verdict:
            more = gate.headers(decided)
        else:
            if decided.pending:
                sent = SentResponse(response.status, response.headers.items())
                await asettle(found, decided, sent)
            more = decided.headers
        response.headers.extend(added(more, response.headers.items()))

    if _LIMITER not in app:
        app[_LIMITER] = found
    app.middlewares.append(middleware)
    app.on_response_prepare.append(prepare)
    if found is not limiter:

        async def close(_: web.Application) -> None:
            await found.aclose()

        app.on_cleanup.append(close)
    return found


async def _denial(policy: Policy, request: web.Request, verdict: Verdict) -> web.StreamResponse:
    if policy.on_denied is not None:
        own = policy.on_denied(request, verdict)
        answer: web.StreamResponse = await own if inspect.isawaitable(own) else own
        return answer
    return _response(verdict)


def _response(verdict: Verdict) -> web.Response:
    headers = [(name, value) for name, value in verdict.headers if name != "Content-Length"]
    return web.Response(body=verdict.body, status=verdict.status, headers=headers)


# ---- For flint.rate_limit ----------------------------------------------------------------------


class FoundRequest(Found):
    """A request that has been found among a function's arguments."""

    def __init__(self, request: web.Request) -> None:
        self._native = request
        self._request = _Request(request)

    @property
    def limiter(self) -> AnyLimiter | None:
        return self._native.config_dict.get(_LIMITER)

    def denied(self, verdict: Verdict) -> Any:
        return _response(verdict)

    def allowed(self, verdict: Verdict, answer: Any) -> Any:
        if isinstance(answer, web.StreamResponse) and not answer.prepared:
            answer.headers.extend(added(verdict.headers, answer.headers.items()))
        return answer


def found(value: object, kwargs: dict[str, Any]) -> Found | None:
    del kwargs
    request = getattr(value, "request", value)  # of a view of a class
    return FoundRequest(request) if isinstance(request, web.Request) else None
