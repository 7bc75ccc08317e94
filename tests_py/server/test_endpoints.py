"""The endpoints of Flint 0.2: bodies to the byte, and status codes, as its clients rely on them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flint_server import FlintServer, needs_server, running

pytestmark = needs_server

OK = '{"ok":true}'
JSON = "application/json"
TIME = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}|\.\d{6}|\.\d{9})?Z"')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    with running(tmp_path_factory.mktemp("endpoints") / "data") as server:
        yield server


def told(server: FlintServer, method: str, path: str, body: Any = None) -> str:
    """The text of a 200, with TIME for each time."""
    status, fields, text = server.ask(method, path, body)
    assert (status, fields["content-type"]) == (200, JSON), text
    return TIME.sub("TIME", text)


def limit(server: FlintServer, key: str, rate: int = 2, **more: Any) -> None:
    assert told(server, "POST", "/v1/limits", {"key": key, "rate": rate, "per": "1d", **more}) == OK


def test_health(server: FlintServer) -> None:
    for path in ("/v1/health", "/healthz", "/readyz"):
        assert told(server, "GET", path) == OK


def test_check(server: FlintServer) -> None:
    limit(server, "api")
    shown = (
        '{{"algorithm":"token_bucket","allowed":{},"cost":{},"key":"api","remaining":{},'
        '"reset_at":TIME}}'
    )
    assert told(server, "POST", "/v1/check", {"key": "api"}) == shown.format("true", 1, 1)
    said = told(server, "POST", "/v1/check", {"key": "api", "cost": 2})
    assert said == shown.format("false", 2, 1)


def test_check_all(server: FlintServer) -> None:
    limit(server, "a1")
    limit(server, "a2", rate=1)
    items = [{"key": "a1", "cost": 1}, {"key": "a2", "cost": 1}]
    one = (
        '{{"algorithm":"token_bucket","allowed":{},"cost":1,"key":"{}","remaining":{},'
        '"reset_at":TIME}}'
    )
    said = told(server, "POST", "/v1/check-all", {"items": items})
    results = f"{one.format('true', 'a1', 1)},{one.format('true', 'a2', 0)}"
    assert said == f'{{"allowed":true,"denied_key":null,"results":[{results}]}}'
    said = told(server, "POST", "/v1/check-all", {"items": items})
    results = f"{one.format('true', 'a1', 1)},{one.format('false', 'a2', 0)}"
    assert said == f'{{"allowed":false,"denied_key":"a2","results":[{results}]}}'


def test_status_and_list(server: FlintServer) -> None:
    limit(server, "s/1 ä", algorithm="fixed_window_counter")
    server.json("POST", "/v1/check", {"key": "s/1 ä"})
    shown = (
        '{"algorithm":"fixed_window_counter","key":"s/1 ä","last_allowed_at":TIME,'
        '"last_denied_at":null,"last_reset_at":null,"per_millis":86400000,"rate":2,"remaining":1,'
        '"reset_at":TIME,"total_allowed":1,"total_allowed_cost":1,"total_denied":0,'
        '"total_denied_cost":0}'
    )
    assert told(server, "GET", "/v1/limits/s%2F1%20%C3%A4") == shown
    assert told(server, "GET", "/v1/limits/nothing") == "null"
    listed = told(server, "GET", "/v1/limits")
    assert (listed[:2], listed[-2:]) == ("[{", "}]")
    assert shown in listed


def test_reset_and_remove(server: FlintServer) -> None:
    limit(server, "r", rate=1)
    for allowed in (True, False):
        assert server.json("POST", "/v1/check", {"key": "r"})["allowed"] is allowed
    assert told(server, "POST", "/v1/reset", {"key": "r"}) == OK
    assert server.json("POST", "/v1/check", {"key": "r"})["allowed"] is True
    assert told(server, "POST", "/v1/remove", {"key": "r"}) == OK
    assert told(server, "GET", "/v1/limits/r") == "null"


def test_the_log(server: FlintServer) -> None:
    for verb in ("flush", "compact"):
        assert told(server, "POST", f"/v1/log/{verb}") == OK  # the body may be empty
        assert told(server, "POST", f"/v1/log/{verb}", {"ignored": 1}) == OK
    doctor = told(server, "GET", "/v1/doctor")
    numbers = (
        r'{"aof_bytes":\d+,"history_events":\d+,"limits":\d+,"ok":true,"snapshot_exists":true}'
    )
    assert re.fullmatch(numbers, doctor)


REFUSED = (
    ({"key": "nobody"}, 400, '{"error":"limit is not configured: nobody"}', "NOT_CONFIGURED"),
    ({"key": "x", "cost": 0}, 400, '{"error":"cost 0 ', "INVALID_ARGUMENT"),
    ({"key": " "}, 400, '{"error":"key ', "INVALID_ARGUMENT"),
    ({}, 422, "Failed to deserialize the JSON body into the target type: missing field `key`", ""),
    ({"key": 1}, 422, "Failed to deserialize the JSON body into the target type: ", ""),
    ({"key": "x", "cost": -1}, 422, "Failed to deserialize ", ""),
    ({"key": "x", "cost": 1.5}, 422, "Failed to deserialize ", ""),
    ({"key": "x", "cost": 2**64}, 422, "Failed to deserialize ", ""),
    ([], 422, "Failed to deserialize ", ""),
)


@pytest.mark.parametrize(("body", "status", "text", "code"), REFUSED)
def test_what_check_refuses(
    server: FlintServer, body: Any, status: int, text: str, code: str
) -> None:
    limit(server, "x")
    got, fields, said = server.ask("POST", "/v1/check", body)
    assert (got, said[: len(text)]) == (status, text)
    assert fields.get("flint-error", "") == code
    assert fields["content-type"] == (JSON if text.startswith("{") else "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"per": "soon"}, {"per": "0"}, {"algorithm": "magic"}, {"key": ""}],
    ids=str,
)
def test_what_a_limit_may_not_be(server: FlintServer, wrong: dict[str, Any]) -> None:
    status, _, text = server.ask(
        "POST", "/v1/limits", {"key": "w", "rate": 1, "per": "1m", **wrong}
    )
    assert (status, list(json.loads(text))) == (400, ["error"])
    assert told(server, "GET", "/v1/limits/w") == "null"


def test_items_that_are_refused(server: FlintServer) -> None:
    limit(server, "i")
    for items, expected in (
        ([], 400),
        ([{"key": "i", "cost": 1}] * 2, 400),
        ([{"key": "i"}], 422),
        (["i"], 422),
        ([{"key": f"k{i}", "cost": 1} for i in range(65)], 400),
    ):
        assert server.ask("POST", "/v1/check-all", {"items": items})[0] == expected


def test_bodies_that_are_no_json(server: FlintServer) -> None:
    for text in ('{"key"', '{"key":"a"} x', '{"key":"\xff"', "[" * 17, '{"a":' * 20):
        status, fields, said = server.ask("POST", "/v1/check", text, Content_Type=JSON)
        assert status == 400
        assert said.startswith("Failed to parse the request body as JSON: ")
        assert fields["content-type"] == "text/plain; charset=utf-8"
    status, _, said = server.ask("POST", "/v1/check", '{"key":"a"}', Content_Type="text/plain")
    assert (status, said) == (415, "Expected request with `Content-Type: application/json`")


def test_paths_and_methods(server: FlintServer) -> None:
    for path in ("/", "/v1", "/v1/limits/", "/v1/limits/a/b", "/v1/check/"):
        assert server.ask("GET", path)[::2] == (404, "")
    status, fields, text = server.ask("DELETE", "/v1/limits")
    assert (status, fields["allow"], text) == (405, "GET,HEAD,POST", "")
    assert server.ask("GET", "/v1/check")[0] == 405
    assert server.ask("GET", "/v1/limits/%zz")[0] == 400


def test_head(server: FlintServer) -> None:
    status, fields, text = server.ask("HEAD", "/v1/health")
    assert (status, fields["content-length"], text) == (200, "11", "")
    assert server.ask("HEAD", "/v1/limits")[::2] == (200, "")


# ---- What Flint 0.2 did not have -----------------------------------------------------------------


def test_details(server: FlintServer) -> None:
    limit(server, "d", rate=5)
    found = server.json("POST", "/v1/check", {"key": "d", "cost": 2, "details": True})
    assert found["limit"] == 5
    assert found["retry_after_ns"] == 0 < found["reset_after_ns"]
    assert found["results"] == []
    limit(server, "d", rate=2, name="small")
    found = server.json("POST", "/v1/peek", {"key": "d", "cost": 2, "details": True})
    assert [(one["name"], one["allowed"]) for one in found["results"]] == [
        (None, True),
        ("small", True),
    ]
    assert (found["name"], found["limit"], found["cost"]) == ("small", 2, 2)
    status = server.json("GET", "/v1/limits/d?name=small&details=true")
    assert (status["name"], status["burst"], status["template"]) == ("small", 2, False)


def test_peek_takes_nothing(server: FlintServer) -> None:
    limit(server, "p", rate=1)
    for _ in range(3):
        assert server.json("POST", "/v1/peek", {"key": "p"})["allowed"] is True


def test_a_carried_limit_takes_other_values(server: FlintServer) -> None:
    """What was used counts on."""
    for ask, rate, remaining in (("check", 5, 4), ("peek", 9, 8), ("check", 9, 7), ("check", 3, 0)):
        body = {"key": "login:ada", "rate": rate, "per": "1d", "algorithm": "fixed_window_counter"}
        assert server.json("POST", f"/v1/{ask}", body)["remaining"] == remaining


def test_templates_and_limits_carried_along(server: FlintServer) -> None:
    limit(server, "t:*", rate=3)
    assert server.json("POST", "/v1/check", {"key": "t:1"})["remaining"] == 2
    assert server.json("GET", "/v1/limits/t:*?details=true")["template"] is True
    keys = [one["key"] for one in server.json("GET", "/v1/limits?counters=true")]
    assert {"t:*", "t:1"} <= set(keys)
    assert "t:1" not in [one["key"] for one in server.json("GET", "/v1/limits")]
    limit(server, "star*", template=False)
    assert server.json("GET", "/v1/limits/star*?details=true")["template"] is False
    carried = {"key": "inline", "rate": 4, "per": "1h", "burst": 8, "algorithm": "gcra"}
    assert server.json("POST", "/v1/check", carried)["remaining"] == 7


def test_a_key_that_ends_with_a_star(server: FlintServer) -> None:
    """What a shorter template gives a key of that name is not its own."""
    limit(server, "come*", rate=9)
    assert server.json("POST", "/v1/check", {"key": "comet*", "cost": 2})["remaining"] == 7
    for call in ("reset", "remove"):
        status, fields, _ = server.ask("POST", f"/v1/{call}", {"key": "comet*"})
        assert (status, fields["flint-error"]) == (400, "NOT_CONFIGURED")
    assert server.json("POST", "/v1/peek", {"key": "comet*"})["remaining"] == 7
    assert server.json("GET", "/v1/limits/comet*") is None
    assert server.json("POST", "/v1/status", {"key": "comet*"}) is None
    assert server.json("GET", "/v1/limits/comet*?template=false")["remaining"] == 7
    own = {"key": "comet*", "rate": 5, "per": "1d", "name": "own", "template": False}
    assert server.json("POST", "/v1/limits", own) == {"ok": True}
    assert server.json("POST", "/v1/check", {"key": "comet*"})["remaining"] == 4
    assert server.json("POST", "/v1/reset", {"key": "comet*", "name": "own"}) == {"ok": True}
    assert server.json("GET", "/v1/limits/comet*?name=own")["remaining"] == 5
    assert server.json("POST", "/v1/remove", {"key": "comet*"}) == {"ok": True}
    assert server.json("GET", "/v1/limits/comet*?name=own") is None


def test_long_lists_come_in_parts(tmp_path: Path) -> None:
    """More than what may be queued for a client."""
    from flint import Limiter

    with Limiter(tmp_path / "data") as limiter:
        limiter.limit_many([(f"key:{i:05}", 1, "1d") for i in range(3000)])
    with running(tmp_path / "data") as server:
        found = server.json("GET", "/v1/limits")
        assert [one["key"] for one in found] == [f"key:{i:05}" for i in range(3000)]
