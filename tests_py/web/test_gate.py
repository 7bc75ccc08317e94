"""The short way and the long way to a decision: they are one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_calls import run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_web_core import Failing, Request

import flint
from flint._native import Result
from flint._surface.decisions import observe
from flint._surface.rate import Several, parse_many
from flint._web.decision import Verdict
from flint._web.gate import DECIDED, Gate
from flint._web.policy import Policy
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


def same(request: Request) -> Request:
    return request


def fail(_: Request) -> Request:
    raise AssertionError("the long way was taken")


def gate_of(policy: Policy, make: Any = same, unchecked: int = 0) -> Gate:
    gate = Gate((policy,), make)
    policy.address.unchecked = unchecked
    return gate


def ask(gate: Gate, limiter: Any, request: Request, is_async: bool = False) -> Any:
    """What is decided about a request."""
    about = (request, request.method, request.peer, request.route)
    if not is_async:
        return gate.check(limiter, *about)

    async def asked() -> Any:
        found = gate.acheck(limiter, *about)
        return found if found.__class__ in DECIDED else await found

    return run(asked())


def seen(gate: Gate, found: Result | Verdict) -> tuple[Any, ...]:
    """What a client sees of it."""
    if isinstance(found, Verdict):
        return found.allowed, found.status, found.headers, found.body
    headers = gate.headers(found)
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    assert gate.encoded_headers(found) == encoded
    return True, 200, headers, b""


PEERS = ("203.0.113.7", "2001:db8::1", "2001:db8::2", "::ffff:203.0.113.7", "fe80::1%eth0")
ODD_PEERS = ("", None, "unix:", "testclient", "1" * 300, "[2001:db8::1]:80", "203.0.113.7:80")
REQUESTS = [
    *(Request(peer=peer) for peer in (*PEERS, *ODD_PEERS) for _ in range(3)),
    *(Request(method=method) for method in ("HEAD", "POST", "OPTIONS", "get it") * 3),
    *(Request(route=route) for route in (None, "/items/{id}", "/ü", "/" + "a" * 300)),
    *(
        Request(
            {"x-forwarded-for": [f"{client}, 203.0.113.7"], "forwarded": [f"for={client}"]},
            peer=peer,
        )
        for client in ("198.51.100.1", "_hidden")
        for peer in ("203.0.113.7", "2001:db8::1", "198.51.100.2", None, "")
    ),
    Request({"origin": ["a"], "access-control-request-method": ["PUT"]}, method="OPTIONS"),
]


@pytest.mark.parametrize(
    ("limits", "options"),
    [
        ("2/minute", {}),
        ("2/minute", {"scope": "route"}),
        ("2/minute", {"scope": "a name", "name": "an ünusual name"}),
        ("5/minute", {"cost": 3, "headers": "ietf"}),
        ("10/s burst 20 using gcra", {"headers": "both", "ipv6_prefix": 128}),
        ("2/minute; 3/day", {"headers": "both"}),
        ("2/minute; 3/day", {"scope": "route"}),
        ("1/minute", {"shadow": True, "headers": "none"}),
        ("2/minute", {"cost": 3}),
        ("2/minute", {"blocklist": ["2001:db8::/32"]}),
        ("2/minute", {"safelist": ["2001:db8::/32"]}),
        ("2/minute", {"exempt": ["/"]}),
        ("2/minute", {"methods": ["POST"]}),
        ("2/minute", {"trusted_proxies": ["203.0.113.7"]}),
        ("2/minute", {"trusted_proxies": ["2001:db8::/32"], "forwarded_header": "forwarded"}),
        ("2/minute", {"key": ("ip", "route")}),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_both_ways_are_one(limits: str, options: dict[str, Any], is_async: bool) -> None:
    found = []
    for unchecked in (0, 10**9):
        clock = ManualClock(1_700_000_000)
        with flint.Limiter(":memory:", clock=clock) as limiter:
            gate = gate_of(Policy(limits, **options), unchecked=unchecked)
            answers = [seen(gate, ask(gate, limiter, one, is_async)) for one in REQUESTS]
            listed = limiter.list(counters=True)
            found.append((answers, [(one["key"], one["remaining"]) for one in listed]))
    assert found[0] == found[1]


@settings(deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_peer_and_route(peer: str, route: str) -> None:
    remaining = []
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as limiter:
        for unchecked in (0, 10**9):
            gate = gate_of(Policy("9/day", scope="route"), unchecked=unchecked)
            found = ask(gate, limiter, Request(peer=peer, route=route))
            result = found.result if isinstance(found, Verdict) else found
            remaining.append(result.remaining)
    assert remaining == [8, 7]  # one counter


def test_the_short_way_behind_a_proxy(limiter: flint.Limiter) -> None:
    gate = gate_of(Policy("1/day", trusted_proxies=["10.0.0.0/8"]))
    one, other = (
        Request({"x-forwarded-for": [client]}, peer="10.0.0.1")
        for client in ("203.0.113.7", "203.0.113.8")
    )
    kinds = [type(ask(gate, limiter, request)) for request in (one, other, one)]
    assert kinds == [Result, Result, Verdict]


@pytest.mark.parametrize("limits", ["9/day", "5/minute; 9/day"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_short_way_is_taken(limiter: flint.Limiter, limits: str, is_async: bool) -> None:
    ask(gate_of(Policy(limits)), limiter, Request())
    gate = gate_of(Policy(limits), make=fail)
    assert isinstance(ask(gate, limiter, Request(), is_async), Result)
    assert isinstance(ask(gate, limiter, Request(peer="::1"), is_async), Result)
    with pytest.raises(AssertionError, match="long way"):
        ask(gate, limiter, Request(method="OPTIONS"), is_async)


def test_the_first_requests_are_looked_at(limiter: flint.Limiter) -> None:
    gate = gate_of(Policy("9/day"), unchecked=2)
    kinds = [type(ask(gate, limiter, Request())) for _ in range(4)]
    assert kinds == [Verdict, Verdict, Result, Result]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("sync", ["batch", "always"])
def test_who_observes_sees_every_decision(tmp_path: Any, sync: Any, is_async: bool) -> None:
    with flint.Limiter(tmp_path / "data", sync=sync) as limiter:
        gate = gate_of(Policy("2/day", name="one"))
        shadow = gate_of(Policy("2/day", name="other", shadow=True))
        decisions = observe(limiter)
        for _ in range(3):
            ask(gate, limiter, Request(), is_async)
            ask(shadow, limiter, Request(peer="::1"), is_async)
        numbers = decisions.snapshot()
        assert numbers["one"].results == {"allowed": 2, "denied": 1}
        assert numbers["other"].results == {"allowed": 2, "shadow_denied": 1}
        assert sum(numbers["one"].buckets) == 3
        assert numbers["one"].sum_ns > 0


@pytest.mark.parametrize(
    ("on_error", "result"),
    [("raise", "error_raised"), ("allow", "error_allowed"), ("deny", "error_denied")],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_who_observes_sees_every_failure(on_error: Any, result: str, is_async: bool) -> None:
    with flint.Limiter(":memory:", max_keys=1) as limiter:
        limiter.check("taken", limit="1/day")
        decisions = observe(limiter)
        gate = gate_of(Policy("9/day", on_error=on_error, name="one"))
        with contextlib.suppress(flint.TableFullError):
            ask(gate, limiter, Request(), is_async)
        assert decisions.snapshot()["one"].results == {result: 1}


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
def test_a_limiter_that_cannot_decide(on_error: Any, status: int) -> None:
    failing: Any = Failing(flint.PoisonedError("disk"))
    gate = gate_of(Policy("9/day", on_error=on_error))
    found = ask(gate, failing, Request())
    assert (found.status, found.reason) == (status, "error")
    with pytest.raises(flint.PoisonedError):
        ask(gate_of(Policy("9/day")), failing, Request())
    with flint.Limiter(":memory:", max_keys=1) as full:
        full.check("taken", limit="1/day")
        for is_async in (False, True):
            found = ask(gate, full, Request(), is_async)
            assert (found.status, found.reason) == (status, "error")
            with pytest.raises(flint.TableFullError):
                ask(gate_of(Policy("9/day")), full, Request(), is_async)


@pytest.mark.parametrize("own", ["allow", "deny"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_limiters_own_on_error(own: Any, is_async: bool) -> None:
    with flint.Limiter(":memory:", max_keys=1, on_error=own) as limiter:
        limiter.check("taken", limit="1/day")
        found = ask(gate_of(Policy("9/day")), limiter, Request(), is_async)
        assert (found.allowed, found.headers[:1]) == (
            (True, []) if own == "allow" else (False, [("Retry-After", "1")])
        )


def test_an_admission_waits_for_the_disk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with flint.Limiter(tmp_path / "data", sync="always") as limiter:
        waited = []
        on_disk = limiter._await_durable

        async def await_durable(ticket: int) -> None:
            await on_disk(ticket)
            waited.append(ticket)

        monkeypatch.setattr(limiter, "_await_durable", await_durable)
        gate = gate_of(Policy("1/day"), make=fail)
        assert isinstance(ask(gate, limiter, Request(), is_async=True), Result)
        assert len(waited) == 1

        async def never(_: int) -> None:
            raise flint.PoisonedError("disk")

        monkeypatch.setattr(limiter, "_await_durable", never)
        for on_error, status in (("allow", 200), ("deny", 503)):
            gate = gate_of(Policy("1/day", scope=on_error, on_error=on_error))
            assert ask(gate, limiter, Request(), is_async=True).status == status
        with pytest.raises(flint.PoisonedError):
            ask(gate_of(Policy("1/day", scope="raise")), limiter, Request(), is_async=True)


def test_a_limiter_of_another_kind_is_awaited() -> None:
    """What answers from far away would hold the event loop if it were asked at once."""

    class Far(flint.Limiter):
        async def acheck(self, *args: Any, **options: Any) -> Any:
            calls.append(args)
            return await super().acheck(*args, **options)

    calls: list[Any] = []
    with Far(":memory:") as far:
        assert ask(gate_of(Policy("9/day")), far, Request(), is_async=True).allowed
    assert len(calls) == 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("limits", ["2/day", "2/day; 50/month"])
def test_templates_of_the_program_do_not_cover_clients(
    limiter: flint.Limiter, limits: str, is_async: bool
) -> None:
    """One of `web` is about the program's own keys; both ways to a decision pass it by."""
    limiter.limit("web*", "9/day; 100/month")
    limiter.limit("web all*", "1/day")
    policy = Policy(limits, headers="both")
    request = Request()
    for count, unchecked in enumerate((100, 0, 100, 0)):
        found = ask(gate_of(policy, unchecked=unchecked), limiter, request, is_async)
        assert found.allowed == (count < 2)
    assert limiter.check("web all x").limit == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_set_of_limits_of_which_a_part_is_configured(
    limiter: flint.Limiter, is_async: bool
) -> None:
    """What a crash while it was configured left: the short way does not take it for the set."""
    found = Several(parse_many("100/minute; 2/day"))
    limiter.limit_many(found.limits[:1])
    gate = gate_of(Policy("100/minute; 2/day"))
    allowed = [ask(gate, limiter, Request(), is_async) for _ in range(4)]
    assert [one.allowed for one in allowed] == [True, True, False, False]
