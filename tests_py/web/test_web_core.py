"""The core that all web frameworks share: what a Policy takes, keys, verdicts, `when`, errors."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp.web
import fastapi
import flask
import pytest
from asgi_calls import run
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

import flint
import flint.aiohttp
import flint.asgi
import flint.fastapi
import flint.flask
import flint.rates
import flint.testing
import flint.wsgi
from flint._surface.decisions import decisions_of, observe
from flint._web.decision import Verdict, adecide, decide, settle
from flint._web.keys import plain
from flint._web.opening import opened
from flint._web.policy import Policy
from flint._web.several import adecide_all, decide_all


class Request:
    """A request of no framework."""

    def __init__(self, headers: dict[str, list[str]] | None = None, **fields: Any) -> None:
        self.method = "GET"
        self.path = "/"
        self.route: str | None = "/"
        self.peer: str | None = "203.0.113.7"
        self.user: str | None = None
        self.native: object = self
        self._headers = headers or {}
        vars(self).update(fields)

    def headers(self, name: str) -> list[str]:
        return self._headers.get(name.lower(), [])


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=flint.testing.ManualClock(1_700_000_000)) as found:
        yield found


def admitted(limiter: Any, policy: Policy, *requests: Request) -> list[bool]:
    return [decide(limiter, policy, request).allowed for request in requests]


def header(verdict: Verdict, name: str) -> str | None:
    values = [value for key, value in verdict.headers if key == name]
    assert len(values) < 2
    return values[0] if values else None


# ---- What is refused at the start ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limits", "5/fortnight"),
        ("limits", 5),
        ("limits", []),
        ("key", "address"),
        ("key", "header:"),
        ("key", "header:a b"),
        ("key", ()),
        ("key", None),
        ("cost", 0),
        ("cost", -1),
        ("cost", True),
        ("cost", 1.5),
        ("scope", ""),
        ("scope", None),
        ("name", "a\nb"),
        ("when", "6xx"),
        ("when", 500),
        ("methods", "GET"),
        ("methods", ["GET "]),
        ("exempt", "/health"),
        ("safelist", ["10.0.0.0/33"]),
        ("blocklist", ["10.0.0.1/8"]),
        ("shadow", 1),
        ("headers", "new"),
        ("on_error", "ignore"),
        ("status_code", 200),
        ("status_code", "429"),
        ("problem", None),
        ("jitter_s", -1),
        ("on_denied", "no"),
        ("trusted_proxies", ["nginx"]),
        ("ipv6_prefix", 129),
    ],
)
def test_a_bad_parameter_is_named(name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        Policy(**{"limits": "5/minute", name: value})


SKINS: dict[str, Any] = {
    "asgi": lambda limiter: flint.asgi.RateLimitMiddleware(Any, limiter, "1/s"),
    "wsgi": lambda limiter: flint.wsgi.RateLimitMiddleware(Any, limiter, "1/s"),
    "aiohttp": lambda limiter: flint.aiohttp.setup(aiohttp.web.Application(), limiter, "1/s"),
    "flask": lambda limiter: flint.flask.RateLimiter(flask.Flask("a"), limiter),
    "fastapi": lambda limiter: flint.fastapi.setup(fastapi.FastAPI(), limiter),
    "dependency": lambda limiter: flint.fastapi.RateLimit("1/s", limiter=limiter),
    "0.2": lambda limiter: flint.fastapi.FlintRateLimitMiddleware(Any, limiter=limiter, key="a"),
    "rate_limit": lambda limiter: flint.rate_limit("1/s", limiter=limiter),
}


@pytest.mark.parametrize("skin", SKINS)
def test_a_limiter_that_is_closed_or_none_is_refused(skin: str) -> None:
    closed = flint.Limiter(":memory:")
    closed.close()
    with pytest.raises(flint.ClosedError, match="limiter must be open"):
        SKINS[skin](closed)
    with pytest.raises(TypeError, match="limiter must be a limiter"):
        SKINS[skin](5)


@pytest.mark.parametrize("skin", ["asgi", "wsgi", "aiohttp", "flask", "dependency", "rate_limit"])
def test_a_name_of_no_rate_is_refused_at_the_start(skin: str, tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "asgi": lambda where: flint.asgi.RateLimitMiddleware(Any, where, "strikt"),
        "wsgi": lambda where: flint.wsgi.RateLimitMiddleware(Any, where, "strikt"),
        "aiohttp": lambda where: flint.aiohttp.setup(aiohttp.web.Application(), where, "strikt"),
        "flask": lambda where: flint.flask.RateLimiter(flask.Flask("a"), where, default="strikt"),
        "dependency": lambda where: flint.fastapi.RateLimit("strikt", limiter=where),
        "rate_limit": lambda where: flint.rate_limit("strikt", limiter=where),
    }
    with flint.Limiter(tmp_path / "data") as limiter:
        limiter._rates = {"strict": flint.rates.parse_many("1/minute")}
        with pytest.raises(flint.RateError, match=r'limits: .*did you mean "strict"'):
            made[skin](limiter)
        with pytest.raises(flint.RateError, match="limits: "):
            flint.asgi.RateLimitMiddleware(Any, limiter, "1/s", messages="strikt")
        with pytest.raises(flint.RateError, match="limits: "):
            flint.flask.RateLimiter(flask.Flask("a"), limiter).limit("strikt")
        limiter._rates["strikt"] = limiter._rates["strict"]
        made[skin](limiter)
    if skin != "rate_limit":  # which opens a path at the first call
        with pytest.raises(flint.RateError, match="limits: "):
            made[skin](tmp_path / "data")
        flint.Limiter(tmp_path / "data").close()  # nobody has it


# ---- Keys ----


def test_each_kind_of_key_counts_by_itself(limiter: flint.Limiter) -> None:
    one, other = Request(), Request(peer="203.0.113.8")
    assert admitted(limiter, Policy("1/minute", key="ip"), one, one, other) == [True, False, True]
    one, other = Request(user="a"), Request(user="b")
    assert admitted(limiter, Policy("1/minute", key="user"), one, one, other) == [True, False, True]
    one, other = Request(route="/a"), Request(route="/b")
    policy = Policy("1/minute", key="route")
    assert admitted(limiter, policy, one, one, other) == [True, False, True]
    one, other = Request({"x-api-key": ["a"]}), Request({"x-api-key": ["b"]})
    policy = Policy("1/minute", key="header:X-Api-Key")
    assert admitted(limiter, policy, one, one, other) == [True, False, True]
    both = Policy("1/minute", key=("header:x-api-key", lambda request: request.path))
    there = Request({"x-api-key": ["a"]}, path="/there")
    assert admitted(limiter, both, one, one, there) == [True, False, True]


def test_who_has_not_logged_in_and_who_sends_no_key_counts_by_address(
    limiter: flint.Limiter,
) -> None:
    for key in ("user", "header:X-Api-Key"):
        policy = Policy("1/minute", key=key, scope=key)
        one, other = Request(), Request(peer="203.0.113.8")
        assert admitted(limiter, policy, one, one, other) == [True, False, True]


def test_a_request_without_an_address_has_a_fixed_key(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute")
    assert admitted(limiter, policy, Request(peer=None), Request(peer=None)) == [True, False]


def test_scopes(limiter: flint.Limiter) -> None:
    here, there = Request(route="/a"), Request(route="/b")
    by_route = Policy("1/minute", scope="route")
    assert admitted(limiter, by_route, here, here, there, there) == [True, False, True, False]
    posts = Request(route="/a", method="POST")
    assert admitted(limiter, by_route, posts, posts) == [True, False]
    assert admitted(limiter, Policy("1/minute", scope="x"), here, there) == [True, False]
    assert admitted(limiter, Policy("1/minute", scope="x"), here) == [False]
    assert admitted(limiter, Policy("1/minute", scope="y"), here) == [True]


def test_a_secret_header_is_in_no_key(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute", key="header:authorization")
    verdict = decide(limiter, policy, Request({"authorization": ["Bearer s3cret"]}))
    assert verdict.result is not None
    assert "s3cret" not in verdict.result.key
    assert "s3cret" not in str(verdict.headers)


@given(st.text(), st.text())
def test_equal_values_are_equal_keys_and_others_are_not(one: str, other: str) -> None:
    assert (plain(one) == plain(other)) == (one == other)
    assert plain(plain(one)) == plain(one) or "#" in plain(one)


@pytest.mark.parametrize(
    "value",
    ["", " ", "\x00", "\xff\xfe", "x" * 100_000, "a*", "a b", "\ud800", "@", "1/minute @ web"],
)
def test_any_value_of_a_client_gets_a_decision(limiter: flint.Limiter, value: str) -> None:
    by_callable = Policy("1/minute", key=lambda _: value)
    assert admitted(limiter, by_callable, Request(), Request()) == [True, False]
    by_header = Policy("1/minute", key="header:x-key", scope="h")
    sent = Request({"x-key": [value]})
    assert admitted(limiter, by_header, sent, sent) == [True, False]
    by_user = Policy("1/minute", key="user", scope="u")
    assert admitted(limiter, by_user, Request(user=value), Request(user=value)) == [True, False]
    # A star makes no template.
    starred = Policy("1/minute", key=lambda _: value + "2")
    assert admitted(limiter, starred, Request()) == [True]


def test_no_template_of_the_program_covers_a_clients_key(limiter: flint.Limiter) -> None:
    limiter.limit("ip:*", "100/minute")
    limiter.limit("web*", "100/minute")
    assert admitted(limiter, Policy("1/minute"), Request(), Request()) == [True, False]


def test_without_limits_those_of_the_limiter_hold(limiter: flint.Limiter) -> None:
    policy = Policy(scope="api")
    with pytest.raises(flint.NotConfiguredError):
        decide(limiter, policy, Request())
    limiter.limit("api:*", "1/minute")
    assert admitted(limiter, policy, Request(), Request()) == [True, False]
    status = limiter.status("api:ip:203.0.113.7")
    assert status is not None
    assert (status["total_allowed"], status["total_denied"]) == (1, 1)


def test_named_rates_of_the_configuration() -> None:
    limiter = flint.Limiter(":memory:")
    limiter._rates = {"strict": flint.rates.parse_many("1/minute")}
    assert admitted(limiter, Policy("strict"), Request(), Request()) == [True, False]
    with pytest.raises(flint.RateError, match="lax"):
        decide(limiter, Policy("lax"), Request())


def test_several_limits_hold_together_and_a_request_counts_once_in_each() -> None:
    clock = flint.testing.ManualClock(1_700_000_000)
    limiter = flint.Limiter(":memory:", clock=clock)
    using = "using fixed_window_counter"
    policy = Policy(f"3/minute {using}; 4/day {using}", headers="ietf")
    request = Request()
    assert admitted(limiter, policy, *[request] * 4) == [True, True, True, False]
    clock.advance(60)
    # What the first limit denied has used nothing of the second: one of four is left.
    assert admitted(limiter, policy, request, request) == [True, False]
    assert (header(decide(limiter, policy, request), "RateLimit-Policy") or "").endswith("w=86400")


def test_the_limits_that_the_page_names() -> None:
    page = (ROOT / "docs" / "web.md").read_text("utf-8")
    ours = "\n".join(
        line.rpartition("| ")[2] if line[0] == "|" else line for line in page.split("\n") if line
    )
    texts = re.findall(r'"(\d+(?:/| per )[^"]*)"', ours)
    assert len(texts) > 30
    for text in texts:
        assert flint.rates.parse_many(text)


@pytest.mark.parametrize("option", [one.name for one in fields(Policy) if one.init])
def test_the_page_names_every_option(option: str) -> None:
    # A name in quotes is a word of a table on the page, and no option.
    page = (ROOT / "docs" / "web.md").read_text("utf-8")
    assert re.search(rf"[`(, ]{option}(=|`)", page)


# ---- Requests that are not limited ----


def test_exempt_requests_ask_nobody() -> None:
    nobody: Any = None
    policy = Policy(
        "1/minute", exempt=["/health", "/static/*"], safelist=["10.0.0.0/8"], methods=["post"]
    )
    post = {"method": "POST"}
    for request in (
        Request(**post, path="/health"),
        Request(**post, path="/static/a/b.css"),
        Request(**post, peer="10.1.2.3"),
        Request(method="GET"),
    ):
        verdict = decide(nobody, policy, request)
        assert (verdict.allowed, verdict.reason, verdict.headers) == (True, "exempt", [])
    with pytest.raises(AttributeError):
        decide(nobody, policy, Request(**post, path="/healthy"))


def test_a_preflight_is_not_counted(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute")
    asks = {"origin": ["https://a.example"], "access-control-request-method": ["PUT"]}
    preflight = Request(asks, method="OPTIONS")
    assert admitted(limiter, policy, preflight, preflight, Request()) == [True, True, True]
    assert admitted(limiter, policy, Request(method="OPTIONS")) == [False]


def test_a_key_of_none_is_not_limited(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute", key=lambda request: request.user)
    assert admitted(limiter, policy, *[Request()] * 3) == [True] * 3


def test_a_blocklist_is_answered_with_403() -> None:
    nobody: Any = None
    verdict = decide(nobody, Policy("1/minute", blocklist=["203.0.113.0/24"]), Request())
    assert (verdict.allowed, verdict.status, verdict.body) == (
        False,
        403,
        b'{"detail":"forbidden"}',
    )


# ---- Answers ----


def test_the_answer_to_a_denial(limiter: flint.Limiter) -> None:
    policy = Policy("2/minute")
    decide(limiter, policy, Request())
    admitting = decide(limiter, policy, Request())
    assert admitting.headers == [
        ("X-RateLimit-Limit", "2"),
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", "1700000060"),
    ]
    denying = decide(limiter, policy, Request())
    assert denying.status == 429
    assert json.loads(denying.body) == {"detail": "rate limit exceeded"}
    assert header(denying, "Content-Type") == "application/json"
    assert header(denying, "Retry-After") == "30"
    assert header(denying, "Content-Length") == str(len(denying.body))


def test_retry_after_is_rounded_up_and_never_0(limiter: flint.Limiter) -> None:
    policy = Policy("5/s")
    verdicts = [decide(limiter, policy, Request()) for _ in range(6)]
    assert header(verdicts[-1], "Retry-After") == "1"


def test_retry_after_is_for_the_cost_that_was_asked(limiter: flint.Limiter) -> None:
    heavy = Policy("6/minute", cost=4)
    decide(limiter, heavy, Request())
    assert header(decide(limiter, heavy, Request()), "Retry-After") == "20"  # 2 of 4 are there
    assert decide(limiter, Policy("6/minute", cost=2), Request()).allowed


def test_what_is_left_of_a_window() -> None:
    clock = flint.testing.ManualClock(1_700_000_000)
    policy = Policy("1 per 15 seconds using fixed_window_counter", headers="ietf")
    with flint.Limiter(":memory:", clock=clock) as limiter:
        decide(limiter, policy, Request())  # the window begins
        clock.advance(10)
        verdict = decide(limiter, policy, Request())
    assert header(verdict, "Retry-After") == "5"
    assert header(verdict, "RateLimit") == '"all";r=0;t=5'


def test_a_second_worker_is_told_what_to_do(tmp_path: Path) -> None:
    with (
        flint.Limiter(tmp_path / "data"),
        pytest.raises(
            flint.LockedError,
            match=r"flint.W003: .*flint.Limiter\(path, shared=True\), or run one w",
        ),
    ):
        opened(tmp_path / "data")


def test_workers_that_share_are_told_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        flint.Limiter(tmp_path / "data", shared=True) as first,
        opened(tmp_path / "data", shared=True) as second,
    ):
        found = [decide(one, Policy("2/day"), Request()).allowed for one in (first, second, first)]
    assert found == [True, True, False]
    assert caplog.records == []


def test_jitter_only_adds(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute", jitter_s=5)
    decide(limiter, policy, Request())
    waits = {header(decide(limiter, policy, Request()), "Retry-After") for _ in range(200)}
    assert waits == {str(60 + more) for more in range(6)}


def test_problem_details(limiter: flint.Limiter) -> None:
    decide(limiter, Policy("1/minute"), Request())
    asked = Request({"accept": ["text/html, application/problem+json;q=0.5"]})
    refused = Request({"accept": ["application/problem+json;q=0.0"]})
    expected = {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "rate limit exceeded",
        "retry_after": 60,
    }
    for policy, request in (
        (Policy("1/minute"), asked),
        (Policy("1/minute", problem=True), refused),
    ):
        verdict = decide(limiter, policy, request)
        assert header(verdict, "Content-Type") == "application/problem+json"
        assert json.loads(verdict.body) == expected
    verdict = decide(limiter, Policy("1/minute"), refused)
    assert header(verdict, "Content-Type") == "application/json"


def test_status_code_and_headers_are_chosen(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute", status_code=420, headers="none")
    assert decide(limiter, policy, Request()).headers == []
    verdict = decide(limiter, policy, Request())
    assert verdict.status == 420
    assert [name for name, _ in verdict.headers] == [
        "Retry-After",
        "Content-Type",
        "Content-Length",
    ]


# ---- Cost ----


def test_costs(limiter: flint.Limiter) -> None:
    policy = Policy("5/minute", cost=lambda request: request.weight)
    heavy, light = Request(weight=3), Request(weight=2)
    assert admitted(limiter, policy, heavy, heavy, light) == [True, False, True]
    with pytest.raises(ValueError, match="cost must be"):
        decide(limiter, policy, Request(weight=0))
    with pytest.raises(TypeError, match="cost must be"):
        decide(limiter, policy, Request(weight="1"))


@pytest.mark.parametrize("is_configured", [True, False])
def test_a_cost_that_is_never_admitted_is_a_denial(
    limiter: flint.Limiter, is_configured: bool
) -> None:
    limiter.limit("api:*", "5/minute")
    policy = Policy(None if is_configured else "5/minute", cost=6, scope="api")
    verdict = decide(limiter, policy, Request())
    assert (verdict.allowed, verdict.status, verdict.reason) == (False, 429, "cost")
    assert json.loads(verdict.body)["detail"].startswith("this request costs more")
    assert header(verdict, "Retry-After") is None


# ---- Coroutines ----


def test_coroutine_functions_are_awaited_in_a_loop_and_refused_elsewhere(
    limiter: flint.Limiter,
) -> None:
    async def key(request: Request) -> str:
        return request.path

    async def cost(_: Request) -> int:
        return 2

    policy = Policy("2/minute", key=key, cost=cost)
    assert run(adecide(limiter, policy, Request())).allowed
    assert not run(adecide(limiter, policy, Request())).allowed
    with pytest.raises(TypeError, match="coroutine"):
        decide(limiter, Policy("2/minute", key=key), Request())


# ---- Shadow ----


def test_shadow_decides_counts_and_reports_and_blocks_nobody(limiter: flint.Limiter) -> None:
    policy = Policy("1/minute", shadow=True, name="trial")
    decisions = observe(limiter)
    assert decide(limiter, policy, Request()).shadow is False
    verdict = decide(limiter, policy, Request())
    assert (verdict.allowed, verdict.shadow) == (True, True)
    assert header(verdict, "X-RateLimit-Shadow") == "denied"
    assert header(verdict, "Retry-After") is None
    assert decisions.snapshot()["trial"].results == {"allowed": 1, "shadow_denied": 1}
    assert verdict.result is not None
    status = limiter.status(verdict.result.key)
    assert status is not None
    assert (status["total_allowed"], status["total_denied"]) == (1, 1)


# ---- When the response is known ----


def answered(limiter: Any, policy: Policy, status: int) -> Verdict:
    verdict = decide(limiter, policy, Request())
    if verdict.allowed:
        settle(limiter, verdict, SimpleNamespace(status=status, headers=lambda _: []))
    return verdict


@pytest.mark.parametrize(
    ("when", "counted", "others"),
    [
        ("5xx", 503, (200, 404, 600)),
        ("4xx", 401, (200, 500)),
        ("failed", 400, (200, 302)),
        (lambda response: response.status == 418, 418, (200, 500)),
    ],
)
def test_when_counts_some_responses(
    limiter: flint.Limiter, when: Any, counted: int, others: tuple[int, ...]
) -> None:
    policy = Policy("2/minute", when=when)
    for status in others * 3:
        assert answered(limiter, policy, status).allowed
    first, second, third = (answered(limiter, policy, counted) for _ in range(3))
    assert [first.allowed, second.allowed, third.allowed] == [True, True, False]
    assert header(first, "X-RateLimit-Remaining") == "1"
    assert header(third, "Retry-After") == "30"


def test_what_is_shown_is_what_is_left_when_the_response_is_known() -> None:
    clock = flint.testing.ManualClock(1_700_000_000)
    policy = Policy("2/minute", when="failed")
    with flint.Limiter(":memory:", clock=clock) as limiter:
        answered(limiter, policy, 500)
        verdict = decide(limiter, policy, Request())
        clock.advance(60)
        settle(limiter, verdict, SimpleNamespace(status=500, headers=lambda _: []))
        assert header(verdict, "X-RateLimit-Reset") == "1700000090"


def test_when_what_is_under_way_at_once(limiter: flint.Limiter) -> None:
    """The rule of docs/web.md: all that come while a unit is there are let in, what is counted
    never exceeds the limit, and who comes when it is used up is turned away."""
    policy = Policy("2/minute", when="failed", name="rule")
    failed = SimpleNamespace(status=500, headers=lambda _: [])
    under_way = [decide(limiter, policy, Request()) for _ in range(5)]
    assert [verdict.allowed for verdict in under_way] == [True] * 5
    settle(limiter, under_way[0], failed)
    assert decide(limiter, policy, Request()).allowed
    decisions = observe(limiter)
    for verdict in under_way[1:]:
        settle(limiter, verdict, failed)
        settle(limiter, verdict, failed)  # a second time changes nothing
    assert decisions.snapshot()["rule"].results == {"settle_denied": 3}
    denied = decide(limiter, policy, Request())
    assert not denied.allowed
    assert denied.result is not None
    status = limiter.status(denied.result.key)
    assert status is not None
    # The one that was turned away is recorded as well.
    assert (status["total_allowed"], status["total_denied"]) == (2, 4)


WAYS: dict[str, Callable[..., Verdict]] = {
    "decide": decide,
    "adecide": lambda *args: run(adecide(*args)),
    "decide_all": lambda limiter, policy, request: decide_all(
        limiter, [policy, Policy("9/minute")], request
    ),
    "adecide_all": lambda limiter, policy, request: run(
        adecide_all(limiter, [policy, Policy("9/minute")], request)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_when_the_owner_records_whom_a_worker_turns_away(tmp_path: Path, way: str) -> None:
    policy = Policy("1/minute", when="failed")
    with flint.Limiter(tmp_path, shared=True) as owner, flint.Limiter(tmp_path, shared=True) as one:
        assert one.info()["role"] == "client"
        answered(one, policy, 500)
        denied = WAYS[way](one, policy, Request())
        assert not denied.allowed
        assert denied.result is not None
        recorded = [event["type"] for event in owner.history(denied.result.key)]
        assert recorded == ["ALLOW", "DENY"]


def test_a_limiter_that_fails_when_the_response_is_known_lets_it_out(
    limiter: flint.Limiter,
) -> None:
    policy = Policy("2/minute", when="failed", name="late")
    verdict = decide(limiter, policy, Request())
    limiter.close()
    decisions = observe(limiter)
    settle(limiter, verdict, SimpleNamespace(status=500, headers=lambda _: []))
    assert decisions.snapshot()["late"].results == {"settle_failed": 1}


# ---- A limiter that cannot decide ----


class Failing:
    """A limiter whose disk has failed."""

    closed = False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def check(self, *_args: object, **_options: object) -> Any:
        raise self.error

    async def acheck(self, *_args: object, **_options: object) -> Any:
        raise self.error


def test_on_error() -> None:
    failing: Any = Failing(flint.PoisonedError("disk"))
    with pytest.raises(flint.PoisonedError):
        decide(failing, Policy("1/minute"), Request())
    verdict = decide(failing, Policy("1/minute", on_error="allow"), Request())
    assert (verdict.allowed, verdict.reason, verdict.headers) == (True, "error", [])
    for verdict in (
        decide(failing, Policy("1/minute", on_error="deny"), Request()),
        run(adecide(failing, Policy("1/minute", on_error="deny"), Request())),
    ):
        assert (verdict.allowed, verdict.status) == (False, 503)
        assert header(verdict, "Retry-After") == "1"
        assert json.loads(verdict.body) == {"detail": "the rate limiter cannot decide"}


@pytest.mark.parametrize(
    "error", [flint.ClosedError("closed"), flint.NotConfiguredError("no"), KeyError("bug")]
)
def test_on_error_hides_no_mistake(error: Exception) -> None:
    failing: Any = Failing(error)
    with pytest.raises(type(error)):
        decide(failing, Policy("1/minute", on_error="allow"), Request())


# ---- What was decided ----


@pytest.mark.parametrize(
    ("options", "requests", "expected"),
    [
        ({}, 3, {"allowed": 1, "denied": 2}),
        ({"shadow": True}, 3, {"allowed": 1, "shadow_denied": 2}),
        ({"cost": 2}, 1, {"cost_denied": 1}),
        ({"exempt": ["/"]}, 2, {"exempt": 2}),
        ({"methods": ["POST"]}, 1, {"exempt": 1}),
        ({"key": lambda _: None}, 1, {"exempt": 1}),
        ({"blocklist": ["10.0.0.0/8"]}, 2, {"blocked": 2}),
        ({"blocklist": ["10.0.0.0/8"], "shadow": True}, 2, {"shadow_denied": 2}),
        ({"when": "failed"}, 3, {"allowed": 3}),
    ],
)
def test_decisions_are_counted_by_policy_and_result(
    limiter: flint.Limiter, options: dict[str, Any], requests: int, expected: dict[str, int]
) -> None:
    decisions = observe(limiter)
    policy = Policy("1/minute", name="one", **options)
    for _ in range(requests):
        decide(limiter, policy, Request(peer="10.0.0.1"))
    assert {name: of.results for name, of in decisions.snapshot().items()} == {"one": expected}
    assert sum(decisions.snapshot()["one"].buckets) == requests


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [("raise", "error_raised"), ("allow", "error_allowed"), ("deny", "error_denied")],
)
def test_decisions_that_could_not_be_made_are_counted(on_error: Any, expected: str) -> None:
    failing: Any = Failing(flint.PoisonedError("disk"))
    decisions = observe(failing)
    policy = Policy("1/minute", name="one", on_error=on_error)
    with contextlib.suppress(flint.PoisonedError):
        decide(failing, policy, Request())
    with contextlib.suppress(flint.PoisonedError):
        run(adecide(failing, policy, Request()))
    assert decisions.snapshot()["one"].results == {expected: 2}
    assert sum(decisions.snapshot()["one"].buckets) == 2


@pytest.mark.parametrize(("on_error", "expected"), [("allow", "allowed"), ("deny", "denied")])
def test_what_the_limiters_own_on_error_answers_is_counted(on_error: Any, expected: str) -> None:
    with flint.Limiter(":memory:", max_keys=1, on_error=on_error) as limiter:
        limiter.check("taken", limit="1/day")
        decisions = observe(limiter)
        decide(limiter, Policy("1/minute", name="one"), Request())
        assert decisions.snapshot()["one"].results == {f"error_{expected}": 1}


def test_a_limiter_that_nobody_observes_keeps_no_numbers(limiter: flint.Limiter) -> None:
    decide(limiter, Policy("1/minute"), Request())
    assert decisions_of(limiter) is None
    assert observe(limiter).snapshot() == {}
