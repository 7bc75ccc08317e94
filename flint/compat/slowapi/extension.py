"""slowapi's Limiter."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

from starlette.config import Config
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flint._web.keys import plain
from flint.compat._place import Place, counter_of
from flint.compat.slowapi.errors import RateLimitExceeded
from flint.compat.slowapi.wrappers import ALGORITHMS, Limit, LimitGroup, RateLimitItem, parse_many

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from starlette.datastructures import MutableHeaders

    from flint._native import Result
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import Rate
    from flint._surface.types import Algorithm
    from flint.compat._place import Where
    from flint.compat.slowapi.wrappers import Text

Function = TypeVar("Function", bound="Callable[..., Any]")
_NS = 1_000_000_000
_PREFIX = "slowapi "  # of every key
_MOST_CHECKS = 5  # of a place that failed, before the pause between them begins anew
_log = logging.getLogger("slowapi")
_log.addHandler(logging.NullHandler())
# What a setting of RATELIMIT_* is, unless it is set.
_HEADERS = {
    "LIMIT": "X-RateLimit-Limit",
    "REMAINING": "X-RateLimit-Remaining",
    "RESET": "X-RateLimit-Reset",
    "RETRY_AFTER": "Retry-After",
}


class Shown(NamedTuple):
    """What headers say: a limit, whose it is, and what the limiter said."""

    limit: RateLimitItem
    args: tuple[str, ...]
    result: Result


class _Ask(NamedTuple):
    key: str
    cost: int  # 0 looks at the limit only
    rate: Rate

    def of(self, ask: Callable[..., Any], look: Callable[..., Any]) -> Any:
        return (
            ask(self.key, self.cost, limit=self.rate)
            if self.cost
            else look(self.key, 1, limit=self.rate)
        )


def _rate_limit_exceeded_handler(request: Request, exc: RateLimitExceeded) -> Response:
    """The answer to a request that a limit has denied."""
    response = JSONResponse({"error": f"Rate limit exceeded: {exc.detail}"}, status_code=429)
    limiter: Limiter = request.app.state.limiter
    return limiter._inject_headers(response, request.state.view_rate_limit)


class Limiter:
    """slowapi's, counting in Flint; the package's docstring says where and what differs. Any thread
    and event loop. Raises ValueError for a strategy or a limit that there is not, TypeError for
    another storage, and what opening the limiter raises."""

    def __init__(
        self,
        key_func: Callable[..., str],
        default_limits: Sequence[Text] = (),
        application_limits: Sequence[Text] = (),
        headers_enabled: bool = False,
        strategy: str | None = "moving-window",
        storage_uri: None = None,
        storage_options: dict[str, Any] | None = None,
        auto_check: bool = True,
        swallow_errors: bool = False,
        in_memory_fallback: Sequence[Text] = (),
        in_memory_fallback_enabled: bool = False,
        retry_after: str | None = None,
        key_prefix: str = "",
        enabled: bool = True,
        config_filename: str | None = None,
        key_style: Literal["endpoint", "url"] = "url",
        *,
        limiter: Where | None = None,
    ) -> None:
        if storage_uri is not None:
            raise TypeError(f"limiter= takes the place of storage_uri={storage_uri!r}")
        is_there = config_filename is None and Path(".env").is_file()
        self._settings = Config(".env" if is_there else config_filename)
        self.enabled = self._setting("ENABLED", enabled)
        self._auto_check = auto_check
        self._swallow_errors = self._setting("SWALLOW_ERRORS", swallow_errors)
        self._headers_enabled = headers_enabled or self._setting("HEADERS_ENABLED", False)
        self._headers = {
            what: self._setting(f"HEADER_{what}", name) for what, name in _HEADERS.items()
        }
        self._retry_after = retry_after or self._setting("HEADER_RETRY_AFTER_VALUE", None)
        self._key_func = key_func
        self._key_prefix = key_prefix or self._setting("KEY_PREFIX", None)
        self._key_style = key_style
        self._algorithm = self._read_strategy(strategy)
        self._application = self._groups(application_limits, "APPLICATION", "global")
        self._defaults = self._groups(default_limits, "DEFAULT")
        self._of_fallback = self._groups(in_memory_fallback, "IN_MEMORY_FALLBACK")
        self._has_fallback = bool(self._of_fallback) or (
            in_memory_fallback_enabled or self._setting("IN_MEMORY_FALLBACK_ENABLED", False)
        )
        self._place = Place(limiter, **(storage_options or {}))
        self._place.limiter()
        self._fallback = Place(":memory:")
        self._is_down = False
        self._next_check_s, self._checks = 0.0, 0
        # By the function that was decorated, whatever has been put around it since.
        self._of_routes: dict[Any, list[LimitGroup]] = {}
        self._exempt: set[Any] = set()

    def _setting(self, name: str, default: Any) -> Any:
        cast_to: Any = type(default) if isinstance(default, (bool, str)) else None
        return self._settings(f"RATELIMIT_{name}", default=default, cast=cast_to)

    def _read_strategy(self, given: str | None) -> Algorithm:
        strategy = given or self._setting("STRATEGY", "moving-window")
        if strategy not in ALGORITHMS:
            raise ValueError(f"strategy must be one of {', '.join(ALGORITHMS)}, not {strategy!r}")
        return ALGORITHMS[strategy]

    def _groups(
        self, given: Sequence[Text], setting: str, scope: str | None = None
    ) -> list[LimitGroup]:
        configured = self._setting(setting, None)
        texts = list(given) or ([] if configured is None else [configured])
        groups = [
            LimitGroup(text, self._key_func, {"override_defaults": False}, scope) for text in texts
        ]
        for group in groups:
            _read_now(group)
        return groups

    @property
    def limiter(self) -> AnyLimiter:
        """The limiter of Flint that counts: that of the fallback while the place cannot be used."""
        return (self._fallback if self._is_down and self._has_fallback else self._place).limiter()

    def reset(self) -> None:
        """Forget all that slowapi's limits have counted in this place."""
        limiter = self.limiter
        for status in limiter.list(counters=True):
            key = str(status["key"])
            if key.partition(" @ ")[2].startswith(_PREFIX):
                limiter.reset(key)

    # ---- Decorators ----

    def limit(
        self,
        limit_value: Text,
        key_func: Callable[..., str] | None = None,
        per_method: bool = False,
        methods: Sequence[str] | None = None,
        error_message: Text | None = None,
        exempt_when: Callable[..., bool] | None = None,
        cost: int | Callable[..., int] = 1,
        override_defaults: bool = True,
    ) -> Callable[[Function], Function]:
        """Limit a route, to a text or what a callable returns for each request, which may be given
        the `key`. The route needs a parameter `request`. Where headers are enabled, one that
        returns no response needs a parameter `response` too."""
        about = {
            "per_method": per_method,
            "methods": methods and [method.lower() for method in methods],
            "error_message": error_message,
            "exempt_when": exempt_when,
            "cost": cost,
            "override_defaults": override_defaults,
        }
        return self._decorator(LimitGroup(limit_value, key_func or self._key_func, about))

    def shared_limit(
        self,
        limit_value: Text,
        scope: Text,
        key_func: Callable[..., str] | None = None,
        error_message: Text | None = None,
        exempt_when: Callable[..., bool] | None = None,
        cost: int | Callable[..., int] = 1,
        override_defaults: bool = True,
    ) -> Callable[[Function], Function]:
        """`limit`, counted together with all that have this scope: a text, or a callable that is
        given the name of the endpoint."""
        about = {
            "error_message": error_message,
            "exempt_when": exempt_when,
            "cost": cost,
            "override_defaults": override_defaults,
        }
        return self._decorator(LimitGroup(limit_value, key_func or self._key_func, about, scope))

    def exempt(self, obj: Function) -> Function:
        """Leave a route out of all limits."""
        self._exempt.add(inspect.unwrap(obj))
        return obj

    def _decorator(self, group: LimitGroup) -> Callable[[Function], Function]:
        _read_now(group)

        def decorate(function: Function) -> Function:
            names = list(inspect.signature(function).parameters)
            position = next(
                (names.index(one) for one in ("request", "websocket") if one in names), -1
            )
            if position < 0:
                raise TypeError(f'No "request" or "websocket" argument on function "{function}"')
            original = inspect.unwrap(function)
            self._of_routes.setdefault(original, []).append(group)

            @functools.wraps(function)
            def limited(*args: Any, **kwargs: Any) -> Any:
                request = self._begun(position, args, kwargs)
                if request is not None:
                    self._check_request_limit(request, original, False)
                return self._ended(function(*args, **kwargs), position, args, kwargs)

            @functools.wraps(function)
            async def alimited(*args: Any, **kwargs: Any) -> Any:
                request = self._begun(position, args, kwargs)
                if request is not None:
                    await self._acheck_request_limit(request, original, False)
                return self._ended(await function(*args, **kwargs), position, args, kwargs)

            is_async = inspect.iscoroutinefunction(function)
            return cast("Function", alimited if is_async else limited)

        return decorate

    def _begun(
        self, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Request | None:
        """The request, if it is to be checked here."""
        if not self.enabled:
            return None
        request = _request(position, args, kwargs)
        if not self._auto_check or getattr(request.state, "_rate_limiting_complete", False):
            return None
        request.state._rate_limiting_complete = True
        return request

    def _ended(
        self, answer: Any, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.enabled:
            response = answer if isinstance(answer, Response) else kwargs.get("response")
            shown = getattr(_request(position, args, kwargs).state, "view_rate_limit", None)
            self._inject_headers(cast("Response", response), shown)
        return answer

    # ---- One request ----

    def _is_left_out(self, handler: Callable[..., Any]) -> bool:
        """Whether the middlewares leave it to its decorator, or alone."""
        original = inspect.unwrap(handler)
        return original in self._exempt or original in self._of_routes

    def _check_request_limit(
        self, request: Request, endpoint_func: Callable[..., Any] | None, in_middleware: bool = True
    ) -> None:
        """Raise RateLimitExceeded unless the limits let the request in. May wait for the disk."""
        steps = self._checking(request, endpoint_func, in_middleware)
        try:
            ask = next(steps)
            while True:
                try:
                    limiter = self.limiter
                    result = ask.of(limiter.check, limiter.peek)
                except Exception as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(result)
        except StopIteration:
            return

    async def _acheck_request_limit(
        self, request: Request, endpoint_func: Callable[..., Any] | None, in_middleware: bool = True
    ) -> None:
        """`_check_request_limit` without holding the event loop."""
        steps = self._checking(request, endpoint_func, in_middleware)
        try:
            ask = next(steps)
            while True:
                try:
                    limiter = self.limiter
                    result = await ask.of(limiter.acheck, limiter.apeek)
                except Exception as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(result)
        except StopIteration:
            return

    def _checking(
        self, request: Request, endpoint_func: Callable[..., Any] | None, in_middleware: bool
    ) -> Generator[_Ask, Result, None]:
        """What to ask the limiter about a request, one after another."""
        original = None if endpoint_func is None else inspect.unwrap(endpoint_func)
        name = "" if original is None else f"{original.__module__}.{original.__name__}"
        endpoint = request["path"] if self._key_style == "url" else name
        if not endpoint or not self.enabled or original in self._exempt:
            return
        try:
            limits = self._limits_of(request, endpoint, original, in_middleware)
            yield from self._deciding(request, endpoint, limits)
        except RateLimitExceeded:
            raise
        except Exception:
            if self._has_fallback and not self._is_down:
                _log.warning("Rate limit storage unreachable - falling back to in-memory storage")
                self._is_down = True
                self._next_check_s = time.monotonic() + 1
                yield from self._checking(request, endpoint_func, in_middleware)
            elif self._swallow_errors:
                _log.exception("Failed to rate limit. Swallowing error")
            else:
                raise

    def _limits_of(
        self, request: Request, endpoint: str, original: Any, in_middleware: bool
    ) -> list[Limit]:
        def of(groups: Iterable[LimitGroup]) -> list[Limit]:
            return [one for group in groups for one in group.limits(request, endpoint)]

        if self._is_down and not self._has_recovered() and self._of_fallback:
            return of(self._of_fallback)
        own = [] if in_middleware else of(self._of_routes.get(original, ()))
        found = (of(self._application) if in_middleware else []) + own
        if not any(one.override_defaults for one in own):
            found += of(self._defaults)
        return found

    def _has_recovered(self) -> bool:
        """Whether the place answers again; it is asked after 1, 2, 4 ... 32 s, and then anew."""
        if time.monotonic() < self._next_check_s:
            return False
        self._checks = self._checks % _MOST_CHECKS + 1
        self._next_check_s = time.monotonic() + 2**self._checks
        try:
            self._place.limiter().status(_PREFIX)
        except Exception:
            return False
        _log.info("Rate limit storage recovered")
        self._is_down, self._checks = False, 0
        return True

    def _deciding(
        self, request: Request, endpoint: str, limits: Iterable[Limit]
    ) -> Generator[_Ask, Result, None]:
        shown: Shown | None = None
        # Kept for the headers, whoever sets them.
        request.state.view_rate_limit = None
        for one in limits:
            if not one.is_for(request):
                continue
            scope = one.scope or endpoint
            scope += f":{request.method}" if one.per_method else ""
            whose = one.key(request)
            if not whose:
                _log.error("Skipping limit: %s. Empty value found in parameters.", one.limit)
                continue
            args = tuple(part for part in (self._key_prefix, whose, scope) if part)
            cost = one.cost(request) if callable(one.cost) else one.cost
            rate = one.limit.rate(self._algorithm)
            key = counter_of(rate, _PREFIX + " ".join(map(plain, args)))
            # What can never be let in is only looked at, as what costs nothing is.
            is_possible = cost <= one.limit.amount
            result = yield _Ask(key, cost if is_possible else 0, rate)
            is_denied = not is_possible or (cost > 0 and not result.allowed)
            if shown is None or one.limit < shown.limit or is_denied:
                request.state.view_rate_limit = shown = Shown(one.limit, args, result)
            if is_denied:
                _log.warning("ratelimit %s (%s) exceeded at endpoint: %s", one.limit, whose, scope)
                raise RateLimitExceeded(one)

    # ---- Headers ----

    def _inject_headers(self, response: Response, current_limit: Shown | None) -> Response:
        if self.enabled and self._headers_enabled and current_limit is not None:
            if not isinstance(response, Response):
                raise TypeError(
                    "parameter `response` must be an instance of starlette.responses.Response"
                )
            self._inject_asgi_headers(response.headers, current_limit)
        return response

    def _inject_asgi_headers(
        self, headers: MutableHeaders, current_limit: Shown | None
    ) -> MutableHeaders:
        """Add what is left, and when more is; a Retry-After that is there and later stays so."""
        if not self.enabled or not self._headers_enabled or current_limit is None:
            return headers
        result = current_limit.result
        now_s = (result.reset_at_ns - result.reset_after_ns) / _NS
        reset_s = 1 + result.reset_at_ns // _NS
        headers[self._headers["LIMIT"]] = str(current_limit.limit.amount)
        headers[self._headers["REMAINING"]] = str(result.remaining)
        headers[self._headers["RESET"]] = str(reset_s)
        there = headers.get("Retry-After")
        if there is not None:
            reset_s = max(_retry_at_s(there, now_s), reset_s)
        is_date = self._retry_after == "http-date"
        retry_after = formatdate(reset_s, usegmt=True) if is_date else str(int(reset_s - now_s))
        headers[self._headers["RETRY_AFTER"]] = retry_after
        return headers


def _read_now(group: LimitGroup) -> None:
    """Raises ValueError for a text that is no limit."""
    if not callable(group.provider):
        parse_many(group.provider)


def _request(position: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    found = kwargs.get("request", args[position] if position < len(args) else None)
    if not isinstance(found, Request):
        raise TypeError("parameter `request` must be an instance of starlette.requests.Request")
    return found


def _retry_at_s(value: str, now_s: float) -> int:
    """When a Retry-After says, in seconds since 1970."""
    if value.isdecimal():
        return int(now_s) + int(value)
    try:
        return int(parsedate_to_datetime(value).timestamp())
    except (TypeError, ValueError):
        raise ValueError(
            "Retry-After Header does not meet RFC2616 - value is not of http-date or int type."
        ) from None
