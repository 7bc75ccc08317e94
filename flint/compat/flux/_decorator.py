"""flux's decorator, and whose call it is."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any

from flint.compat.flux._errors import RateLimitExceeded, whole
from flint.compat.flux._limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint.compat.flux._config import RateLimitPolicy
    from flint.compat.flux._result import RateLimitResult

_UNKNOWN = "0.0.0.0"
_TOO_MANY = 429


def get_ip(request: Any) -> str:
    """The address of who has connected; headers, which anybody can write, are not read."""
    client = getattr(request, "client", None)
    named = getattr(client, "host", None) or getattr(request, "remote_addr", None)
    return str(named or getattr(request, "META", {}).get("REMOTE_ADDR") or _UNKNOWN)


def generate_identity(request: Any, key: Any = None) -> str:
    """Whose a call is: what `key` returns for the request (or without it, if it takes none), `key`
    itself, or the address."""
    if key is None:
        return f"ip:{get_ip(request)}"
    if not callable(key):
        return str(key)
    try:
        inspect.signature(key).bind(request)
    except TypeError:
        return str(key())
    except ValueError:  # a built-in function that tells nothing of what it takes
        pass
    return str(key(request))


def rate_limit(
    name: str | None = None,
    *,
    requests: int | None = None,
    period: float | None = None,
    burst: int | None = None,
    policy: RateLimitPolicy | str | None = None,
    key: Any = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Limits a function or coroutine, each client by its address or by `key`: to `name` of the
    configuration, to these numbers, or to the name with these numbers instead of its own. A denial
    is the framework's own answer, 429; RateLimitExceeded where there is no framework. The limiter
    is made at the first call, which raises what making it raises."""
    given = {"requests": requests, "period": period, "burst": burst, "policy": policy}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        endpoint = name or function.__name__
        scope = name or f"{function.__module__}.{function.__qualname__}"
        limiter = _once(lambda: _limiter(name, given))

        def asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str]:
            request = _request(args, kwargs)
            return request, f"{scope}:{generate_identity(request, key)}"

        @functools.wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            request, whose = asked(args, kwargs)
            found = limiter().hit(whose, endpoint)
            return function(*args, **kwargs) if found.allowed else _denied(request, whose, found)

        @functools.wraps(function)
        async def alimited(*args: Any, **kwargs: Any) -> Any:
            request, whose = asked(args, kwargs)
            found = await limiter().ahit(whose, endpoint)
            if not found.allowed:
                return _denied(request, whose, found)
            return await function(*args, **kwargs)

        return alimited if inspect.iscoroutinefunction(function) else limited

    return decorate


def _limiter(name: str | None, given: dict[str, Any]) -> RateLimiter:
    if name is None:
        return RateLimiter(**given)
    named = RateLimiter.from_config(name)
    over = {what: value for what, value in given.items() if value is not None}
    if not over:
        return named
    if "requests" in over and "burst" not in over and named.burst == named.requests:
        over["burst"] = over["requests"]
    own = {what: getattr(named, what) for what in given}
    return RateLimiter(**{**own, **over})


def _once(make: Callable[[], RateLimiter]) -> Callable[[], RateLimiter]:
    """Makes it at the first call, whichever thread that comes from."""
    lock = threading.Lock()
    made: list[RateLimiter] = []

    def get() -> RateLimiter:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


# ---- Frameworks --------------------------------------------------------------------------------

# None of them is imported unless the program has: who has a request of one has imported it.


def _request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if "request" in kwargs:
        return kwargs["request"]
    for value in args:
        if any(
            hasattr(value, one) and hasattr(value, other)
            for one, other in (("method", "url"), ("META", "GET"), ("client", "scope"))
        ):
            return value
    flask: Any = sys.modules.get("flask")
    if flask is not None and flask.has_request_context():
        return flask.request._get_current_object()
    return None


def _framework(request: Any) -> str | None:
    """The framework that a request is from."""
    known = {"django": "django", "rest_framework": "django"}
    known |= {"starlette": "starlette", "werkzeug": "flask", "flask": "flask"}
    for base in type(request).__mro__:
        found = known.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    return None


def _denied(request: Any, key: str, found: RateLimitResult) -> Any:
    retry_after = whole(found.retry_after or 0)
    body = {
        "error": "Too Many Requests",
        "retry_after": retry_after,
        "detail": f"Rate limit exceeded. Try again in {retry_after} seconds.",
    }
    framework, headers = _framework(request), found.to_headers()
    if framework == "django":
        from django.http import JsonResponse

        return JsonResponse(body, status=_TOO_MANY, headers=headers)
    if framework == "flask":
        from flask import jsonify

        return jsonify(body), _TOO_MANY, headers
    if framework == "starlette":
        from starlette.responses import JSONResponse

        return JSONResponse(body, status_code=_TOO_MANY, headers=headers)
    raise RateLimitExceeded(key, found.retry_after or 0)
