"""`flint.rate_limit`: one decorator, whatever framework calls the function, or none."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import django_settings  # noqa: F401
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from asgi_calls import call, run, statuses, talk
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.views import View
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse as FastJSON
from flask import Flask, jsonify
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse
from starlette.routing import Route

import flint
import flint._public
import flint._rate_limit
import flint.aiohttp
import flint.django
import flint.flask
from flint import RateLimitExceeded, rate_limit
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


def keys(limiter: flint.Limiter) -> list[str]:
    return [entry["key"] for entry in limiter.list(counters=True)]


# ---- Without a framework ----


def test_a_function(limiter: flint.Limiter) -> None:
    @rate_limit("2/day", limiter=limiter)
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    assert (add(1), add(1, b=5)) == (2, 6)
    with pytest.raises(RateLimitExceeded, match="rate limit exceeded") as caught:
        add(3)
    assert caught.value.retry_after == 43_200
    assert (add.__name__, add.__doc__, list(inspect.signature(add).parameters)[:2]) == (
        "add",
        "Adds.",
        ["a", "b"],
    )


def test_keys_and_costs_of_calls(limiter: flint.Limiter) -> None:
    @rate_limit(
        "5/day",
        limiter=limiter,
        key=lambda user, *_: user,
        cost=lambda _, units=1: units,
    )
    def send(user: str | None, units: int = 1) -> int:
        return units if user != "" else 0

    assert send("ann", 5) == 5
    with pytest.raises(RateLimitExceeded):
        send("ann")
    assert send("bob") == 1
    assert [send(None) for _ in range(9)] == [1] * 9  # None is not limited


def test_coroutine_and_generator_functions_and_methods(limiter: flint.Limiter) -> None:
    class Sender:
        @rate_limit("1/day", limiter=limiter)
        async def one(self) -> str:
            return "one"

        @rate_limit("1/day", limiter=limiter)
        async def many(self) -> AsyncIterator[str]:
            yield "a"
            yield "b"

        @rate_limit("1/day", limiter=limiter)
        @staticmethod
        def still() -> str:
            return "still"

    async def main() -> None:
        sender = Sender()
        assert await sender.one() == "one"
        with pytest.raises(RateLimitExceeded):
            await sender.one()
        assert [item async for item in sender.many()] == ["a", "b"]
        with pytest.raises(RateLimitExceeded):
            await anext(sender.many())
        assert Sender.still() == "still"
        with pytest.raises(RateLimitExceeded):
            sender.still()

    asyncio.run(main())


def test_functions_of_one_name_do_not_share_and_a_scope_does(limiter: flint.Limiter) -> None:
    def make(**options: Any) -> Callable[[], str]:
        @rate_limit("1/day", limiter=limiter, **options)
        def same() -> str:
            return "done"

        return same

    assert [make()() for _ in range(3)] == ["done"] * 3
    assert len({key.rpartition("#")[2] for key in keys(limiter)}) == 3
    make(scope="shared")()
    with pytest.raises(RateLimitExceeded):
        make(scope="shared")()


def test_shadow_blocks_nobody(limiter: flint.Limiter) -> None:
    @rate_limit("1/day", limiter=limiter, shadow=True)
    def send() -> str:
        return "sent"

    assert [send() for _ in range(3)] == ["sent"] * 3
    [key] = keys(limiter)
    assert limiter.status(key)["total_denied"] == 2  # type: ignore[index]


def test_a_limiter_that_cannot_decide() -> None:
    def make(**options: Any) -> Callable[[str], str]:
        limiter = flint.Limiter(":memory:", max_keys=1)

        @rate_limit("1/day", limiter=limiter, key=lambda user: user, **options)
        def send(user: str) -> str:
            return user

        return send

    for options in ({}, {"on_error": "deny"}):
        send = make(**options)
        send("ann")
        with pytest.raises(flint.TableFullError):
            send("bob")
    send = make(on_error="allow")
    assert [send(user) for user in ("ann", "bob", "bob")] == ["ann", "bob", "bob"]


def test_the_limiter_of_who_has_named_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLINT_URL", raising=False)
    monkeypatch.setenv("FLINT_DATA_DIR", str(tmp_path / "limits"))

    @rate_limit("1/day")
    def send() -> str:
        return "sent"

    @rate_limit("1/day", limiter=tmp_path / "others")
    def receive() -> str:
        return "received"

    assert not (tmp_path / "others").exists()  # opened at the first call
    assert (send(), receive()) == ("sent", "received")
    with pytest.raises(RateLimitExceeded):
        send()
    with flint.Limiter.open_readonly(tmp_path / "others") as reader:
        assert len(keys(reader)) == 1
    flint._rate_limit.default_limiter().close()
    with pytest.raises(RateLimitExceeded):  # it is opened again, and remembers
        send()
    flint._rate_limit.default_limiter().close()


def test_a_key_that_needs_a_request(limiter: flint.Limiter) -> None:
    @rate_limit("1/day", limiter=limiter, key="user")
    def send() -> None: ...

    with pytest.raises(RuntimeError, match="key='user' needs a request"):
        send()


@pytest.mark.parametrize(
    ("limits", "options", "error", "word"),
    [
        ("1/fortnight", {}, ValueError, "limits"),
        ("1/day", {"cost": 0}, ValueError, "cost"),
        ("1/day", {"key": "nobody"}, ValueError, "key"),
        ("1/day", {"scope": "route"}, ValueError, "scope"),
        ("1/day", {"when": "5xx"}, ValueError, "when"),
        ("1/day", {"colour": "red"}, TypeError, "colour"),
    ],
)
def test_bad_options(limits: str, options: Any, error: type, word: str) -> None:
    with pytest.raises(error, match=word):
        rate_limit(limits, **options)


def test_what_is_no_function() -> None:
    for value in (3, Path):
        with pytest.raises(TypeError, match="functions and methods"):
            rate_limit("1/day")(value)  # type: ignore[type-var]


def test_no_framework_is_loaded(run_python: Callable[..., str]) -> None:
    script = """
import sys, flint
@flint.rate_limit("1/day", limiter=":memory:")
def send(): return "sent"
print(send(), sorted({"starlette", "fastapi", "flask", "django", "aiohttp"} & set(sys.modules)))
"""
    assert run_python(script) == "sent []\n"


# ---- FastAPI and Starlette ----


@pytest.fixture
def app(limiter: flint.Limiter) -> FastAPI:
    application = FastAPI()
    application.state.limiter = limiter
    return application


def test_a_route_of_fastapi(app: FastAPI) -> None:
    @app.get("/items/{number}")
    @rate_limit("2/day")
    async def item(number: int) -> dict[str, int]:
        return {"number": number}

    first = run(call(app, "/items/1"))
    assert (first.json, first.header("X-RateLimit-Remaining")) == ({"number": 1}, "1")
    assert run(statuses(app, 2, "/items/2")) == [200, 429]
    denied = run(call(app, "/items/3"))
    assert denied.json == {"detail": "rate limit exceeded"}
    assert denied.header("Retry-After") == "43200"
    other = run(call(app, "/items/1", client=("198.51.100.1", 1)))
    assert other.status == 200  # another client
    parameters = app.openapi()["paths"]["/items/{number}"]["get"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == ["number"]


def test_a_response_of_its_own_and_a_route_that_is_no_coroutine(app: FastAPI) -> None:
    @app.get("/")
    @rate_limit("1/day")
    def root(request: Request) -> FastJSON:
        return FastJSON({"path": request.url.path})

    answer = run(call(app))
    assert (answer.json, answer.header("X-RateLimit-Limit")) == ({"path": "/"}, "1")
    assert run(statuses(app, 1)) == [429]


def test_two_decorators_and_two_functions_of_one_name(app: FastAPI) -> None:
    for path in ("/a", "/b"):

        @app.get(path)
        @rate_limit("3/day", key=lambda request: request.headers["x-user"])
        @rate_limit("2/day")
        async def same() -> str:
            return "ok"

    for path in ("/a", "/b"):
        got = run(statuses(app, 3, path, headers={"X-User": "ann"}))
        assert got == [200, 200, 429]


def test_a_websocket(app: FastAPI) -> None:
    @app.websocket("/")
    @rate_limit("1/day")
    async def talking(socket: WebSocket) -> None:
        await socket.accept()

    assert [message["type"] for message in run(talk(app, []))] == ["websocket.accept"]
    [closed] = run(talk(app, []))
    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)


def test_starlette(limiter: flint.Limiter) -> None:
    @rate_limit("1/day", limiter=limiter)
    async def root(_: Request) -> JSONResponse:
        return JSONResponse({})

    class Endpoint(HTTPEndpoint):
        @rate_limit("1/day", limiter=limiter)
        def get(self, request: Request) -> JSONResponse:
            return JSONResponse({"path": request.url.path})

    app = Starlette(routes=[Route("/", root), Route("/class", Endpoint)])
    for path in ("/", "/class"):
        assert run(call(app, path)).header("X-RateLimit-Remaining") == "0"
        denied = run(call(app, path))
        assert (denied.status, denied.header("Retry-After")) == (429, "86400")


# ---- Flask ----


def test_flask(limiter: flint.Limiter) -> None:
    app = Flask(__name__)
    flint.flask.RateLimiter(app, limiter)

    @app.get("/")
    @rate_limit("1/day")
    def root() -> str:
        return "ok"

    @app.get("/deep")
    def deep() -> str:
        return send()

    @rate_limit("1/day")
    def send() -> str:
        return "sent"

    client = app.test_client()
    for path in ("/", "/deep"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (200, "0")
        denied = client.get(path)
        assert (denied.status_code, denied.headers["Retry-After"]) == (429, "86400")
        assert denied.get_json() == {"detail": "rate limit exceeded"}
        other = client.get(path, environ_overrides={"REMOTE_ADDR": "198.51.100.1"})
        assert other.status_code == 200


def test_an_error_handler_of_flask(limiter: flint.Limiter) -> None:
    app = Flask(__name__)

    @app.get("/")
    @rate_limit("1/day", limiter=limiter)
    async def root() -> str:
        return "ok"

    @app.errorhandler(429)
    def too_many(error: Any) -> Any:
        return jsonify(said=error.description), 429

    client = app.test_client()
    assert client.get("/").status_code == 200
    denied = client.get("/")
    assert (denied.status_code, denied.get_json()) == (429, {"said": "rate limit exceeded"})
    assert denied.headers["Retry-After"] == "86400"


# ---- Django ----


def asked(view: Any, *args: Any, **meta: str) -> HttpResponse:
    request = RequestFactory().get("/", **{"REMOTE_ADDR": "203.0.113.7", **meta})
    answer = view(*args, request)
    response: HttpResponse = asyncio.run(answer) if inspect.isawaitable(answer) else answer
    return response


def test_django(tmp_path: Path) -> None:
    @rate_limit("1/day")
    def plain(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @rate_limit("1/day", key="user")
    async def coroutine(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    class OfClass(View):
        @rate_limit("1/day")
        def get(self, _: HttpRequest) -> HttpResponse:
            return HttpResponse("ok")

    with override_settings(FLINT={"URL": str(tmp_path / "limits")}):
        for view in (plain, coroutine, OfClass.as_view()):
            first = asked(view)
            assert (first.status_code, first["X-RateLimit-Remaining"]) == (200, "0")
            denied = asked(view)
            assert (denied.status_code, denied["Retry-After"]) == (429, "86400")
            assert json.loads(denied.content) == {"detail": "rate limit exceeded"}
            assert asked(view, REMOTE_ADDR="198.51.100.1").status_code == 200
        flint.django.limiter().close()


# ---- aiohttp ----


def test_aiohttp(limiter: flint.Limiter) -> None:
    @rate_limit("1/day")
    async def root(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    class OfClass(web.View):
        @rate_limit("1/day")
        async def get(self) -> web.Response:
            return web.Response(text=self.request.path)

    app = web.Application()
    app.router.add_get("/", root)
    app.router.add_view("/class", OfClass)
    flint.aiohttp.setup(app, limiter, "100/day", headers="none")

    async def main() -> list[tuple[int, str | None]]:
        found = []
        async with TestClient(TestServer(app)) as client:
            for path in ("/", "/", "/class", "/class"):
                async with client.get(path) as answer:
                    await answer.read()
                    found.append((answer.status, answer.headers.get("X-RateLimit-Remaining")))
        return found

    assert run(main()) == [(200, "0"), (429, "0")] * 2


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(flint._public).failed == 0
