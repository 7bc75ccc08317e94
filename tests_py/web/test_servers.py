"""The examples under their real servers: many clients at once, clients that hang up, a kill in the
middle, streams and WebSockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import urllib.request
from pathlib import Path

import aiohttp
import pytest
from serving import CLIENTS, DEADLINE_S, serving, statuses

HANG_UPS = 8


def hang_up(url: str) -> None:
    """Ask for something that is streamed, and be gone without having read it."""
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as client:
        reset = struct.pack("ii", 1, 0)  # no farewell: the server finds out when it writes
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.sendall(b"GET /numbers HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")


def stream_and_hang_up(url: str, limit: int | None) -> None:
    """Clients that hang up while they wait count once at most, and harm nobody: a stream is whole
    afterwards, and is counted."""
    for _ in range(HANG_UPS):
        hang_up(url)
    with urllib.request.urlopen(f"{url}/numbers", timeout=DEADLINE_S) as answer:
        assert answer.read().decode().splitlines() == [str(n) for n in range(1000)]
    left = answer.headers["X-RateLimit-Remaining"]
    if limit is None:
        assert left is None
    else:
        assert limit - HANG_UPS - 1 <= int(left) <= limit - 1


async def talk(url: str, messages: int) -> tuple[list[str], int | None]:
    """What a WebSocket says to so many messages, and the code it is closed with."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/echo") as socket_:
        said: list[str] = []
        for number in range(messages):
            await socket_.send_str(str(number))
            answer = await socket_.receive(timeout=DEADLINE_S)
            if answer.type is not aiohttp.WSMsgType.TEXT:
                break
            said.append(answer.data)
        return said, socket_.close_code


UVICORN = ("uvicorn", "--ws", "wsproto", "--port", "0")
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0")
HYPERCORN = ("hypercorn", "--workers", "0", "--bind", "127.0.0.1:0")  # no processes of its own
DAPHNE = ("daphne", "--bind", "127.0.0.1", "--port", "0")


@pytest.mark.parametrize("asgi_server", [UVICORN, HYPERCORN], ids=lambda command: command[0])
def test_fastapi(tmp_path: Path, asgi_server: tuple[str, ...]) -> None:
    with serving("fastapi_app:app", tmp_path / "limits", *asgi_server) as (url, server):
        assert statuses(f"{url}/search?q=a", 12) == [200] * 12
        stream_and_hang_up(url, 100)
        server.kill()
        server.wait()
    with serving("fastapi_app:app", tmp_path / "limits", *asgi_server) as (url, _):
        assert statuses(f"{url}/search?q=b", CLIENTS) == [200] * 8 + [429] * 42


@pytest.mark.parametrize("asgi_server", [UVICORN, HYPERCORN], ids=lambda command: command[0])
def test_starlette(tmp_path: Path, asgi_server: tuple[str, ...]) -> None:
    with serving("starlette_app:app", tmp_path / "limits", *asgi_server) as (url, server):
        assert statuses(f"{url}/search?q=a", 12) == [200] * 12
        stream_and_hang_up(url, 100)
        assert asyncio.run(talk(url, 4)) == (["0", "1", "2", "3"], None)
        server.kill()
        server.wait()
    with serving("starlette_app:app", tmp_path / "limits", *asgi_server) as (url, _):
        assert statuses(f"{url}/search?q=b", CLIENTS) == [200] * 8 + [429] * 42
        # A message too many closes the socket: of ten an hour, four were sent before the restart.
        assert asyncio.run(talk(url, 9)) == ([str(n) for n in range(6)], 1013)


DOOR = """
import os
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from flint.asgi import RateLimitMiddleware

async def leave(socket):
    await socket.accept()
    await socket.close()

door = Starlette(routes=[WebSocketRoute("/", leave)])
app = RateLimitMiddleware(door, os.environ["FLINT_DATA_DIR"], "2/day")
"""


async def knock(url: str) -> tuple[int, str | None]:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(url) as socket_:
                await socket_.receive(timeout=DEADLINE_S)
                return 101, None
        except aiohttp.WSServerHandshakeError as error:
            return error.status, (error.headers or {}).get("Retry-After")


@pytest.mark.parametrize(
    ("asgi_server", "status"),
    [(UVICORN, 429), (HYPERCORN, 429), (DAPHNE, 403)],
    ids=["uvicorn", "hypercorn", "daphne"],
)
def test_a_handshake_too_many(tmp_path: Path, asgi_server: tuple[str, ...], status: int) -> None:
    """Daphne has no other answer to a handshake that is not accepted than 403."""
    (tmp_path / "door.py").write_text(DOOR, "utf-8")
    with serving("door:app", tmp_path / "limits", *asgi_server, folder=tmp_path) as (url, _):
        assert [asyncio.run(knock(url)) for _ in range(2)] == [(101, None)] * 2
        denied, retry_after = asyncio.run(knock(url))
        assert (denied, retry_after is not None) == (status, status == 429)
        assert int(retry_after or 43_200) in range(43_000, 43_201)


def test_wsgi_under_gunicorn(tmp_path: Path) -> None:
    command = (*GUNICORN, "--worker-class", "gthread", "--threads", "8")
    with serving("wsgi_app:app", tmp_path / "limits", *command) as (url, _):
        assert statuses(f"{url}/search", 12) == [200] * 12
        stream_and_hang_up(url, None)
    with serving("wsgi_app:app", tmp_path / "limits", *command) as (url, _):
        assert statuses(f"{url}/search", CLIENTS) == [200] * 8 + [429] * 42


@pytest.mark.parametrize("worker", [("sync",), ("gthread", "--threads", "8")])
def test_flask_under_gunicorn(tmp_path: Path, worker: tuple[str, ...]) -> None:
    command = (*GUNICORN, "--worker-class", *worker)
    with serving("flask_app:app", tmp_path / "limits", *command) as (url, _):
        assert statuses(f"{url}/health", 5) == [200] * 5
        assert statuses(f"{url}/search", 12) == [200] * 12
        stream_and_hang_up(url, 100)
    with serving("flask_app:app", tmp_path / "limits", *command) as (url, _):
        assert statuses(f"{url}/search", CLIENTS) == [200] * 8 + [429] * 42


@pytest.mark.parametrize("asgi_server", [UVICORN, DAPHNE], ids=lambda command: command[0])
def test_django(tmp_path: Path, asgi_server: tuple[str, ...]) -> None:
    for expected in ([200] * 12, [200] * 8 + [429] * 42):
        with serving("django_app:app", tmp_path / "limits", *asgi_server) as (url, server):
            assert statuses(f"{url}/search?q=a", len(expected)) == expected
            if len(expected) < CLIENTS:
                stream_and_hang_up(url, 100)
            server.kill()


def test_aiohttp_under_its_own_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = ("aiohttp.web", "-H", "127.0.0.1", "-P", port)
    for expected in ([200] * 12, [200] * 8 + [429] * 42):
        with serving("aiohttp_app:make_app", tmp_path / "limits", *command) as (url, server):
            assert statuses(f"{url}/search?q=a", len(expected)) == expected
            if len(expected) < CLIENTS:
                stream_and_hang_up(url, 20)
            server.kill()
