"""Denials that a client has seen and has not told the store of: each would cost a write. Those
of a key go with its next admission, the others once in a while."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import NamedTuple

TOLD_EVERY_S = 10.0
_MOST_KEPT = 1024  # limits
_MOST_COST = 2**63 - 1  # as far as the stores count

_every: weakref.WeakSet[Denials] = weakref.WeakSet()


class Denied(NamedTuple):
    """Of one limit of one key."""

    template_id: int
    denials: int
    cost: int
    last_ns: int

    def plus(self, other: Denied) -> Denied:
        """Both."""
        denials, cost = self.denials + other.denials, min(self.cost + other.cost, _MOST_COST)
        return Denied(other.template_id, denials, cost, max(self.last_ns, other.last_ns))


class Denials:
    """Any thread may call anything here; nothing waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bytes, dict[bytes, Denied]] = {}
        self._limits = 0
        self._since = 0.0
        _every.add(self)

    def add(self, key_id: bytes, name: bytes, denied: Denied) -> None:
        """Keep what a limit has denied."""
        with self._lock:
            if not self._kept:
                self._since = time.monotonic()
            names = self._kept.setdefault(key_id, {})
            before = names.get(name)
            self._limits += before is None
            names[name] = denied if before is None else before.plus(denied)

    def has(self, key_id: bytes) -> bool:
        """Whether there are any of a key."""
        return key_id in self._kept

    def take(self, key_id: bytes) -> dict[bytes, Denied]:
        """Those of a key, by the limits' names, which are not kept any more."""
        if key_id not in self._kept:
            return {}
        with self._lock:
            names = self._kept.pop(key_id, {})
            self._limits -= len(names)
            return names

    def put_back(self, key_id: bytes, names: dict[bytes, Denied]) -> None:
        """What was taken and not told."""
        for name, denied in names.items():
            self.add(key_id, name, denied)

    def are_due(self) -> bool:
        """Whether it is time to tell."""
        if not self._kept:
            return False
        return self._limits >= _MOST_KEPT or time.monotonic() - self._since >= TOLD_EVERY_S

    def take_all(self) -> list[tuple[bytes, bytes, Denied]]:
        """All that is kept, by key and name."""
        with self._lock:
            kept, self._kept, self._limits = self._kept, {}, 0
        return [
            (key_id, name, denied)
            for key_id, names in kept.items()
            for name, denied in names.items()
        ]


def _renew_in_child() -> None:
    """What the parent has seen it tells itself."""
    for denials in list(_every):
        denials._lock = threading.Lock()
        denials._kept, denials._limits = {}, 0


os.register_at_fork(after_in_child=_renew_in_child)
