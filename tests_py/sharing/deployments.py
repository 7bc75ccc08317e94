"""Servers that replace their workers while they are loaded, and what their clients are told."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conftest import PACKAGE_ROOT

import flint

LONG = "FLINT_LONG" in os.environ
LOAD_S = 60 if LONG else 0
REQUESTS = 300  # at least
THREADS = 8
# Of each key: they are used up one after the other, so that limits are met all the time.
LIMIT = 40
DEADLINE_S = 120

# One application for WSGI and ASGI: what it answers is who decided.
APPLICATION = f"""
import os
import flint

limiter = flint.Limiter(os.environ["LIMITS"], shared=True, sync="batch", answer_timeout="1m")
limiter.limit("k*", rate={LIMIT}, per="365d", algorithm="fixed_window_counter")


def decide(path):
    allowed = limiter.allow(path.strip("/"))
    return (200 if allowed else 429), f"{{os.getpid()}} {{limiter.info()['role']}}".encode()


def wsgi(environ, start_response):
    status, body = decide(environ["PATH_INFO"])
    start_response(f"{{status}} said", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    status, body = decide(scope["path"])
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": status, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


@dataclass
class Told:
    """What clients have been told."""

    admitted: dict[int, int] = field(default_factory=dict)  # by the number of the key
    denied: int = 0
    # Connections that a server closed without an answer, as it may when it replaces a worker: the
    # request may have been counted.
    cut: int = 0
    wrong: list[str] = field(default_factory=list)
    workers: set[int] = field(default_factory=set)
    owners: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self) -> int:
        return sum(self.admitted.values()) + self.denied

    def take(self, key: int, status: int, body: bytes) -> None:
        with self._lock:
            if status not in (200, 429):
                self.wrong.append(f"{status} {body[:200]!r}")
                return
            pid, role = body.decode().split()
            self.workers.add(int(pid))
            if role == "owner":
                self.owners.add(int(pid))
            if status == 200:
                self.admitted[key] = self.admitted.get(key, 0) + 1
            else:
                self.denied += 1

    def take_cut(self) -> None:
        with self._lock:
            self.cut += 1


class Load:
    """Clients that ask until there have been enough, each request by a connection of its own."""

    def __init__(self, port: int, wanted_workers: int) -> None:
        self.told = Told()
        self._port = port
        self._wanted = wanted_workers
        self._key = 0
        self._until_s = time.monotonic() + LOAD_S
        self._deadline_s = self._until_s + DEADLINE_S

    def run(self) -> Told:
        threads = [threading.Thread(target=self._ask_often) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() < self._deadline_s, self.told
        return self.told

    def _enough(self) -> bool:
        told, now_s = self.told, time.monotonic()
        seen = told.answered() >= REQUESTS and len(told.workers) >= self._wanted
        return (seen and now_s >= self._until_s) or bool(told.wrong) or now_s > self._deadline_s

    def _ask_often(self) -> None:
        while not self._enough():
            key = self._key
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
            with contextlib.closing(connection):
                try:
                    connection.request("GET", f"/k{key}")
                    answer = connection.getresponse()
                    status, body = answer.status, answer.read()
                except (http.client.HTTPException, ConnectionError):
                    self.told.take_cut()
                    continue
            self.told.take(key, status, body)
            if status == 429:
                self._key = max(self._key, key + 1)


def python_path(top: Path) -> str:
    """For programs that find this Flint, what is in a directory, and what this process finds."""
    return os.pathsep.join([str(PACKAGE_ROOT), str(top), os.environ.get("PYTHONPATH", "")])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextlib.contextmanager
def served(top: Path, command: list[str], port: int) -> Iterator[Path]:
    """Runs a server of the application; yields the file of what it prints."""
    (top / "application.py").write_text(APPLICATION, "utf-8")
    log = top / "log"
    environment = {
        **os.environ,
        "LIMITS": str(top / "limits"),
        "PYTHONPATH": python_path(top),
        "PYTHONWARNINGS": "ignore",
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=top, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        await_port(process, port, log)
        yield log
        process.terminate()
        process.wait(DEADLINE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        assert process.poll() is None, log.read_text("utf-8")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline_s, log.read_text("utf-8")
        time.sleep(0.02)


def check_counts(path: Path, admitted: dict[int, int], untold: int) -> None:
    """Nothing that was told is lost, and nothing is over a limit. `untold` is how many requests at
    most may have been counted and told nobody."""
    with flint.Limiter(path, sync="batch", lock_timeout=DEADLINE_S) as last:
        keys = range(max(admitted) + 1)
        counted = {key: LIMIT - last.peek(f"k{key}").remaining for key in keys}
    over = {key: count for key, count in admitted.items() if not count <= counted[key] <= LIMIT}
    assert over == {}
    assert sum(counted.values()) - sum(admitted.values()) <= untold
    assert max(counted.values()) == LIMIT


def check_served(top: Path, command: list[str], port: int, wanted_workers: int) -> Told:
    with served(top, command, port) as log:
        told = Load(port, wanted_workers).run()
    assert told.wrong == [], log.read_text("utf-8")
    assert "flint." not in log.read_text("utf-8"), log.read_text("utf-8")
    assert len(told.workers) >= wanted_workers
    check_counts(top / "limits", told.admitted, told.cut)
    return told


def report(name: str, told: Told) -> None:
    print(
        f"{name}: {told.answered():,} requests answered by {len(told.workers)} workers, "
        f"{len(told.owners)} of them owned it; {sum(told.admitted.values()):,} admitted in "
        f"{len(told.admitted)} limits of {LIMIT}, none over; {told.cut} connections closed by the "
        f"server; no errors"
    )
