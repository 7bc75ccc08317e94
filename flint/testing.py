"""What tests of programs that use Flint need: a clock that moves only when told."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from flint import _native
from flint._surface.arguments import MAX_NS, seconds_to_ns

if TYPE_CHECKING:
    from typing import SupportsIndex

    from flint._surface.arguments import Seconds
    from flint._surface.line import Lines

__all__ = ["ManualClock"]


class ManualClock(_native.Clock):
    """A time for `Limiter(..., clock=clock)`, in seconds since 1970, that only the program moves.

    >>> clock = ManualClock(1_700_000_000)
    >>> clock.advance(0.25)
    >>> clock
    ManualClock(1700000000.25)

    Seconds are integers, floats, Fractions or Decimals; they are converted exactly and rounded to
    the nearest nanosecond. The time stays between 0 and 2**62 ns. It may go back, as wall clocks
    do: a limiter's own time waits until the clock has caught up. One clock can serve several
    limiters, and any thread may move it. Who waits in `Limiter.acquire` looks at it when it moves.
    """

    def __init__(self, epoch_s: Seconds) -> None:
        # Replaced, never changed, so that a thread may walk through them while another adds one.
        self._watching: tuple[weakref.ref[Lines], ...] = ()
        self._lock = threading.Lock()
        self.set(epoch_s)

    def set(self, epoch_s: Seconds) -> None:
        """Set the time to `epoch_s` seconds since 1970."""
        self.set_ns(seconds_to_ns("epoch_s", epoch_s, 0, MAX_NS))

    def advance(self, seconds: Seconds) -> None:
        """Move the time by `seconds`, back if negative, in one step."""
        self.advance_ns(seconds_to_ns("seconds", seconds, -MAX_NS, MAX_NS))

    def set_ns(self, now_ns: SupportsIndex, /) -> None:
        """Set the time to `now_ns` nanoseconds since 1970."""
        super().set_ns(now_ns)
        self._moved()

    def advance_ns(self, by_ns: SupportsIndex, /) -> None:
        """Move the time by `by_ns` nanoseconds, back if negative, in one step."""
        super().advance_ns(by_ns)
        self._moved()

    def _moved(self) -> None:
        for reference in self._watching:
            lines = reference()
            if lines is not None:
                lines.look_again()

    def _watch(self, lines: Lines) -> None:
        """Let those who wait in a limiter's lines look at the clock when it moves."""
        with self._lock:
            kept = (reference for reference in self._watching if reference() is not None)
            self._watching = (*kept, weakref.ref(lines))

    @property
    def epoch(self) -> float:
        """The time in seconds since 1970, as near as a float comes; `now_ns` is exact."""
        return self.now_ns / 1_000_000_000

    def __repr__(self) -> str:
        return f"ManualClock({self.epoch!r})"
