"""`Limiter.acquire` and `aacquire`: waiting in line for a limit.

Each key has a line of those who wait for it, and only the first in it looks at the limit: it peeks,
sleeps until its cost would be admitted, and then makes the one check that counts and records. If
that is denied (a `check` beside the line took the units) it sleeps again. The others sleep until
they are first. So the order is strict, whatever the costs, and nobody polls.

A waiter sleeps by its own means, an event of its thread or a future of its loop, and never with a
lock held. It looks again when it becomes first, when its time is over, when limits change, when the
limiter is closed, and, where the time is that of a ManualClock, when that is moved.

A refusal is recorded by the same one check. Only who gives up behind others while there are units
enough for it is refused in another way, since a check would take what they wait for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flint import _native
from flint._surface.arguments import MAX_NS, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex, TypeAlias

    from flint._surface.arguments import Seconds
    from flint._surface.protocol import Place

    # A decision and its ticket.
    Decided: TypeAlias = tuple[_native.Result, int]

_NS_PER_SECOND = 1_000_000_000


class Pause(NamedTuple):
    """What a waiter does next: sleep so long by the system's clock, or (None) until it is woken."""

    seconds: float | None


class Sleeper(Protocol):
    """How one caller sleeps."""

    def wake(self) -> bool:
        """End its sleep, from any thread. False if it will never run again."""


class Waiter:
    """A place in line. Times are those of the limiter's clock."""

    def __init__(self, key: str, cost: int, deadline_ns: int | None, sleeper: Sleeper) -> None:
        self.key = key
        self.cost = cost
        self.deadline_ns = deadline_ns
        self.sleeper = sleeper


class Lines:
    """The lines of one place. Any thread may call anything here; nothing here waits."""

    def __init__(self, clock: _native.Clock | None) -> None:
        self._clock = clock
        # Reentrant, since a coroutine that the garbage collector ends leaves its line.
        self._lock = threading.RLock()
        self._lines: dict[str, deque[Waiter]] = {}
        watched_by = getattr(clock, "watched_by", None)
        if watched_by is not None:
            watched_by.add(self)

    def join(
        self,
        place: Place,
        key: str,
        cost: SupportsIndex,
        timeout: Seconds | None,
        sleeper: Sleeper,
    ) -> Waiter:
        """Stand in line. Raises what `check` raises for bad arguments."""
        asked = place.peek(key, cost)
        deadline_ns = None
        if timeout is not None:
            deadline_ns = self._now_ns() + seconds_to_ns("timeout", timeout, 0, MAX_NS)
        waiter = Waiter(asked.key, asked.cost, deadline_ns, sleeper)
        with self._lock:
            line = self._lines.get(waiter.key)
            if line is None:
                self._lines[waiter.key] = deque([waiter])
            else:
                line.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Give the place up and wake who is first then."""
        with self._lock:
            line = self._lines.get(waiter.key)
            if line is None or waiter not in line:
                return  # it had been taken for one that never runs again
            was_first = line[0] is waiter
            line.remove(waiter)
            while was_first and line and not line[0].sleeper.wake():
                line.popleft()
            if not line:
                del self._lines[waiter.key]

    def look_again(self) -> None:
        """Wake those who are first, and those whose time is over. When the first of a line cannot
        go on (the limiter is closed, the limit gone) it leaves, and the next finds the same."""
        with self._lock:
            now_ns = self._now_ns()
            for line in list(self._lines.values()):
                for place, waiter in enumerate(list(line)):
                    late = waiter.deadline_ns is not None and waiter.deadline_ns <= now_ns
                    if place == 0 or late:
                        waiter.sleeper.wake()

    def step(self, place: Place, waiter: Waiter) -> Decided | Pause | None:
        """The decision about a waiter if it is time for one, else how long to sleep; None if the
        decision has to wait for a lock or for room in the log, and the caller shall check."""
        left_ns = self._left_ns(waiter)
        asked = place.peek(waiter.key, waiter.cost)
        refused = left_ns is not None and (left_ns == 0 or asked.retry_after_ns > left_ns)
        units_ahead = self._units_ahead(waiter)
        if asked and refused and units_ahead > 0:
            return _refuse(place, waiter, asked, units_ahead)
        if refused or (asked and units_ahead == 0):
            return place._check_now(waiter.key, waiter.cost)
        return self._pause(asked.retry_after_ns if units_ahead == 0 else left_ns)

    def settles(self, waiter: Waiter, result: _native.Result) -> bool:
        """Whether a waiter's decision ends its wait: always, unless there is time for another."""
        left_ns = self._left_ns(waiter)
        late = left_ns is not None and (left_ns == 0 or result.retry_after_ns > left_ns)
        return bool(result) or late

    def _now_ns(self) -> int:
        return time.monotonic_ns() if self._clock is None else self._clock.now_ns

    def _left_ns(self, waiter: Waiter) -> int | None:
        if waiter.deadline_ns is None:
            return None
        return max(0, waiter.deadline_ns - self._now_ns())

    def _pause(self, ns: int | None) -> Pause:
        if ns is None or self._clock is not None:
            return Pause(None)
        return Pause(min(ns / _NS_PER_SECOND, threading.TIMEOUT_MAX))

    def _units_ahead(self, waiter: Waiter) -> int:
        """The cost of those who stand before it; 0 when it is first."""
        with self._lock:
            line = self._lines.get(waiter.key, deque())
            return _units_before(waiter, line)


def _units_before(waiter: Waiter, line: Iterable[Waiter]) -> int:
    units = 0
    for other in line:
        if other is waiter:
            break
        units += other.cost
    return units


def _refuse(place: Place, waiter: Waiter, asked: _native.Result, units_ahead: int) -> Decided:
    """Record a denial. The result's `retry_after` also counts those before the waiter."""
    decided = place._refuse_now(waiter.key, waiter.cost)
    while decided is None:  # another thread holds a lock, which is a matter of moments
        time.sleep(0)
        decided = place._refuse_now(waiter.key, waiter.cost)
    all_units = min(units_ahead + waiter.cost, asked.limit)
    result = _native.Result(
        asked.key,
        False,
        asked.cost,
        asked.limit,
        asked.remaining,
        asked.reset_at_ns,
        asked.reset_after_ns,
        place.peek(waiter.key, all_units).retry_after_ns,
        asked.algorithm,
    )
    return result, decided[1]


class _ThreadSleeper:
    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> bool:
        self._event.set()
        return True

    def sleep(self, pause: Pause) -> None:
        """Until woken, also if that was since the sleep before."""
        self._event.wait(pause.seconds)
        self._event.clear()


def acquire(
    place: Place, lines: Lines, key: str, cost: SupportsIndex, timeout: Seconds | None
) -> _native.Result:
    """`Limiter.acquire`."""
    sleeper = _ThreadSleeper()
    waiter = lines.join(place, key, cost, timeout, sleeper)
    try:
        while True:
            step = lines.step(place, waiter)
            if isinstance(step, Pause):
                sleeper.sleep(step)
                continue
            result, ticket = step or (place.check(waiter.key, waiter.cost), 0)
            if lines.settles(waiter, result):
                break
    finally:
        lines.leave(waiter)
    if ticket:
        place._wait_durable(ticket)
    return result
