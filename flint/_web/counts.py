"""How often each policy has decided what, since the process began."""

from __future__ import annotations

import threading

# What can come of a request; `Counts` has no others.
OUTCOMES = (
    *("allowed", "denied", "shadow_denied", "cost_denied", "blocked", "exempt"),
    *("error_allowed", "error_denied", "settle_denied", "settle_failed"),
)


class Counts:
    """Numbers by the policy's name and the outcome. Any thread may use it. Names come from the
    program, never from a client, so that there are few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, name: str, outcome: str) -> None:
        with self._lock:
            self._numbers[name, outcome] = self._numbers.get((name, outcome), 0) + 1

    def snapshot(self) -> dict[tuple[str, str], int]:
        """All numbers, as they are now."""
        with self._lock:
            return dict(self._numbers)


counts = Counts()
