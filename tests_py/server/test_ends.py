"""Servers that are ended again and again under load: what was answered is never lost, and nothing
is admitted over a limit. FLINT_LONG=1 ends 500 in each way; the result is in tests_py/results."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from flint_server import DEADLINE_S, FlintServer, needs_server, running

import flint
from flint import Limiter, SharedLimiter

pytestmark = needs_server

ROUNDS = 500 if os.environ.get("FLINT_LONG") else 5
CLIENTS = 4
LIMIT = 100


class Load:
    """Clients that check one key until the server is gone."""

    def __init__(self, server: FlintServer, key: str) -> None:
        self.allowed = 0
        self.denied = 0
        self._url = server.urls[0]
        self._key = key
        self._lock = threading.Lock()
        self._begun = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            self._begun.acquire()

    def _run(self) -> None:
        gone = (flint.FlintConnectionError, flint.FlintServerError)
        with contextlib.suppress(*gone), SharedLimiter(self._url) as limiter:
            self._check(limiter)
            self._begun.release()
            while True:
                self._check(limiter)

    def _check(self, limiter: SharedLimiter) -> None:
        allowed = limiter.check(self._key).allowed
        with self._lock:
            self.allowed += allowed
            self.denied += not allowed

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE_S)


def exhausted(server: FlintServer, key: str) -> int:
    """How much more is allowed."""
    with SharedLimiter(server.urls[0]) as limiter:
        return sum(1 for _ in range(LIMIT + 1) if limiter.check(key).allowed)


@pytest.mark.parametrize("sync", ["always", "batch"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_servers_that_are_ended(tmp_path: Path, sync: str, end: signal.Signals) -> None:
    seed = 12
    chance = random.Random(seed)
    with Limiter(tmp_path) as limiter:
        limiter.limit("round:*", rate=LIMIT, per="1d")
    allowed = denied = unanswered = 0
    load, key = None, ""
    for number in range(ROUNDS + 1):
        with running(tmp_path, "--sync", sync) as server:
            if load is not None:  # what has become of the round before
                more = exhausted(server, key)
                # Each client may have been counted once without being told.
                assert LIMIT - CLIENTS <= load.allowed + more <= LIMIT, (number, key)
                unanswered += LIMIT - load.allowed - more
                allowed, denied = allowed + load.allowed, denied + load.denied
            if number == ROUNDS:
                break
            key = f"round:{number}"
            load = Load(server, key)
            time.sleep(chance.uniform(0, 0.02))  # so that it is ended anywhere
            server.process.send_signal(end)
            load.join()
            server.left(0 if end == signal.SIGTERM else -end)
    print(f"{ROUNDS} {end.name}, {sync}: {allowed} allowed, {denied} denied, {unanswered} untold")
    # Who leaves in good order tells everybody.
    assert allowed + denied >= ROUNDS * CLIENTS
    assert end == signal.SIGKILL or unanswered == 0
