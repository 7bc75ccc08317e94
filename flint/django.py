"""Rate limits in Django.

    # settings.py
    FLINT = {"URL": "data/limits", "DEFAULT": "100/minute"}
    MIDDLEWARE = ["flint.django.RateLimitMiddleware", ...]

    # views.py
    from flint.django import ratelimit

    @ratelimit("10/minute; 100/day", key="user")
    def search(request): ...

`URL` is a path or URL for `flint.connect`, `OPTIONS` a dict of options for it, such as
`{"sync": "batch"}`. `DEFAULT`, in words, is what the middleware limits each
client to. Other entries, in capitals, are options of `Policy` for all limits: `TRUSTED_PROXIES`,
`HEADERS`, `ON_ERROR` and so on. `manage.py check` says what is wrong with them (flint.E001). Each
process opens the limiter at its first request. The extra `flint-limiter[django]` brings Django.
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

from flint._web.decision import adecide, asettle, decide, settle
from flint._web.found import Found
from flint._web.opening import opened
from flint._web.policy import Policy, given
from flint._web.response import SentResponse, added
from flint.wsgi import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike
    from flint._web.decision import Verdict
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
_NO_POLICY = ("url", "options", "default")


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


def check_settings(**_: Any) -> list[Any]:
    """What `manage.py check` says about settings.FLINT."""
    try:
        policy_of(_settings().get("DEFAULT"), {})
        if not isinstance(_settings().get("OPTIONS", {}), dict):
            raise TypeError("OPTIONS must be a dict of options for flint.connect")
    except (TypeError, ValueError) as error:
        return [Error(f"settings.FLINT: {error}", id="flint.E001")]
    return []


register("security")(check_settings)


class _Request(WsgiRequest):
    def __init__(self, request: Any, user: str | None) -> None:
        super().__init__({**request.META, "REQUEST_METHOD": request.method}, request)
        self.path = request.path
        self.user = user
        match = getattr(request, "resolver_match", None)
        self.route = None if match is None else "/" + match.route


def _name(user: Any) -> str | None:
    return str(user.pk) if getattr(user, "is_authenticated", False) else None


def request_of(request: Any, user: Any) -> _Request:
    """A request as the core sees it, of somebody who may have logged in."""
    return _Request(request, _name(user))


def _decide(policy: Policy, request: Any) -> Verdict:
    return decide(limiter(), policy, _asked(policy, request))


async def _adecide(policy: Policy, request: Any) -> Verdict:
    return await adecide(limiter(), policy, await _aasked(policy, request))


def _asked(policy: Policy, request: Any) -> _Request:
    user = _name(getattr(request, "user", None)) if "user" in policy.parts else None
    return _Request(request, user)


async def _aasked(policy: Policy, request: Any) -> _Request:
    """Asks for the user without blocking the event loop."""
    user = None
    if "user" in policy.parts and hasattr(request, "auser"):
        user = _name(await request.auser())
    return _Request(request, user)


def _denial(policy: Policy, request: Any, verdict: Verdict) -> Any:
    if policy.on_denied is not None:
        return policy.on_denied(request, verdict)
    return _response(verdict)


def _response(verdict: Verdict) -> Any:
    headers = {name: value for name, value in verdict.headers if name != "Content-Length"}
    return HttpResponse(verdict.body, status=verdict.status, headers=headers)


def _with_headers(verdict: Verdict, response: Any) -> Any:
    for name, value in added(verdict.headers, response.headers.items()):
        response.headers[name] = value
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


def _limited(policy: Policy, request: Any, answer: Callable[[], Any]) -> Any:
    verdict = _decide(policy, request)
    if not verdict.allowed:
        return _denial(policy, request, verdict)
    try:
        response = answer()
    except Exception as error:
        settle(limiter(), policy, verdict, SentResponse(_status(error)))
        raise
    settle(limiter(), policy, verdict, _sent(response))
    return _with_headers(verdict, response)


async def _alimited(policy: Policy, request: Any, answer: Callable[[], Any]) -> Any:
    verdict = await _adecide(policy, request)
    if not verdict.allowed:
        denial = _denial(policy, request, verdict)
        return await denial if isawaitable(denial) else denial
    try:
        response = await answer()
    except Exception as error:
        await asettle(limiter(), policy, verdict, SentResponse(_status(error)))
        raise
    await asettle(limiter(), policy, verdict, _sent(response))
    return _with_headers(verdict, response)


class RateLimitMiddleware:
    """Limits every request to `FLINT["DEFAULT"]`, for each client. Sync and async. It runs before
    the view is known: its options cannot be "route". Stands behind the authentication when
    `FLINT["KEY"]` is "user"."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        if _settings().get("DEFAULT") is None:
            raise ValueError('settings.FLINT needs "DEFAULT", such as "100/minute"')
        self._policy = given(policy_of(_settings()["DEFAULT"], {}), None, {}, knows_route=False)
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        limited = _alimited if self._is_async else _limited
        return limited(self._policy, request, lambda: self._get_response(request))


def ratelimit(limits: RateLike | None = None, **options: Any) -> Callable[[View], View]:
    """Limit a view: a function, a coroutine function or a class. Each route counts by itself, for
    each client; a `scope` of another name is shared by all that have it and the same limits. The
    options are those of `Policy`, checked here, and FLINT's where they are not given, read at the
    first request."""
    Policy(limits, **{"scope": "route", **options})

    @functools.cache
    def policy() -> Policy:  # the settings are there when the first request is
        return policy_of(limits, {"scope": "route", **options})

    def decorate(view: View) -> View:
        if isinstance(view, type):
            wrap = awrapped if getattr(view, "view_is_async", False) else wrapped
            return cast("View", method_decorator(wrap, name="dispatch")(view))
        function = cast("Callable[..., Any]", view)
        return cast("View", (awrapped if iscoroutinefunction(function) else wrapped)(function))

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
            return _limited(policy(), request, lambda: function(request, *args, **kwargs))

        return limited

    def awrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await _alimited(policy(), request, lambda: function(request, *args, **kwargs))

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
        return _with_headers(verdict, answer) if isinstance(answer, HttpResponseBase) else answer


def found(value: object, kwargs: dict[str, Any]) -> Found | None:
    del kwargs
    request = getattr(value, "_request", value)  # what Django REST framework wraps
    return FoundRequest(request) if isinstance(request, HttpRequest) else None
