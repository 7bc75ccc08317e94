"""Flask: the extension."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, abort
from flask.views import MethodView
from ways import shortest_way  # noqa: F401

import flint
from flint.flask import Policy, RateLimiter
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


@pytest.fixture
def app() -> Flask:
    application = Flask(__name__)
    application.testing = True
    return application


def statuses(app: Flask, times: int, path: str = "/", **options: Any) -> list[int]:
    client = app.test_client()
    return [client.get(path, **options).status_code for _ in range(times)]


def test_a_view(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter)

    @app.get("/items/<int:number>")
    @limits.limit("2/minute")
    def item(number: int) -> dict[str, int]:
        return {"number": number}

    answer = app.test_client().get("/items/1")
    assert (answer.json, answer.headers["X-RateLimit-Remaining"]) == ({"number": 1}, "1")
    assert statuses(app, 1, "/items/2") == [200]  # the rule counts, not the path
    denied = app.test_client().get("/items/3")
    assert (denied.status_code, denied.json) == (429, {"detail": "rate limit exceeded"})
    assert denied.headers["Retry-After"] == "30"
    assert denied.content_type == "application/json"


def test_default_exempt_and_views_with_limits(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter, default="1/minute")

    @app.get("/a")
    @app.get("/b")
    def reply() -> str:
        return "ok"

    @app.get("/health")
    @limits.exempt
    def health() -> str:
        return "ok"

    @app.get("/own")
    @limits.limit("3/minute")
    def own() -> str:
        return "ok"

    assert statuses(app, 2, "/a") == [200, 429]
    assert statuses(app, 2, "/b") == [200, 429]  # each route counts by itself
    assert statuses(app, 3, "/health") == [200] * 3
    assert statuses(app, 4, "/own") == [200, 200, 200, 429]
    assert statuses(app, 2, "/absent") == [404, 404]


def test_a_blueprint_and_a_class_view_that_are_exempt(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter, default="1/minute")
    status, inner = Blueprint("status", __name__), Blueprint("inner", __name__, url_prefix="/deep")
    other = Blueprint("other", __name__)

    class OfClass(MethodView):
        decorators = (limits.exempt,)

        def get(self) -> str:
            return "ok"

    for blueprint, path in ((status, "/live"), (inner, "/ready"), (other, "/counted")):
        blueprint.get(path)(lambda: "ok")
    status.register_blueprint(inner)
    limits.exempt(status)
    app.register_blueprint(status)
    app.register_blueprint(other)
    app.add_url_rule("/class", view_func=OfClass.as_view("class"))
    for path in ("/live", "/deep/ready", "/class"):
        assert statuses(app, 3, path) == [200] * 3
    assert statuses(app, 2, "/counted") == [200, 429]


def test_a_blueprint_a_class_view_and_a_shared_scope(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(limiter=limiter, headers="both")
    limits.init_app(app)
    blueprint = Blueprint("api", __name__, url_prefix="/api")

    @blueprint.get("/one")
    def one() -> str:
        return "one"

    class Two(MethodView):
        decorators = (limits.limit("1/minute", scope="pair"),)

        def get(self) -> str:
            return "two"

    @app.get("/three")
    @limits.limit("1/minute", scope="pair")
    def three() -> str:
        return "three"

    limits.limit("2/minute")(blueprint)
    app.register_blueprint(blueprint)
    app.add_url_rule("/two", view_func=Two.as_view("two"))
    assert statuses(app, 3, "/api/one") == [200, 200, 429]
    assert statuses(app, 1, "/two") == [200]
    assert statuses(app, 1, "/three") == [429]
    assert app.test_client().get("/two").headers["RateLimit"] == '"pair";r=0;t=60'


def test_without_headers(app: Flask, limiter: flint.Limiter) -> None:
    RateLimiter(app, limiter, default="1/minute", headers="none")
    app.get("/")(lambda: "ok")
    answer, denied = (app.test_client().get("/") for _ in range(2))
    assert (answer.status_code, "X-RateLimit-Limit" in answer.headers) == (200, False)
    assert (denied.status_code, denied.headers["Retry-After"]) == (429, "60")


def test_an_error_page_of_a_limited_view_has_the_headers(
    app: Flask, limiter: flint.Limiter
) -> None:
    limits = RateLimiter(app, limiter)
    app.testing = False

    @app.get("/<kind>")
    @limits.limit("9/minute")
    def reply(kind: str) -> str:
        return abort(404) if kind == "missing" else kind.missing  # type: ignore[attr-defined]

    client = app.test_client()
    answers = [client.get("/missing"), client.get("/failing")]
    assert [answer.status_code for answer in answers] == [404, 500]
    left = [answer.headers.getlist("X-RateLimit-Remaining") for answer in answers]
    assert left == [["8"], ["7"]]


def test_a_view_without_a_limit_is_not_looked_at(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter)
    app.get("/free", endpoint="free")(lambda: "hello")
    app.get("/")(limits.limit("9/minute")(lambda: "hello"))
    assert not app.before_request_funcs
    assert not app.after_request_funcs
    assert "X-RateLimit-Limit" not in app.test_client().get("/free").headers
    assert app.test_client().get("/").headers["X-RateLimit-Limit"] == "9"


def test_an_async_view(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter)

    @app.get("/")
    @limits.limit("1/minute")
    async def reply() -> str:
        await asyncio.sleep(0)
        return "ok"

    answer = app.test_client().get("/")
    assert (answer.data, answer.headers["X-RateLimit-Remaining"]) == (b"ok", "0")
    assert statuses(app, 1) == [429]


def test_a_field_of_a_form(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter)

    @app.post("/login")
    @limits.limit("1/minute", key=lambda request: request.form.get("name"))
    def login() -> str:
        return "ok"

    client = app.test_client()
    names = ("ann", "bob", "ann", "bob")
    found = [client.post("/login", data={"name": name}).status_code for name in names]
    assert found == [200, 200, 429, 429]


def test_who_has_logged_in(app: Flask, limiter: flint.Limiter) -> None:
    RateLimiter(app, limiter, default="1/minute", key="user")
    app.get("/")(lambda: "ok")
    for user in ("ann", "bob", None):
        environ = {} if user is None else {"REMOTE_USER": user}
        assert statuses(app, 2, environ_overrides=environ) == [200, 429]


def test_several_limits_and_a_key(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter, key=lambda request: request.args.get("user"))

    @app.get("/")
    @limits.limit("5/minute; 2/hour")
    def root() -> str:
        return "ok"

    assert statuses(app, 3, "/?user=ann") == [200, 200, 429]
    assert statuses(app, 1, "/?user=bob") == [200]
    assert statuses(app, 3, "/") == [200] * 3  # None is not limited


def test_several_policies(app: Flask, limiter: flint.Limiter) -> None:
    policies = [
        Policy("4/day", scope="address"),
        Policy("2/day", key="header:X-User", scope="users"),
        Policy("1/day", key="header:X-User", scope="failed", when="failed"),
    ]
    limits = RateLimiter(app, limiter, default=policies)

    @app.get("/login")
    @limits.limit(policy=policies)
    def login() -> tuple[str, int]:
        return "no", 401

    @app.get("/other")
    def other() -> str:
        return "ok"

    ann, bob, eve = ({"headers": {"X-User": name}} for name in ("ann", "bob", "eve"))
    assert statuses(app, 2, "/login", **ann) == [401, 429]
    assert statuses(app, 3, "/other", **bob) == [200, 200, 429]
    # Of the address one was taken for each that was let in.
    answer = app.test_client().get("/other", **eve)
    assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (200, "0")
    assert statuses(app, 1, "/other", **eve) == [429]
    for bad, error in (([], ValueError), (["1/day", Policy("1/day")], TypeError)):
        with pytest.raises(error, match="policy"):
            limits.limit(policy=bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy takes the place"):
        limits.limit("1/day", policy=policies)


def test_only_failures_are_counted(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter)

    @app.get("/login/<int:status>")
    @limits.limit("2/minute", when="failed")
    def login(status: int) -> tuple[str, int]:
        return "answer", status

    assert statuses(app, 5, "/login/200") == [200] * 5
    assert statuses(app, 3, "/login/401") == [401, 401, 429]


def test_two_limiters_of_one_application_settle_their_own(
    app: Flask, limiter: flint.Limiter, clock: ManualClock
) -> None:
    with flint.Limiter(":memory:", clock=clock) as other:
        ours, theirs = RateLimiter(app, limiter), RateLimiter(app, other)

        @app.get("/login")
        @theirs.limit("1000/hour", name="many")
        @ours.limit("2/minute", when="failed", name="few")
        def login() -> tuple[str, int]:
            return "no", 401

        assert statuses(app, 4, "/login") == [401, 401, 429, 429]


def test_an_answer_of_ones_own(app: Flask, limiter: flint.Limiter) -> None:
    limits = RateLimiter(app, limiter, on_denied=lambda *_: ("slow down", 420))

    @app.get("/")
    @limits.limit("1/minute")
    def root() -> str:
        return "ok"

    assert statuses(app, 2) == [200, 420]


def test_the_commands(app: Flask, limiter: flint.Limiter) -> None:
    RateLimiter(app, limiter)
    limiter.limit("api", "2/hour")
    limiter.check("api")
    runner = app.test_cli_runner()
    assert runner.invoke(args=["flint", "list"]).output == "1 of 2 left: 'api'\n"
    assert runner.invoke(args=["flint", "reset", "api"]).output == "reset\n"
    assert limiter.peek("api").remaining == 2


def test_where_the_limiter_is(app: Flask, tmp_path: Path) -> None:
    limits = RateLimiter()
    with pytest.raises(RuntimeError, match="call init_app"):
        _ = limits.limiter
    with pytest.raises(RuntimeError, match="set FLINT_URL"):
        limits.init_app(app)
    app.config["FLINT_URL"] = str(tmp_path / "data")
    limits.init_app(app)
    limits.limiter.close()
    with pytest.raises(ValueError, match="limits"):
        limits.limit("5/fortnight")


def test_static_files_are_left_out(limiter: flint.Limiter, tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("p {}", "utf-8")
    static: Any = {"static_folder": tmp_path, "static_url_path": "/static"}
    app = Flask(__name__, **static)
    outer = Blueprint("outer", __name__, url_prefix="/outer", **static)
    inner = Blueprint("inner", __name__, url_prefix="/inner", **static)
    bare = Blueprint("bare", __name__, url_prefix="/bare")

    @bare.get("/static", endpoint="static")
    def view() -> str:
        return "a view that is called so"

    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    app.register_blueprint(bare)
    RateLimiter(app, limiter, default="1/day")
    for prefix in ("", "/outer", "/outer/inner"):
        client = app.test_client()
        for _ in range(3):
            with client.get(f"{prefix}/static/style.css") as answer:
                assert answer.status_code == 200
    assert statuses(app, 2, "/bare/static") == [200, 429]
