"""Flint as a cache of Django's that counts: `add` and `incr` are atomic, and what they answered
survives a restart. For django-ratelimit and whatever else counts in a cache.

    # settings.py
    CACHES = {
        "default": {...},
        "limits": {
            "BACKEND": "flint.plugins.django_cache.CounterCache",
            "LOCATION": "/var/lib/limits",
            "OPTIONS": {"shared": True},
        },
    }
    RATELIMIT_USE_CACHE = "limits"

`LOCATION` is where `flint.connect` opens a limiter, `OPTIONS` its options, beside Django's own.

It is no general cache, and cannot be: Flint keeps counters and no values. Beside a second store for
values, which one would then have to keep in step, a general cache would gain nothing from it. So:

- A value is a whole number from 0 to 549,755,813,887 (2^39 - 1); others raise TypeError or
  ValueError before anything is written.
- A counter only grows until its timeout: `decr` and `touch` raise NotImplementedError.
- Of two that `add` a key at the same moment with two timeouts, the one that finds it there may
  still change its timeout.
- `set` forgets the counter and begins it anew: the two are not one step, so an `incr` between them
  finds no key.
- A timeout of None is 146 years. What has timed out is forgotten by itself; MAX_ENTRIES and
  CULL_FREQUENCY have no effect, `max_keys` is Flint's bound.

The throttles of Django REST framework keep lists of times in the cache, which are not counters:
`flint.django_rest` takes their places. The extra `flint-limiter[django]` brings Django.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from typing import TYPE_CHECKING, Any

try:
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
except ImportError:
    raise ImportError(
        'flint.plugins.django_cache needs Django: pip install "flint-limiter[django]"'
    ) from None

from flint._surface.arguments import MAX_NS, refusal, scaled_to_ns
from flint._surface.rate import Rate
from flint.errors import NotConfiguredError
from flint.plugins._opened import opened

if TYPE_CHECKING:
    from flint._native import Result
    from flint._surface.protocol import AnyLimiter

__all__ = ["CounterCache"]

# A key that is there with the value v is a window in which _THERE + v units are in use. To add one
# takes as many, which is over the limit when there is one: so it is there or not in one step.
_MOST = 2**40
_THERE = 2**39 + 1
_GREATEST = _MOST - _THERE
_SET_AT_MOST = 100  # times, while others keep adding the key
_OF_DJANGO = {"MAX_ENTRIES", "CULL_FREQUENCY"}

_lock = threading.Lock()
# Django makes a cache for each thread; all of a process have one limiter, until the process ends.
_limiters: list[tuple[int, str, dict[str, Any], AnyLimiter]] = []


def _limiter(location: str, options: dict[str, Any]) -> AnyLimiter:
    wanted = (os.getpid(), location, options)
    with _lock:
        for *known, limiter in _limiters:
            if tuple(known) == wanted and not limiter.closed:
                return limiter
        limiter = opened(location, **options)
        _limiters.append((*wanted, limiter))
        return limiter


class CounterCache(BaseCache):  # type: ignore[misc]
    """The back end; the module's docstring says what it keeps. Any thread may use it. Each call may
    wait for the disk where the limiter is in always mode. The place is opened at the first call,
    which raises what `flint.connect` raises."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        if not location:
            raise ValueError('LOCATION must say where to count, such as "/var/lib/limits"')
        given = params.get("OPTIONS", {})
        self._location = str(location)
        self._options = {name: value for name, value in given.items() if name not in _OF_DJANGO}
        self._held: AnyLimiter | None = None
        self._held_by = 0

    @property
    def limiter(self) -> AnyLimiter:
        """The limiter of this process."""
        held = self._held
        if held is None or held.closed or self._held_by != os.getpid():
            self._held = held = _limiter(self._location, self._options)
            self._held_by = os.getpid()
        return held

    def add(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Sets a key that is not there, in one step; returns whether it was not."""
        name, units = self._name(key, version), _THERE + _whole(value)
        per_ns = self._per_ns(timeout)
        if self._value(name) is not None:
            return False
        return per_ns is None or self._take(name, units, per_ns).allowed

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value of a key, or `default`."""
        found = self._value(self._name(key, version))
        return default if found is None else found

    def set(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Forgets the key, and begins it with this value."""
        name, units = self._name(key, version), _THERE + _whole(value)
        per_ns = self._per_ns(timeout)
        for _ in range(_SET_AT_MOST):
            self._forget(name)
            if per_ns is None or self._take(name, units, per_ns).allowed:
                return
        raise RuntimeError(f"{key!r} cannot be set: others add it again and again")

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Adds to the value of a key, in one step, and returns the sum. Raises ValueError where
        there is no such key, and for a sum above 2^39 - 1."""
        name, units = self._name(key, version), self._grows_by(delta)
        try:
            if units == 0:
                return self._sum(key, self.limiter.peek(name), 0)
            return self._sum(key, self.limiter.check(name, units), units)
        except NotConfiguredError:
            raise _not_found(key) from None

    async def aincr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """`incr` as a coroutine, which does not hold the event loop."""
        name, units = self._name(key, version), self._grows_by(delta)
        try:
            if units == 0:
                return self._sum(key, await self.limiter.apeek(name), 0)
            return self._sum(key, await self.limiter.acheck(name, units), units)
        except NotConfiguredError:
            raise _not_found(key) from None

    def decr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """A negative `delta` grows; others raise NotImplementedError."""
        return self.incr(key, -delta, version)

    async def adecr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """`decr` as a coroutine."""
        return await self.aincr(key, -delta, version)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """NotImplementedError: a counter keeps its timeout."""
        raise NotImplementedError("a CounterCache cannot change the timeout of a key")

    def delete(self, key: str, version: int | None = None) -> bool:
        """Forgets a key; returns whether it was there."""
        name = self._name(key, version)
        was_there = self._value(name) is not None
        self._forget(name)
        return was_there

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Whether a key is there."""
        return self._value(self._name(key, version)) is not None

    def clear(self) -> None:
        """Forgets every key of this KEY_PREFIX, whatever its version. Takes time in proportion to
        all that the limiter counts."""
        prefix = self._name_prefix()
        for status in self.limiter.list(counters=True):
            if str(status["key"]).startswith(prefix):
                self._forget(str(status["key"]))

    # ---- How a key is counted ----

    def _name_prefix(self) -> str:
        return f"django cache {self.key_prefix}:"

    def _name(self, key: str, version: int | None) -> str:
        return "django cache " + str(self.make_and_validate_key(key, version=version))

    def _per_ns(self, timeout: Any) -> int | None:
        """None for a timeout that is over."""
        seconds = self.default_timeout if timeout == DEFAULT_TIMEOUT else timeout
        if seconds is None:
            return MAX_NS
        ns = scaled_to_ns(seconds)
        if ns is None:
            raise TypeError(refusal("timeout", "a number of seconds or None", timeout))
        return None if ns <= 0 else min(ns, MAX_NS)

    def _value(self, name: str) -> int | None:
        try:
            value = _value(self.limiter.peek(name))
        except NotConfiguredError:
            return None
        return None if value < 0 else value

    def _take(self, name: str, units: int, per_ns: int) -> Result:
        return self.limiter.check(name, units, limit=_limit(per_ns))

    def _forget(self, name: str) -> None:
        with contextlib.suppress(NotConfiguredError):  # it has never been there
            self.limiter.reset(name)

    @staticmethod
    def _grows_by(delta: Any) -> int:
        if isinstance(delta, int) and delta < 0:
            raise NotImplementedError("a counter of a CounterCache only grows")
        return _whole(delta)

    @staticmethod
    def _sum(key: str, found: Result, units: int) -> int:
        if units and not found.allowed:
            raise ValueError(f"{key!r} would be greater than {_GREATEST}")
        value = _value(found)
        if value < 0:
            raise _not_found(key)
        return value


@functools.lru_cache(maxsize=1024)
def _limit(per_ns: int) -> Rate:
    return Rate(_MOST, per_ns, None, "fixed_window_counter")


def _value(found: Result) -> int:
    """Negative where there is no key."""
    return found.limit - found.remaining - _THERE


def _not_found(key: str) -> ValueError:
    return ValueError(f"Key {key!r} not found")


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(refusal("a value of a CounterCache", "a whole number", value))
    if not 0 <= value <= _GREATEST:
        raise ValueError(refusal("a value of a CounterCache", f"0 to {_GREATEST}", value))
    return value
