"""Rate limits in Django.

    # settings.py
    FLINT = {"URL": "data/limits", "DEFAULT": "100/minute"}
    MIDDLEWARE = ["flint.django.RateLimitMiddleware", ...]
    INSTALLED_APPS = ["flint.django", ...]

    # views.py
    from flint.django import ratelimit

    @ratelimit("10/minute; 100/day", key="user")
    def search(request): ...

`URL` is a path or URL for `flint.connect`, `OPTIONS` a dict of options for it, such as
`{"sync": "batch"}`. `DEFAULT`, in words, is what the middleware limits each
client to. Other entries, in capitals, are options of `Policy` for all limits: `TRUSTED_PROXIES`,
`HEADERS`, `ON_ERROR` and so on. `manage.py check` says what is wrong with them (flint.E001): that
is what the entry in INSTALLED_APPS is for. Each process opens the limiter at its first request. The
extra `flint-limiter[django]` brings Django.
"""

from __future__ import annotations

import functools
import threading
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction
    from django.conf import settings
    from django.core.checks import Error, register
    from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
    from django.http import Http404, HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase
    from django.utils.decorators import method_decorator
except ImportError:
    raise ImportError('flint.django needs Django: pip install "flint-limiter[django]"') from None

from flint._web.decision import Verdict, asettle, settle
from flint._web.found import Found
from flint._web.gate import DECIDED, Gate
from flint._web.opening import opened
from flint._web.policy import Policy, given_all
from flint._web.response import SentResponse
from flint.wsgi import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike
    from flint._web.request import Request

__all__ = ["Policy", "RateLimitMiddleware", "limiter", "ratelimit"]

View = TypeVar("View")
_open: AnyLimiter | None = None
_opening = threading.Lock()


def limiter() -> AnyLimiter:
    """The limiter of `FLINT["URL"]`, opened at the first call in this process. Any thread."""
    global _open
    if _open is None or _open.closed:
        with _opening:
            if _open is None or _open.closed:
                said = _settings()
                _open = opened(said["URL"], **said.get("OPTIONS", {}))
    return _open


# Entries of the settings that are no options of a policy.
_NO_POLICY = ("url", "options", "default", "policy")


def _settings() -> dict[str, Any]:
    found = getattr(settings, "FLINT", None)
    if not isinstance(found, dict) or "URL" not in found:
        raise ValueError('settings.FLINT must be a dict with "URL", such as "data/limits"')
    return found


def policy_of(limits: RateLike | None, options: dict[str, Any]) -> Policy:
    """A policy with the options of the settings where others are not given."""
    said = {name.lower(): value for name, value in _settings().items()}
    common = {name: value for name, value in said.items() if name not in _NO_POLICY}
    return Policy(limits, **{**common, **options})


def _policy_of_all() -> Policy | Sequence[Policy] | None:
    """What the middleware limits every request to; None where the settings do not say."""
    said = _settings()
    if said.get("POLICY") is None:
        return None if said.get("DEFAULT") is None else policy_of(said["DEFAULT"], {})
    if said.get("DEFAULT") is not None:
        raise TypeError("POLICY takes the place of DEFAULT")
    return cast("Policy", said["POLICY"])


def check_settings(**_: Any) -> list[Any]:
    """What `manage.py check` says about settings.FLINT."""
    try:
        policy_of(_settings().get("DEFAULT"), {})
        given_all(_policy_of_all(), None, {}, knows_route=False)
        if not isinstance(_settings().get("OPTIONS", {}), dict):
            raise TypeError("OPTIONS must be a dict of options for flint.connect")
    except (TypeError, ValueError) as error:
        return [Error(f"settings.FLINT: {error}", id="flint.E001")]
    return []


register("security")(check_settings)


class _Request(WsgiRequest):
    def __init__(self, request: Any, user: str | None) -> None:
        self._environ = request.META
        self.native = request
        self.method = request.method
        self.path = request.path
        self.peer = request.META.get("REMOTE_ADDR") or None
        self.user = user
        self.route = _route(request)


def _route(request: Any) -> str | None:
    match = getattr(request, "resolver_match", None)
    return None if match is None else "/" + match.route


def _name(user: Any) -> str | None:
    return str(user.pk) if getattr(user, "is_authenticated", False) else None


def request_of(request: Any, user: Any) -> _Request:
    """A request as the core sees it, of somebody who may have logged in."""
    return _Request(request, _name(user))


def _asked(policy: Policy, request: Any) -> _Request:
    user = _name(getattr(request, "user", None)) if "user" in policy.parts else None
    return _Request(request, user)


async def _aasked(policy: Policy, request: Any) -> _Request:
    """Asks for the user without blocking the event loop."""
    user = None
    if "user" in policy.parts and hasattr(request, "auser"):
        user = _name(await request.auser())
    return _Request(request, user)


def _gate(policies: tuple[Policy, ...]) -> Gate:
    # Who has logged in may be a question to the database, asked only if it is a part of a key.
    asking = next((one for one in policies if "user" in one.parts), policies[0])
    return Gate(policies, functools.partial(_asked, asking), functools.partial(_aasked, asking))


def _denial(policy: Policy, request: Any, verdict: Verdict) -> Any:
    if policy.on_denied is not None:
        return policy.on_denied(request, verdict)
    return _response(verdict)


def _response(verdict: Verdict) -> Any:
    headers = {name: value for name, value in verdict.headers if name != "Content-Length"}
    return HttpResponse(verdict.body, status=verdict.status, headers=headers)


def _with_headers(more: list[tuple[str, str]], response: Any) -> Any:
    headers = response.headers
    # What all of them have in their names: without it, the view has set none of them.
    is_there = "ratelimit" in " ".join(headers).lower()
    for name, value in more:
        if not is_there or name not in headers:
            headers[name] = value
    return response


def _sent(response: Any) -> SentResponse:
    return SentResponse(response.status_code, response.headers.items())


def _status(error: Exception) -> int:
    """Of the answer that Django gives to an exception."""
    if isinstance(error, Http404):
        return 404
    if isinstance(error, PermissionDenied):
        return 403
    return 400 if isinstance(error, (BadRequest, SuspiciousOperation)) else 500


def _limited(
    gate: Gate, request: Any, answer: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    found = gate.check(
        limiter(), request, request.method, request.META.get("REMOTE_ADDR"), _route(request)
    )
    if not isinstance(found, Verdict):
        response = answer(request, *args, **kwargs)
        return _with_headers(gate.headers(found), response) if gate.is_shown else response
    if not found.allowed:
        return _denial(found.policy or gate.policy, request, found)
    try:
        response = answer(request, *args, **kwargs)
    except Exception as error:
        settle(limiter(), found, SentResponse(_status(error)))
        raise
    settle(limiter(), found, _sent(response))
    return _with_headers(found.headers, response)


async def _alimited(
    gate: Gate, request: Any, answer: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    peer = request.META.get("REMOTE_ADDR")
    found: Any = gate.acheck(limiter(), request, request.method, peer, _route(request))
    if found.__class__ not in DECIDED:
        found = await found
    if found.__class__ is not Verdict:
        response = await answer(request, *args, **kwargs)
        return _with_headers(gate.headers(found), response) if gate.is_shown else response
    if not found.allowed:
        denial = _denial(found.policy or gate.policy, request, found)
        return await denial if isawaitable(denial) else denial
    try:
        response = await answer(request, *args, **kwargs)
    except Exception as error:
        await asettle(limiter(), found, SentResponse(_status(error)))
        raise
    await asettle(limiter(), found, _sent(response))
    return _with_headers(found.headers, response)


class RateLimitMiddleware:
    """Limits every request to `FLINT["DEFAULT"]`, for each client, or by `FLINT["POLICY"]`: a
    `Policy`, or several that are decided together. Sync and async. It runs before the view is
    known: its options cannot be "route". Stands behind the authentication when `FLINT["KEY"]` is
    "user"."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        policy = _policy_of_all()
        if policy is None:
            raise ValueError('settings.FLINT needs "DEFAULT", such as "100/minute"')
        self._gate = _gate(given_all(policy, None, {}, knows_route=False))
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        limited = _alimited if self._is_async else _limited
        return limited(self._gate, request, self._get_response)


def ratelimit(
    limits: RateLike | None = None,
    *,
    policy: Policy | Sequence[Policy] | None = None,
    **options: Any,
) -> Callable[[View], View]:
    """Limit a view: a function, a coroutine function or a class. Each route counts by itself, for
    each client; a `scope` of another name is shared by all that have it and the same limits. The
    options are those of `Policy`, checked here, and FLINT's where they are not given, read at the
    first request. `policy` is one that has been made, or several that are decided together: a
    request counts in all of them or in none."""
    own = {"scope": "route", **options} if policy is None else options
    given = given_all(policy, limits, own)

    @functools.cache
    def gate() -> Gate:  # the settings are there when the first request is
        return _gate(given if policy is not None else (policy_of(limits, own),))

    def decorate(view: View) -> View:
        if isinstance(view, type):
            wrap = awrapped if getattr(view, "view_is_async", False) else wrapped
            return cast("View", method_decorator(wrap, name="dispatch")(view))
        function = cast("Callable[..., Any]", view)
        return cast("View", (awrapped if iscoroutinefunction(function) else wrapped)(function))

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
            return _limited(gate(), request, function, *args, **kwargs)

        return limited

    def awrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await _alimited(gate(), request, function, *args, **kwargs)

        return limited

    return decorate


# ---- For flint.rate_limit ----------------------------------------------------------------------


class FoundRequest(Found):
    """A request that has been found among a function's arguments."""

    def __init__(self, request: Any) -> None:
        self._native = request

    def request(self, policy: Policy) -> Request:
        return _asked(policy, self._native)

    async def arequest(self, policy: Policy) -> Request:
        return await _aasked(policy, self._native)

    @property
    def limiter(self) -> AnyLimiter | None:
        return limiter() if hasattr(settings, "FLINT") else None

    def denied(self, verdict: Verdict) -> Any:
        return _response(verdict)

    def allowed(self, verdict: Verdict, answer: Any) -> Any:
        if isinstance(answer, HttpResponseBase):
            return _with_headers(verdict.headers, answer)
        return answer


def found(value: object, kwargs: dict[str, Any]) -> Found | None:
    del kwargs
    request = getattr(value, "_request", value)  # what Django REST framework wraps
    return FoundRequest(request) if isinstance(request, HttpRequest) else None
