"""Several policies in one middleware: a request counts in each of them or in none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgi_calls import Answer, call, run, statuses
from test_asgi import replying

import flint
from flint._surface.decisions import observe
from flint._surface.rate import Several
from flint.asgi import Policy, RateLimitMiddleware
from flint.rates import parse_many
from flint.testing import ManualClock
from flint.wsgi import RateLimitMiddleware as WsgiMiddleware


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


OF_ADDRESS = Policy("4/day", name="address")
OF_USER = Policy("2/day; 50/month", key="header:X-User", scope="users", name="user")
OF_ALL = Policy("5/day", key=lambda _: "everyone", scope="everyone", name="everyone")
ALL = [OF_ADDRESS, OF_USER, OF_ALL]


def ask(app: Any, user: str, **options: Any) -> Answer:
    return run(call(app, headers={"X-User": user}, **options))


def used(limiter: flint.Limiter) -> list[int]:
    """Of each of the counters."""
    listed = limiter.list(counters=True)
    return sorted(one["rate"] - one["remaining"] for one in listed if not one["template"])


def test_all_or_nothing(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, policy=ALL)
    assert [ask(app, "ann").status for _ in range(4)] == [200, 200, 429, 429]
    # Nothing of the address and of everyone was taken for what the user's limit denied.
    assert used(limiter) == [2, 2, 2, 2]
    assert [ask(app, "bob").status for _ in range(3)] == [200, 200, 429]
    denied = ask(app, "eve")
    assert (denied.status, denied.header("X-RateLimit-Limit")) == (429, "4")
    other = {"client": ("198.51.100.1", 1)}
    assert [ask(app, user, **other).status for user in ("eve", "joe")] == [200, 429]


def test_headers_are_those_of_the_nearest(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, policy=ALL)
    first = ask(app, "ann")
    assert (first.header("X-RateLimit-Limit"), first.header("X-RateLimit-Remaining")) == ("2", "1")
    assert ask(app, "ann").header("X-RateLimit-Remaining") == "0"
    denied = ask(app, "ann")
    assert (denied.header("Retry-After"), denied.header("X-RateLimit-Limit")) == ("43200", "2")


def test_equal_policies_count_once_and_others_share_their_counters(
    limiter: flint.Limiter,
) -> None:
    alone = RateLimitMiddleware(replying(), limiter, policy=OF_ADDRESS)
    app = RateLimitMiddleware(replying(), limiter, policy=[OF_ADDRESS, OF_ADDRESS, OF_ALL])
    assert run(statuses(alone, 1)) == [200]
    assert run(statuses(app, 4)) == [200, 200, 200, 429]
    assert run(statuses(alone, 1)) == [429]


def test_who_is_exempt_from_one_is_limited_by_the_others(limiter: flint.Limiter) -> None:
    exempt = Policy("1/day", exempt=["/health"], scope="exempt")
    app = RateLimitMiddleware(replying(), limiter, policy=[exempt, Policy("2/day")])
    assert run(statuses(app, 3, "/health")) == [200, 200, 429]
    blocked = Policy("9/day", blocklist=["203.0.113.0/24"])
    app = RateLimitMiddleware(replying(), limiter, policy=[Policy("9/day", scope="b"), blocked])
    assert run(statuses(app, 1)) == [403]
    assert used(limiter) == [2]
    only = [Policy("1/day", methods=["POST"]), Policy("1/hour", methods=["POST"])]
    assert run(statuses(RateLimitMiddleware(replying(), limiter, policy=only), 3)) == [200] * 3


def test_the_one_that_denies_answers(limiter: flint.Limiter) -> None:
    loud = Policy("1/day", scope="loud", status_code=420, on_denied=lambda *_: replying(420))
    app = RateLimitMiddleware(replying(), limiter, policy=[Policy("9/day"), loud])
    answers = [run(call(app)) for _ in range(2)]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"one two"),
        (420, b"one two"),
    ]


def test_a_cost_that_one_of_them_never_admits(limiter: flint.Limiter) -> None:
    policies = [Policy("9/day", cost=3), Policy("2/day", cost=3, scope="small")]
    app = RateLimitMiddleware(replying(), limiter, policy=policies)
    denied = run(call(app))
    assert (denied.status, denied.header("Retry-After")) == (429, None)
    assert used(limiter) == []


def test_limits_that_the_limiter_has(limiter: flint.Limiter) -> None:
    limiter.limit("api:*", "2/day")
    policies = [Policy(scope="api"), Policy("9/day")]
    app = RateLimitMiddleware(replying(), limiter, policy=policies)
    assert run(statuses(app, 3)) == [200, 200, 429]
    app = RateLimitMiddleware(replying(), limiter, policy=[Policy(scope="none"), Policy("9/day")])
    with pytest.raises(flint.NotConfiguredError):
        run(call(app))


def test_a_limiter_that_cannot_decide() -> None:
    for on_error, status in (("allow", 200), ("deny", 503)):
        limiter = flint.Limiter(":memory:", max_keys=1)
        policies = [Policy("9/day", on_error=on_error), Policy("8/day", on_error=on_error)]
        app = RateLimitMiddleware(replying(), limiter, policy=policies)
        assert run(statuses(app, 1)) == [status]
    app = RateLimitMiddleware(replying(), limiter, policy=[Policy("9/day"), Policy("8/day")])
    with pytest.raises(flint.TableFullError):
        run(call(app))


def test_what_is_counted(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, policy=ALL)
    decisions = observe(limiter)
    for _ in range(3):
        ask(app, "ann")
    results = {name: numbers.results for name, numbers in decisions.snapshot().items()}
    assert results == {
        "address": {"allowed": 2},
        "user": {"allowed": 2, "denied": 1},
        "everyone": {"allowed": 2},
    }


# ---- Counting only some responses ----


@pytest.mark.parametrize("order", [1, -1])
def test_when_beside_others(limiter: flint.Limiter, order: int) -> None:
    every = Policy("5/day", scope="every", name="every")
    failed = Policy("2/day", scope="failed", name="failed", when="failed")
    decisions = observe(limiter)
    good = RateLimitMiddleware(replying(), limiter, policy=[every, failed][::order])
    bad = RateLimitMiddleware(replying(401), limiter, policy=[every, failed][::order])
    assert run(call(good)).header("X-RateLimit-Limit") == "2"  # nothing is used, and it is nearer
    assert used(limiter) == [1]
    first = run(call(bad))
    assert (first.status, first.header("X-RateLimit-Remaining")) == (401, "1")
    assert run(statuses(bad, 2)) == [401, 429]
    assert used(limiter) == [2, 3]  # what it denied counts nowhere
    denied = run(call(good))
    assert (denied.status, denied.header("X-RateLimit-Limit")) == (429, "2")
    assert denied.header("Retry-After") == "43200"
    results = {name: numbers.results for name, numbers in decisions.snapshot().items()}
    assert results == {"every": {"allowed": 3}, "failed": {"allowed": 3, "denied": 2}}
    assert sum(one["total_denied"] for one in limiter.top()) == 2  # recorded as well


def test_when_is_not_counted_for_what_another_denies(limiter: flint.Limiter) -> None:
    once = Policy("1/day", scope="once")
    failed = Policy("9/day", scope="failed", when="failed")
    bad = RateLimitMiddleware(replying(500), limiter, policy=[failed, once])
    assert run(statuses(bad, 3)) == [500, 429, 429]
    assert used(limiter) == [1, 1]


def test_several_of_which_each_counts_other_responses(limiter: flint.Limiter) -> None:
    policies = [
        Policy("3/day; 9/month", scope="client", when="4xx"),
        Policy("2/day", scope="server", when="5xx"),
    ]
    apps = {
        status: RateLimitMiddleware(replying(status), limiter, policy=policies)
        for status in (200, 404, 500)
    }
    assert run(statuses(apps[200], 5)) == [200] * 5
    assert used(limiter) == []
    assert run(statuses(apps[404], 2)) == [404] * 2
    assert run(statuses(apps[500], 3)) == [500, 500, 429]
    assert used(limiter) == [2, 2, 2]
    assert run(statuses(apps[404], 1)) == [429]


def test_when_and_without_it_for_one_counter(limiter: flint.Limiter) -> None:
    """What counts at once counts anyway."""
    policies = [Policy("2/day", when="failed"), Policy("2/day")]
    app = RateLimitMiddleware(replying(), limiter, policy=policies)
    assert run(statuses(app, 3)) == [200, 200, 429]


def test_when_and_a_limiter_that_fails_later(limiter: flint.Limiter) -> None:
    policies = [Policy("2/day"), Policy("1/day", scope="failed", name="failed", when="failed")]
    decisions = observe(limiter)

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        limiter.close()
        await replying(500)(scope, receive, send)

    assert run(statuses(RateLimitMiddleware(closing, limiter, policy=policies), 1)) == [500]
    assert decisions.snapshot()["failed"].results == {"allowed": 1, "settle_failed": 1}


def test_when_in_wsgi(limiter: flint.Limiter) -> None:
    def fail(_: Any, start_response: Any) -> list[bytes]:
        start_response("500 No", [])
        return [b""]

    policies = [Policy("9/day"), Policy("2/day", scope="failed", when="5xx")]
    app = WsgiMiddleware(fail, limiter, policy=policies)
    said: list[str] = []
    for _ in range(3):
        environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": "203.0.113.7"}
        app(environ, lambda status, _: said.append(status[:3]))  # type: ignore[arg-type]
    assert said == ["500", "500", "429"]
    assert used(limiter) == [2, 2]


def said_by_wsgi(limiter: flint.Limiter, policies: list[Policy], count: int) -> list[str]:
    """The statuses of so many requests of one user."""

    def hello(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    app = WsgiMiddleware(hello, limiter, policy=policies)
    said: list[str] = []
    for _ in range(count):
        environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": "203.0.113.7", "HTTP_X_USER": "ann"}
        app(environ, lambda status, _: said.append(status))  # type: ignore[arg-type]
    return said


def test_wsgi(limiter: flint.Limiter) -> None:
    assert said_by_wsgi(limiter, ALL, 3) == ["200 OK", "200 OK", "429 Too Many Requests"]


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_set_of_limits_of_which_a_part_is_configured(limiter: flint.Limiter, kind: str) -> None:
    """What a crash while it was configured left: it is made whole before anything is decided."""
    said_by_wsgi(limiter, [OF_ADDRESS, OF_ALL], 1)  # has theirs configured
    limiter.limit_many(Several(parse_many("2/day; 50/month")).limits[1:])
    policies = [OF_USER, OF_ALL]
    if kind == "wsgi":
        assert said_by_wsgi(limiter, policies, 3)[2] == "429 Too Many Requests"
    else:
        app = RateLimitMiddleware(replying(), limiter, policy=policies)
        assert [ask(app, "ann").status for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("policy", "error", "word"),
    [
        ([], ValueError, "policy must be"),
        ("5/day", TypeError, "policy must be"),
        ([Policy("1/day"), "5/day"], TypeError, "policy must be"),
        ([Policy("1/day"), Policy("2/day", shadow=True)], ValueError, "shadow"),
        ([Policy("1/day"), Policy("2/day", scope="route")], ValueError, "route"),
    ],
)
def test_bad_policies(limiter: flint.Limiter, policy: Any, error: type, word: str) -> None:
    with pytest.raises(error, match=word):
        RateLimitMiddleware(replying(), limiter, policy=policy)
