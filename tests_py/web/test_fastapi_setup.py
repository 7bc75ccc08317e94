"""FastAPI: what `setup` adds to an application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_calls import call, run, statuses
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from ways import shortest_way  # noqa: F401

import flint
from flint.fastapi import RateLimit, RateLimitMiddleware, setup
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


@pytest.fixture
def app(limiter: flint.Limiter) -> FastAPI:
    application = FastAPI()
    assert setup(application, limiter) is limiter
    return application


def denials(app: FastAPI) -> dict[str, list[str]]:
    """The codes of the OpenAPI page, for each path, that are not 200 and 422."""
    found: dict[str, list[str]] = {}
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            found[path] = sorted(set(operation["responses"]) - {"200", "422"})
    return found


def test_the_headers_of_a_response_that_a_route_returns_itself(app: FastAPI) -> None:
    limits = [Depends(RateLimit(words, scope=words)) for words in ("3/day", "9/day")]

    @app.get("/own", dependencies=limits)
    def own() -> JSONResponse:
        return JSONResponse({}, headers={"X-RateLimit-Reset": "7"})

    @app.get("/dict", dependencies=limits)
    def plain() -> dict[str, str]:
        return {}

    @app.get("/stream", dependencies=limits)
    def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    @app.get("/free")
    def free() -> dict[str, str]:
        return {}

    for left, path in ((2, "/own"), (1, "/dict"), (0, "/stream")):
        answer = run(call(app, path))
        assert answer.header("X-RateLimit-Limit") == "3"  # the nearest of the two
        assert answer.header("X-RateLimit-Remaining") == str(left)
        reset = answer.header("X-RateLimit-Reset")
        assert reset == "7" if path == "/own" else int(reset or 0) > 1_700_000_000
    denied = run(call(app, "/own"))
    assert (denied.status, denied.header("Retry-After")) == (429, "28800")
    assert run(call(app, "/free")).header("X-RateLimit-Limit") is None


def test_a_denial_has_the_headers_of_what_denied(app: FastAPI) -> None:
    ietf = RateLimit("9/day", headers="ietf", scope="ietf")

    @app.get("/", dependencies=[Depends(ietf), Depends(RateLimit("1/day"))])
    def root() -> JSONResponse:
        return JSONResponse({})

    run(call(app))
    denied = run(call(app))
    assert (denied.header("X-RateLimit-Limit"), denied.header("RateLimit")) == ("1", None)


def test_an_exception_of_the_route_has_them_too(app: FastAPI) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=["*"])

    @app.get("/", dependencies=[Depends(RateLimit("9/day"))])
    def root() -> None:
        raise HTTPException(404)

    answer = run(call(app, headers={"Origin": "https://example.com"}))
    assert (answer.status, answer.header("X-RateLimit-Remaining")) == (404, "8")
    assert answer.header("Access-Control-Allow-Origin") == "*"


def test_a_browser_of_another_origin(app: FastAPI) -> None:
    """A preflight is not counted, and a denial has the headers of CORS."""
    shown = ["X-RateLimit-Remaining", "Retry-After"]
    app.add_middleware(CORSMiddleware, allow_origins=["*"], expose_headers=shown)

    @app.get("/", dependencies=[Depends(RateLimit("1/day"))])
    def root() -> str:
        return "ok"

    origin = {"Origin": "https://example.com"}
    asked = {**origin, "Access-Control-Request-Method": "GET"}
    assert run(statuses(app, 3, method="OPTIONS", headers=asked)) == [200] * 3
    assert run(statuses(app, 1, headers=origin)) == [200]
    denied = run(call(app, headers=origin))
    assert (denied.status, denied.header("Retry-After")) == (429, "86400")
    assert denied.header("Access-Control-Allow-Origin") == "*"
    assert denied.header("Access-Control-Expose-Headers") == ", ".join(shown)


def test_what_is_done_in_the_background(app: FastAPI, limiter: flint.Limiter) -> None:
    done: list[str] = []

    @app.get("/")
    def root(later: BackgroundTasks) -> str:
        later.add_task(done.append, "later")
        return "now"

    app.add_middleware(RateLimitMiddleware, limiter=limiter, limits="9/day")
    answer = run(call(app))
    assert (answer.json, answer.header("X-RateLimit-Remaining"), done) == ("now", "8", ["later"])


def test_without_headers(app: FastAPI) -> None:
    without = RateLimit("1/day", headers="none", scope="without")

    @app.get("/", dependencies=[Depends(without), Depends(RateLimit("9/day"))])
    def root() -> str:
        return "ok"

    answer, denied = run(call(app)), run(call(app))
    assert (answer.status, answer.header("X-RateLimit-Remaining")) == (200, "8")
    assert (denied.status, denied.header("X-RateLimit-Remaining")) == (429, None)


def test_the_page_shows_denials_of_routes_routers_and_functions(app: FastAPI) -> None:
    async def nested(_: None = Depends(RateLimit("1/day", status_code=420))) -> None: ...

    def reply() -> str:
        return "ok"

    app.get("/route", dependencies=[Depends(RateLimit("1/day"))])(reply)
    app.get("/nested", dependencies=[Depends(nested)])(reply)
    app.get("/decorated")(flint.rate_limit("1/day")(reply))
    app.get("/free")(reply)
    app.get("/own", dependencies=[Depends(RateLimit("1/day"))], responses={429: {}})(reply)
    app.get("/hidden", dependencies=[Depends(RateLimit("1/day"))], include_in_schema=False)(reply)
    router = APIRouter(prefix="/router", dependencies=[Depends(RateLimit("1/day"))])
    router.get("/items/{number}")(reply)
    outer = APIRouter(prefix="/outer")
    outer.include_router(router)
    app.include_router(outer)
    included = APIRouter()
    included.get("/included")(reply)
    app.include_router(included, dependencies=[Depends(RateLimit("1/day"))])
    for _ in range(2):  # the page is kept, and stays as it is
        assert denials(app) == {
            "/route": ["429"],
            "/nested": ["420"],
            "/decorated": ["429"],
            "/free": [],
            "/own": ["429"],
            "/outer/router/items/{number}": ["429"],
            "/included": ["429"],
        }
    responses = app.openapi()["paths"]["/route"]["get"]["responses"]
    assert responses["429"] == {"description": "Too Many Requests: rate limit exceeded"}
    assert run(call(app, "/openapi.json")).json == app.openapi()


def test_what_was_opened_here_is_closed_with_the_application(tmp_path: Path) -> None:
    app = FastAPI()
    opened = setup(app, tmp_path / "limits")
    app.get("/", dependencies=[Depends(RateLimit("1/day"))])(lambda: "ok")

    async def main() -> None:
        assert opened is not None
        async with running(app):
            assert await statuses(app, 2) == [200, 429]
            assert not opened.closed
        assert opened.closed

    run(main())


class running:  # noqa: N801 - reads as a function
    """The lifespan of an application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._received: asyncio.Queue[Any] = asyncio.Queue()
        self._sent: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        self._task = asyncio.ensure_future(
            self._app(scope, self._received.get, self._sent.put)  # type: ignore[arg-type]
        )
        await self._say("startup")

    async def __aexit__(self, *_: object) -> None:
        await self._say("shutdown")
        await self._task

    async def _say(self, what: str) -> None:
        await self._received.put({"type": f"lifespan.{what}"})
        assert (await self._sent.get())["type"] == f"lifespan.{what}.complete"


def test_an_application_that_has_its_limiter_itself(limiter: flint.Limiter) -> None:
    app = FastAPI()
    assert setup(app) is None
    app.state.limiter = limiter
    app.get("/", dependencies=[Depends(RateLimit("1/day"))])(lambda: JSONResponse({}))
    assert run(call(app)).header("X-RateLimit-Remaining") == "0"
