"""aiohttp, under its own server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from asgi_calls import run
from ways import shortest_way  # noqa: F401

import flint
from flint.aiohttp import Policy, setup
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


def application() -> web.Application:
    async def number(request: web.Request) -> web.Response:
        return web.json_response({"number": request.match_info["number"]})

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b"one ", b"two"):
            await response.write(part)
        return response

    async def login(request: web.Request) -> web.Response:
        if "password" not in request.query:
            raise web.HTTPUnauthorized
        return web.Response(text="in")

    app = web.Application()
    app.router.add_get("/items/{number}", number)
    app.router.add_get("/stream", stream)
    app.router.add_get("/login", login)
    return app


def ask(app: web.Application, *paths: str) -> list[tuple[int, Any, bytes]]:
    async def asked() -> list[tuple[int, Any, bytes]]:
        async with TestClient(TestServer(app)) as client:
            answers = []
            for path in paths:
                async with client.get(path) as answer:
                    answers.append((answer.status, answer.headers, await answer.read()))
            return answers

    return run(asked())


def test_by_route(limiter: flint.Limiter) -> None:
    app = application()
    setup(app, limiter, "2/minute", scope="route")
    first, second, denied, other = ask(app, "/items/1", "/items/2", "/items/3", "/stream")
    assert [first[0], second[0], denied[0], other[0]] == [200, 200, 429, 200]
    assert first[1]["X-RateLimit-Remaining"] == "1"
    assert denied[1]["Retry-After"] == "30"
    assert denied[2] == b'{"detail":"rate limit exceeded"}'
    assert (other[2], other[1]["X-RateLimit-Limit"]) == (b"one two", "2")


def test_without_headers(limiter: flint.Limiter) -> None:
    app = application()
    setup(app, limiter, "1/minute", headers="none")
    answer, denied = ask(app, "/items/1", "/items/1")
    assert (answer[0], "X-RateLimit-Limit" in answer[1]) == (200, False)
    assert (denied[0], denied[1]["Retry-After"]) == (429, "60")


def test_only_failures_are_counted(limiter: flint.Limiter) -> None:
    app = application()
    setup(app, limiter, "2/minute", when="failed")
    paths = ["/login?password=a"] * 3 + ["/login"] * 3 + ["/login?password=a"]
    assert [answer[0] for answer in ask(app, *paths)] == [200] * 3 + [401, 401, 429, 429]


def test_several_limits_and_an_answer_of_ones_own(limiter: flint.Limiter) -> None:
    app = application()
    setup(app, limiter, "9/minute")
    setup(app, limiter, policy=Policy("1/minute", on_denied=lambda *_: web.Response(status=420)))
    assert [answer[0] for answer in ask(app, "/items/1", "/items/1")] == [200, 420]


def test_not_one_too_many_at_once(tmp_path: Path) -> None:
    async def at_once() -> list[int]:
        app = application()
        setup(app, tmp_path / "data", "20/hour")
        async with TestClient(TestServer(app)) as client:

            async def status() -> int:
                async with client.get("/stream") as answer:
                    await answer.read()
                    return answer.status

            return sorted(await asyncio.gather(*(status() for _ in range(50))))

    assert run(at_once()) == [200] * 20 + [429] * 30
    flint.Limiter(tmp_path / "data").close()  # it was closed with the application


def test_what_is_refused(limiter: flint.Limiter) -> None:
    with pytest.raises(TypeError, match="policy takes the place"):
        setup(web.Application(), limiter, "1/s", policy=Policy("1/s"))
    with pytest.raises(ValueError, match="headers"):
        setup(web.Application(), limiter, "1/s", headers="all")
    with pytest.raises(ValueError, match="key cannot be 'user' in aiohttp"):
        setup(web.Application(), limiter, "1/s", key=("user", "route"))


def test_several_policies(limiter: flint.Limiter) -> None:
    app = application()
    policies = [Policy("2/day"), Policy("1/day", scope="route")]
    setup(app, limiter, policy=policies)
    paths = ("/items/1", "/items/2", "/login", "/stream")
    assert [status for status, _, _ in ask(app, *paths)] == [200, 429, 401, 429]
