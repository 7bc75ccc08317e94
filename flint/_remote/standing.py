"""How a counter stands that another store keeps: what the store tells of it, put to the engine's
own arithmetic. For every place whose limits are not in a Flint."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flint import _native

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
_LOG = 5
_MOST_LOG_ENTRIES = 2**20


class Config(NamedTuple):
    """The numbers of a limit; `algorithm` counts from 1."""

    algorithm: int
    rate: int
    per_ns: int
    burst: int


class State(NamedTuple):
    """What a counter remembers, as `flint_limiter_state` of the C library says; `window` is its
    `index`."""

    at_ns: int = 0
    fraction: int = 0
    window: int = 0
    used: int = 0
    previous: int = 0
    entries: int = 0
    oldest_ns: int = 0
    leaves_ns: int = 0


class Standing(NamedTuple):
    """A limit's counter as of a time."""

    config: Config
    state: State
    now_ns: int

    def told(self, cost: int, allowed: bool) -> tuple[int, int, int]:
        """What remains, until when it is as the algorithm says, and, if the cost has not been
        allowed, until it is."""
        return _native.describe(self.config, self.state, self.now_ns, cost, allowed)

    def remaining(self) -> int:
        """Whole units that would be admitted."""
        return self.told(1, True)[0]

    def reset_after_ns(self) -> int:
        """Until it is as the algorithm says."""
        return self.told(1, True)[1]

    def retry_after_ns(self, cost: int) -> int:
        """Until the cost is admitted; 0 when it is now."""
        if self.config.algorithm == _LOG and self._log_admits(cost):
            return 0
        return self.told(cost, False)[2]

    def _log_admits(self, cost: int) -> bool:
        state = self.state
        has_room = state.entries < _MOST_LOG_ENTRIES or state.at_ns == self.now_ns
        return has_room and state.used + cost <= self.config.rate

    def is_fresh(self) -> bool:
        """Whether it cannot be told from a new counter."""
        return self.remaining() == self.config.burst
