"""Flint as a storage of `limits`, and so of all that is built on it, such as slowapi and
Flask-Limiter: importing this module registers URLs that begin with `flint`.

>>> import flint.plugins.limits
>>> import limits
>>> storage = limits.storage.storage_from_string("flint+memory://")
>>> limiter = limits.strategies.MovingWindowRateLimiter(storage)
>>> [limiter.hit(limits.parse("2/minute"), "alice") for _ in range(3)]
[True, True, False]

| URL | where it counts |
|---|---|
| `flint:///var/lib/limits` | in that directory; another path is `flint:counters` |
| `flint+memory://` | in memory, for each storage anew |
| `flint+http://host:7878`, `flint+https://...`, `flint+http+unix:///path` | in a Flint server |
| `flint+redis://host:6379/0`, `flint+rediss://...` | in Redis |
| `flint+postgresql://host/database` | in PostgreSQL |

`async+` in front of any of them is the storage for coroutines. Options of the storage are those of
`flint.connect` for the place, `limiter=` (one that is open already, instead of a place) and
`key_prefix=` (of every key; `limits` unless given).

What differs from the storages that limits brings:

- A moving window counts each unit with its time, to the nanosecond, as a `sliding_window_log`. One
  limit remembers at most 2^20 different times; more are denied until the oldest has left.
- A sliding window counter is exact and not rounded down, so near a border it admits one unit less
  than limits' own storages may. Its reset time is the end of its window.
- A fixed window counts what was denied as well, because limits decides after it has counted. Choose
  `moving-window` where denied requests must use nothing up.
- A cost of 0 is answered without counting. A negative one raises ValueError.
- Storages of one process that name the same directory share its limiter.
"""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

try:
    from limits.aio.storage import MovingWindowSupport as AsyncMovingWindowSupport
    from limits.aio.storage import SlidingWindowCounterSupport as AsyncSlidingWindowCounterSupport
    from limits.aio.storage import Storage as AsyncStorage
    from limits.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage
    from limits.storage.base import TimestampedSlidingWindow
except ImportError:
    raise ImportError(
        'flint.plugins.limits needs limits: pip install "flint-limiter[limits]"'
    ) from None

from flint.errors import FlintError, NotConfiguredError
from flint.plugins._opened import opened

if TYPE_CHECKING:
    from flint._native import Result
    from flint._surface.protocol import AnyLimiter
    from flint._surface.types import StatusDict

__all__ = ["AsyncFlintStorage", "FlintStorage"]

_NS = 1_000_000_000
# What a fixed window may hold: limits counts without knowing the limit.
_COUNTED_AT_MOST = 2**62
_FIXED, _MOVING, _SLIDING = "fixed", "moving", "sliding"
_ALGORITHMS = {
    _FIXED: "fixed_window_counter",
    _MOVING: "sliding_window_log",
    _SLIDING: "sliding_window_counter",
}
_SERVED = ("http", "https", "http+unix", "redis", "rediss", "postgresql")
_SCHEMES = ["flint", "flint+memory", *(f"flint+{name}" for name in _SERVED)]
_ASYNC_SCHEMES = [f"async+{scheme}" for scheme in _SCHEMES]


def _place(uri: str | None) -> str:
    """What `flint.connect` opens for a URL of limits."""
    scheme, _, rest = (uri or "").removeprefix("async+").partition(":")
    if scheme == "flint+memory":
        return ":memory:"
    if scheme != "flint":
        return f"{scheme.removeprefix('flint+')}:{rest}"
    path = rest.removeprefix("//") if rest.startswith("///") else rest
    if not path or path.startswith("//"):
        raise ValueError(
            f"{uri} names no directory: write flint:///var/lib/limits, flint+memory:// or "
            "flint+http://host:7878"
        )
    return path


class _Counters(TimestampedSlidingWindow):
    """What both storages share: the keys, and what answers mean. Sliding windows begin at multiples
    of their length, which the base class says to who asks."""

    limiter: AnyLimiter
    _prefix: str

    def _open(
        self, uri: str | None, limiter: AnyLimiter | None, key_prefix: str, options: Any
    ) -> None:
        self.limiter = opened(_place(uri), **options) if limiter is None else limiter
        self._prefix = f"{key_prefix}:"

    def _key(self, kind: str, key: str) -> str:
        return f"{self._prefix}{kind}:{key}"

    def _keys(self, key: str) -> list[str]:
        return [self._key(kind, key) for kind in _ALGORITHMS]

    def _asked(self, kind: str, key: str, amount: int, limit: int, expiry: int) -> dict[str, Any]:
        return {
            "key": self._key(kind, key),
            "cost": amount,
            "rate": limit,
            "per": expiry,
            "algorithm": _ALGORITHMS[kind],
        }

    def _ours(self, statuses: list[StatusDict]) -> list[str]:
        return [str(one["key"]) for one in statuses if str(one["key"]).startswith(self._prefix)]


def _without_counting(amount: int) -> bool:
    """The answer to an amount that is nothing, or more than there can be."""
    if amount < 0:
        raise ValueError(f"amount must not be negative, and is {amount}")
    return amount == 0


def _used(status: StatusDict | None) -> int:
    return 0 if status is None else status["rate"] - status["remaining"]


def _reset_time(status: StatusDict | None) -> float:
    """In seconds since the epoch; now when nothing is in use."""
    if status is None or not _used(status):
        return time.time()
    return datetime.fromisoformat(status["reset_at"]).timestamp()


def _moving_window(stands: Result, limit: int, expiry: int) -> tuple[float, int]:
    """When the oldest unit of a moving window came, and how many there are."""
    used = limit - stands.remaining
    return (stands.reset_at_ns / _NS - expiry if used else time.time()), used


def _sliding_window(status: StatusDict | None) -> tuple[int, float, int, float]:
    """All that is in use is told as the current window's: how it divides is the limiter's own."""
    used = _used(status)
    return 0, 0.0, used, max(0.0, _reset_time(status) - time.time()) if used else 0.0


class FlintStorage(_Counters, Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """The storage of `flint:` URLs; the module's docstring says what they can be. Any thread may
    use it. Raises what `flint.connect` raises, and ValueError for a URL without a place."""

    STORAGE_SCHEME = _SCHEMES

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        limiter: AnyLimiter | None = None,
        key_prefix: str = "limits",
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._open(uri, limiter, key_prefix, options)

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return (FlintError, OSError)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Counts, and returns what has been counted in the window."""
        if amount == 0:
            return self.get(key)
        asked = self._asked(_FIXED, key, amount, _COUNTED_AT_MOST, expiry)
        return _COUNTED_AT_MOST - self.limiter.check(**asked).remaining

    def get(self, key: str) -> int:
        """What has been counted in the fixed window."""
        return _used(self.limiter.status(self._key(_FIXED, key)))

    def get_expiry(self, key: str) -> float:
        """When the fixed window ends, in seconds since the epoch; now when there is none."""
        return _reset_time(self.limiter.status(self._key(_FIXED, key)))

    def check(self) -> bool:
        """Whether the place answers."""
        try:
            self.limiter.status(self._key(_FIXED, ""))
        except self.base_exceptions:
            return False
        return True

    def reset(self) -> int | None:
        """Forgets all that was counted by storages with this prefix; returns for how many keys."""
        keys = self._ours(self.limiter.list(counters=True))
        for key in keys:
            self._forget(key)
        return len(keys)

    def clear(self, key: str) -> None:
        """Forgets what was counted for this key."""
        for one in self._keys(key):
            self._forget(one)

    def _forget(self, key: str) -> None:
        with contextlib.suppress(NotConfiguredError):
            self.limiter.reset(key)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Takes `amount` units of a moving window, if they are there."""
        return self._acquire(_MOVING, key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest unit of the window was taken, and how many there are."""
        stands = self.limiter.peek(**self._asked(_MOVING, key, 1, limit, expiry))
        return _moving_window(stands, limit, expiry)

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Takes `amount` units of a sliding window, if they are there."""
        return self._acquire(_SLIDING, key, limit, expiry, amount)

    def get_sliding_window(
        self,
        key: str,
        expiry: int,  # noqa: ARG002 - the limit is known
    ) -> tuple[int, float, int, float]:
        """Nothing of the window before, what is in use, and the seconds to the window's end."""
        return _sliding_window(self.limiter.status(self._key(_SLIDING, key)))

    def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002 - the same
        """As `clear`."""
        self.clear(key)

    def _acquire(self, kind: str, key: str, limit: int, expiry: int, amount: int) -> bool:
        if not 0 < amount <= limit:
            return _without_counting(amount)
        return self.limiter.check(**self._asked(kind, key, amount, limit, expiry)).allowed


class AsyncFlintStorage(
    _Counters, AsyncStorage, AsyncMovingWindowSupport, AsyncSlidingWindowCounterSupport
):
    """The same for coroutines, which never hold the event loop."""

    STORAGE_SCHEME = _ASYNC_SCHEMES

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        limiter: AnyLimiter | None = None,
        key_prefix: str = "limits",
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._open(uri, limiter, key_prefix, options)

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return (FlintError, OSError)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Counts, and returns what has been counted in the window."""
        if amount == 0:
            return await self.get(key)
        asked = self._asked(_FIXED, key, amount, _COUNTED_AT_MOST, expiry)
        return _COUNTED_AT_MOST - (await self.limiter.acheck(**asked)).remaining

    async def get(self, key: str) -> int:
        """What has been counted in the fixed window."""
        return _used(await self.limiter.astatus(self._key(_FIXED, key)))

    async def get_expiry(self, key: str) -> float:
        """When the fixed window ends, in seconds since the epoch; now when there is none."""
        return _reset_time(await self.limiter.astatus(self._key(_FIXED, key)))

    async def check(self) -> bool:
        """Whether the place answers."""
        try:
            await self.limiter.astatus(self._key(_FIXED, ""))
        except self.base_exceptions:
            return False
        return True

    async def reset(self) -> int | None:
        """Forgets all that was counted by storages with this prefix; returns for how many keys."""
        keys = self._ours(await self.limiter.alist(counters=True))
        for key in keys:
            await self._forget(key)
        return len(keys)

    async def clear(self, key: str) -> None:
        """Forgets what was counted for this key."""
        for one in self._keys(key):
            await self._forget(one)

    async def _forget(self, key: str) -> None:
        with contextlib.suppress(NotConfiguredError):
            await self.limiter.areset(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Takes `amount` units of a moving window, if they are there."""
        return await self._acquire(_MOVING, key, limit, expiry, amount)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest unit of the window was taken, and how many there are."""
        stands = await self.limiter.apeek(**self._asked(_MOVING, key, 1, limit, expiry))
        return _moving_window(stands, limit, expiry)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Takes `amount` units of a sliding window, if they are there."""
        return await self._acquire(_SLIDING, key, limit, expiry, amount)

    async def get_sliding_window(
        self,
        key: str,
        expiry: int,  # noqa: ARG002 - the limit is known
    ) -> tuple[int, float, int, float]:
        """Nothing of the window before, what is in use, and the seconds to the window's end."""
        return _sliding_window(await self.limiter.astatus(self._key(_SLIDING, key)))

    async def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002 - the same
        """As `clear`."""
        await self.clear(key)

    async def _acquire(self, kind: str, key: str, limit: int, expiry: int, amount: int) -> bool:
        if not 0 < amount <= limit:
            return _without_counting(amount)
        return (await self.limiter.acheck(**self._asked(kind, key, amount, limit, expiry))).allowed
