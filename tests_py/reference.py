"""What the six algorithms mean, in fractions.

Nothing here is taken from the engine. A bucket is a level of type ``Fraction`` that moves with
time; a window is computed from the list of everything that was ever admitted. The only search is
for ``retry_after_ns``, which is defined as the first moment at which the cost would be admitted.

Time and all quantities are integers, in nanoseconds and whole units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal, TypeAlias

Algorithm: TypeAlias = Literal[
    "token_bucket",
    "gcra",
    "leaky_bucket",
    "fixed_window_counter",
    "sliding_window_log",
    "sliding_window_counter",
]


@dataclass(frozen=True)
class Decision:
    allowed: bool
    remaining: int
    reset_after_ns: int
    retry_after_ns: int


class Limit(ABC):
    """One counter of one limit. Nothing has been used of a new one."""

    algorithm: Algorithm

    def __init__(self, rate: int, per_ns: int, burst: int | None = None) -> None:
        self.rate = rate
        self.per_ns = per_ns
        self.burst = rate if burst is None else burst

    @abstractmethod
    def used(self, now_ns: int) -> Fraction:
        """How much of ``burst`` is in use; a cost is admitted if it fits beside it."""

    @abstractmethod
    def admit(self, now_ns: int, cost: int) -> None:
        """Count an admission."""

    @abstractmethod
    def reset_after_ns(self, now_ns: int) -> int: ...

    def admits(self, now_ns: int, cost: int) -> bool:
        return self.used(now_ns) + cost <= self.burst

    def remaining(self, now_ns: int) -> int:
        return max(floor(self.burst - self.used(now_ns)), 0)

    def retry_after_ns(self, now_ns: int, cost: int) -> int:
        """Bisection: while nothing is admitted, what is in use never grows."""
        if self.admits(now_ns, cost):
            return 0
        denied_ns, admitted_ns = 0, 1
        while not self.admits(now_ns + admitted_ns, cost):
            denied_ns, admitted_ns = admitted_ns, 2 * admitted_ns
        while admitted_ns - denied_ns > 1:
            middle_ns = (denied_ns + admitted_ns) // 2
            if self.admits(now_ns + middle_ns, cost):
                admitted_ns = middle_ns
            else:
                denied_ns = middle_ns
        return admitted_ns

    def peek(self, now_ns: int, cost: int = 1) -> Decision:
        return Decision(
            self.admits(now_ns, cost),
            self.remaining(now_ns),
            self.reset_after_ns(now_ns),
            self.retry_after_ns(now_ns, cost),
        )

    def check(self, now_ns: int, cost: int = 1) -> Decision:
        """The decision; what is left and when it resets are as of after it."""
        retry_after_ns = self.retry_after_ns(now_ns, cost)
        allowed = retry_after_ns == 0
        if allowed:
            self.admit(now_ns, cost)
        return Decision(
            allowed, self.remaining(now_ns), self.reset_after_ns(now_ns), retry_after_ns
        )

    def reconfigure(
        self, now_ns: int, algorithm: Algorithm, rate: int, per_ns: int, burst: int | None = None
    ) -> Limit:
        """The limit that takes this one's place: itself, when no value is another."""
        new = ALGORITHMS[algorithm](rate, per_ns, burst)
        if (new.algorithm, new.rate, new.per_ns, new.burst) == (
            self.algorithm,
            self.rate,
            self.per_ns,
            self.burst,
        ):
            return self
        used = min(ceil(self.used(now_ns)), new.burst)
        if used:
            new.admit(now_ns, used)
        return new


class TokenBucket(Limit):
    """Tokens flow in at rate/per until the bucket is full; a cost takes tokens out."""

    algorithm = "token_bucket"

    def __init__(self, rate: int, per_ns: int, burst: int | None = None) -> None:
        super().__init__(rate, per_ns, burst)
        self._tokens = Fraction(self.burst)
        self._at_ns = 0

    def tokens(self, now_ns: int) -> Fraction:
        refill = Fraction((now_ns - self._at_ns) * self.rate, self.per_ns)
        return min(self._tokens + refill, Fraction(self.burst))

    def used(self, now_ns: int) -> Fraction:
        return self.burst - self.tokens(now_ns)

    def admit(self, now_ns: int, cost: int) -> None:
        self._tokens = self.tokens(now_ns) - cost
        self._at_ns = now_ns

    def reset_after_ns(self, now_ns: int) -> int:
        return ceil((self.burst - self.tokens(now_ns)) * self.per_ns / self.rate)


class Gcra(Limit):
    """Units are due one emission interval apart and may come early by a tolerance."""

    algorithm = "gcra"

    def __init__(self, rate: int, per_ns: int, burst: int | None = None) -> None:
        super().__init__(rate, per_ns, burst)
        self._interval = Fraction(per_ns, rate)
        self._tolerance = (self.burst - 1) * self._interval
        self._tat = Fraction(0)

    def admits(self, now_ns: int, cost: int) -> bool:
        # The last of the units that come together is due this much after the first.
        last_due = max(self._tat, Fraction(now_ns)) + (cost - 1) * self._interval
        return now_ns >= last_due - self._tolerance

    def used(self, now_ns: int) -> Fraction:
        return max(self._tat - now_ns, Fraction(0)) / self._interval

    def admit(self, now_ns: int, cost: int) -> None:
        self._tat = max(self._tat, Fraction(now_ns)) + cost * self._interval

    def reset_after_ns(self, now_ns: int) -> int:
        return max(ceil(self._tat) - now_ns, 0)


class LeakyBucket(Limit):
    """A level that leaks at rate/per; a cost is poured in if it does not overflow."""

    algorithm = "leaky_bucket"

    def __init__(self, rate: int, per_ns: int, burst: int | None = None) -> None:
        super().__init__(rate, per_ns, burst)
        self._level = Fraction(0)
        self._at_ns = 0

    def used(self, now_ns: int) -> Fraction:
        leaked = Fraction((now_ns - self._at_ns) * self.rate, self.per_ns)
        return max(self._level - leaked, Fraction(0))

    def admit(self, now_ns: int, cost: int) -> None:
        self._level = self.used(now_ns) + cost
        self._at_ns = now_ns

    def reset_after_ns(self, now_ns: int) -> int:
        return ceil(self.used(now_ns) / Fraction(self.rate, self.per_ns))


class Window(Limit):
    """A limit that is computed from everything that was ever admitted, oldest first."""

    def __init__(self, rate: int, per_ns: int, burst: int | None = None) -> None:
        super().__init__(rate, per_ns, burst)
        if self.burst != rate:
            raise ValueError(f"burst={burst} with {self.algorithm}; must be the rate, {rate}")
        self.admissions: list[tuple[int, int]] = []

    def admit(self, now_ns: int, cost: int) -> None:
        self.admissions.append((now_ns, cost))


class FixedWindowCounter(Window):
    """Windows [start, start + per); each begins with the first admission after the last ended."""

    algorithm = "fixed_window_counter"

    def _window(self, now_ns: int) -> tuple[int, int] | None:
        """Start of and use in the window that `now_ns` is in, if it is in one."""
        window: tuple[int, int] | None = None
        for at_ns, cost in self.admissions:
            if window is None or at_ns >= window[0] + self.per_ns:
                window = (at_ns, 0)
            window = (window[0], window[1] + cost)
        return window if window and now_ns < window[0] + self.per_ns else None

    def used(self, now_ns: int) -> Fraction:
        window = self._window(now_ns)
        return Fraction(window[1] if window else 0)

    def reset_after_ns(self, now_ns: int) -> int:
        window = self._window(now_ns)
        return window[0] + self.per_ns - now_ns if window else 0


class SlidingWindowLog(Window):
    """The sum over (now - per, now]. Without the engine's cap of 2^20 entries."""

    algorithm = "sliding_window_log"

    def _recent(self, now_ns: int) -> list[tuple[int, int]]:
        return [(at_ns, cost) for at_ns, cost in self.admissions if at_ns > now_ns - self.per_ns]

    def used(self, now_ns: int) -> Fraction:
        return Fraction(sum(cost for _, cost in self._recent(now_ns)))

    def reset_after_ns(self, now_ns: int) -> int:
        recent = self._recent(now_ns)
        return recent[0][0] + self.per_ns - now_ns if recent else 0


class SlidingWindowCounter(Window):
    """Windows [k * per, (k + 1) * per); the one before counts by its share still in reach."""

    algorithm = "sliding_window_counter"

    def used(self, now_ns: int) -> Fraction:
        k, elapsed_ns = divmod(now_ns, self.per_ns)
        current = sum(cost for at_ns, cost in self.admissions if at_ns // self.per_ns == k)
        before = sum(cost for at_ns, cost in self.admissions if at_ns // self.per_ns == k - 1)
        return before * (1 - Fraction(elapsed_ns, self.per_ns)) + current

    def reset_after_ns(self, now_ns: int) -> int:
        return (now_ns // self.per_ns + 1) * self.per_ns - now_ns


ALGORITHMS: dict[Algorithm, type[Limit]] = {
    cls.algorithm: cls
    for cls in (
        TokenBucket,
        Gcra,
        LeakyBucket,
        FixedWindowCounter,
        SlidingWindowLog,
        SlidingWindowCounter,
    )
}
BUCKETS: tuple[Algorithm, ...] = ("token_bucket", "gcra", "leaky_bucket")


def slow_retry_after_ns(limit: Limit, now_ns: int, cost: int) -> int:
    """``retry_after_ns`` by trying every nanosecond."""
    wait_ns = 0
    while not limit.admits(now_ns + wait_ns, cost):
        wait_ns += 1
    return wait_ns
