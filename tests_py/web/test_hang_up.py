"""A client that hangs up while the disk is waited for, under uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from serving import DEADLINE_S

from flint import Limiter
from flint.asgi import Policy, RateLimitMiddleware


async def telling(scope: Any, receive: Any, send: Any) -> None:
    """Answers how many tasks the loop has."""
    del scope, receive
    body = str(len(asyncio.all_tasks())).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def under_uvicorn(app: Any) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


def ask(address: tuple[str, int]) -> tuple[int, int]:
    """The status, and how many tasks there are."""
    url = "http://{}:{}/".format(*address)
    request = urllib.request.Request(url, headers={"Connection": "close"})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, int(answer.read())
    except urllib.error.HTTPError as error:
        error.read()
        return error.code, 0


@pytest.mark.parametrize("unchecked", [100, 0], ids=["the long way", "the short way"])
def test_it_counts_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: int
) -> None:
    waiting, go_on = threading.Event(), threading.Event()
    await_durable = Limiter._await_durable

    async def slow_disk(self: Limiter, ticket: int) -> None:
        waiting.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        await await_durable(self, ticket)

    monkeypatch.setattr(Limiter, "_await_durable", slow_disk)
    with Limiter(tmp_path / "limits", sync="always") as limiter:
        policy = Policy("10000/day")
        policy.address.unchecked = unchecked
        app = RateLimitMiddleware(telling, limiter, policy=policy)
        with under_uvicorn(app) as address:
            go_on.set()
            status, tasks = ask(address)
            assert status == 200
            go_on.clear()
            for _ in range(5):
                waiting.clear()
                with socket.create_connection(address, timeout=DEADLINE_S) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    assert waiting.wait(DEADLINE_S)
                    reset = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            go_on.set()
            asked, deadline_s = 0, time.monotonic() + DEADLINE_S
            while True:
                status, found = ask(address)
                asked += 1
                assert status == 200  # what hung up holds up nobody
                if found <= tasks:
                    break
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
        kinds = [event["type"] for event in limiter.history()]
        assert kinds.count("ALLOW") == 1 + 5 + asked
        assert kinds.count("DENY") == 0
