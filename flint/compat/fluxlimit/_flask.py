"""fluxlimit for Flask."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any

from flask import Flask, g, jsonify, request

from flint.compat.fluxlimit._errors import RateLimitExceeded
from flint.compat.fluxlimit._helpers import (
    apply_rate_limit_headers,
    default_exceeded_payload,
    retry_after_headers,
    should_skip_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from flint.compat.fluxlimit._algorithms import LimitResult
    from flint.compat.fluxlimit._core import RateLimiter

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process, in a thread of its own."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            _loops.clear()
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="fluxlimit", daemon=True).start()
        return loop


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


def _is_marked(view: Any, mark: str) -> bool:
    while view is not None:
        if getattr(view, mark, False):
            return True
        view = getattr(view, "__wrapped__", None)
    return False


class Fluxlimit:
    """Applies the limiter's default rule to each request of an app, and others by `limit`."""

    def __init__(
        self,
        app: Flask | None = None,
        limiter: RateLimiter | None = None,
        key_func: Callable[[], str] | None = None,
        on_exceeded: Callable[[RateLimitExceeded], Any] | None = None,
        skip_paths: Iterable[str] | None = None,
    ) -> None:
        self.limiter = limiter
        self.key_func = key_func or (lambda: f"{request.remote_addr}:{request.endpoint}")
        self.on_exceeded = on_exceeded or self._exceeded
        self.skip_paths = list(skip_paths or ())
        self._exempt: set[str] = set()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Have the app's requests limited. Raises RuntimeError without a limiter."""
        self._needed()
        app.extensions["fluxlimit"] = self
        app.before_request(lambda: self._before(app))
        app.after_request(self._after)

    def limit(
        self, rule_name: str | None = None, cost: int = 1, key_func: Callable[[], str] | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Limits a view by a rule, instead of by the default one."""

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            def denied() -> Any:
                return self._check((key_func or self.key_func)(), rule_name, cost)

            if inspect.iscoroutinefunction(view):

                @functools.wraps(view)
                async def limited(*args: Any, **kwargs: Any) -> Any:
                    answer = denied()
                    return await view(*args, **kwargs) if answer is None else answer

            else:

                @functools.wraps(view)
                def limited(*args: Any, **kwargs: Any) -> Any:
                    answer = denied()
                    return view(*args, **kwargs) if answer is None else answer

            limited._fluxlimit_decorated = True  # type: ignore[attr-defined]
            return limited

        return decorate

    def exempt(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Leaves a view out."""
        view._fluxlimit_exempt = True  # type: ignore[attr-defined]
        self._exempt.add(view.__name__)
        return view

    def _needed(self) -> RateLimiter:
        if self.limiter is None:
            raise RuntimeError("RateLimiter instance is required")
        return self.limiter

    def _before(self, app: Flask) -> Any:
        limiter = self._needed()
        if not limiter._connected:
            _run(limiter.connect())
        view = app.view_functions.get(request.endpoint or "")
        if (
            should_skip_path(request.path, self.skip_paths)
            or request.endpoint in self._exempt
            or _is_marked(view, "_fluxlimit_exempt")
            or _is_marked(view, "_fluxlimit_decorated")
        ):
            return None
        return self._check(self.key_func(), None, limiter.rule_of(None).cost)

    def _check(self, key: str, rule_name: str | None, cost: int) -> Any:
        """None, or the answer to a request that is denied."""
        try:
            result = _run(self._needed().check_or_raise(key, rule_name, cost))
        except RateLimitExceeded as error:
            return self.on_exceeded(error)
        g.fluxlimit = (result, cost)
        return None

    @staticmethod
    def _exceeded(exc: RateLimitExceeded) -> Any:
        return jsonify(default_exceeded_payload(exc)), 429, retry_after_headers(exc)

    @staticmethod
    def _after(response: Any) -> Any:
        found: tuple[LimitResult, int] | None = g.get("fluxlimit")
        if found is not None:
            apply_rate_limit_headers(response.headers, found[0], cost=found[1])
        return response


def init_fluxlimit(app: Flask, limiter: RateLimiter, **kwargs: Any) -> Fluxlimit:
    """The extension on an app."""
    return Fluxlimit(app, limiter=limiter, **kwargs)
