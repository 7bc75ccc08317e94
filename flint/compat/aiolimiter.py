"""aiolimiter's limiter on Flint: `from flint.compat.aiolimiter import AsyncLimiter`.

>>> import asyncio
>>> limiter = AsyncLimiter(2, 60)
>>> async def use() -> list[bool]:
...     async with limiter:
...         return [limiter.has_capacity(), limiter.has_capacity(2)]
>>> asyncio.run(use())
[True, False]

With `key` what is used is counted under it in `limiter`: an open one, or where `flint.connect`
opens one at the first use; without that, it is FLINT_URL or FLINT_DATA_DIR, else the directory
.flint. So it is still used after a restart, and processes that share the place have one limit.
Without `key` each AsyncLimiter counts for itself, in memory, as aiolimiter's do.

What aiolimiter 1.3.0 does otherwise:

- Who wants less may overtake who wants more. Here those who wait in one process stand in line.
- One object serves one event loop. Here any number, and threads.
- Amounts may be any fraction. Here they are multiples of the unit of `max_rate`: whole numbers for
  a whole one, halves for 2.5; others raise ValueError.

No extra is needed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from flint._surface.arguments import refusal, scaled_to_ns
from flint._surface.fraction import meant
from flint._surface.rate import Rate
from flint.compat._place import Place, counter_of

if TYPE_CHECKING:
    from types import TracebackType

    from flint.compat._place import Where

__all__ = ["AsyncLimiter"]

_numbers = itertools.count()
# Of all that have no key, since each has a counter of its own.
_IN_MEMORY = Place(":memory:")


class AsyncLimiter:
    """A leaky bucket: `max_rate` units at once, which leak out in `time_period` seconds. Raises
    ValueError or TypeError for numbers that no limit can have."""

    def __init__(
        self,
        max_rate: float,
        time_period: float = 60,
        *,
        key: str | None = None,
        limiter: Where | None = None,
    ) -> None:
        units, per_ns = meant(max_rate), scaled_to_ns(time_period)
        if per_ns is None:
            raise TypeError(refusal("time_period", "a number of seconds", time_period))
        if key is None and limiter is not None:
            raise TypeError("a limiter needs a key, under which it counts")
        self.max_rate = max_rate
        self.time_period = time_period
        self._scale = units.denominator
        self._limit = Rate(units.numerator, per_ns, None, "leaky_bucket")
        name = f"aiolimiter {next(_numbers)}" if key is None else key
        self._key = counter_of(self._limit, name)
        self._place = _IN_MEMORY if key is None else Place(limiter)

    def has_capacity(self, amount: float = 1) -> bool:
        """Whether so much could be acquired now. May wait where the limiter is in a server."""
        if not 0 <= amount <= self.max_rate:
            return False
        units = self._units(amount)
        limiter = self._place.limiter()
        return not units or limiter.peek(self._key, units, limit=self._limit).allowed

    async def acquire(self, amount: float = 1) -> None:
        """Take so much, and wait until it is there. Raises ValueError unless it is 0 to
        `max_rate`."""
        if not 0 <= amount <= self.max_rate:
            raise ValueError("Amount must be a number between 0 and the maximum capacity")
        units = self._units(amount)
        if units:
            await self._place.limiter().aacquire(self._key, units, limit=self._limit)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def _units(self, amount: float) -> int:
        units = meant(amount) * self._scale
        if units.denominator != 1:
            raise ValueError(
                f"Amount must be a multiple of 1/{self._scale}, as max_rate is, not {amount}"
            )
        return units.numerator

    def __repr__(self) -> str:
        return f"<AsyncLimiter(max_rate={self.max_rate!r}, time_period={self.time_period!r})>"
