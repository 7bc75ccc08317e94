"""ratelimit's decorators on Flint: `from flint.compat.ratelimit import limits, sleep_and_retry`.

>>> import flint
>>> @limits(calls=2, period=60, key="example", limiter=flint.Limiter(":memory:"))
... def call():
...     return "called"
>>> call(), call()
('called', 'called')
>>> call()
Traceback (most recent call last):
...
flint.compat.ratelimit.RateLimitException: too many calls

`limiter` is an open limiter, or where `flint.connect` opens one at the first call; without it, that
is FLINT_URL or FLINT_DATA_DIR, else the directory .flint. `key` is what the calls are counted
under; without it, the module and the name of the function.

What ratelimit 2.2.1 does otherwise:

- It counts in the decorator, which ends with the process. Here in a limiter, so that what was used
  is still used after a restart, and processes that share the place have one limit.
- Its window begins when the function is decorated, or with the first call after a window. Here
  always with a call.
- A coroutine function is limited when it is called there, and `sleep_and_retry` holds the event
  loop. Here both wait in coroutines, and the limit is asked when they are awaited.
- `clock` is not taken: the time is the limiter's.

No extra is needed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import time
from typing import TYPE_CHECKING, Any

from flint._surface.arguments import refusal, scaled_to_ns
from flint._surface.rate import Rate
from flint.compat._place import Place, counter_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._native import Result
    from flint.compat._place import Where

__all__ = ["RateLimitDecorator", "RateLimitException", "limits", "rate_limited", "sleep_and_retry"]

_NS = 1_000_000_000
_MOST = 2**62


class RateLimitException(Exception):  # noqa: N818 - its name
    """A call was denied; `period_remaining` is the seconds until one is let in."""

    def __init__(self, message: str, period_remaining: float) -> None:
        super().__init__(message)
        self.period_remaining = period_remaining


class RateLimitDecorator:
    """Lets a function be called `calls` times in `period` seconds; other calls raise
    RateLimitException, or return None with `raise_on_limit=False`. Functions that one decorator is
    applied to share the limit, as do those with the same `key`. Raises ValueError for a period that
    no limit can have."""

    def __init__(
        self,
        calls: float = 15,
        period: float = 900,
        *,
        raise_on_limit: bool = True,
        key: str | None = None,
        limiter: Where | None = None,
    ) -> None:
        per_ns = scaled_to_ns(period)
        if per_ns is None:
            raise TypeError(refusal("period", "a number of seconds", period))
        self.clamped_calls = max(1, min(_MOST, math.floor(calls)))
        self.period = period
        self.raise_on_limit = raise_on_limit
        self._limit = Rate(self.clamped_calls, per_ns, None, "fixed_window_counter")
        self._key = key
        self._place = Place(limiter)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._key is None:
            self._key = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            if self._denies(self._place.limiter().check(self._counted(), limit=self._limit)):
                return None
            return function(*args, **kwargs)

        @functools.wraps(function)
        async def alimited(*args: Any, **kwargs: Any) -> Any:
            if self._denies(await self._place.limiter().acheck(self._counted(), limit=self._limit)):
                return None
            return await function(*args, **kwargs)

        return alimited if inspect.iscoroutinefunction(function) else limited

    def _counted(self) -> str:
        return f"ratelimit {counter_of(self._limit, str(self._key))}"

    def _denies(self, found: Result) -> bool:
        if not found.allowed and self.raise_on_limit:
            raise RateLimitException("too many calls", found.retry_after_ns / _NS)
        return not found.allowed


limits = rate_limited = RateLimitDecorator


def sleep_and_retry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a limited function again when the time has come that RateLimitException says."""

    @functools.wraps(function)
    def retried(*args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return function(*args, **kwargs)
            except RateLimitException as error:
                time.sleep(error.period_remaining)

    @functools.wraps(function)
    async def aretried(*args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return await function(*args, **kwargs)
            except RateLimitException as error:
                await asyncio.sleep(error.period_remaining)

    return aretried if inspect.iscoroutinefunction(function) else retried
