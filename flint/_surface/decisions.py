"""What has been decided, by policy and result, and how long that took.

Decisions belong to the limiter that made them. A limiter that nobody observes keeps no numbers, and
a decision costs no more than one look at `decisions_of`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._surface.protocol import AnyLimiter

    # Policy, result, and how long it took.
    Listener: TypeAlias = Callable[[str, str, int | None], object]

SomeLimiter = TypeVar("SomeLimiter", bound="AnyLimiter")

# What can come of a decision; there are no others.
RESULTS = (
    *("allowed", "denied", "shadow_denied", "cost_denied", "blocked", "exempt"),
    *("error_allowed", "error_denied", "error_raised", "settle_denied", "settle_failed"),
)
# So many policies are counted by their names, and all that come after them under this one.
MOST_POLICIES = 100
OTHER = "other"
# The upper bounds of the histogram: a decision in memory takes microseconds, a sync milliseconds.
BOUNDS_NS = (
    *(5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000),
    *(250_000_000, 1_000_000_000),
)

_lock = threading.Lock()


def _forget_in_child() -> None:
    """Who held the lock when the process was forked is not in the child."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)


class Numbers(NamedTuple):
    """Of one policy: how often each result, how many took how long (one count for each of
    `BOUNDS_NS` and one for what took longer), and how long they took together."""

    results: dict[str, int]
    buckets: tuple[int, ...]
    sum_ns: int


class _Policy:
    def __init__(self) -> None:
        self.results: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS_NS) + 1)
        self.sum_ns = 0


class Decisions:
    """The numbers of one limiter. Any thread may use them."""

    def __init__(self) -> None:
        self._policies: dict[str, _Policy] = {}
        self._listeners: tuple[Listener, ...] = ()

    def add(self, policy: str, result: str, took_ns: int | None = None) -> None:
        """Count one. `took_ns` is None for what is no decision of its own."""
        with _lock:
            known = self._policies.get(policy)
            if known is None:
                policy = policy if len(self._policies) < MOST_POLICIES else OTHER
                known = self._policies.setdefault(policy, _Policy())
            known.results[result] = known.results.get(result, 0) + 1
            if took_ns is not None:
                known.buckets[bisect_left(BOUNDS_NS, took_ns)] += 1
                known.sum_ns += took_ns
        for listener in self._listeners:
            listener(policy, result, took_ns)

    def snapshot(self) -> dict[str, Numbers]:
        """The numbers by policy, as they are now."""
        with _lock:
            return {
                name: Numbers(dict(policy.results), tuple(policy.buckets), policy.sum_ns)
                for name, policy in self._policies.items()
            }

    def listen(self, listener: Listener) -> None:
        """Have each decision told from now on, in the thread and context that it is made in. A
        listener must not raise. It is given the name under which the policy is counted."""
        with _lock:
            self._listeners = (*self._listeners, listener)

    def forget(self, listener: Listener) -> None:
        """Tell a listener nothing more; one that is not there is none."""
        with _lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)


def observe(limiter: AnyLimiter) -> Decisions:
    """The numbers of a limiter, which are kept from the first call on."""
    with _lock:
        decisions = decisions_of(limiter)
        if decisions is None:
            decisions = cast("Any", limiter)._decisions = Decisions()
        return decisions


def decisions_of(limiter: AnyLimiter) -> Decisions | None:
    """The numbers of a limiter, None if nobody observes it."""
    return getattr(limiter, "_decisions", None)


def result_of(allowed: bool, undecided: bool) -> str:
    """The result of a check."""
    if undecided:
        return "error_allowed" if allowed else "error_denied"
    return "allowed" if allowed else "denied"
