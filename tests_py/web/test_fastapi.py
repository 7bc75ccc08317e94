"""FastAPI: the dependency, the middleware of Flint 0.2, and both under uvicorn."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from asgi_calls import call, run, statuses, talk
from conftest import ROOT
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
)
from starlette.applications import Starlette
from ways import shortest_way  # noqa: F401

import flint
from flint.fastapi import (
    FlintRateLimitMiddleware,
    Policy,
    RateLimit,
    RateLimiter,
    RateLimitMiddleware,
    WebSocketRateLimiter,
)
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


@pytest.fixture
def app(limiter: flint.Limiter) -> FastAPI:
    application = FastAPI()
    application.state.limiter = limiter
    return application


# ---- The page ----


def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the blocks that stand alone, and what its application answers."""
    monkeypatch.chdir(tmp_path)
    # However long it takes, no unit is back before the end.
    page = (ROOT / "docs" / "web.md").read_text("utf-8").replace("/minute", "/day")
    anywhere, fastapi, flask, _, _, _, aiohttp, wsgi, asgi, several, proxies = re.findall(
        r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    of_all: dict[str, Any] = {"__name__": "of_all"}
    exec(anywhere.replace("data/limits", "data/mails"), of_all)
    assert [of_all["send_mail"]("ann") for _ in range(5)] == ["sent to ann"] * 5
    with pytest.raises(flint.RateLimitExceeded):
        of_all["send_mail"]("ann")
    of_fastapi: dict[str, Any] = {}
    exec(fastapi, of_fastapi)
    assert run(statuses(of_fastapi["app"], 11, "/search")) == [200] * 10 + [429]
    assert "429" in of_fastapi["app"].openapi()["paths"]["/search"]["get"]["responses"]
    of_fastapi["app"].state.limiter.close()
    of_flask: dict[str, Any] = {"__name__": "__main__"}
    exec(flask, of_flask)
    client = of_flask["app"].test_client()
    assert [client.get("/search").status_code for _ in range(11)] == [200] * 10 + [429]
    of_flask["limits"].limiter.close()
    of_aiohttp: dict[str, Any] = {"__name__": "__main__"}
    exec(aiohttp.replace("setup(", "limiter = setup("), of_aiohttp)
    of_aiohttp["limiter"].close()
    of_wsgi: dict[str, Any] = {"app": None}
    exec(wsgi, of_wsgi)
    of_wsgi["app"].close()
    of_asgi: dict[str, Any] = {"app": FastAPI()}
    exec(asgi, of_asgi)
    assert run(call(of_asgi["app"], "/")).header("X-RateLimit-Limit") == "100"
    assert run(call(of_asgi["app"], "/health")).header("X-RateLimit-Limit") is None
    run(of_asgi["app"]._limiter.aclose())
    of_asgi["app"] = FastAPI()
    exec(several, of_asgi)
    assert run(call(of_asgi["app"])).header("X-RateLimit-Limit") == "100"
    run(of_asgi["app"]._limiter.aclose())
    behind = eval(proxies, {"app": FastAPI(), "RateLimitMiddleware": RateLimitMiddleware})
    remaining = run(call(behind)).header("X-RateLimit-Remaining")
    assert remaining == "97"  # the directory remembers the requests before
    run(behind._limiter.aclose())


# ---- The dependency ----


def test_a_route(app: FastAPI) -> None:
    limit = RateLimit("2/minute")

    @app.get("/items/{number}", dependencies=[Depends(limit)], responses=limit.responses)
    async def item(number: int) -> dict[str, int]:
        return {"number": number}

    first = run(call(app, "/items/1"))
    assert (first.json, first.header("X-RateLimit-Remaining")) == ({"number": 1}, "1")
    assert run(call(app, "/items/2")).status == 200  # the route's template counts, not the path
    denied = run(call(app, "/items/3"))
    assert (denied.status, denied.json) == (429, {"detail": "rate limit exceeded"})
    assert denied.header("Retry-After") == "30"
    assert "429" in app.openapi()["paths"]["/items/{number}"]["get"]["responses"]


def test_routes_have_counters_of_their_own_and_a_scope_shares(app: FastAPI) -> None:
    def reply() -> str:
        return "ok"

    for path in ("/a", "/b"):
        app.get(path, dependencies=[Depends(RateLimit("1/minute"))])(reply)
    for path in ("/c", "/d"):
        app.get(path, dependencies=[Depends(RateLimit("1/minute", scope="pair"))])(reply)
    assert [run(call(app, path)).status for path in ("/a", "/b", "/c", "/d")] == [
        200,
        200,
        200,
        429,
    ]


def test_a_router_and_several_limits(app: FastAPI) -> None:
    limit = RateLimit("5/minute; 2/hour", key=lambda request: request.headers.get("x-user"))
    router = APIRouter(prefix="/api", dependencies=[Depends(limit)])

    @router.get("/one")
    def one() -> str:
        return "one"

    app.include_router(router)
    user = {"X-User": "ann"}
    assert run(statuses(app, 3, "/api/one", headers=user)) == [200, 200, 429]
    assert run(statuses(app, 1, "/api/one", headers={"X-User": "bob"})) == [200]
    assert run(statuses(app, 3, "/api/one")) == [200] * 3  # None is not limited


def test_the_prefix_of_a_router_is_a_part_of_the_route(app: FastAPI) -> None:
    router = APIRouter(prefix="/api", dependencies=[Depends(RateLimit("1/minute"))])

    @router.get("/one")
    def one() -> str:
        return "one"

    for prefix in ("/v1", "/v2"):
        app.include_router(router, prefix=prefix)
    for prefix in ("/v1", "/v2"):
        assert run(statuses(app, 2, f"{prefix}/api/one")) == [200, 429]


def mounting(limiter: flint.Limiter, kind: type[Any] = FastAPI) -> Any:
    """An application whose routes have equal templates under several mounts."""

    def inner() -> FastAPI:
        found = FastAPI()
        found.state.limiter = limiter

        @found.get("/items/{item}", dependencies=[Depends(RateLimit("1/day"))])
        async def item(item: str) -> str:
            return item

        return found

    app = kind()
    for place in ("/one", "/two", "/of/{tenant}", "/number/{number:int}"):
        app.mount(place, inner())
    middle = FastAPI()
    middle.mount("/v/{version}", inner())
    app.mount("/deep", middle)
    return app


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
def test_what_is_mounted_counts_by_its_mount(
    limiter: flint.Limiter, kind: type[Any], root_path: str
) -> None:
    app = mounting(limiter, kind)
    places = ("/one", "/two", "/of/ann", "/number/7", "/deep/v/1")
    again = ("/one", "/two", "/of/bob", "/number/007", "/deep/v/2")  # the templates are the same
    for mounts, status in ((places, 200), (again, 429)):
        for mount in mounts:
            path = f"{root_path}{mount}/items/{status}"
            assert run(statuses(app, 1, path, root_path=root_path)) == [status], mount
    keys = sorted(one["key"].split(" ")[4] for one in limiter.list(counters=True))
    assert keys == [
        "/deep/v/{version}/items/{item}",
        "/number/{number:int}/items/{item}",
        "/of/{tenant}/items/{item}",
        "/one/items/{item}",
        "/two/items/{item}",
    ]


def test_a_mount_that_cannot_be_read_again(limiter: flint.Limiter) -> None:
    """Behind a middleware of a mount its routes are not to be seen: what a client may have chosen
    is left out of the key."""
    inner = mounting(limiter)

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app = FastAPI()
    app.mount("/all/{place}", wrapped)
    assert run(statuses(app, 1, "/all/a/of/ann/items/1")) == [200]
    assert run(statuses(app, 1, "/all/b/of/bob/items/1")) == [429]
    keys = [one["key"].split(" ")[4] for one in limiter.list(counters=True)]
    assert keys == ["/all/{place}/.../items/{item}"]


def test_several_policies_of_a_route(app: FastAPI, limiter: flint.Limiter) -> None:
    policies = [Policy("3/day"), Policy("1/day", key="header:X-User", scope="users")]

    @app.get("/", dependencies=[Depends(RateLimit(policy=policies))])
    async def reply() -> str:
        return "ok"

    ann, bob = ({"headers": {"X-User": name}} for name in ("ann", "bob"))
    assert run(statuses(app, 2, **ann)) == [200, 429]
    assert run(call(app, **bob)).header("X-RateLimit-Limit") == "1"
    used = [one["rate"] - one["remaining"] for one in limiter.list(counters=True)]
    assert sorted(used) == [0, 0, 1, 1, 2]  # two of them are the templates
    with pytest.raises(ValueError, match="when"):
        RateLimit(policy=[Policy("3/day"), Policy("1/day", scope="failed", when="failed")])


def test_an_annotated_dependency(app: FastAPI) -> None:
    @app.get("/")
    async def root(_: Annotated[None, Depends(RateLimit("1/minute"))]) -> str:
        return "ok"

    assert run(statuses(app, 2)) == [200, 429]


def test_the_nearest_of_several_is_shown(app: FastAPI) -> None:
    limits = [Depends(RateLimit(words, scope=words)) for words in ("2/minute", "100/minute")]

    @app.get("/", dependencies=limits)
    async def root() -> str:
        return "ok"

    assert run(call(app)).header("X-RateLimit-Limit") == "2"


def test_a_websocket(app: FastAPI) -> None:
    @app.websocket("/")
    async def talking(
        socket: WebSocket, _: Annotated[None, Depends(RateLimit("1/minute"))]
    ) -> None:
        await socket.accept()
        await socket.send_text("hello")

    assert [message["type"] for message in run(talk(app, []))] == [
        "websocket.accept",
        "websocket.send",
    ]
    [closed] = run(talk(app, []))
    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)


def test_without_a_limiter() -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimit("1/minute"))])
    async def root() -> str:
        return "ok"

    with pytest.raises(RuntimeError, match=r"set app\.state\.limiter"):
        run(call(app))


@pytest.mark.parametrize("name", ["when", "problem", "on_denied"])
def test_options_of_the_middleware(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        RateLimit("1/minute", **{name: "5xx"})


# ---- The call shapes of fastapi-limiter ----


def test_times_and_seconds(app: FastAPI) -> None:
    async def who(request: Request) -> str:
        return request.headers["x-user"]

    @app.get("/", dependencies=[Depends(RateLimiter(2, seconds=5, identifier=who))])
    async def root() -> str:
        return "ok"

    ann, bob = {"X-User": "ann"}, {"X-User": "bob"}
    assert run(statuses(app, 3, headers=ann)) == [200, 200, 429]
    assert run(call(app, headers=ann)).header("Retry-After") == "3"
    assert run(statuses(app, 1, headers=bob)) == [200]


def test_a_callback(app: FastAPI) -> None:
    async def denied(request: Request, response: Response, pexpire: int) -> None:
        assert isinstance(request, Request)
        assert isinstance(response, Response)
        raise HTTPException(420, str(pexpire))

    @app.get("/", dependencies=[Depends(RateLimiter(1, minutes=1, callback=denied))])
    async def root() -> str:
        return "ok"

    assert run(statuses(app, 1)) == [200]
    assert run(call(app)).json == {"detail": "60000"}


def test_messages(app: FastAPI) -> None:
    @app.websocket("/")
    async def talking(socket: WebSocket) -> None:
        limit = WebSocketRateLimiter(times=1, seconds=5)
        await socket.accept()
        for context in ("a", "b", "a"):
            await limit(socket, context_key=context)
            await socket.send_text(context)

    *sent, closed = run(talk(app, []))
    assert [message.get("text") for message in sent] == [None, "a", "b"]
    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)


def test_no_time_at_all() -> None:
    with pytest.raises(ValueError, match="per"):
        RateLimiter(times=1)


# ---- Flint 0.2 ----


def of_0_2(limiter: flint.Limiter, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(FlintRateLimitMiddleware, limiter=limiter, **options)

    @app.get("/")
    @app.get("/health")
    async def root() -> dict[str, str]:
        return {"status": "ok"}

    return app


def test_the_middleware_of_0_2(limiter: flint.Limiter) -> None:
    app = of_0_2(
        limiter,
        key_func=lambda request: f"ip:{request.client.host}",
        rate=2,
        per="1m",
        exempt_paths=["/health"],
    )
    first = run(call(app))
    assert (first.header("X-RateLimit-Limit"), first.header("X-RateLimit-Remaining")) == ("2", "1")
    assert first.header("X-RateLimit-Reset") == "1700000030"
    assert first.header("Retry-After") is None
    assert run(statuses(app, 2)) == [200, 429]
    denied = run(call(app))
    assert denied.body == b'{"detail":"rate limit exceeded"}'
    assert denied.header("content-type") == "application/json"
    assert denied.header("Retry-After") == "30"
    exempt = run(call(app, "/health"))
    assert (exempt.status, exempt.header("X-RateLimit-Limit")) == (200, None)
    assert run(call(app, "/absent", client=("203.0.113.9", 1))).status == 404
    assert limiter.status("ip:203.0.113.9")["total_allowed"] == 1  # type: ignore[index]


def test_an_existing_limit_is_left(limiter: flint.Limiter) -> None:
    limiter.limit("api", rate=1, per="1h")
    app = of_0_2(limiter, key="api", rate=100, per="1m")
    assert run(statuses(app, 2)) == [200, 429]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of key or key_func is required"),
        ({"key": "a", "key_func": str}, "exactly one of key or key_func is required"),
        ({"key": "a", "rate": 1}, "rate and per must be provided together"),
    ],
)
def test_construction(limiter: flint.Limiter, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlintRateLimitMiddleware(FastAPI(), limiter=limiter, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_func": lambda _: ""}, "rate limit key must be a non-empty string"),
        ({"key_func": lambda _: None}, "rate limit key must be a non-empty string"),
        ({"key": "a", "cost": lambda _: "1"}, "cost must be an integer"),
        ({"key": "a", "cost": lambda _: 0}, "cost must be greater than zero"),
    ],
)
def test_at_a_request(limiter: flint.Limiter, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(call(of_0_2(limiter, rate=5, per="1m", **options)))


def test_a_key_without_a_limit(limiter: flint.Limiter) -> None:
    words = "limit 'a' is not configured and lazy rate/per were not provided"
    with pytest.raises(RuntimeError, match=words):
        run(call(of_0_2(limiter, key="a")))


def test_a_first_request_of_many(limiter: flint.Limiter) -> None:
    app = of_0_2(limiter, key="a", rate=20, per="1h")

    async def at_once() -> list[int]:
        return [answer.status for answer in await asyncio.gather(*(call(app) for _ in range(50)))]

    assert sorted(run(at_once())) == [200] * 20 + [429] * 30


def test_the_request_is_starlettes(limiter: flint.Limiter) -> None:
    seen: list[Any] = []

    def key(request: Request) -> str:
        seen.append(request)
        return request.query_params.get("user", "nobody")

    run(call(of_0_2(limiter, key_func=key, rate=5, per="1m"), query_string=b"user=ann"))
    assert isinstance(seen[0], Request)
    assert limiter.status("ann") is not None
