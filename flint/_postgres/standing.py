"""How a counter stands, by what PostgreSQL tells of it: the formulas of cpp_core/algorithms, in
integers that have no end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flint._surface.types import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = (
    "token_bucket",
    "gcra",
    "leaky_bucket",
    "fixed_window_counter",
    "sliding_window_log",
    "sliding_window_counter",
)
_MOST_LOG_ENTRIES = 2**20


class Config(NamedTuple):
    """The numbers of a limit; `algorithm` counts from 1."""

    algorithm: int
    rate: int
    per_ns: int
    burst: int


class Standing(NamedTuple):
    """A limit's state as of a time. `state` is that of flint.counters; the last four are about a
    sliding_window_log: what is in the window, and when its oldest entry came and the one that has
    to leave for the cost."""

    config: Config
    state: tuple[int, int, int]
    now_ns: int
    last_ns: int = 0
    log_units: int = 0
    log_entries: int = 0
    oldest_ns: int = 0
    leaves_ns: int = 0

    # ---- Buckets -------------------------------------------------------------------------------

    def _level(self) -> int:
        """What has to pass until it is empty, in 1/rate nanoseconds."""
        ahead_ns, fraction = self.state[0] - self.now_ns, self.state[1]
        return ahead_ns * self.config.rate + fraction if ahead_ns >= 0 else 0

    # ---- Windows -------------------------------------------------------------------------------

    def _used_in_window(self) -> int:
        start_ns, used, _ = self.state
        return 0 if self.now_ns - start_ns >= self.config.per_ns else used

    def _windows(self) -> tuple[int, int]:
        """The units of the window before, and of this one."""
        index, before, current = self.state
        passed = self.now_ns // self.config.per_ns - index
        if passed <= 0:
            return before, current
        return (current, 0) if passed == 1 else (0, 0)

    def _left_ns(self) -> int:
        return self.config.per_ns - self.now_ns % self.config.per_ns

    def _is_full(self) -> bool:
        """Whether there is no room for one more entry."""
        return self.log_entries >= _MOST_LOG_ENTRIES and self.last_ns != self.now_ns

    # ---- What is told --------------------------------------------------------------------------

    def used(self) -> int:
        """Units, rounded up."""
        _, rate, per_ns, burst = self.config
        if self.config.algorithm <= 3:
            return min(-(-self._level() // per_ns), burst)
        if self.config.algorithm == 4:
            return self._used_in_window()
        if self.config.algorithm == 5:
            return self.log_units
        before, current = self._windows()
        return min(min(-(-before * self._left_ns() // per_ns), rate) + current, rate)

    def remaining(self) -> int:
        """Whole units that would be admitted."""
        if self.config.algorithm == 5 and self._is_full():
            return 0
        return self.config.burst - self.used()

    def reset_after_ns(self) -> int:
        """Until it is as the algorithm says."""
        algorithm, rate, per_ns, _ = self.config
        if algorithm <= 3:
            return -(-self._level() // rate)
        if algorithm == 4:
            used = self._used_in_window()
            return per_ns - (self.now_ns - self.state[0]) if used else 0
        if algorithm == 5:
            return per_ns - (self.now_ns - self.oldest_ns) if self.log_entries else 0
        return self._left_ns()

    def retry_after_ns(self, cost: int) -> int:
        """Until the cost is admitted; 0 when it is now."""
        algorithm, rate, per_ns, burst = self.config
        if algorithm <= 3:
            short = self._level() + cost * per_ns - burst * per_ns
            if short <= 0:
                return 0
            # As whole nanoseconds and a fraction each, as the engine has them.
            whole = (self._level() + cost * per_ns) // rate - burst * per_ns // rate
            fractions = (self._level() + cost * per_ns) % rate, burst * per_ns % rate
            return whole + (1 if fractions[0] > fractions[1] else 0)
        if algorithm == 4:
            return 0 if self._used_in_window() + cost <= rate else self.reset_after_ns()
        if algorithm == 5:
            return self._log_retry_ns(cost)
        before, current = self._windows()
        left_ns = self._left_ns()
        if current + cost <= rate:
            budget = (rate - current - cost) * per_ns
            return 0 if before * left_ns <= budget else left_ns - budget // before
        return left_ns + per_ns - (rate - cost) * per_ns // current

    def _log_retry_ns(self, cost: int) -> int:
        per_ns = self.config.per_ns
        if self.log_entries == 0:
            return 0
        if self.log_units + cost > self.config.rate:
            # Every entry is of one unit at least, so the oldest is enough for one.
            last_ns = self.oldest_ns if cost == 1 and self.leaves_ns == 0 else self.leaves_ns
            return per_ns - (self.now_ns - last_ns)
        return per_ns - (self.now_ns - self.oldest_ns) if self._is_full() else 0

    def is_fresh(self) -> bool:
        """Whether it cannot be told from a new counter."""
        if self.config.algorithm <= 3:
            return self._level() == 0
        if self.config.algorithm == 4:
            return self._used_in_window() == 0
        if self.config.algorithm == 5:
            return self.log_entries == 0
        return self._windows() == (0, 0)
