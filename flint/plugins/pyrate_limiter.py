"""Flint as a bucket of PyrateLimiter: what its limiters use up stays in a directory, or in a server
that several processes ask.

>>> import pyrate_limiter
>>> from flint.plugins.pyrate_limiter import FlintBucket
>>> bucket = FlintBucket([pyrate_limiter.Rate(2, pyrate_limiter.Duration.MINUTE)], ":memory:")
>>> limiter = pyrate_limiter.Limiter(bucket)
>>> [limiter.try_acquire("alice", blocking=False) for _ in range(3)]
[True, True, False]

What differs from the buckets that PyrateLimiter brings:

- Each rate is a `sliding_window_log` to the nanosecond, and all rates of a bucket decide together:
  what one denies uses nothing up in the others. At most 16 rates.
- The time is Flint's. That of the items is not read, so items of the past or future are not told
  apart, and a clock of one's own has no effect.
- Items are counted and not kept: `peek` knows none, and `leak` has nothing to do, since what has
  left its window counts no longer.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

try:
    from pyrate_limiter import AbstractBucket, Decision, Rate, RateItem
except ImportError:
    raise ImportError(
        "flint.plugins.pyrate_limiter needs PyrateLimiter: "
        'pip install "flint-limiter[pyrate-limiter]"'
    ) from None

from flint._surface.rate import Rate as FlintRate
from flint._surface.rate import read_one_or_several
from flint.errors import NotConfiguredError
from flint.plugins._opened import opened
from flint.rates import counter_key

if TYPE_CHECKING:
    from flint._native import Result
    from flint._surface.protocol import AnyLimiter

__all__ = ["FlintBucket"]

_NS_IN_MS = 1_000_000


class FlintBucket(AbstractBucket):
    """A bucket that Flint counts.

    `limiter` is an open limiter or where `flint.connect` opens one, with `options`; `key` names
    what the bucket limits, so buckets with the same key and rates share what they count. Any thread
    may use it. Raises ValueError for rates that PyrateLimiter refuses, and what `flint.connect`
    raises."""

    is_async = False

    def __init__(
        self, rates: list[Rate], limiter: AnyLimiter | str, key: str = "pyrate", **options: Any
    ) -> None:
        super().__init__()
        self.rates = rates
        self._limiter = opened(limiter, **options) if isinstance(limiter, str) else limiter
        limits = [
            FlintRate(rate.limit, rate.interval * _NS_IN_MS, algorithm="sliding_window_log")
            for rate in self.rates
        ]
        self._limits = read_one_or_several(limits, {})
        # Several limits have their text in the key of their counter anyway.
        self._key = f"{self._limits} @ {key}" if len(limits) == 1 else key
        self._least = min(rate.limit for rate in self.rates)

    def put(self, item: RateItem) -> bool:
        """Takes the item's weight; False when a rate denies it. May wait for the disk where the
        limiter is in always mode."""
        weight = item.weight
        if weight > self._least:
            return self._record(item, Decision(failing_rate=self._too_small_for(weight)))
        if weight != 0:
            found = self._limiter.check(self._key, weight, limit=self._limits)
            if not found.allowed:
                return self._record(item, self._denied(found))
        self._forget_denial()
        return True

    def waiting(self, item: RateItem) -> int:
        """Milliseconds until the item could be taken, rounded up; -1 if it never can."""
        if item.weight == 0:
            return 0
        if item.weight > self._least:
            return -1
        found = self._limiter.peek(self._key, item.weight, limit=self._limits)
        return _milliseconds(found.retry_after_ns)

    def leak(self, current_timestamp: int | None = None) -> int:  # noqa: ARG002 - as in the base
        """0: there is nothing to remove."""
        return 0

    def flush(self) -> None:
        """Forgets what was taken."""
        self._forget_denial()
        with contextlib.suppress(NotConfiguredError):
            self._limiter.reset(counter_key(self._limits, self._key))

    def _forget_denial(self) -> None:
        """What the base records of an item that is let in, without its calls."""
        self.failing_rate = None
        self._last_wait = None

    def count(self) -> int:
        """The units in the longest window."""
        stands = self._of_each(self._limiter.peek(self._key, 1, limit=self._limits))
        return stands[-1].limit - stands[-1].remaining

    def peek(self, index: int) -> RateItem | None:  # noqa: ARG002 - as in the base
        """None: items are counted and not kept."""
        return None

    def _too_small_for(self, weight: int) -> Rate:
        return next(rate for rate in self.rates if weight > rate.limit)

    def _denied(self, found: Result) -> Decision:
        denying = {one.limit for one in self._of_each(found) if not one.allowed}
        failing = next(rate for rate in self.rates if rate.limit in denying)
        return Decision(failing_rate=failing, retry_after_ms=_milliseconds(found.retry_after_ns))

    @staticmethod
    def _of_each(found: Result) -> list[Result]:
        """What each rate says, the smallest first, as the rates of a bucket stand."""
        return sorted(found.results or (found,), key=lambda one: one.limit)


def _milliseconds(ns: int) -> int:
    """Rounded up."""
    return -(-ns // _NS_IN_MS)
