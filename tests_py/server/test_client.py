"""flint.SharedLimiter and the server: what an embedded limiter answers, call by call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flint_server import FlintServer, needs_server, running

import flint
from flint import Limiter, SharedLimiter, rates

pytestmark = needs_server


@pytest.fixture
def server(data_dir: Path) -> Iterator[FlintServer]:
    with running(data_dir) as server:
        yield server


@pytest.fixture
def shared(server: FlintServer) -> Iterator[SharedLimiter]:
    with SharedLimiter(server.urls[0]) as limiter:
        yield limiter


@pytest.mark.parametrize("is_native", [False, True])
def test_a_rate_of_the_servers_by_its_name(tmp_path: Path, is_native: bool) -> None:
    (tmp_path / "flint.toml").write_text("[rates]\nstrict = '2/day; 9/week'\n", "utf-8")
    words = (f"--limits={tmp_path / 'flint.toml'}", "--redis-bind=127.0.0.1:0")
    with (
        running(tmp_path / "data", *words) as server,
        SharedLimiter(server.native_url if is_native else server.urls[0]) as shared,
    ):
        assert [shared.allow("a", limit="strict") for _ in range(3)] == [True, True, False]
        assert shared.peek("b", limit="strict").limit == 2
        assert not shared.acquire("a", timeout=0, limit="strict")
        with pytest.raises(flint.RateError, match="no rate is named"):
            shared.check("a", limit="lax")
        with pytest.raises(TypeError, match="says everything"):
            shared.check("a", limit="strict", burst=3)
        shared._rates = {"strict": (rates.parse("5/day"),)}  # the program's own goes first
        assert shared.peek("c", limit="strict").limit == 5


LIMITS: list[Any] = [
    {"key": "a", "rate": 5, "per": "1d", "burst": 7},
    {"key": "t:*", "rate": 3, "per": "1d", "name": "short", "stack": True},
    {"key": "t:*", "rate": 9, "per_ns": 86_400_000_000_001, "algorithm": "gcra"},
    {"key": "star*", "template": False, "rate": 1, "per": "1h"},
]

TIMES = {"reset_at", "at", "first_at", "last_allowed_at", "last_denied_at", "last_reset_at"}


def timeless(value: Any) -> Any:
    """Without what the time changes."""
    if isinstance(value, list):
        return [timeless(one) for one in value]
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if name not in TIMES}
    return value


def used(limiter: Any) -> list[Any]:
    """Uses a limiter, and returns what it answers."""
    limiter.limit_many(LIMITS)
    limiter.limit("a", rate=5, per="1d", burst=7, if_absent=True)
    answers = []
    for key, cost in (("a", 3), ("a", 5), ("t:1", 1), ("t:1", 3), ("star*", 1), ("star*", 1)):
        for call in (limiter.peek, limiter.check):
            result = call(key, cost=cost)
            parts = [(one.name, one.allowed, one.remaining) for one in result.results]
            answers.append((result.allowed, result.limit, result.remaining, result.name, parts))
    answers.append(limiter.check("inline", limit="4/hour").remaining)
    answers.append(timeless(limiter.check_all(["a", ("t:2", 2)])))
    answers.append(timeless(limiter.check_all(["t:2", "star*"])))
    answers.append(timeless(limiter.list()))
    answers.append(timeless(limiter.list(counters=True)))
    answers.append(timeless(limiter.top("denied", 10)))
    answers.append(timeless(limiter.top("allowed_cost", 2)))
    answers.append([timeless(limiter.status(key)) for key in ("a", "t:*", "t:1", "star*", "none")])
    answers.append(timeless(limiter.status("t:*", name="short")))
    answers.append(timeless(limiter.history()))
    answers.append(timeless(limiter.history("t:*", newest_first=True, limit=3)))
    answers.append(timeless(limiter.history("star*")))
    limiter.reset("t:*")
    limiter.remove("star*")
    limiter.remove("t:*", name="short")
    answers.append(timeless(limiter.list(counters=True)))
    limiter.flush()
    limiter.compact()
    answers.append(timeless(limiter.history()))
    return answers


def test_it_answers_as_an_embedded_limiter(shared: SharedLimiter, tmp_path: Path) -> None:
    with Limiter(tmp_path / "embedded") as embedded:
        for ours, theirs in zip(used(shared), used(embedded), strict=True):
            assert ours == theirs


def test_errors_are_the_same(shared: SharedLimiter) -> None:
    with pytest.raises(flint.NotConfiguredError, match="limit is not configured: nobody"):
        shared.check("nobody")
    with pytest.raises(ValueError, match="burst"):
        shared.limit("w", rate=1, per="1m", burst=2, algorithm="fixed_window_counter")
    with pytest.raises(flint.NotConfiguredError):
        shared.remove("nobody")


def test_info_and_doctor(shared: SharedLimiter, server: FlintServer, tmp_path: Path) -> None:
    shared.limit("a", "5/minute")
    with Limiter(tmp_path / "embedded") as embedded:
        embedded.limit("a", "5/minute")
        assert set(shared.info()) == set(embedded.info())
        assert set(shared.doctor()) == set(embedded.doctor())
    assert (shared.info()["limits"], shared.doctor()["ok"]) == (1, True)
    _, _, text = server.ask("GET", "/v1/info")
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_queries_that_cannot_be_meant(server: FlintServer) -> None:
    for query in (
        "top?by=name",
        "top?limit=1001",
        "top?limit=x",
        "history?limit=-1",
        "history?template=maybe",
        "history?key=%ff",
        "limits?key=%",
        "limits/a?name=%",
    ):
        assert server.ask("GET", f"/v1/{query}")[0] == 400, query
    assert server.json("GET", "/v1/top?limit=0") == []


def test_long_keys_have_a_status(shared: SharedLimiter) -> None:
    key = "k" * 3000
    shared.limit(key, "5/minute")
    status = shared.status(key)
    assert status is not None
    assert status["key"] == key
