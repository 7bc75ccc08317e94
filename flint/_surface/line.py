"""`Limiter.acquire` and `aacquire`: waiting in line for a limit.

Each key has a line of those who wait for it, and only the first in it looks at the limit: it peeks,
sleeps until its cost would be admitted, and then makes the one check that counts and records. If
that is denied (a `check` beside the line took the units) it sleeps again. The others sleep until
they are first. So the order is strict, whatever the costs, and nobody polls.

A waiter sleeps by its own means, in a queue of its thread or a future of its loop, and never with a
lock held. It looks again when it becomes first, when its time is over, when limits change, when the
limiter is closed, and, where the time is that of a ManualClock, when that is moved.

Time goes on while the machine sleeps, but the clock by which threads and loops sleep stands. So who
is first looks at both every few seconds, and wakes the others if they have moved apart.

A refusal is recorded by the same one check. Only who gives up behind others while there are units
enough for it is refused in another way, since a check would take what they wait for.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flint import _native
from flint._surface.arguments import MAX_NS, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import SupportsIndex, TypeAlias

    from flint._surface.arguments import Seconds
    from flint._surface.protocol import Place
    from flint._surface.rate import RateLike

    # A decision and its ticket.
    Decided: TypeAlias = tuple[_native.Result, int]

_NS_PER_SECOND = 1_000_000_000
# For who is first in line.
_LONGEST_SLEEP_S = 10.0
# For who does not know yet where it stands.
_SOON_S = 0.1


class Pause(NamedTuple):
    """What a waiter does next: sleep so long by the system's clock, or (None) until it is woken."""

    seconds: float | None


class PlaceInLine(NamedTuple):
    """Where a waiter stands: whether it is first, and what those before it wait for."""

    is_first: bool
    units_ahead: int


class Refusal(NamedTuple):
    """A waiter gives up behind others who wait for so many units."""

    units_ahead: int


class Sleeper(Protocol):
    """How one caller sleeps."""

    def wake(self) -> bool:
        """End its sleep, from any thread. False if it will never run again."""


class Waiter:
    """A place in line. Times are those of the limiter's clock."""

    def __init__(
        self,
        key: str,
        cost: int,
        limit: RateLike | None,
        deadline_ns: int | None,
        sleeper: Sleeper,
    ) -> None:
        self.key = key
        self.cost = cost
        self.limit = limit
        self.deadline_ns = deadline_ns
        self.sleeper = sleeper


class Line:
    """Those who wait for one key, in their order. What is done for one of them takes time in
    proportion to the logarithm of their number, at most."""

    def __init__(self) -> None:
        self._places: OrderedDict[Waiter, int] = OrderedDict()
        # A Fenwick tree of the costs by place: entry i is the sum of as many places up to i as its
        # lowest bit says. Places of those who have left cost 0.
        self._sums = [0]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._places)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._places

    def first(self) -> Waiter:
        return next(iter(self._places))

    def append(self, waiter: Waiter) -> None:
        place = len(self._sums)
        units = waiter.cost
        bit = 1
        while not place & bit:
            units += self._sums[place - bit]
            bit <<= 1
        self._sums.append(units)
        self._places[waiter] = place

    def remove(self, waiter: Waiter) -> None:
        place = self._places.pop(waiter)
        if len(self._sums) > 2 * len(self._places) + 64:
            waiters = list(self._places)
            self._places.clear()
            self._sums = [0]
            for other in waiters:
                self.append(other)
            return
        while place < len(self._sums):
            self._sums[place] -= waiter.cost
            place += place & -place

    def units_before(self, waiter: Waiter) -> int:
        """The cost of those who stand before it."""
        place = self._places[waiter] - 1
        units = 0
        while place > 0:
            units += self._sums[place]
            place -= place & -place
        return units


class Lines:
    """The lines of one limiter. Any thread may call anything here; nothing here waits."""

    def __init__(self, clock: _native.Clock | None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: dict[str, Line] = {}
        self._leaving: deque[Waiter] = deque()
        self._stood_ns = _standstill_ns()
        _every_lines.add(self)
        watch = getattr(clock, "_watch", None)
        if watch is not None:
            watch(self)

    def join(
        self,
        place: Place,
        key: str,
        cost: SupportsIndex,
        timeout: Seconds | None,
        limit: RateLike | None,
        sleeper: Sleeper,
    ) -> Waiter:
        """Stand in line. Raises what `check` raises for bad arguments."""
        return self.stand(place.peek(key, cost, limit=limit), timeout, limit, sleeper)

    def stand(
        self,
        asked: _native.Result,
        timeout: Seconds | None,
        limit: RateLike | None,
        sleeper: Sleeper,
    ) -> Waiter:
        """`join`, for who has peeked."""
        deadline_ns = None
        if timeout is not None:
            deadline_ns = self._now_ns() + seconds_to_ns("timeout", timeout, 0, MAX_NS)
        waiter = Waiter(asked.key, asked.cost, limit, deadline_ns, sleeper)
        self._enter(waiter)
        return waiter

    def _enter(self, waiter: Waiter) -> None:
        with self._alone():
            line = self._lines.get(waiter.key)
            if line is None:
                line = self._lines[waiter.key] = Line()
            line.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Give the place up and wake who is first then."""
        self._leaving.append(waiter)
        self._let_leave()

    def look_again(self) -> None:
        """Wake those who are first, and those whose time is over. When the first of a line cannot
        go on (the limiter is closed, the limit gone) it leaves, and the next finds the same."""
        with self._alone():
            now_ns = self._now_ns()
            for line in list(self._lines.values()):
                for place, waiter in enumerate(list(line)):
                    late = waiter.deadline_ns is not None and waiter.deadline_ns <= now_ns
                    if place == 0 or late:
                        waiter.sleeper.wake()

    def step(self, place: Place, waiter: Waiter) -> Decided | Pause | None:
        """The decision about a waiter if it is time for one, else how long to sleep; None if the
        decision has to wait for a lock or for room in the log, and the caller shall check."""
        asked = place.peek(waiter.key, waiter.cost, limit=waiter.limit)
        move = self.move(waiter, asked)
        if isinstance(move, Pause):
            return move
        if isinstance(move, Refusal):
            decided = place._refuse(waiter.key, waiter.cost, limit=waiter.limit)
            units = all_units(waiter, asked, move.units_ahead)
            later = place.peek(waiter.key, units, limit=waiter.limit)
            return refused(asked, later.retry_after_ns), decided[1]
        return place._check_now(waiter.key, waiter.cost, limit=waiter.limit)

    def move(self, waiter: Waiter, asked: _native.Result) -> Refusal | Pause | None:
        """What a waiter does next, when a peek has said `asked`; None to check."""
        left_ns = self._left_ns(waiter)
        refused = left_ns is not None and (left_ns == 0 or asked.retry_after_ns > left_ns)
        if refused and not asked:
            return None
        stands = self._place_of(waiter, refused)
        if stands is None:
            return Pause(_SOON_S)
        first, units_ahead = stands
        if refused and not first:
            return Refusal(units_ahead)
        if asked and first:
            return None
        if self._clock is not None:
            return Pause(None)
        if not first:
            return Pause(_seconds(left_ns))
        self._look_after_standstill()
        sleep_ns = self._sleep_ns(asked.retry_after_ns, left_ns)
        return Pause(min(sleep_ns / _NS_PER_SECOND, _LONGEST_SLEEP_S))

    def _sleep_ns(
        self,
        retry_after_ns: int,
        left_ns: int | None,  # noqa: ARG002 - for whom it may be more
    ) -> int:
        """How long who is first sleeps: not less than until its cost would be admitted, and not
        longer than it has left."""
        return retry_after_ns

    def _place_of(
        self,
        waiter: Waiter,
        gives_up: bool,  # noqa: ARG002 - for whom it has to be asked again
    ) -> PlaceInLine | None:
        """Where a waiter stands now; None if that is yet to be told, which wakes it."""
        with self._alone():
            line = self._lines[waiter.key]
            first = line.first() is waiter
            return PlaceInLine(first, 0 if first else line.units_before(waiter))

    def settles(self, waiter: Waiter, result: _native.Result) -> bool:
        """Whether a waiter's decision ends its wait: always, unless there is time for another."""
        left_ns = self._left_ns(waiter)
        late = left_ns is not None and (left_ns == 0 or result.retry_after_ns > left_ns)
        return bool(result) or late

    def _now_ns(self) -> int:
        return _boot_ns() if self._clock is None else self._clock.now_ns

    def _left_ns(self, waiter: Waiter) -> int | None:
        if waiter.deadline_ns is None:
            return None
        return max(0, waiter.deadline_ns - self._now_ns())

    def _look_after_standstill(self) -> None:
        stood_ns = _standstill_ns()
        if stood_ns - self._stood_ns >= _NS_PER_SECOND:
            self._stood_ns = stood_ns
            self.look_again()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        finally:
            self._let_leave()

    def _let_leave(self) -> None:
        """Remove those who are leaving. A coroutine that the garbage collector ends leaves at any
        moment, perhaps while its thread is in here; then who has the lock does this for it."""
        while self._leaving and self._lock.acquire(blocking=False):
            try:
                while self._leaving:
                    self._remove(self._leaving.popleft())
            finally:
                self._lock.release()

    def _remove(self, waiter: Waiter) -> None:
        line = self._lines.get(waiter.key)
        if line is None or waiter not in line:
            return  # it had been taken for one that never runs again
        was_first = line.first() is waiter
        line.remove(waiter)
        while was_first and line and not line.first().sleeper.wake():
            line.remove(line.first())
        if not line:
            del self._lines[waiter.key]

    def _forget(self) -> None:
        """In a forked child, which has none of the threads that stand in line: one of them may have
        held the lock when it was forked, and nobody would ever release it."""
        self._lock = threading.Lock()
        self._lines.clear()
        self._leaving.clear()


# Of all limiters of this process.
_every_lines: weakref.WeakSet[Lines] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lines in list(_every_lines):
        lines._forget()


os.register_at_fork(after_in_child=_forget_in_child)


def _boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _standstill_ns() -> int:
    """For how long the machine has slept since it was started."""
    return _boot_ns() - time.monotonic_ns()


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else min(ns / _NS_PER_SECOND, threading.TIMEOUT_MAX)


def all_units(waiter: Waiter, asked: _native.Result, units_ahead: int) -> int:
    """What a waiter and those before it wait for."""
    return min(units_ahead + waiter.cost, asked.limit)


def refused(asked: _native.Result, retry_after_ns: int) -> _native.Result:
    """A denial of what could be admitted now, were it not for those before it, whom `retry_after`
    counts too."""
    return _native.Result(
        asked.key,
        False,
        asked.cost,
        asked.limit,
        asked.remaining,
        asked.reset_at_ns,
        asked.reset_after_ns,
        retry_after_ns,
        asked.algorithm,
    )


class _ThreadSleeper:
    def __init__(self) -> None:
        # Unlike an Event it may be told while its thread is inside it, by the garbage collector.
        self._told: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> bool:
        self._told.put(None)
        return True

    def sleep(self, pause: Pause) -> None:
        """Until woken, also if that was since the sleep before."""
        with contextlib.suppress(Empty):
            self._told.get(timeout=pause.seconds)
        with contextlib.suppress(Empty):
            while True:
                self._told.get_nowait()


def acquire(
    place: Place,
    lines: Lines,
    key: str,
    cost: SupportsIndex,
    timeout: Seconds | None,
    limit: RateLike | None,
) -> _native.Result:
    """`Limiter.acquire`."""
    sleeper = _ThreadSleeper()
    waiter = lines.join(place, key, cost, timeout, limit, sleeper)
    try:
        while True:
            step = lines.step(place, waiter)
            if isinstance(step, Pause):
                sleeper.sleep(step)
                continue
            result, ticket = step or (place.check(waiter.key, waiter.cost, limit=limit), 0)
            if lines.settles(waiter, result):
                break
    finally:
        lines.leave(waiter)
    if ticket:
        place._wait_durable(ticket)
    return result
