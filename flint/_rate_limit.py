"""`flint.rate_limit`: one decorator for every framework, and for functions without any."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from flint._places import shared_options
from flint._surface.arguments import refusal
from flint._surface.decorator import decorate, require
from flint._web.decision import adecide, decide
from flint._web.keys import counter_key, limit_of, of_callable
from flint._web.opening import opened, opened_for
from flint._web.policy import Policy, units
from flint.errors import FlintError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike
    from flint._web.found import Found

    Where: TypeAlias = AnyLimiter | str | os.PathLike[str]

# For each framework whose requests are arguments, who knows them. A framework is never imported
# here: who has given one of its requests has it.
_SKINS = {
    "starlette": "flint.starlette",
    "django": "flint.django",
    "rest_framework": "flint.django",
    "aiohttp": "flint.aiohttp",
}
# A request is the first argument, or stands behind `self`.
_MOST_POSITIONS = 3
_OF_THE_MIDDLEWARE = ("when", "problem", "on_denied")

_names: Counter[str] = Counter()
_opening = threading.RLock()
_default: AnyLimiter | None = None


def default_url() -> str:
    """Where limits are counted that name no place."""
    return os.environ.get("FLINT_URL") or os.environ.get("FLINT_DATA_DIR") or ".flint"


def default_limiter() -> AnyLimiter:
    """The limiter of who has named none: that of FLINT_URL or FLINT_DATA_DIR, else the one in
    `.flint`; a directory is shared by the processes of the machine. Opened at the first call of the
    process."""
    global _default
    with _opening:
        if _default is None or _default.closed:
            url = default_url()
            _default = opened(url, **shared_options(url))
        return _default


@functools.lru_cache(maxsize=1024)
def _skin_of(kind: type) -> Any:
    """The module that knows values of this type; None if none does."""
    for base in kind.__mro__:
        name = _SKINS.get(base.__module__.partition(".")[0])
        if name is not None:
            return importlib.import_module(name)
    return None


def _find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found | None:
    """The request that a function is called for."""
    for value in (*args[:_MOST_POSITIONS], *kwargs.values()):
        skin = _skin_of(type(value))  # type: ignore[arg-type]
        found: Found | None = None if skin is None else skin.found(value, kwargs)
        if found is not None:
            return found
    flask: Any = sys.modules.get("flask")
    if flask is not None and flask.has_request_context():
        of_context: Found = importlib.import_module("flint.flask").FoundRequest()
        return of_context
    return None


def _own_scope(function: Callable[..., Any]) -> str:
    """A name that no other function has: of two that are called the same, the second is "#2"."""
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
    with _opening:
        _names[name] += 1
        return name if _names[name] == 1 else f"{name}#{_names[name]}"


class _Limit:
    """What one decorator limits, and how it decides about a call."""

    def __init__(
        self,
        function: Callable[..., Any],
        limits: RateLike,
        key: Any,
        limiter: Where | None,
        options: dict[str, Any],
    ) -> None:
        scope = options.pop("scope", None)
        self._has_key = key is not None
        self.policy = Policy(
            limits,
            key="ip" if key is None else key,
            scope=_own_scope(function) if scope is None else scope,
            **options,
        )
        self._limiter = limiter if limiter is None or hasattr(limiter, "acheck") else None
        self._where = limiter

    def limiter(self, found: Found | None) -> AnyLimiter:
        if self._where is None:
            of_application = None if found is None else found.limiter
            return default_limiter() if of_application is None else of_application
        if self._limiter is None:
            with _opening:
                if self._limiter is None:
                    self._limiter = opened(self._where)
        limiter: Any = self._limiter
        return limiter  # type: ignore[no-any-return]

    # ---- Calls without a request ----

    def _ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """Limiter, key, cost and limit of a call; None if it is not limited."""
        policy = self.policy
        parts = []
        for part in policy.parts if self._has_key else ():
            if not callable(part):
                raise RuntimeError(
                    f"key={part!r} needs a request, and {policy.scope} has been called without one"
                )
            value = part(*args, **kwargs)
            if value is None:
                return None
            parts.append(of_callable(value))
        cost = policy.cost(*args, **kwargs) if callable(policy.cost) else policy.cost
        limiter = self.limiter(None)
        limit = limit_of(limiter, policy)
        key = counter_key(policy, limit, None, " ".join(parts) or "call")
        return limiter, key, units("cost", cost), limit

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise RateLimitExceeded unless the call is admitted."""
        ask = self._ask(args, kwargs)
        if ask is None:
            return
        limiter, key, cost, limit = ask
        try:
            result = limiter.check(key, cost, limit=limit)
        except FlintError as error:
            self._failed(error)
            return
        if not self.policy.shadow:
            require(result)

    async def acheck(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The same, without blocking the event loop."""
        ask = self._ask(args, kwargs)
        if ask is None:
            return
        limiter, key, cost, limit = ask
        try:
            result = await limiter.acheck(key, cost, limit=limit)
        except FlintError as error:
            self._failed(error)
            return
        if not self.policy.shadow:
            require(result)

    def _failed(self, error: FlintError) -> None:
        if self.policy.on_error != "allow":
            raise error


def rate_limit(
    limits: RateLike, key: Any, limiter: Where | None, options: dict[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorator; its options are checked now, with a name that no function has."""
    for name in _OF_THE_MIDDLEWARE:
        if options.get(name):
            raise ValueError(f"{name} is an option of the middlewares, not of rate_limit")
    named = {**options, "scope": "rate_limit"}
    policy = Policy(limits, key="ip" if key is None else key, **named)
    if limiter is not None and not isinstance(limiter, str) and not hasattr(limiter, "__fspath__"):
        opened_for((policy,), limiter)  # it is checked; a path or URL is opened at the first call
    if options.get("scope") == "route":
        raise ValueError(refusal("scope", "a name; by default each function has its own", "route"))

    def decorator(function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(decorator(function.__func__))
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"rate_limit decorates functions and methods, not {function!r}")
        return _wrapped(_Limit(function, limits, key, limiter, dict(options)), function)

    return decorator


def _wrapped(limit: _Limit, function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return decorate(limit, function)
    wrap = _wrapped_coroutine if inspect.iscoroutinefunction(function) else _wrapped_function
    # FastAPI gives to a route what its signature asks for. Whoever makes one has imported it.
    starlette = importlib.import_module("flint.starlette") if "fastapi" in sys.modules else None
    signature = None if starlette is None else starlette.signature_for_fastapi(function)
    wrapper: Any = functools.wraps(function)(
        wrap(limit, function, None if signature is None else starlette)
    )
    if signature is not None:
        wrapper.__signature__ = signature
    # For the OpenAPI page of FastAPI.
    codes = getattr(function, "flint_status_codes", ())
    wrapper.flint_status_codes = (limit.policy.status_code, *codes)
    return wrapper  # type: ignore[no-any-return]


def _wrapped_function(
    limit: _Limit, function: Callable[..., Any], starlette: Any
) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = _find(args, kwargs)
        if starlette is not None:
            kwargs = starlette.without_injected(kwargs)
        if found is None:
            limit.check(args, kwargs)
            return function(*args, **kwargs)
        verdict = decide(limit.limiter(found), limit.policy, found.request(limit.policy))
        if not verdict.allowed:
            return found.denied(verdict)
        return found.allowed(verdict, function(*args, **kwargs))

    return wrapper


def _wrapped_coroutine(
    limit: _Limit, function: Callable[..., Any], starlette: Any
) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = _find(args, kwargs)
        if starlette is not None:
            kwargs = starlette.without_injected(kwargs)
        if found is None:
            await limit.acheck(args, kwargs)
            return await function(*args, **kwargs)
        verdict = await adecide(
            limit.limiter(found), limit.policy, await found.arequest(limit.policy)
        )
        if not verdict.allowed:
            return found.denied(verdict)
        return found.allowed(verdict, await function(*args, **kwargs))

    return wrapper
