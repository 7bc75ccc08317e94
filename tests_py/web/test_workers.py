"""Several workers that count in memory are told so."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import serving, status, statuses

import flint
from flint._web import workers

# What each worker does, who has begun the others by then.
WORKER = """
import logging
import sys

from flint.wsgi import RateLimitMiddleware

logging.basicConfig(format="%(message)s")


def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


def ask(where, **options):
    limiter = flint.connect(where, **options)
    limited = RateLimitMiddleware(application, limiter, "9/day")
    for _ in range(3):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": "203.0.113.7"}
        list(limited(environ, lambda *_: None))
"""
FORKED = f"""
import os
import signal

import flint
{WORKER}

for _ in range(int(sys.argv[1])):
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        ask(sys.argv[2], **({{"shared": True}} if sys.argv[2] != ":memory:" else {{}}))
        os.write(write_end, b".")
        signal.pause()
    os.read(read_end, 1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.killpg(0, signal.SIGTERM)
"""


def warnings_of(count: int, where: str) -> int:
    """How many of so many workers, all there at once, have warned."""
    command = [sys.executable, "-c", FORKED, str(count), where]
    options = {"capture_output": True, "text": True, "timeout": 60, "check": True}
    done = subprocess.run(command, process_group=0, **options)
    lines = done.stderr.splitlines()
    assert all(line.startswith("flint.W004: ") for line in lines), done.stderr
    return len(lines)


@pytest.mark.parametrize(("count", "warned"), [(1, 0), (2, 1), (4, 3)])
def test_each_worker_but_one_warns_once(count: int, warned: int) -> None:
    assert warnings_of(count, ":memory:") == warned


def test_workers_that_share_a_directory_are_fine(tmp_path: Path) -> None:
    assert warnings_of(2, str(tmp_path / "data")) == 0


SERVED = """
import logging

import flint
from flint.{kind} import RateLimitMiddleware

logging.basicConfig(filename="warnings.log")


{application}

app = RateLimitMiddleware(application, flint.Limiter(":memory:"), "10000/day")
"""
ASGI = """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""
WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
SERVERS = {
    "asgi": (ASGI, ("uvicorn", "--port", "0", "--lifespan", "off")),
    "wsgi": (WSGI, ("gunicorn", "--bind", "127.0.0.1:0")),
}


def listens(url: str) -> bool:
    try:
        return status(url) == 200
    except urllib.error.URLError:
        time.sleep(0.1)
        return False


@pytest.mark.parametrize(("workers", "warned"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("kind", SERVERS)
def test_under_a_server(kind: str, workers: int, warned: int, tmp_path: Path) -> None:
    application, server = SERVERS[kind]
    text = SERVED.format(kind=kind, application=application)
    (tmp_path / "application.py").write_text(text, "utf-8")
    command = (*server, "--workers", str(workers))
    log = tmp_path / "warnings.log"
    with serving("application:app", tmp_path / "data", *command, folder=tmp_path) as (url, _):
        deadline = time.monotonic() + 30
        while not listens(url):  # uvicorn says where before it does
            assert time.monotonic() < deadline
        # Until both workers have had a request, which the system decides.
        while True:
            assert set(statuses(f"{url}/", 50)) == {200}
            said = log.read_text("utf-8").count("flint.W004: ") if log.exists() else 0
            if said == warned or time.monotonic() > deadline:
                break
    assert said == warned


def test_threads_look_once(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A thread does not take another's name for that of a worker."""
    monkeypatch.setattr(workers, "_once", threading.Lock())
    with flint.Limiter(":memory:") as limiter, ThreadPoolExecutor(8) as threads:
        together = threading.Barrier(8)

        def look() -> None:
            together.wait()
            workers.look(limiter)

        for done in [threads.submit(look) for _ in range(8)]:
            done.result()
    assert caplog.records == []


def test_where_there_is_no_such_socket(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(workers, "_once", threading.Lock())
    monkeypatch.setattr(workers, "_name", lambda: "/nowhere/at/all")
    with flint.Limiter(":memory:") as limiter:
        workers.look(limiter)
    assert caplog.records == []
