# ruff: noqa: ARG001 - slowapi wants the request
"""slowapi on Flint: what slowapi answers, and what is better."""

from __future__ import annotations

import asyncio
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import flint
import flint.compat.slowapi as on_flint
from flint.compat.slowapi import (
    RateLimitExceeded,
    get_ipaddr,
    get_remote_address,
    wrappers,
)
from flint.testing import ManualClock

MIDDLEWARES = ["SlowAPIMiddleware", "SlowAPIASGIMiddleware"]


@functools.cache
def slowapi() -> SimpleNamespace:
    """All names of slowapi."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        modules = [
            importlib.import_module(name)
            for name in ("slowapi", "slowapi.errors", "slowapi.middleware", "slowapi.util")
        ]
    return SimpleNamespace(**{key: value for one in modules for key, value in vars(one).items()})


@pytest.fixture
def place() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:") as limiter:
        yield limiter


def application(module: Any, limiter: Any, middleware: str | None = None) -> FastAPI:
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(module.RateLimitExceeded, module._rate_limit_exceeded_handler)
    if middleware is not None:
        app.add_middleware(getattr(module, middleware))
    return app


def asked(app: Any, *requests: str) -> list[httpx.Response]:
    """The answers; a request is a path, maybe with a method before it."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            words = [("GET " + request).split()[-2:] for request in requests]
            return [await client.request(method, path) for method, path in words]

    return asyncio.run(ask())


def statuses(app: Any, *requests: str) -> list[int]:
    return [answer.status_code for answer in asked(app, *requests)]


# ---- As slowapi --------------------------------------------------------------------------------

# Each makes an application with the names of a module, whose limiter takes `options`, and says what
# is asked of it.
Made = tuple[FastAPI, list[str]]


def plain_routes(module: Any, **options: Any) -> Made:
    limiter = module.Limiter(module.get_remote_address, headers_enabled=True, **options)
    app = application(module, limiter)

    @app.get("/several")
    @limiter.limit("2/minute;3 per 2 hours")
    async def several(request: Request) -> Response:
        return PlainTextResponse("several")

    @app.get("/stacked")
    @limiter.limit("5/minute")
    @limiter.limit("1/hour", error_message="too much")
    def stacked(request: Request, response: Response) -> str:
        return "stacked"

    @app.get("/said")
    @limiter.limit("1/year", error_message=lambda: "later")
    async def said(request: Request) -> Response:
        return PlainTextResponse("said", headers={"Retry-After": "99999999"})

    return app, ["/several"] * 4 + ["/stacked"] * 3 + ["/said"] * 2 + ["/nothing"]


def shared(module: Any, **options: Any) -> Made:
    limiter = module.Limiter(module.get_remote_address, headers_enabled=True, **options)
    app = application(module, limiter)
    both = limiter.shared_limit("3/minute", "both")
    for path in ("/a", "/b"):

        def reply(request: Request, path: str = path) -> Response:
            return PlainTextResponse(path)

        reply.__name__ = "reply_" + path[1:]
        app.get(path)(both(reply))
    return app, ["/a", "/b", "/a", "/b", "/a"]


def methods(module: Any, **options: Any) -> Made:
    limiter = module.Limiter(module.get_remote_address, **options)
    app = application(module, limiter)

    @app.api_route("/posts", methods=["GET", "POST"])
    @limiter.limit("1/minute", methods=["POST"])
    async def posts(request: Request) -> str:
        return "posts"

    @app.api_route("/each", methods=["GET", "POST"])
    @limiter.limit("1/minute", per_method=True)
    async def each(request: Request) -> str:
        return "each"

    asking = ["GET /posts"] * 2 + ["POST /posts"] * 2
    return app, [*asking, "GET /each", "POST /each", "GET /each", "POST /each"]


def exemptions(module: Any, **options: Any) -> Made:
    limiter = module.Limiter(module.get_remote_address, **options)
    app = application(module, limiter)

    @app.get("/never")
    @limiter.limit("1/minute", exempt_when=lambda: True)
    async def never(request: Request) -> str:
        return "never"

    @app.get("/some")
    @limiter.limit("1/minute", exempt_when=lambda request: "free" in request.query_params)
    async def some(request: Request) -> str:
        return "some"

    @app.get("/exempt")
    @limiter.exempt
    async def exempt() -> str:
        return "exempt"

    asking = ["/never"] * 2 + ["/some?free=1"] * 2 + ["/some"] * 2
    return app, asking + ["/exempt"] * 2


def costs(module: Any, **options: Any) -> Made:
    limiter = module.Limiter(module.get_remote_address, headers_enabled=True, **options)
    app = application(module, limiter)

    @app.get("/cost")
    @limiter.limit("5/minute", cost=lambda request: int(request.query_params["cost"]))
    async def cost(request: Request) -> Response:
        return PlainTextResponse("cost")

    return app, [f"/cost?cost={cost}" for cost in (2, 6, 0, 3, 1, 0)]


def keys(module: Any, **options: Any) -> Made:
    limiter = module.Limiter(lambda: "everybody", key_prefix="mine", **options)
    app = application(module, limiter)

    @app.get("/everybody")
    @limiter.limit("1/minute")
    async def everybody(request: Request) -> str:
        return "everybody"

    @app.get("/named")
    @limiter.limit("1/minute", key_func=lambda request: request.query_params.get("name"))
    async def named(request: Request) -> str:
        return "named"

    named_requests = ["/named?name=a", "/named?name=b", "/named?name=a", "/named", "/named"]
    return app, ["/everybody"] * 2 + named_requests


def dynamic(module: Any, **options: Any) -> Made:
    def name(request: Request) -> str:
        return request.query_params.get("name", "nobody")

    limiter = module.Limiter(name, **options)
    app = application(module, limiter)

    @app.get("/texts")
    @limiter.limit(lambda: "2/minute")
    async def texts(request: Request) -> str:
        return "texts"

    @app.get("/of_key")
    @limiter.limit(lambda key: "3/minute" if key == "vip" else "1/minute")
    async def of_key(request: Request) -> str:
        return "of_key"

    asking = ["/texts"] * 3 + ["/of_key?name=vip"] * 4
    return app, asking + ["/of_key?name=other"] * 2


def paths(module: Any, key_style: str, **options: Any) -> Made:
    limiter = module.Limiter(module.get_remote_address, key_style=key_style, **options)
    app = application(module, limiter)

    @app.get("/items/{number}")
    @limiter.limit("1/minute")
    def item(request: Request, number: int) -> int:
        return number

    return app, ["/items/1", "/items/2", "/items/1"]


def defaults(module: Any, middleware: str, **options: Any) -> Made:
    limiter = module.Limiter(
        module.get_remote_address,
        default_limits=["3/minute"],
        application_limits=["7/minute"],
        headers_enabled=True,
        retry_after="http-date",
        **options,
    )
    app = application(module, limiter, middleware)

    @app.get("/default")
    async def default() -> str:
        return "default"

    @app.get("/other")
    def other() -> Response:
        return PlainTextResponse("other", headers={"Retry-After": "Wed, 01 Jan 2110 00:00:00 GMT"})

    @app.get("/own")
    @limiter.limit("5/minute")
    def own(request: Request) -> Response:
        return PlainTextResponse("own")

    @app.get("/beside")
    @limiter.limit("5/minute", override_defaults=False)
    def beside(request: Request) -> Response:
        return PlainTextResponse("beside")

    @app.get("/exempt")
    @limiter.exempt
    def exempt() -> str:
        return "exempt"

    asking = ["/default"] * 4 + ["/own"] * 6 + ["/beside"] * 4 + ["/exempt"] * 4
    return app, asking + ["/other"] * 4 + ["/nothing"] * 2


def switched_off(module: Any, **options: Any) -> Made:
    off = module.Limiter(module.get_remote_address, enabled=False, **options)
    app = application(module, off)

    @app.get("/off")
    @off.limit("1/minute")
    async def reply(request: Request) -> str:
        return "off"

    return app, ["/off"] * 3


def swallowed(module: Any, **options: Any) -> Made:
    def failing(request: Request) -> str:
        raise LookupError(request.url)

    limiter = module.Limiter(failing, swallow_errors=True, **options)
    app = application(module, limiter)

    # The headers of such a request say nothing, so it needs a state of its own there.
    @app.get("/")
    async def reply(request: Request) -> str:
        request.state.view_rate_limit = None
        return "let in"

    limited = limiter.limit("1/minute")(reply)
    app.get("/limited")(limited)
    return app, ["/", "/"]


SCENARIOS: dict[str, Callable[..., Made]] = {
    "plain routes": plain_routes,
    "shared": shared,
    "methods": methods,
    "exemptions": exemptions,
    "costs": costs,
    "keys": keys,
    "dynamic": dynamic,
    "paths by url": functools.partial(paths, key_style="url"),
    "paths by endpoint": functools.partial(paths, key_style="endpoint"),
    **{name: functools.partial(defaults, middleware=name) for name in MIDDLEWARES},
    "switched off": switched_off,
    "swallowed": swallowed,
}


def shown(answer: httpx.Response) -> dict[str, Any]:
    """What is the same whenever it is asked."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "content-type")
    # slowapi adds the headers once for each decorator.
    said = {name: answer.headers.get(name, "").rpartition(", ")[2] for name in names}
    return {"status": answer.status_code, "body": answer.text, **said}


# slowapi's fixed window counts what it denies.
CASES = [
    (name, strategy)
    for name in SCENARIOS
    for strategy in ("moving-window", "fixed-window")
    if (name, strategy) != ("costs", "fixed-window")
]


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_the_same_answers(name: str, strategy: str, place: flint.Limiter) -> None:
    theirs = asked_of(SCENARIOS[name](slowapi(), strategy=strategy))
    ours = asked_of(SCENARIOS[name](on_flint, strategy=strategy, limiter=place))
    assert [shown(answer) for answer in ours] == [shown(answer) for answer in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for header in ("x-ratelimit-reset", "retry-after"):
            assert (header in one.headers) is (header in other.headers)
            said = [answer.headers.get(header, "0") for answer in (one, other)]
            if header == "x-ratelimit-reset":
                said[1] = said[1].rpartition(", ")[2]
            if all(value.replace(".", "").isdecimal() for value in said):
                assert abs(float(said[0]) - float(said[1])) < 60
            else:
                assert said[0][:16] == said[1][:16]  # to the hour
            assert "." not in said[0]


def asked_of(made: Made) -> list[httpx.Response]:
    app, requests = made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asked(app, *requests)


# ---- What is better ----------------------------------------------------------------------------


def own(limiter: Any, **options: Any) -> on_flint.Limiter:
    return on_flint.Limiter(get_remote_address, limiter=limiter, headers_enabled=True, **options)


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    for wanted in ([200, 200], [200, 429]):
        with flint.Limiter(tmp_path) as place:
            limiter = own(place)
            app = application(on_flint, limiter)

            @app.get("/")
            @limiter.limit("3/day")
            async def home(request: Request) -> Response:
                return PlainTextResponse("hello")

            assert statuses(app, "/", "/") == wanted


def test_where_it_counts_and_what_it_takes(tmp_path: Path, place: flint.Limiter) -> None:
    limiter = own(str(tmp_path / "data"), storage_options={"sync": "batch"})
    assert limiter.limiter.data_dir == str(tmp_path / "data")
    with pytest.raises(TypeError, match="takes the place of storage_uri='memory://'"):
        own(place, storage_uri="memory://")
    with pytest.raises(ValueError, match="strategy must be one of fixed-window, moving-window"):
        own(place, strategy="other")
    for bad in ("many", "5/fortnight", "0/minute", "5/minute;"):
        with pytest.raises(ValueError, match=r"limit|rate"):
            own(place).limit(bad)
        with pytest.raises(ValueError, match=r"limit|rate"):
            own(place, default_limits=[bad])
    with pytest.raises(TypeError, match='No "request" or "websocket" argument'):
        own(place).limit("1/minute")(lambda: None)


def test_two_functions_of_one_name_have_their_own_limits(place: flint.Limiter) -> None:
    limiter = own(place)
    app = application(on_flint, limiter)

    def routed(path: str, limit: str) -> None:
        @app.get(path)
        @limiter.limit(limit)
        def reply(request: Request) -> Response:
            return PlainTextResponse(path)

    routed("/few", "1/minute")
    routed("/many", "9/minute")
    assert statuses(app, *["/many"] * 3, "/few", "/few") == [200, 200, 200, 200, 429]


def test_exempt_stands_anywhere(place: flint.Limiter) -> None:
    limiter = own(place)
    app = application(on_flint, limiter)

    @app.get("/")
    @limiter.exempt
    @limiter.limit("1/minute")
    def free(request: Request) -> Response:
        return PlainTextResponse("free")

    assert statuses(app, "/", "/") == [200, 200]


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_routes_of_routers_and_of_what_is_mounted(middleware: str, place: flint.Limiter) -> None:
    limiter = own(place, default_limits=["2/minute"], key_style="endpoint")
    app = application(on_flint, limiter, middleware)
    router = APIRouter()

    @router.get("/items/{number}")
    def item(number: int) -> int:
        return number

    def below(request: Request) -> Response:
        return PlainTextResponse("below")

    app.include_router(router, prefix="/shop")
    app.mount("/sub", Starlette(routes=[Mount("/deep", routes=[Route("/{name}", below)])]))
    asking = ["/shop/items/1", "/shop/items/2", "/shop/items/3", "POST /shop/items/4"]
    assert statuses(app, *asking) == [200, 200, 429, 405]
    assert statuses(app, "/sub/deep/a", "/sub/deep/b", "/sub/deep/c") == [200, 200, 429]
    assert statuses(app, "/sub/nothing", "/nothing") == [404, 404]


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_a_handler_of_ones_own_answers_for_the_middleware(
    middleware: str, place: flint.Limiter
) -> None:
    app = application(on_flint, own(place, default_limits=["1/minute"]), middleware)

    async def handler(request: Request, error: RateLimitExceeded) -> Response:
        return PlainTextResponse(f"no more than {error.detail}", status_code=503)

    app.add_exception_handler(RateLimitExceeded, handler)  # type: ignore[arg-type]
    app.get("/")(lambda: "hello")
    _, denied = asked(app, "/", "/")
    assert (denied.status_code, denied.text) == (503, "no more than 1 per 1 minute")


def test_the_event_loop_is_not_held(place: flint.Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = own(place, default_limits=["9/minute"])
    app = application(on_flint, limiter, "SlowAPIMiddleware")

    @app.get("/own")
    @limiter.limit("9/minute")
    async def reply(request: Request) -> Response:
        return PlainTextResponse("hello")

    @app.get("/default")
    def other() -> str:
        return "other"

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a call that waits")

    monkeypatch.setattr(flint.Limiter, "check", refuse)
    monkeypatch.setattr(flint.Limiter, "peek", refuse)
    assert statuses(app, "/own", "/default") == [200, 200]


def test_the_configuration(
    tmp_path: Path, place: flint.Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "RATELIMIT_DEFAULT=1/minute\nRATELIMIT_HEADERS_ENABLED=true\nRATELIMIT_KEY_PREFIX=mine\n"
        "RATELIMIT_HEADER_LIMIT=X-Most\nRATELIMIT_STRATEGY=fixed-window\n"
    )
    limiter = on_flint.Limiter(get_remote_address, limiter=place, strategy=None)
    app = application(on_flint, limiter, "SlowAPIMiddleware")
    app.get("/")(lambda: "hello")
    let_in, denied = asked(app, "/", "/")
    assert (let_in.headers["X-Most"], denied.status_code) == ("1", 429)
    [status] = place.list(counters=True)
    assert status["key"] == "1/minute using fixed_window_counter @ slowapi mine 127.0.0.1 /"
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    assert not own(place).enabled


def test_reset_forgets_what_slowapi_counted_and_nothing_else(place: flint.Limiter) -> None:
    limiter = own(place, default_limits=["1/minute"])
    app = application(on_flint, limiter, "SlowAPIMiddleware")
    app.get("/")(lambda: "hello")
    place.limit("other", 1, per="1d")
    assert place.allow("other")
    assert statuses(app, "/", "/") == [200, 429]
    limiter.reset()
    assert statuses(app, "/") == [200]
    assert not place.allow("other")


@pytest.mark.parametrize("fallback", [["1/minute"], []])
def test_a_place_that_fails(fallback: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    place = flint.Limiter(":memory:")
    limiter = own(place, in_memory_fallback=fallback, in_memory_fallback_enabled=True)
    app = application(on_flint, limiter)

    @app.get("/")
    @limiter.limit("2/minute")
    async def home(request: Request) -> Response:
        return PlainTextResponse("hello")

    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    assert statuses(app, "/") == [200]
    failing = flint.FlintConnectionError("gone")

    def fail(*_: Any, **__: Any) -> Any:
        raise failing

    with monkeypatch.context() as broken:
        broken.setattr(limiter._place, "limiter", fail)
        allowed = 1 if fallback else 2
        assert statuses(app, *["/"] * 3) == [200] * allowed + [429] * (3 - allowed)
        now_s = 100.0
        assert statuses(app, "/") == [429]  # it is looked at again, and fails again
    assert statuses(app, "/") == [429]  # it is not looked at before 2 s are over
    now_s = 200.0
    assert statuses(app, "/", "/") == [200, 429]


def test_without_a_fallback_the_error_is_seen(place: flint.Limiter) -> None:
    limiter = own(place)
    app = application(on_flint, limiter)

    @app.get("/")
    @limiter.limit("2/minute")
    async def home(request: Request) -> Response:
        return PlainTextResponse("hello")

    place.close()
    with pytest.raises(flint.ClosedError):
        statuses(app, "/")


def test_the_headers_are_those_of_the_decision() -> None:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as place:
        limiter = own(place)
        app = application(on_flint, limiter)

        @app.get("/")
        @limiter.limit("2/minute")
        async def home(request: Request) -> Response:
            return PlainTextResponse("hello", headers={"Retry-After": request.query_params["at"]})

        for at, wanted in (("5", "61"), ("99", "99"), ("Tue, 14 Nov 2023 22:23:20 GMT", "600")):
            limiter.reset()
            [answer] = asked(app, f"/?at={quote(at)}")
            assert answer.headers["X-RateLimit-Reset"] == "1700000061"
            assert answer.headers["Retry-After"] == wanted
        with pytest.raises(ValueError, match="Retry-After Header does not meet RFC2616"):
            asked(app, "/?at=soon")


def test_limits_in_words() -> None:
    read = [str(one) for one in wrappers.parse_many(" 5/Minute; 10 per 2 hours|1/day,2/1 months")]
    assert read == ["5 per 1 minute", "10 per 2 hour", "1 per 1 day", "2 per 1 month"]
    [year] = wrappers.parse_many("7 per year")
    assert (year.amount, year.multiples, year.get_expiry()) == (7, 1, 360 * 86_400)


def test_key_functions() -> None:
    scope: dict[str, Any] = {"type": "http", "headers": [], "client": ("203.0.113.7", 1)}
    assert get_ipaddr(Request(scope)) == get_remote_address(Request(scope)) == "203.0.113.7"
    assert get_remote_address(Request({**scope, "client": None})) == "127.0.0.1"
    forwarded = {**scope, "headers": [(b"x_forwarded_for", b"198.51.100.1")]}
    assert get_ipaddr(Request(forwarded)) == "198.51.100.1"


@pytest.mark.parametrize(("cost", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_a_cost_is_a_whole_number(place: flint.Limiter, cost: Any, error: type[Exception]) -> None:
    limiter = own(place)
    app = application(on_flint, limiter)

    @app.get("/")
    @limiter.limit("9/minute", cost=lambda _: cost)
    async def home(request: Request) -> Response:
        return PlainTextResponse("hello")

    with pytest.raises(error, match="cost"):
        asked(app, "/")


def test_what_is_no_request_is_refused(place: flint.Limiter) -> None:
    limited = own(place).limit("1/minute")(lambda request: request)
    with pytest.raises(TypeError, match=r"must be an instance of starlette.requests.Request"):
        limited("nothing")
    limiter = own(place)
    app = application(on_flint, limiter)

    @app.get("/")
    @limiter.limit("9/minute")
    def home(request: Request) -> str:
        return "no response, and no parameter of this name"

    with pytest.raises(TypeError, match=r"must be an instance of starlette.responses.Response"):
        asked(app, "/")


def test_neither_slowapi_nor_limits_is_needed(run_python: Callable[..., str]) -> None:
    script = """
import sys
sys.modules |= dict.fromkeys(("slowapi", "limits", "fastapi"))
import flint
from flint.compat.slowapi import Limiter, SlowAPIMiddleware, get_remote_address
print(Limiter(get_remote_address, limiter=":memory:").enabled)
"""
    assert run_python(script) == "True\n"
