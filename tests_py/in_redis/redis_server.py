"""Starts the real Redis, in a temporary directory, for the time of the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import redis

from flint._redis import scripts
from flint.redis import RedisLimiter
from flint.testing import ManualClock

DEADLINE_S = 60
PROGRAM = shutil.which("redis-server")
# Enough on a slow machine, for tests that are not about time.
PATIENCE_S = 30.0

_numbers = itertools.count()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class RedisServer:
    """A server with a directory of its own."""

    def __init__(self, *words: str, port: int | None = None) -> None:
        assert PROGRAM, "Redis is not installed: apt-get install redis-server, as ./dev does"
        self._words = words
        self.folder = Path(tempfile.mkdtemp(prefix="flint-redis-"))
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=PATIENCE_S, **options)

    def start(self, *words: str) -> None:
        """Starts it, empty, and waits until it answers."""
        assert PROGRAM
        given = [f"--port {self.port}", "--bind 127.0.0.1", "--save ''", *self._words, *words]
        command = [PROGRAM, *" ".join(given).replace("''", "").split(" ")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=os.environ
            )
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            with self.client() as client:
                try:
                    client.ping()
                except redis.AuthenticationError:
                    return
                except redis.ConnectionError:
                    assert self._process.poll() is None, (self.folder / "log").read_text("utf-8")
                    assert time.monotonic() < deadline_s
                    time.sleep(0.02)
                else:
                    return

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self.send(number)
            self._process.wait(timeout=DEADLINE_S)
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def server() -> RedisServer:
    """The one that tests share which leave it as it is."""
    found = RedisServer()
    atexit.register(found.remove)
    return found


def new_namespace() -> str:
    server()  # which threads may then ask for
    return f"test-{os.getpid()}-{next(_numbers)}"


def limiter_of(base: RedisServer, **options: Any) -> RedisLimiter:
    return RedisLimiter(base.url, **{"timeout": PATIENCE_S, **options})


# ---- A clock of the tests ----------------------------------------------------------------------

_CLOCK = """
local function clock()
  local high, low = string.match(redis.call('GET', KEYS[1] .. '.now'), '(%d+) (%d+)')
  return {tonumber(high), tonumber(low)}
end
"""


class ClockedClient:
    """Tells the time of a test to the server before each request."""

    def __init__(self, client: Any, tell: Any) -> None:
        self._client = client
        self._tell = tell

    def ask(self, request: Any) -> Any:
        self._tell()
        return self._client.ask(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def stop_clock(limiter: RedisLimiter, told: Any, clock: ManualClock) -> None:
    """Has a limiter's scripts read the time of a clock. Nothing expires, since that would be by
    another clock."""
    questions = limiter._questions
    made = scripts.load(_CLOCK)
    questions._scripts = {
        name: scripts.script(one.text.replace(b"MARGIN_MS = 1000", b"MARGIN_MS = 1e12"))
        for name, one in made.items()
    }
    key = questions._shared[0] + b".now"

    def tell() -> None:
        now_ns = clock.now_ns
        told.set(key, f"{now_ns >> 31} {now_ns & 2**31 - 1}")

    for name in ("_client", "_loop_client"):
        if getattr(limiter, name) is not None:
            setattr(limiter, name, ClockedClient(getattr(limiter, name), tell))
    limiter._begin(clock)


@contextlib.contextmanager
def clocked(clock: ManualClock, **options: Any) -> Iterator[RedisLimiter]:
    """A limiter in a namespace of its own, whose time is that of a clock."""
    base = server()
    given = {"namespace": new_namespace(), "totals": True, **options}
    with base.client() as told, limiter_of(base, **given) as limiter:
        stop_clock(limiter, told, clock)
        yield limiter
