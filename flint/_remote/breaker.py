"""A server that is away is asked again once a second, and everybody else is told at once."""

from __future__ import annotations

import os
import threading
import time
import weakref

from flint.errors import FlintConnectionError

ASK_AGAIN_S = 1.0
_FAILURES = 3  # in a row, of connections that had been made

_every_breaker: weakref.WeakSet[Breaker] = weakref.WeakSet()


class Breaker:
    """Any thread may call anything here; nothing waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._ask_again_at = 0.0  # by the monotonic clock
        self._cause = ""
        _every_breaker.add(self)

    def enter(self) -> None:
        """Raise FlintConnectionError while the server is away, unless it is time to ask again."""
        if self._failures < _FAILURES:
            return
        with self._lock:
            now = time.monotonic()
            if self._failures < _FAILURES or now >= self._ask_again_at:
                self._ask_again_at = now + ASK_AGAIN_S
                return
        raise FlintConnectionError(f"{self._cause}; it is asked again each second")

    def failed(self, cause: str, *, is_away: bool) -> None:
        """To be told of a failure. `is_away`: there was not even a connection."""
        with self._lock:
            self._failures = _FAILURES if is_away else min(self._failures + 1, _FAILURES)
            self._ask_again_at = time.monotonic() + ASK_AGAIN_S
            self._cause = cause

    def worked(self) -> None:
        """To be told of an answer."""
        if self._failures:
            with self._lock:
                self._failures = 0


def _renew_in_child() -> None:
    """One of the threads that a forked child does not have may have held the lock."""
    for breaker in list(_every_breaker):
        breaker._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_in_child)
