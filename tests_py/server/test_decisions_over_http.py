"""Decisions beside those of Flint 0.2: bare ones, many at once, and with the limits that come with
them; and what other servers' callers ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flint_server import FlintServer, needs_server, running

import flint
from flint import Limiter
from flint.rates import counter_key

pytestmark = needs_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    with running(tmp_path_factory.mktemp("decisions") / "data") as server:
        yield server


def limit(server: FlintServer, key: str, rate: Any = 2, **more: Any) -> None:
    period = {} if isinstance(rate, str) else {"per": "1d"}
    body = {"key": key, "rate": rate, **period, **more}
    assert server.json("POST", "/v1/limits", body) == {"ok": True}


# ---- Bare decisions ------------------------------------------------------------------------------


def test_allow(server: FlintServer) -> None:
    limit(server, "bare", rate="1/day")
    status, fields, text = server.ask("POST", "/v1/allow", {"key": "bare"})
    assert (status, text) == (204, "")
    assert "content-length" not in fields
    assert "content-type" not in fields
    status, fields, text = server.ask("POST", "/v1/allow", {"key": "bare"})
    assert (status, text, fields["content-length"]) == (429, "", "0")
    assert 86_390 <= int(fields["retry-after"]) <= 86_400
    assert server.ask("POST", "/v1/allow", {"key": "nobody"})[0] == 400
    assert server.ask("POST", "/v1/allow", {"key": "n", "limit": "1/day"})[0] == 204
    assert server.ask("POST", "/v1/allow", {"key": "n", "limit": "1/day"})[0] == 429


JSON = {"Content_Type": "application/json"}
MOST = 2**62
BIG = 2**60


@pytest.mark.parametrize(
    ("body", "key", "cost"),
    [
        ('{"key":"plain","cost":2}', "plain", 2),
        (' { "key" : "pl ain" , "cost" : 3 } ', "pl ain", 3),
        ('{"cost":2,"key":"turned"}', "turned", 2),
        ('{"key":"alone"}', "alone", 1),
        ('{"key":"null","cost":null}', "null", 1),
        ('{"key":"more","cost":4,"details":false}', "more", 4),
        ('{"key":"twice","cost":4,"cost":5}', "twice", 5),
        ('{"key":"first","key":"second"}', "second", 1),
        ('{"key":"\\u0061\\"\\\\"}', 'a"\\', 1),
        (r'{"key":"h\u00e4","cost":1}', "h\u00e4", 1),
        ('\r\n{\t"key":"tab"}\n', "tab", 1),
        (f'{{"key":"big","cost":{BIG}}}', "big", BIG),
    ],
)
def test_how_a_check_may_be_written(server: FlintServer, body: str, key: str, cost: int) -> None:
    limit(server, key, rate=MOST, algorithm="fixed_window_counter")
    answer = server.json("POST", "/v1/check", body, **JSON)
    assert (answer["key"], answer["allowed"]) == (key, True)
    assert MOST - answer["remaining"] == cost


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ('{"key":"a"', 400),
        ('{"key":"a}', 400),
        ('{"key":"a","cost":1', 400),
        ('{"key":"a","cost":1}}', 400),
        ('{"key":"a","cost":1} x', 400),
        ('{"key":"a","cost":01}', 400),
        ('{"key":"a","cost":}', 400),
        ('{"key":"a",}', 400),
        ('{"key":"a" "cost":1}', 400),
        ('{"key":"a\nb"}', 400),
        ('{"key":"a","cost":1.5}', 422),
        ('{"key":"a","cost":-1}', 422),
        ('{"key":"a","cost":"1"}', 422),
        ('{"key":"a","cost":1e3}', 422),
        ('{"key":1}', 422),
        ("{}", 422),
        ('{"key":"a","cost":0}', 400),
        ('{"key":"","cost":1}', 400),
    ],
)
def test_how_a_check_may_not_be_written(server: FlintServer, body: str, status: int) -> None:
    limit(server, "a")
    assert server.ask("POST", "/v1/check", body, **JSON)[0] == status
    assert server.json("POST", "/v1/peek", {"key": "a"})["remaining"] == 2


# ---- Many at once --------------------------------------------------------------------------------


def test_checks(server: FlintServer) -> None:
    limit(server, "m1", rate=3)
    checks: list[dict[str, Any]] = [
        {"key": "m1", "cost": 2},
        {"key": "m1", "cost": 2},
        {"key": "nobody"},
        {"key": "m1"},
        {"key": "m1", "cost": 0},
    ]
    found = server.json("POST", "/v1/checks:batch", {"checks": checks})["results"]
    assert [(one.get("allowed"), one.get("remaining")) for one in found] == [
        (True, 1),
        (False, 1),
        (None, None),
        (True, 0),
        (None, None),
    ]
    assert found[2]["code"] == "NOT_CONFIGURED"
    assert found[4]["code"] == "INVALID_ARGUMENT"
    assert (found[2]["key"], found[2]["error"]) == ("nobody", "limit is not configured: nobody")
    assert "cost 0 " in found[4]["error"]
    assert "results" not in found[0]


def test_checks_with_limits(server: FlintServer) -> None:
    carried = [
        {"key": "m2", "limit": "2/day"},
        {"key": "m2", "limit": "1/day; 5/hour"},  # which has a limit already
        {"key": "m3", "limit": ["1/day", {"rate": 5, "per": "1h"}]},
        {"key": "m3", "limit": "1/day, 5/hour"},
        {"key": "m2", "limit": "2/day"},
        {"key": "nobody"},
    ]
    body = {"checks": carried, "details": True}
    found = server.json("POST", "/v1/checks:batch", body)["results"]
    assert [one.get("allowed") for one in found] == [True, True, True, False, False, None]
    assert [one["name"] for one in found[3]["results"]] == ["per day", "per hour"]
    assert found[5]["error"] == "limit is not configured: nobody"


# ---- Limits that come along ----------------------------------------------------------------------

CARRIED = [
    {"limit": "2/day"},
    {"limit": {"rate": 2, "per": "1d"}},
    {"limit": {"rate": "2/day"}},
    {"limit": ["2/day", "2 per 24 hours"]},
    {"rate": 2, "per": "1d"},
    {"rate": "2/day"},
    {"rate": 2, "per_ns": 86_400 * 10**9, "burst": 2, "algorithm": "token_bucket"},
]


@pytest.mark.parametrize("carried", CARRIED, ids=json.dumps)
def test_one_limit_comes_along(server: FlintServer, carried: dict[str, Any]) -> None:
    key = "one " + json.dumps(carried)
    peeked = server.json("POST", "/v1/peek", {"key": key, **carried, "details": True})
    assert (peeked["limit"], peeked["remaining"]) == (2, 2)
    for remaining in (1, 0):
        found = server.json("POST", "/v1/check", {"key": key, **carried})
        assert (found["allowed"], found["remaining"]) == (True, remaining)
    assert server.json("POST", "/v1/check", {"key": key, **carried})["allowed"] is False


def shape(result: Any) -> Any:
    return (
        result.allowed,
        result.limit,
        result.remaining,
        result.name,
        [(one.name, one.allowed, one.limit, one.remaining) for one in result.results],
    )


def test_several_come_along_as_in_an_embedded_limiter(data_dir: Path) -> None:
    text = "5/minute; 100/hour burst 3 using gcra; 7 per minute"
    with (
        running(data_dir / "server") as server,
        flint.SharedLimiter(server.urls[0]) as shared,
        Limiter(data_dir / "embedded") as embedded,
    ):
        for call, cost in (("peek", 1), ("check", 2), ("peek", 1), ("check", 2), ("check", 1)):
            ours = getattr(shared, call)("k", cost, limit=text)
            theirs = getattr(embedded, call)("k", cost, limit=text)
            assert shape(ours) == shape(theirs)
        counter = counter_key(text, "k")
        assert (shared.status(counter) is None) is (embedded.status(counter) is None)
        listed = [(one["key"], one["name"]) for one in embedded.list()]
        assert [(one["key"], one["name"]) for one in shared.list()] == listed
        body = {"key": "k", "limit": text, "details": True}
        assert server.json("POST", "/v1/check", body)["key"] == "k"


def test_sets_of_limits_are_not_without_number(data_dir: Path) -> None:
    """Whoever may check may not have it keep templates without end."""
    with running(data_dir, "--sync", "batch") as server:
        for first in range(0, 1024, 64):
            checks = [
                {"key": "k", "limit": f"{n}/minute; {n}/hour"} for n in range(first + 1, first + 65)
            ]
            found = server.json("POST", "/v1/checks:batch", {"checks": checks})
            assert all(one.get("allowed") for one in found["results"])
        new = {"key": "k", "limit": "5000/minute; 5000/hour"}
        status, fields, _ = server.ask("POST", "/v1/check", new)
        assert (status, fields["flint-error"]) == (503, "TABLE_FULL")
        known = {"key": "other", "limit": "64/hour; 64/minute"}
        assert server.json("POST", "/v1/check", known)["allowed"] is True


@pytest.mark.parametrize(
    ("carried", "status", "said"),
    [
        ({"limit": "5/fortnight"}, 400, 'month, at character 3 of \\"5/fortnight\\"'),
        ({"limit": ""}, 400, "at character 1"),
        ({"limit": "0/s"}, 400, "1 to 2**62"),
        ({"limit": "ä/s"}, 400, "at character 1"),
        ({"limit": {"rate": "1/s", "per": "1m"}}, 400, "leave per out"),
        ({"limit": {"rate": "1/s; 2/m", "burst": 3}}, 400, "burst goes with one rate"),
        ({"limit": {"rate": 1}}, 422, "missing field `per`"),
        ({"limit": {"rate": 1, "per": "1s", "algorithm": "x"}}, 400, "unsupported algorithm"),
        ({"limit": 5}, 422, "`limit` must be"),
        ({"limit": []}, 422, "`limit` must be"),
        ({"limit": [["1/s"]]}, 422, "`limit` must be"),
        ({"limit": "1/s", "rate": 5}, 400, "leave rate and per out"),
        ({"limit": [f"{n}/s" for n in range(1, 18)]}, 400, "at most 16"),
        ({"limit": "; ".join(f"{n}/s" for n in range(1, 18))}, 400, "at most 16"),
        ({"limit": "1/s" * 500}, 400, "1024 characters"),
    ],
)
def test_limits_that_cannot_be_read(
    server: FlintServer, carried: dict[str, Any], status: int, said: str
) -> None:
    for path in ("check", "peek", "allow"):
        got, _, text = server.ask("POST", f"/v1/{path}", {"key": "bad", **carried})
        assert (got, said in text) == (status, True), text
    body = {"checks": [{"key": "bad", **carried}]}
    assert server.ask("POST", "/v1/checks:batch", body)[0] == status
    body = {"items": [{"key": "bad", "cost": 1, **carried}]}
    assert server.ask("POST", "/v1/check-all", body)[0] == status
    assert server.json("GET", "/v1/limits/bad") is None


def test_a_limit_that_none_can_have(server: FlintServer) -> None:
    """Of many checks it is one's own error."""
    wrong = {"key": "bad", "limit": {"rate": 0, "per": "1s"}}
    for path in ("check", "peek", "allow"):
        assert server.ask("POST", f"/v1/{path}", wrong)[0] == 400
    assert server.ask("POST", "/v1/check-all", {"items": [{**wrong, "cost": 1}]})[0] == 400
    found = server.json("POST", "/v1/checks:batch", {"checks": [wrong]})["results"][0]
    assert (found["code"], found["key"]) == ("INVALID_ARGUMENT", "bad")


def test_limits_in_words_are_configured(server: FlintServer) -> None:
    limit(server, "w1", rate="10/s burst 20 using gcra")
    status = server.json("GET", "/v1/limits/w1?details=true")
    assert (status["rate"], status["burst"], status["algorithm"]) == (10, 20, "gcra")
    body = {"limits": [{"key": "w2", "rate": "3/m", "name": "short"}, {"key": "w2", "rate": "9/h"}]}
    assert server.json("POST", "/v1/limits:batch", body) == {"ok": True}
    for bad, said in (("1/s; 2/m", "a name each"), ("1/x", "at character 3"), ("1/s", "leave per")):
        per = {"per": "1m"} if bad == "1/s" else {}
        got, _, text = server.ask("POST", "/v1/limits", {"key": "w3", "rate": bad, **per})
        assert (got, said in text) == (400, True), text


def test_items_bring_limits(server: FlintServer) -> None:
    limit(server, "it:own", rate="9/day")
    items = [
        {"key": "it:own", "cost": 1, "limit": "1/day"},
        {"key": "it:one", "cost": 2, "limit": "5/day"},
        {"key": "it:table", "cost": 1, "rate": 3, "per": "1d", "algorithm": "gcra"},
        {"key": "it:two", "cost": 1, "limit": ["2/day", {"rate": 100, "per": "1h"}]},
    ]

    def left() -> tuple[bool, str | None, list[int]]:
        answer = server.json("POST", "/v1/check-all", {"items": items})
        assert [one["key"] for one in answer["results"]] == [
            one["key"] for one in items[: len(answer["results"])]
        ]
        remaining = [one["remaining"] for one in answer["results"]]
        return answer["allowed"], answer["denied_key"], remaining

    # A key that has a limit keeps it.
    assert left() == (True, None, [8, 3, 2, 1])
    assert left() == (True, None, [7, 1, 1, 0])
    assert left() == (False, "it:one", [7, 1])
    items[1]["cost"] = 1
    assert left() == (False, "it:two", [7, 1, 1, 0])
    # They are counted where several of a check are: under their text and the key.
    counters = [counter_key("2/day; 100/hour", "it:two"), "5/day @ it:one"]
    for counter, used in zip(counters, (2, 4), strict=True):
        found = server.json("POST", "/v1/check", {"key": counter, "details": True})
        assert found["limit"] - found["remaining"] in (used, used + 1)
    assert server.json("GET", "/v1/limits/it%3Aone") is None
    # One that a check has brought to the key, and that is in use, is its own.
    server.json("POST", "/v1/check", {"key": "it:used", "limit": "4/day"})
    body = {"items": [{"key": "it:used", "cost": 3, "limit": "9/day"}]}
    assert server.json("POST", "/v1/check-all", body)["results"][0]["remaining"] == 0


def test_a_set_that_was_kept_in_part_is_made_whole(server: FlintServer) -> None:
    """As after a crash between its limits."""
    body = {"key": "1/day; 5/7d @ *", "rate": "1/day", "name": "per day"}
    assert server.json("POST", "/v1/limits", body) == {"ok": True}
    items = [{"key": "it:part", "cost": 1, "limit": "1/day; 5/week"}]
    assert server.json("POST", "/v1/check-all", {"items": items})["allowed"] is True
    names = [
        one.get("name")
        for one in server.json("GET", "/v1/limits?details=true")
        if one["key"] == "1/day; 5/7d @ *"
    ]
    assert names == ["per 7d", "per day"]


def test_sets_of_items_are_not_without_number(data_dir: Path) -> None:
    with running(data_dir, "--sync", "batch") as server:
        for first in range(0, 1024, 64):
            items = [
                {"key": "k", "cost": 1, "limit": f"{n}/minute"}
                for n in range(first + 1, first + 65)
            ]
            assert server.json("POST", "/v1/check-all", {"items": items})["allowed"] is True
        body = {"items": [{"key": "k", "cost": 1, "limit": "5000/minute"}]}
        status, fields, _ = server.ask("POST", "/v1/check-all", body)
        assert (status, fields["flint-error"]) == (503, "TABLE_FULL")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"checks": []}, 400),
        ({"checks": [{"key": "a"}] * 65}, 400),
        ({"checks": "a"}, 422),
        ({}, 422),
        ({"checks": ["a"]}, 422),
        ({"checks": [{}]}, 422),
        ({"checks": [{"key": 1}]}, 422),
        ({"checks": [{"key": "a"}], "details": 1}, 422),
    ],
)
def test_what_checks_refuses(server: FlintServer, body: Any, status: int) -> None:
    assert server.ask("POST", "/v1/checks:batch", body)[0] == status


# ---- throttlecrab --------------------------------------------------------------------------------


def throttle(server: FlintServer, key: str, **more: Any) -> dict[str, Any]:
    body = {"key": key, "max_burst": 3, "count_per_period": 10, "period": 60, **more}
    found: dict[str, Any] = server.json("POST", "/throttle", body)
    return found


def test_throttle(server: FlintServer) -> None:
    said = {"allowed": True, "limit": 3, "remaining": 2, "reset_after": 6, "retry_after": 0}
    assert throttle(server, "crab") == said
    assert list(throttle(server, "crab", quantity=0)) == list(said)
    assert throttle(server, "crab", quantity=0)["remaining"] == 2
    assert throttle(server, "crab", quantity=2)["remaining"] == 0
    denied = throttle(server, "crab")
    assert (denied["allowed"], denied["remaining"]) == (False, 0)
    assert 1 <= denied["retry_after"] <= 6
    assert 1 <= denied["reset_after"] <= 18
    # Other values than before are those that hold.
    assert throttle(server, "crab", max_burst=5, quantity=0)["limit"] == 5


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"max_burst": 0}, 400),
        ({"count_per_period": 0}, 400),
        ({"period": 0}, 400),
        ({"period": 2**63}, 400),
        ({"max_burst": 2**63}, 400),
        ({"quantity": -1}, 422),
        ({"period": "60"}, 422),
        ({"key": None}, 422),
        ({"key": ""}, 400),
    ],
    ids=str,
)
def test_what_throttle_refuses(server: FlintServer, wrong: dict[str, Any], status: int) -> None:
    body = {"key": "k", "max_burst": 3, "count_per_period": 10, "period": 60, **wrong}
    assert server.ask("POST", "/throttle", body)[0] == status


# ---- envoy ---------------------------------------------------------------------------------------


def descriptor(*entries: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"entries": [{"key": key, "value": value} for key, value in entries], **more}


def test_envoy(server: FlintServer) -> None:
    limit(server, "envoy|user=*", rate="2/minute using fixed_window_counter")
    limit(server, "envoy|user=*", rate="3/hour using fixed_window_counter", name="hourly")
    limit(server, "envoy|path=/a%7Cb|method", rate="5/10s")
    body = {
        "domain": "envoy",
        "descriptors": [
            descriptor(("user", "ann")),
            descriptor(("path", "/a|b"), ("method", "")),
            descriptor(("nothing", "limits this")),
        ],
    }
    status, _, text = server.ask("POST", "/json", body)
    found = json.loads(text)
    assert (status, found["overallCode"]) == (200, "OK")
    first, second, third = found["statuses"]
    assert 0 <= int(first.pop("durationUntilReset")[:-1]) <= 60
    unit = {"requestsPerUnit": 2, "unit": "MINUTE"}
    assert first == {"code": "OK", "currentLimit": unit, "limitRemaining": 1}
    assert second["currentLimit"] == {"requestsPerUnit": 5}
    assert third == {"code": "OK"}

    status, _, text = server.ask("POST", "/json", {**body, "hitsAddend": 2})
    found = json.loads(text)
    assert (status, found["overallCode"]) == (429, "OVER_LIMIT")
    assert [one["code"] for one in found["statuses"]] == ["OVER_LIMIT", "OK", "OK"]
    assert found["statuses"][1]["limitRemaining"] == 2  # each is counted by itself


def test_envoy_limits_that_come_along(server: FlintServer) -> None:
    """Also by the names of the protocol's own text, and whole numbers as strings."""
    for name, unit in (("requestsPerUnit", "HOUR"), ("requests_per_unit", "DAY")):
        one = descriptor(("own", unit), limit={name: "3", "unit": unit}, hitsAddend="2")
        body = {"domain": "envoy", "descriptors": [one]}
        first = json.loads(server.ask("POST", "/json", body)[2])["statuses"][0]
        assert first["currentLimit"] == {"requestsPerUnit": 3, "unit": unit}
        assert first["limitRemaining"] == 1
        one["hitsAddend"] = 0  # which only looks
        assert json.loads(server.ask("POST", "/json", body)[2])["statuses"][0]["code"] == "OK"
        del one["hitsAddend"]
        assert server.ask("POST", "/json", {**body, "hits_addend": 2})[0] == 429


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"domain": "", "descriptors": [descriptor(("a", "b"))]}, 400),
        ({"domain": "d", "descriptors": []}, 400),
        ({"domain": "d", "descriptors": [descriptor(("a", "b"))] * 65}, 400),
        ({"domain": "d", "descriptors": [{}]}, 422),
        ({"domain": "d", "descriptors": ["a"]}, 422),
        ({"domain": "d", "descriptors": [{"entries": [{"value": "b"}]}]}, 422),
        ({"domain": "d", "descriptors": [{"entries": ["a"]}]}, 422),
        ({"domain": "d", "descriptors": [descriptor(("a", "b"))], "hitsAddend": -1}, 400),
        ({"domain": "d", "descriptors": [descriptor(("a", "b"))], "hitsAddend": 2**32}, 400),
        ({"domain": "d", "descriptors": [descriptor(("a", "b"), limit={"unit": "DAY"})]}, 400),
        ({"domain": "d", "descriptors": [descriptor(("a", "b"), limit=5)]}, 422),
        (
            {
                "domain": "d",
                "descriptors": [descriptor(("a", "b"), limit={"requestsPerUnit": 1, "unit": "X"})],
            },
            400,
        ),
    ],
)
def test_what_envoy_is_refused(server: FlintServer, body: Any, status: int) -> None:
    assert server.ask("POST", "/json", body)[0] == status


# ---- What may be said ----------------------------------------------------------------------------

NEW = ("/v1/allow", "/v1/checks:batch", "/throttle", "/json")


@pytest.mark.parametrize("path", NEW)
def test_methods(server: FlintServer, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        status, fields, _ = server.ask(method, path)
        assert (status, fields["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/*", 200),
        ("text/html, application/json;q=0.1", 200),
        ("text/html", 406),
        ("application/jsonp", 406),
        ("application/json;q=0", 406),
        ("*/*, application/json; q=0.000", 406),
        ("application/json;charset=utf-8", 200),
        ("*/*;q=0", 406),
        ("", 200),
        (",", 406),
    ],
)
def test_accept(server: FlintServer, accept: str, status: int) -> None:
    assert server.ask("GET", "/v1/health", Accept=accept)[0] == status
    got = server.ask("POST", "/v1/check", {"key": "nobody"}, Accept=accept)[0]
    assert got == (406 if status == 406 else 400)


def test_a_body_needs_a_length(server: FlintServer) -> None:
    head = b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = server.send(head + b"Content-Type: application/json\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 Length Required\r\n")
    # Where none is needed, none is asked for.
    answer = server.send(head.replace(b"check", b"log/flush") + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
