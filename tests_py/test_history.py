"""Limiter.history: what was recorded, in the shapes of Flint 0.2."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flint import Limiter, UnsupportedError
from flint.testing import ManualClock

EPOCH_S = 1_700_000_000
AT = "2023-11-14T22:13:20Z"


@pytest.fixture
def filled(data_dir: Path, clock: ManualClock) -> Limiter:
    limiter = Limiter(data_dir, clock=clock)
    limiter.limit("a", rate=3, per="1h", algorithm="fixed_window_counter")
    limiter.limit("b:*", rate=2, per="1h", burst=5)
    limiter.allow("a", 2)
    limiter.allow("a", 2)
    clock.advance(10)
    limiter.check_all(["a", ("b:1", 4)])
    limiter.reset("a")
    limiter.remove("a")
    return limiter


def test_shapes(filled: Limiter) -> None:
    config_a = {"key": "a", "rate": 3, "per_millis": 3_600_000, "algorithm": "fixed_window_counter"}
    config_b = {"key": "b:*", "rate": 2, "per_millis": 3_600_000, "algorithm": "token_bucket"}
    later = "2023-11-14T22:13:30Z"
    expected = [
        {"type": "LIMIT_CONFIGURED", "config": config_a},
        {"type": "LIMIT_CONFIGURED", "config": {**config_b, "burst": 5}},
        {"type": "ALLOW", "key": "a", "at": AT, "cost": 2},
        {"type": "DENY", "key": "a", "at": AT, "cost": 2},
        {
            "type": "ALLOW_ALL",
            "items": [{"key": "a", "cost": 1}, {"key": "b:1", "cost": 4}],
            "at": later,
        },
        {"type": "RESET", "key": "a", "at": later},
        {"type": "LIMIT_REMOVED", "key": "a", "at": later},
    ]
    assert filled.history() == expected
    assert filled.history(newest_first=True) == expected[::-1]
    assert filled.history("a") == [expected[0], *expected[2:]]
    assert filled.history("b:1") == [expected[4]]
    assert filled.history("b:*") == [expected[1]]
    assert filled.history("b:*", template=False) == []
    assert filled.history("nobody") == []
    assert filled.history(limit=2) == expected[:2]
    assert filled.history(limit=0) == []
    assert filled.history(since=EPOCH_S + 10) == expected[4:]
    assert filled.history(until=EPOCH_S + 0.5) == expected[:4]
    moment = datetime.fromtimestamp(EPOCH_S + 10, timezone(timedelta(hours=2)))
    assert filled.history(since=moment) == expected[4:]
    assert asyncio.run(filled.ahistory("b:1")) == [expected[4]]
    filled.close()


def test_survives_reopening_and_compaction(filled: Limiter, data_dir: Path) -> None:
    before = filled.history()
    filled.close()
    with Limiter(data_dir, clock=ManualClock(EPOCH_S + 99)) as limiter:
        assert limiter.history() == before
        limiter.compact()
        assert limiter.history() == before


def test_flood_of_denials_shows_its_count(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, sync="batch", clock=clock, flush_every_ms=60_000) as limiter:
        limiter.limit("k", rate=1, per="1h")
        limiter.allow("k")
        for _ in range(300):
            limiter.allow("k")
        denials = [event for event in limiter.history("k") if event["type"] == "DENY"]
        assert sum(event.get("count", 1) for event in denials) == 300
        assert any(event.get("count", 1) > 1 and event["first_at"] == AT for event in denials)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"since": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001 - naive on purpose
        ({"since": "yesterday"}, TypeError),
        ({"until": float("nan")}, ValueError),
        ({"limit": -1}, ValueError),
        ({"limit": True}, TypeError),
        ({"newest_first": 1}, TypeError),
        ({"key": b"a"}, TypeError),
    ],
)
def test_bad_arguments(filled: Limiter, arguments: dict[str, object], error: type) -> None:
    with filled, pytest.raises(error):
        filled.history(**arguments)  # type: ignore[arg-type]


def test_in_memory_there_is_none(limiter: Limiter) -> None:
    with pytest.raises(UnsupportedError, match="no history"):
        limiter.history()
