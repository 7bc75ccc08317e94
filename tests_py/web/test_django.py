"""Django: the middleware and the decorator, sync and async."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django_settings  # noqa: F401
import pytest
from asgi_calls import run
from conftest import PACKAGE_ROOT, ROOT
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.views import View
from rest_framework.views import APIView
from ways import shortest_way  # noqa: F401

import flint.django
from flint.django import Policy, RateLimitMiddleware, check_settings, ratelimit
from flint.django_rest import (
    AnonRateThrottle,
    RateThrottle,
    ScopedRateThrottle,
    UserRateThrottle,
)


@pytest.fixture(autouse=True)
def options(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """settings.FLINT, in a directory of the test's own."""
    said: dict[str, Any] = {"URL": str(tmp_path / "data"), "DEFAULT": "2/hour"}
    with override_settings(FLINT=said):
        yield said
        flint.django.limiter().close()


def get(path: str = "/", route: str = "", user: Any = None, **meta: str) -> Any:
    request = RequestFactory().get(path, REMOTE_ADDR="203.0.113.7", **meta)
    request.resolver_match = SimpleNamespace(route=route)  # type: ignore[assignment]
    if user is not None:
        request.user = SimpleNamespace(is_authenticated=True, pk=user)  # type: ignore[assignment]
    return request


def reply(_: Any, status: int = 200) -> HttpResponse:
    return HttpResponse("ok", status=status)


async def areply(_: Any) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse("ok")


def statuses(view: Any, times: int, *requests: Any) -> list[int]:
    return [view(*(requests or (get(),))).status_code for _ in range(times)]


# ---- The middleware ----


def test_the_middleware() -> None:
    middleware = RateLimitMiddleware(reply)
    assert middleware(get()).headers["X-RateLimit-Remaining"] == "1"
    assert statuses(middleware, 2) == [200, 429]
    denied = middleware(get())
    assert json.loads(denied.content) == {"detail": "rate limit exceeded"}
    assert denied.headers["Content-Type"] == "application/json"
    assert 1000 < int(denied.headers["Retry-After"]) <= 1800


def test_the_middleware_async() -> None:
    async def answers() -> list[int]:
        middleware = RateLimitMiddleware(areply)
        request = AsyncRequestFactory().get("/", REMOTE_ADDR="203.0.113.7")
        found = await asyncio.gather(*(middleware(request) for _ in range(50)))
        return sorted(answer.status_code for answer in found)

    assert run(answers()) == [200] * 2 + [429] * 48


def test_options_of_the_settings(options: dict[str, Any]) -> None:
    options.update(TRUSTED_PROXIES=["203.0.113.0/24"], EXEMPT=["/health"], HEADERS="ietf")
    middleware = RateLimitMiddleware(reply)
    one = {"HTTP_X_FORWARDED_FOR": "198.51.100.1"}
    assert [middleware(get(**one)).status_code for _ in range(3)] == [200, 200, 429]
    other = middleware(get(HTTP_X_FORWARDED_FOR="198.51.100.2"))
    assert other.headers["RateLimit-Policy"] == '"all";q=2;w=3600'
    assert statuses(middleware, 5, get("/health")) == [200] * 5


def test_options_of_the_limiter(options: dict[str, Any]) -> None:
    options["OPTIONS"] = {"sync": "batch"}
    assert flint.django.limiter().info()["sync"] == "batch"
    assert statuses(RateLimitMiddleware(reply), 3) == [200, 200, 429]


POLICIES = [
    Policy("4/day", scope="address"),
    Policy("2/day", key="header:X-User", scope="users"),
    Policy("1/day", key="header:X-User", scope="failed", when="failed"),
]


def test_several_policies(options: dict[str, Any]) -> None:
    del options["DEFAULT"]
    options["POLICY"] = POLICIES
    middleware = RateLimitMiddleware(reply)
    view = ratelimit(policy=POLICIES)(lambda request: reply(request, 401))
    ann, bob, eve = (get(HTTP_X_USER=name) for name in ("ann", "bob", "eve"))
    assert statuses(view, 2, ann) == [401, 429]
    assert statuses(middleware, 3, bob) == [200, 200, 429]
    # Of the address one was taken for each that was let in.
    answer = middleware(eve)
    assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (200, "0")
    assert statuses(middleware, 1, eve) == [429]
    assert check_settings() == []
    options["POLICY"] = [*POLICIES, Policy("9/day", scope="route")]
    assert "route" in check_settings()[0].msg
    options.update(POLICY=POLICIES, DEFAULT="1/day")
    assert "DEFAULT" in check_settings()[0].msg
    with pytest.raises(ValueError, match="policy"):
        ratelimit(policy=[])


def test_several_policies_async_and_of_users() -> None:
    async def answers() -> list[int]:
        policies = [Policy("9/day"), Policy("1/day", key="user", scope="users")]
        view = ratelimit(policy=policies)(areply)
        request = AsyncRequestFactory().get("/", REMOTE_ADDR="203.0.113.7")
        found = []
        for user in ("1", "1", "2"):

            async def auser(user: str = user) -> Any:
                return SimpleNamespace(is_authenticated=True, pk=user)

            request.auser = auser
            found.append((await view(request)).status_code)
        return found

    assert run(answers()) == [200, 429, 200]


def test_failures_and_exceptions(options: dict[str, Any]) -> None:
    options["WHEN"] = "failed"
    good = RateLimitMiddleware(reply)
    bad = RateLimitMiddleware(lambda request: reply(request, 401))

    def broken(_: Any) -> HttpResponse:
        raise LookupError("broken")

    assert statuses(good, 5) == [200] * 5
    assert statuses(bad, 1) == [401]
    with pytest.raises(LookupError, match="broken"):
        RateLimitMiddleware(broken)(get())
    assert statuses(good, 1) == [429]


@pytest.mark.parametrize(
    ("error", "status"),
    [(Http404, 404), (PermissionDenied, 403), (SuspiciousOperation, 400), (LookupError, 500)],
)
def test_an_exception_counts_as_the_answer_that_django_gives(error: Any, status: int) -> None:
    def raising(_: Any) -> HttpResponse:
        raise error

    for when, counted in (("4xx", status < 500), ("5xx", status == 500)):
        view = ratelimit("1/hour", when=when, scope=when)(raising)
        with pytest.raises(error):
            view(get())
        if counted:
            assert view(get()).status_code == 429
        else:
            with pytest.raises(error):
                view(get())


def test_an_answer_of_ones_own_that_is_awaited() -> None:
    async def denied(*_: Any) -> HttpResponse:
        return HttpResponse(status=420)

    async def answers() -> list[int]:
        view = ratelimit("1/hour", on_denied=denied)(areply)
        return [(await view(get())).status_code for _ in range(2)]

    assert run(answers()) == [200, 420]


# ---- The decorator ----


def test_a_function_view() -> None:
    view = ratelimit("2/hour")(reply)
    requests = [get("/items/1", "items/<int:pk>"), get("/items/2", "items/<int:pk>")]
    assert [view(request).status_code for request in requests * 2] == [200, 200, 429, 429]
    assert view(get("/other", "other")).status_code == 200
    assert view.__name__ == "reply"


def test_users_and_addresses() -> None:
    view = ratelimit("1/hour", key="user")(reply)
    assert statuses(view, 2, get(user=1)) == [200, 429]
    assert statuses(view, 2, get(user=2)) == [200, 429]
    assert statuses(view, 2, get()) == [200, 429]


def test_without_headers(options: dict[str, Any]) -> None:
    options["HEADERS"] = "none"
    view = ratelimit("1/hour")(reply)
    answer, denied = view(get()), view(get())
    assert (answer.status_code, "X-RateLimit-Limit" in answer.headers) == (200, False)
    assert (denied.status_code, "Retry-After" in denied.headers) == (429, True)
    answer = run(ratelimit("2/hour")(areply)(get()))
    assert (answer.status_code, "X-RateLimit-Limit" in answer.headers) == (200, False)


def test_a_views_own_header_is_left() -> None:
    def view(_: Any) -> HttpResponse:
        return HttpResponse("ok", headers={"x-ratelimit-limit": "7"})

    answer = ratelimit("9/hour")(view)(get())
    assert answer.headers["X-RateLimit-Limit"] == "7"
    assert answer.headers["X-RateLimit-Remaining"] == "8"


def test_an_async_view_and_its_user() -> None:
    view = ratelimit("1/hour", key="user")(areply)

    def request(pk: int) -> Any:
        async def auser() -> Any:
            await asyncio.sleep(0)
            return SimpleNamespace(is_authenticated=True, pk=pk)

        made = get()
        made.auser = auser
        return made

    async def answers() -> list[int]:
        return [(await view(request(pk))).status_code for pk in (1, 1, 2)]

    assert asyncio.iscoroutinefunction(view)
    assert run(answers()) == [200, 429, 200]


def test_class_views() -> None:
    @ratelimit("1/hour")
    class Sync(View):
        def get(self, request: Any) -> HttpResponse:
            return reply(request)

    @ratelimit("1/hour", scope="another")
    class Async(View):
        async def get(self, request: Any) -> HttpResponse:
            return await areply(request)

    assert statuses(Sync.as_view(), 2) == [200, 429]

    async def answers() -> list[int]:
        return [(await Async.as_view()(get())).status_code for _ in range(2)]

    assert run(answers()) == [200, 429]


def test_a_shared_scope_and_an_answer_of_ones_own() -> None:
    denied = lambda *_: HttpResponse("slow down", status=420)  # noqa: E731
    one = ratelimit("1/hour", scope="pair", on_denied=denied)(reply)
    two = ratelimit("1/hour", scope="pair", on_denied=denied)(reply)
    assert one(get(route="one")).status_code == 200
    assert two(get(route="two")).status_code == 420


def test_the_examples_of_the_page(options: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "web.md").read_text("utf-8")
    said: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(# settings.py\n.*?)^```$", page, re.M | re.S)[0], said)
    options.update({**said["FLINT"], "URL": options["URL"]})
    assert check_settings() == []
    assert said["MIDDLEWARE"] == [f"{RateLimitMiddleware.__module__}.RateLimitMiddleware"]
    assert said["INSTALLED_APPS"] == [RateLimitMiddleware.__module__]
    exec(re.findall(r"^```python\n(# views.py\n.*?)^```$", page, re.M | re.S)[0], said)
    assert said["search"].__name__ == "search"


# ---- Django REST framework ----


def api(rates: dict[str, str | None], *throttles: Any, scope: str | None = None) -> Any:
    """A view of the framework with these throttles."""

    class Api(APIView):
        throttle_classes = throttles
        throttle_scope = scope
        authentication_classes = ()

        def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            made = super().initialize_request(request, *args, **kwargs)
            made.user = getattr(request, "user", None)
            return made

        def get(self, request: Any) -> HttpResponse:
            return reply(request)

    def view(request: Any) -> Any:
        with override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": rates}):
            return Api.as_view()(request)

    return view


def test_throttles_of_users_and_addresses() -> None:
    view = api({"user": "2/5h", "anon": "1/day"}, UserRateThrottle, AnonRateThrottle)
    assert statuses(view, 2, get()) == [200, 429]
    assert statuses(view, 3, get(user=1)) == [200, 200, 429]
    assert statuses(view, 1, get(user=2)) == [200]
    denied = view(get(user=1))
    assert 8000 < int(denied.headers["Retry-After"]) <= 9000


def test_throttles_of_scopes() -> None:
    rates = {"uploads": "1/day", "free": None}
    first = api(rates, ScopedRateThrottle, scope="uploads")
    second = api(rates, ScopedRateThrottle, scope="uploads")
    assert [first(get()).status_code, second(get()).status_code] == [200, 429]
    for scope in ("free", None):
        assert statuses(api(rates, ScopedRateThrottle, scope=scope), 3, get()) == [200] * 3


def test_a_throttle_of_ones_own() -> None:
    class Burst(RateThrottle):
        rate = "5/minute; 2/hour"

    assert statuses(api({}, Burst), 3, get()) == [200, 200, 429]
    with pytest.raises(KeyError, match="absent"):
        api({}, ScopedRateThrottle, scope="absent")(get())


# ---- What is refused ----


def test_the_check(options: dict[str, Any]) -> None:
    assert check_settings() == []
    for name, value in (
        ("HEADERS", "all"),
        ("DEFAULT", "5/fortnight"),
        ("COLOUR", "red"),
        ("OPTIONS", 3),
    ):
        with override_settings(FLINT={**options, name: value}):
            [error] = check_settings()
            assert error.id == "flint.E001"
            assert str(value).split("/")[-1] in error.msg or name.lower() in error.msg
    with override_settings(FLINT=None):
        assert 'a dict with "URL"' in check_settings()[0].msg


@pytest.mark.parametrize(("default", "code"), [("1/day", 0), ("5/fortnight", 1)])
def test_manage_py_check(tmp_path: Path, default: str, code: int) -> None:
    """As the page has the settings, and nothing else that would load flint.django."""
    page = (ROOT / "docs" / "web.md").read_text("utf-8")
    [said] = re.findall(r"^```python\n(# settings.py\n.*?)^```$", page, re.M | re.S)[:1]
    text = said.replace("100/minute", default) + 'SECRET_KEY = "of a test"\n'
    (tmp_path / "settings.py").write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings=settings"],
        env={**os.environ, "PYTHONPATH": f"{PACKAGE_ROOT}{os.pathsep}{tmp_path}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "flint.E001" in done.stderr) == (code, bool(code))


def test_a_middleware_without_a_default(options: dict[str, Any]) -> None:
    del options["DEFAULT"]
    with pytest.raises(ValueError, match='needs "DEFAULT"'):
        RateLimitMiddleware(reply)
    options.update(DEFAULT="1/s", SCOPE="route")
    with pytest.raises(ValueError, match="scope and key cannot be 'route'"):
        RateLimitMiddleware(reply)
    with pytest.raises(ValueError, match="limits"):
        ratelimit("5/fortnight")
