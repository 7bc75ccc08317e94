"""Flint as a store of throttled-py: importing this module makes its limiters count in a FlintStore.

>>> import throttled
>>> from flint.plugins.throttled import FlintStore
>>> limiter = throttled.Throttled(quota="2/m", store=FlintStore(":memory:"))
>>> [limiter.limit("alice").limited for _ in range(3)]
[False, False, True]

`FlintStore(server, options)` and, for `throttled.asyncio`, `AsyncFlintStore(server, options)` count
where `flint.connect` opens `server` with `options`: in a directory, a Flint server, PostgreSQL.
`limiter=` is one that is open already, instead of a server. Stores of one process that name the
same directory share its limiter.

What differs from the stores that throttled-py brings:

- Each of its five algorithms is Flint's own, to the nanosecond; its buckets refill by whole seconds
  and lose the fractions.
- A denied request uses nothing up, in a fixed window too, and `remaining` is what is left.
- A sliding window is exact and not rounded down, so near a border it admits one unit less.
- It keeps counters and no values: `set`, `hset` and `expire` raise DataError. `get`, `hgetall`,
  `exists` and `ttl` tell of the counters of its limiters.
- When the place cannot be used, StoreUnavailableError is raised, as with Redis.

The extra `flint-limiter[throttled]` brings throttled-py.
"""

from __future__ import annotations

import functools
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

try:
    from throttled import asyncio as aio
    from throttled import rate_limiter
    from throttled.asyncio.store import BaseAtomicAction as AsyncBaseAtomicAction
    from throttled.asyncio.store import BaseStore as AsyncBaseStore
    from throttled.constants import (
        ATOMIC_ACTION_TYPE_LIMIT,
        ATOMIC_ACTION_TYPE_PEEK,
        STORE_TTL_STATE_NOT_EXIST,
        RateLimiterType,
    )
    from throttled.exceptions import DataError
    from throttled.store import BaseAtomicAction, BaseStore, BaseStoreBackend
    from throttled.store.base import StoreValidationLogic
except ImportError:
    raise ImportError(
        'flint.plugins.throttled needs throttled-py: pip install "flint-limiter[throttled]"'
    ) from None

from flint._surface.fraction import meant
from flint._surface.rate import Rate
from flint.errors import FlintError
from flint.plugins._opened import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flint._native import Result
    from flint._surface.protocol import AnyLimiter
    from flint._surface.types import Algorithm, StatusDict

__all__ = ["AsyncFlintStore", "FlintStore"]

_NS = 1_000_000_000
_TYPE = "flint"


# ---- What its limiters ask, and what they are told ---------------------------------------------

# Key, cost, capacity, the limit (None for a capacity of nothing), and the seconds in which one unit
# comes back.
_Ask: TypeAlias = "tuple[str, int, int, Rate | None, float]"


class _Standing(NamedTuple):
    """What is told where nothing can be counted: as a Result tells it."""

    allowed: bool
    remaining: int
    reset_after_ns: int
    retry_after: float


@functools.lru_cache(maxsize=1024)
def _limit(per_second: float, every_s: float, capacity: int, algorithm: Algorithm) -> Rate | None:
    """The units that come back a second; where that is 0, one in so many seconds."""
    if capacity < 1:
        return None
    units = meant(per_second) or 1 / meant(every_s)
    try:
        return Rate(units.numerator, units.denominator * _NS, capacity, algorithm)
    except ValueError as error:
        raise DataError(f"Invalid quota: {error}") from None


@functools.lru_cache(maxsize=1024)
def _window(units: int, period_s: int, algorithm: Algorithm) -> Rate | None:
    return None if units < 1 else Rate(units, period_s * _NS, None, algorithm)


def _of_bucket(algorithm: Algorithm, keys: Sequence[str], args: Sequence[float]) -> _Ask:
    """Of buckets, which say their units a second."""
    per_second, capacity, cost = args[0], int(args[1]), int(args[2])
    return keys[0], cost, capacity, _limit(per_second, 0, capacity, algorithm), 1 / per_second


def _of_gcra(algorithm: Algorithm, keys: Sequence[str], args: Sequence[float]) -> _Ask:
    """Of GCRA, which says the seconds between two units; who peeks says no cost."""
    interval_s, capacity = args[0], int(args[1])
    cost = int(args[2]) if len(args) > 2 else 1
    return keys[0], cost, capacity, _limit(0, interval_s, capacity, algorithm), interval_s


def _of_window(algorithm: Algorithm, keys: Sequence[str], args: Sequence[float]) -> _Ask:
    """Of windows. A fixed one has a key for each window; a sliding one is one counter here."""
    period_s, capacity, cost = int(args[0]), int(args[1]), int(args[2])
    key = keys[0] if algorithm == "fixed_window_counter" else _without_window(keys[0])
    return key, cost, capacity, _window(capacity, period_s, algorithm), period_s


def _without_window(key: str) -> str:
    return key.rpartition(":period:")[0]


def _uncounted(ask: _Ask, found: Result | None) -> _Standing:
    """Of a cost of nothing, or above the capacity; the second is told when it would be there if
    there were room."""
    _, cost, capacity, _, interval_s = ask
    remaining = 0 if found is None else found.remaining
    reset_after_ns = 0 if found is None else found.reset_after_ns
    wait_s = reset_after_ns / _NS + (cost - capacity) * interval_s if cost else 0.0
    return _Standing(cost == 0, remaining, reset_after_ns, wait_s)


def _remaining(capacity: int, found: Result | _Standing) -> tuple[float, ...]:
    del capacity
    return 0 if found.allowed else 1, found.remaining


def _used_up(capacity: int, found: Result | _Standing) -> tuple[float, ...]:
    return 0 if found.allowed else 1, capacity - found.remaining


def _used_up_and_wait(capacity: int, found: Result | _Standing) -> tuple[float, ...]:
    limited = 0 if found.allowed else 1
    return limited, capacity - found.remaining, found.retry_after


def _everything(capacity: int, found: Result | _Standing) -> tuple[float, ...]:
    del capacity
    limited = 0 if found.allowed else 1
    return limited, found.remaining, found.reset_after_ns / _NS, found.retry_after


class _Kind(NamedTuple):
    """How one algorithm of throttled-py is asked and answered."""

    algorithm: Algorithm
    ask: Callable[[Algorithm, Sequence[str], Sequence[float]], _Ask]
    answer: Callable[[int, Result | _Standing], tuple[float, ...]]


_KINDS = {
    RateLimiterType.TOKEN_BUCKET: _Kind("token_bucket", _of_bucket, _remaining),
    RateLimiterType.LEAKING_BUCKET: _Kind("leaky_bucket", _of_bucket, _remaining),
    RateLimiterType.GCRA: _Kind("gcra", _of_gcra, _everything),
    RateLimiterType.FIXED_WINDOW: _Kind("fixed_window_counter", _of_window, _used_up),
    RateLimiterType.SLIDING_WINDOW: _Kind("sliding_window_counter", _of_window, _used_up_and_wait),
}


# ---- Stores ------------------------------------------------------------------------------------


_NO_VALUES = "Flint keeps counters and no values: a FlintStore serves the limiters of throttled-py"


class _Backend(BaseStoreBackend):
    base_exceptions = (FlintError, OSError)
    limiter: AnyLimiter


class _Counters(StoreValidationLogic):
    """What both stores tell of a counter."""

    TYPE = _TYPE

    @staticmethod
    def _connected(
        server: str | None, options: dict[str, Any] | None, limiter: AnyLimiter | None
    ) -> _Backend:
        backend = _Backend(server, options)
        if limiter is None and server is None:
            raise DataError("a FlintStore needs a server, such as 'data/limits', or a limiter")
        backend.limiter = opened(server or "", **(options or {})) if limiter is None else limiter
        return backend

    @staticmethod
    def _used(status: StatusDict | None) -> int:
        return 0 if status is None else status["burst"] - status["remaining"]

    def _ttl(self, status: StatusDict | None) -> int:
        if status is None or not self._used(status):
            return STORE_TTL_STATE_NOT_EXIST
        left_s = datetime.fromisoformat(status["reset_at"]).timestamp() - time.time()
        return max(1, -int(-left_s // 1))

    @classmethod
    def _refuse_value(cls, timeout: Any, *_: Any) -> NoReturn:
        cls._validate_timeout(timeout)
        raise DataError(_NO_VALUES)

    @staticmethod
    def _refuse_hash(key: Any, mapping: Any, *_: Any) -> NoReturn:
        if key is None and not mapping:
            raise DataError("hset must with key value pairs")
        raise DataError(_NO_VALUES)

    def _bucket(self, status: StatusDict | None) -> dict[str, float]:
        """A bucket as its limiters read it: as of now."""
        if status is None:
            return {}
        is_level = status["algorithm"] == "leaky_bucket"
        tokens = self._used(status) if is_level else status["remaining"]
        return {"tokens": tokens, "last_refreshed": int(time.time())}

    def _of_sliding(self, key: str, status: StatusDict | None) -> int | None:
        """What is in use of a sliding window, told as all the current window's."""
        if status is None or status["algorithm"] != "sliding_window_counter":
            return None
        window = int(time.time()) // (status["per_ns"] // _NS)
        return self._used(status) if key.endswith(f":period:{window}") else None


class FlintStore(_Counters, BaseStore):
    """A store that Flint counts in; the module's docstring says what it takes. Any thread may use
    it. Raises what `flint.connect` raises, and DataError without a place."""

    def __init__(
        self,
        server: str | None = None,
        options: dict[str, Any] | None = None,
        *,
        limiter: AnyLimiter | None = None,
    ) -> None:
        self.server = server
        self.options = options or {}
        self._backend: _Backend = self._connected(server, options, limiter)

    def get(self, key: str) -> int | None:
        """What is in use of a window; None if nothing is."""
        status = self._backend.limiter.status(key)
        if status is not None:
            return self._used(status) or None
        return self._of_sliding(key, self._backend.limiter.status(_without_window(key) or key))

    def hgetall(self, name: str) -> dict[str, float]:
        """A bucket, as of now."""
        return self._bucket(self._backend.limiter.status(name))

    def exists(self, key: str) -> bool:
        """Whether something is in use of a counter."""
        return self.get(key) is not None

    def ttl(self, key: str) -> int:
        """Seconds until nothing of a counter is in use, rounded up; -2 if nothing is."""
        status = self._backend.limiter.status(key)
        return self._ttl(status or self._backend.limiter.status(_without_window(key) or key))

    def expire(self, key: str, timeout: int) -> None:
        self._refuse_value(timeout, key)

    def set(self, key: str, value: float, timeout: int) -> None:
        self._refuse_value(timeout, key, value)

    def hset(self, name: str, key: Any = None, value: Any = None, mapping: Any = None) -> None:
        self._refuse_hash(key, mapping, name, value)


class AsyncFlintStore(_Counters, AsyncBaseStore):
    """The same for `throttled.asyncio`; it never holds the event loop."""

    def __init__(
        self,
        server: str | None = None,
        options: dict[str, Any] | None = None,
        *,
        limiter: AnyLimiter | None = None,
    ) -> None:
        self.server = server
        self.options = options or {}
        self._backend: _Backend = self._connected(server, options, limiter)

    async def get(self, key: str) -> int | None:
        """What is in use of a window; None if nothing is."""
        status = await self._backend.limiter.astatus(key)
        if status is not None:
            return self._used(status) or None
        base = _without_window(key) or key
        return self._of_sliding(key, await self._backend.limiter.astatus(base))

    async def hgetall(self, name: str) -> dict[str, float]:
        """A bucket, as of now."""
        return self._bucket(await self._backend.limiter.astatus(name))

    async def exists(self, key: str) -> bool:
        """Whether something is in use of a counter."""
        return await self.get(key) is not None

    async def ttl(self, key: str) -> int:
        """Seconds until nothing of a counter is in use, rounded up; -2 if nothing is."""
        status = await self._backend.limiter.astatus(key)
        base = _without_window(key) or key
        return self._ttl(status or await self._backend.limiter.astatus(base))

    async def expire(self, key: str, timeout: int) -> None:
        self._refuse_value(timeout, key)

    async def set(self, key: str, value: float, timeout: int) -> None:
        self._refuse_value(timeout, key, value)

    async def hset(
        self, name: str, key: Any = None, value: Any = None, mapping: Any = None
    ) -> None:
        self._refuse_hash(key, mapping, name, value)


# ---- What its limiters do in them --------------------------------------------------------------


class _Action(BaseAtomicAction):
    """Decides, and takes the cost if it is there."""

    TYPE = ATOMIC_ACTION_TYPE_LIMIT
    STORE_TYPE = _TYPE
    _backend: _Backend
    _kind: _Kind

    def do(self, keys: Sequence[str], args: Sequence[float] | None) -> tuple[float, ...]:
        algorithm, read, answer = self._kind
        ask = key, cost, capacity, limit, _ = read(algorithm, keys, args or ())
        if 0 < cost <= capacity:
            return answer(capacity, self._backend.limiter.check(key, cost, limit=limit))
        found = None if limit is None else self._backend.limiter.peek(key, limit=limit)
        return answer(capacity, _uncounted(ask, found))


class _Peek(_Action):
    """Decides, and takes nothing."""

    TYPE = ATOMIC_ACTION_TYPE_PEEK

    def do(self, keys: Sequence[str], args: Sequence[float] | None) -> tuple[float, ...]:
        algorithm, read, answer = self._kind
        ask = key, _, capacity, limit, _ = read(algorithm, keys, args or ())
        if limit is None:
            return answer(capacity, _uncounted(ask, None))
        return answer(capacity, self._backend.limiter.peek(key, limit=limit))


class _AsyncAction(AsyncBaseAtomicAction):
    TYPE = ATOMIC_ACTION_TYPE_LIMIT
    STORE_TYPE = _TYPE
    _backend: _Backend
    _kind: _Kind

    async def do(self, keys: Sequence[str], args: Sequence[float] | None) -> tuple[float, ...]:
        algorithm, read, answer = self._kind
        ask = key, cost, capacity, limit, _ = read(algorithm, keys, args or ())
        if 0 < cost <= capacity:
            return answer(capacity, await self._backend.limiter.acheck(key, cost, limit=limit))
        found = None if limit is None else await self._backend.limiter.apeek(key, limit=limit)
        return answer(capacity, _uncounted(ask, found))


class _AsyncPeek(_AsyncAction):
    TYPE = ATOMIC_ACTION_TYPE_PEEK

    async def do(self, keys: Sequence[str], args: Sequence[float] | None) -> tuple[float, ...]:
        algorithm, read, answer = self._kind
        ask = key, _, capacity, limit, _ = read(algorithm, keys, args or ())
        if limit is None:
            return answer(capacity, _uncounted(ask, None))
        return answer(capacity, await self._backend.limiter.apeek(key, limit=limit))


def _register(registry: Any, kind_of_limiter: RateLimiterType, *actions: type[Any]) -> None:
    """Has a limiter of throttled-py find these actions for a FlintStore."""
    limiter = registry.get(kind_of_limiter.value)
    made = [
        type(action.__name__, (action,), {"_kind": _KINDS[kind_of_limiter]}) for action in actions
    ]
    limiter._DEFAULT_ATOMIC_ACTION_CLASSES = (*limiter._DEFAULT_ATOMIC_ACTION_CLASSES, *made)


for _one in _KINDS:
    _register(rate_limiter.RateLimiterRegistry, _one, _Action, _Peek)
    _register(aio.rate_limiter.RateLimiterRegistry, _one, _AsyncAction, _AsyncPeek)
