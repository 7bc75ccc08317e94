"""The synchronous Python surface, on the engine that comes with it."""

from __future__ import annotations

import gc
import os
import re
import stat
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import nextafter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flint
from flint import Limiter, Result
from flint.testing import ManualClock

NS = 1_000_000_000
EPOCH_TEXT = "2023-11-14T22:13:20"  # of the clock fixture

STATUS_KEYS = [
    "key",
    "rate",
    "per_millis",
    "algorithm",
    "remaining",
    "reset_at",
    "total_allowed",
    "total_denied",
    "total_allowed_cost",
    "total_denied_cost",
    "last_allowed_at",
    "last_denied_at",
    "last_reset_at",
    "burst",
    "per_ns",
    "template",
    "name",
    "stack",
]


def status_of(limiter: Limiter, key: str, **options: Any) -> flint.StatusDict:
    status = limiter.status(key, **options)
    assert status is not None
    return status


def keys_of(entries: list[flint.StatusDict]) -> list[str]:
    return [entry["key"] for entry in entries]


# ---- Decisions ---------------------------------------------------------------------------------


def test_check_returns_the_numbers_behind_the_decision(limiter: Limiter) -> None:
    limiter.limit("api", rate=3, per="1m", algorithm="fixed_window_counter")
    result = limiter.check("api", 2)
    assert isinstance(result, Result)
    assert result.key == "api"
    assert result.allowed is True
    assert (result.cost, result.limit, result.remaining) == (2, 3, 1)
    assert result.algorithm == "fixed_window_counter"
    assert result.reset_at == "2023-11-14T22:14:20+00:00"
    assert result.reset_at_ns == 1_700_000_060 * NS
    assert result.reset_after_ns == 60 * NS
    assert (result.retry_after, result.retry_after_ns) == (0.0, 0)
    assert result

    denied = limiter.check(key="api", cost=2)
    assert denied.allowed is False
    assert not denied
    assert (denied.cost, denied.remaining) == (2, 1)
    assert (denied.retry_after, denied.retry_after_ns) == (60.0, 60 * NS)


def test_allow_answers_like_check(limiter: Limiter) -> None:
    limiter.limit("api", rate=2, per="1m")
    assert [limiter.allow("api") for _ in range(3)] == [True, True, False]
    assert limiter.allow("api", cost=2) is False


def test_peek_changes_nothing(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        limiter.limit("api", rate=2, per="1d")
        history = limiter.history()
        assert [limiter.peek("api").remaining for _ in range(5)] == [2] * 5
        assert limiter.peek("api", 2)
        assert limiter.history() == history
        limiter.check("api", 2)
        assert not limiter.peek("api")
        assert status_of(limiter, "api")["total_denied"] == 0


def test_time_passes_with_the_clock(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=1, per="1m")
    assert limiter.allow("api")
    denied = limiter.check("api")
    assert denied.retry_after == 60.0
    clock.advance(denied.retry_after / 2)
    assert not limiter.allow("api")
    clock.advance(denied.retry_after / 2)
    assert limiter.allow("api")


def test_two_places_that_carry_different_limits_are_told_of_once(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flint.limiter._told_of_values", False)
    limiter.check("k", rate=5, per="1m")
    limiter.check("k", limit="9/minute")  # a program that has been changed says no more
    limiter.peek("k", rate=5, per="1m")
    limiter.check("other", rate=5, per="1m")
    text = r"'k' carry two limits in turn: 9 per 60 s \(token_bucket\) and 5 per 60 s \(token_b"
    with pytest.warns(flint.FlintWarning, match=text) as told:
        limiter.check("k", rate=5, per="1m")
    assert [warning.filename for warning in told] == [__file__]
    for _ in range(3):  # warnings are errors here
        limiter.allow("k", limit="9/minute")
        limiter.allow("k", rate=5, per="1m")


def test_what_has_no_effect_is_not_told_of(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that has limits of its own keeps them, whatever its checks carry."""
    monkeypatch.setattr("flint.limiter._told_of_values", False)
    limiter.limit("own", "3/minute")
    limiter.limit("several", "30/minute; 90/hour")
    limiter.limit("covered:*", "30/minute; 90/hour")
    for key in ("own", "several", "covered:1"):
        for _ in range(3):  # warnings are errors here
            limiter.allow(key, limit="9/minute")
            limiter.allow(key, limit="3/minute")
        assert limiter.check(key).limit in (3, 30)
    limiter.allow("other", limit="9/minute")
    limiter.allow("other", limit="3/minute")
    with pytest.warns(flint.FlintWarning, match="'other' carry two limits in turn"):
        limiter.allow("other", limit="9/minute")


def test_a_burst_of_the_rate_is_none(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flint.limiter._told_of_values", False)
    for _ in range(3):  # warnings are errors here
        limiter.check("k", rate=10, per="1m")
        limiter.check("k", rate=10, per="1m", burst=10)


def test_a_key_may_be_of_a_class_without_a_hash(limiter: Limiter) -> None:
    class Key(str):
        def __eq__(self, other: object) -> bool:
            return str.__eq__(self, other)

        __hash__ = None  # type: ignore[assignment]

    assert limiter.check(Key("k"), rate=1, per="1m").allowed


def test_values_that_do_not_come_back_are_nothing_to_tell_of(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flint.limiter._told_of_values", False)
    for rate in range(1, 50):
        for key in ("a", "b", "c"):
            limiter.check(key, rate=rate, per="1m")
            limiter.check(key, rate=rate, per="1m")
            limiter.peek(key, rate=1, per="1m")


def test_a_check_can_carry_its_limit(limiter: Limiter) -> None:
    def allow(key: str) -> bool:
        return limiter.allow(key, rate=2, per=timedelta(minutes=1), burst=3, algorithm="gcra")

    assert [allow("guest") for _ in range(4)] == [True, True, True, False]
    assert status_of(limiter, "guest")["algorithm"] == "gcra"
    limiter.limit("member", rate=1, per="1m")
    assert [allow("member") for _ in range(2)] == [True, False]  # its own limit wins
    assert limiter.check("new", 2, rate=2, per="1m").remaining == 0
    assert limiter.peek("newer", rate=5, per="1m").remaining == 5
    assert limiter.status("newer") is None


def test_keys_may_hold_any_text(limiter: Limiter) -> None:
    longest = "é" * 32_767 + "x"
    assert len(longest.encode()) == 65_535
    for key in ["a\0b", "a", "\0", "ключ", "🔑", " a ", "*", "a*", longest]:
        limiter.limit(key, rate=2, per="1m", template=False)
        assert limiter.check(key).key == key
        assert limiter.check(key).remaining == 0
    assert len(limiter.list()) == 9


def test_a_subclass_of_str_is_a_key(limiter: Limiter) -> None:
    class Key(str):
        pass

    limiter.limit(Key("api"), rate=2, per="1m")
    result = limiter.check(Key("api"))
    assert result.key == "api"
    assert type(result.key) is str


def test_anything_with_index_is_an_integer(limiter: Limiter) -> None:
    class Seven:
        def __index__(self) -> int:
            return 7

    limiter.limit("api", rate=Seven(), per=Seven(), burst=Seven())
    status = status_of(limiter, "api")
    assert (status["rate"], status["burst"], status["per_ns"]) == (7, 7, 7 * NS)
    assert limiter.check("api", Seven()).cost == 7


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("allow", lambda limiter: limiter.allow("api")),
        ("check", lambda limiter: limiter.check("api")),
        ("peek", lambda limiter: limiter.peek("api")),
        ("check_all", lambda limiter: limiter.check_all(["api"])),
        ("remove", lambda limiter: limiter.remove("api")),
        ("reset", lambda limiter: limiter.reset("api")),
    ],
)
def test_an_unknown_key_is_an_error(
    limiter: Limiter, name: str, call: Callable[[Limiter], object]
) -> None:
    with pytest.raises(flint.NotConfiguredError, match="limit is not configured") as caught:
        call(limiter)
    assert isinstance(caught.value, RuntimeError)
    if name != "check_all":
        assert str(caught.value) == "limit is not configured: api"
    assert limiter.status("api") is None


# ---- Several keys ------------------------------------------------------------------------------


def test_check_all_counts_all_or_nothing(limiter: Limiter) -> None:
    limiter.limit("user", rate=5, per="1m", algorithm="fixed_window_counter")
    limiter.limit("ip", rate=1, per="1h", algorithm="fixed_window_counter")
    assert limiter.check_all([("user", 2), {"key": "ip", "cost": 1}]) == {
        "allowed": True,
        "denied_key": None,
        "results": [
            {
                "key": "user",
                "allowed": True,
                "cost": 2,
                "remaining": 3,
                "reset_at": "2023-11-14T22:14:20Z",
                "algorithm": "fixed_window_counter",
            },
            {
                "key": "ip",
                "allowed": True,
                "cost": 1,
                "remaining": 0,
                "reset_at": "2023-11-14T23:13:20Z",
                "algorithm": "fixed_window_counter",
            },
        ],
    }
    limiter.limit("never", rate=1, per="1h")
    outcome = limiter.check_all(["user", ["ip", 1], {"key": "never"}])
    assert outcome["allowed"] is False
    assert outcome["denied_key"] == "ip"
    assert [(one["key"], one["allowed"]) for one in outcome["results"]] == [
        ("user", True),
        ("ip", False),
    ]
    assert status_of(limiter, "user")["remaining"] == 3
    assert status_of(limiter, "user")["total_denied"] == 0
    assert status_of(limiter, "ip")["total_denied"] == 1
    assert status_of(limiter, "never")["total_allowed"] == 0


def test_allow_all_answers_like_check_all(limiter: Limiter) -> None:
    limiter.limit("a", rate=2, per="1m")
    limiter.limit("b", rate=1, per="1m")
    assert limiter.allow_all(item for item in ("a", "b")) is True
    assert limiter.allow_all(("a", ("b", 1))) is False
    assert status_of(limiter, "a")["remaining"] == 1


def test_check_all_takes_up_to_1024_items(limiter: Limiter) -> None:
    limiter.limit("k*", rate=1, per="1m")
    items = [f"k{number}" for number in range(1024)]
    assert len(limiter.check_all(items)["results"]) == 1024
    with pytest.raises(ValueError, match=r"^items must hold 1 to 1024 items, not 1025$"):
        limiter.check_all([*items, "k1024"])


# ---- Configuring -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "per_ns"),
    [
        ("1", NS),
        ("500ms", NS // 2),
        ("90s", 90 * NS),
        ("1m", 60 * NS),
        ("2h", 7_200 * NS),
        ("007d", 7 * 86_400 * NS),
        (timedelta(microseconds=1), 1_000),
        (timedelta(days=400, seconds=1, microseconds=3), (400 * 86_400 + 1) * NS + 3_000),
        (60, 60 * NS),
        (0.25, NS // 4),
        (0.1, NS // 10),
        (1e-9, 1),
        (1.6e-9, 2),
        (Fraction(1, 3), 333_333_333),
        (Fraction(2, 3), 666_666_667),
        (Fraction(5, 2 * NS), 2),  # half to even
        (Fraction(7, 2 * NS), 4),
        (Decimal("0.000000007"), 7),
        (Fraction(2**62, NS), 2**62),
    ],
)
def test_forms_of_per(limiter: Limiter, per: Any, per_ns: int) -> None:
    limiter.limit("limit", rate=1, per=per)
    status = status_of(limiter, "limit")
    assert status["per_ns"] == per_ns
    assert status["per_millis"] == per_ns // 1_000_000
    limiter.check("check", rate=1, per=per)
    assert status_of(limiter, "check")["per_ns"] == per_ns


def test_per_ns_is_exact(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per_ns=1_000_001)
    assert status_of(limiter, "api")["per_ns"] == 1_000_001
    assert status_of(limiter, "api")["per_millis"] == 1


@pytest.mark.parametrize(
    "algorithm",
    [
        "token_bucket",
        "gcra",
        "leaky_bucket",
        "fixed_window_counter",
        "sliding_window_log",
        "sliding_window_counter",
    ],
)
def test_every_algorithm_has_its_name(limiter: Limiter, algorithm: flint.Algorithm) -> None:
    computed = "".join(algorithm)  # equal to the name, and not the same object
    limiter.limit("api", rate=2, per="1m", algorithm=computed)  # type: ignore[arg-type]
    assert limiter.check("api").algorithm == algorithm
    assert status_of(limiter, "api")["algorithm"] == algorithm


def test_the_same_values_change_and_write_nothing(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("api", rate=2, per="1m")
        limiter.check("api", 2)
        history = limiter.history()
        limiter.limit("api", rate=2, per=60, algorithm="token_bucket", burst=2)
        limiter.limit("api", rate=9, per=60, if_absent=True)
        assert limiter.history() == history
        assert not limiter.allow("api")
        limiter.limit("api", rate=2, per="1m", burst=4)
        assert len(limiter.history()) > len(history)
        assert limiter.check("api", 2).remaining == 0  # two of four had been used


def test_templates(limiter: Limiter) -> None:
    limiter.limit("ip:*", rate=1, per="1m")
    limiter.limit("ip:10.*", rate=2, per="1m")
    limiter.limit("ip:10.0.0.1", rate=3, per="1m")
    assert limiter.check("ip:9.9.9.9").limit == 1
    assert limiter.check("ip:10.9.9.9").limit == 2
    assert limiter.check("ip:10.0.0.1").limit == 3
    assert limiter.check("ip:*").limit == 1  # literally: one more client
    assert limiter.info()["limits"] == 3
    assert keys_of(limiter.list()) == ["ip:*", "ip:10.*", "ip:10.0.0.1"]
    assert [entry["template"] for entry in limiter.list()] == [True, True, False]
    assert sorted(keys_of(limiter.list(counters=True))) == sorted(
        ["ip:*", "ip:*", "ip:10.*", "ip:10.0.0.1", "ip:10.9.9.9", "ip:9.9.9.9"]
    )


def test_a_trailing_star_is_read_as_a_template_unless_told_otherwise(limiter: Limiter) -> None:
    limiter.limit("a*", rate=1, per="1m")
    limiter.limit("a*", rate=2, per="1m", template=False)
    limiter.limit("b", rate=3, per="1m", template=True)
    limiter.limit("c*", rate=4, per="1m", template=True)
    shown = [(entry["key"], entry["template"], entry["rate"]) for entry in limiter.list()]
    assert shown == [("a*", False, 2), ("a*", True, 1), ("b*", True, 3), ("c*", True, 4)]

    assert status_of(limiter, "a*")["rate"] == 1
    assert status_of(limiter, "a*", template=True)["rate"] == 1
    assert status_of(limiter, "a*", template=False)["rate"] == 2
    assert status_of(limiter, "b", template=True)["key"] == "b*"
    assert status_of(limiter, "b*")["template"] is True
    assert limiter.check("bx").limit == 3
    assert limiter.check("cx").limit == 4

    limiter.check("a*", 2)
    limiter.check("ax")
    limiter.reset("a*")
    assert (limiter.peek("ax").remaining, limiter.peek("a*").remaining) == (1, 0)
    limiter.reset("a*", template=False)
    assert limiter.peek("a*").remaining == 2
    limiter.remove("a*", template=False)
    assert status_of(limiter, "a*")["rate"] == 1
    limiter.remove("a*")
    assert limiter.status("a*") is None
    assert limiter.status("ax") is None


def test_the_template_of_everything(limiter: Limiter) -> None:
    limiter.limit("*", rate=1, per="1m")
    assert limiter.check("whatever").limit == 1
    assert keys_of(limiter.list()) == ["*"]
    limiter.remove("", template=True)
    assert limiter.list() == []


def test_limit_many(limiter: Limiter) -> None:
    limiter.limit("kept", rate=9, per="1m")
    limiter.limit_many(
        [
            {"key": "dict", "rate": 1, "per": "1s", "algorithm": "gcra", "burst": 3},
            {"key": "ns", "rate": 1, "per_ns": 5, "template": True},
            ("tuple", 2, "1m"),
            ["list:*", 3, 60, "leaky_bucket"],
            ("five", 4, timedelta(hours=1), "token_bucket", 8),
        ]
    )
    limiter.limit_many((("kept", 1, "1m"), ("new", 1, "1m")), if_absent=True)
    shown = [
        (entry["key"], entry["rate"], entry["per_ns"], entry["algorithm"], entry["burst"])
        for entry in limiter.list()
    ]
    assert shown == [
        ("dict", 1, NS, "gcra", 3),
        ("five", 4, 3_600 * NS, "token_bucket", 8),
        ("kept", 9, 60 * NS, "token_bucket", 9),
        ("list:*", 3, 60 * NS, "leaky_bucket", 3),
        ("new", 1, 60 * NS, "token_bucket", 1),
        ("ns*", 1, 5, "token_bucket", 1),
        ("tuple", 2, 60 * NS, "token_bucket", 2),
    ]
    limiter.limit_many([])
    assert len(limiter.list()) == 7


def test_limit_many_takes_each_limit_at_its_word(limiter: Limiter) -> None:
    pers = ["1m", "2m", "".join(("1", "m")), "1m", 60, "1m", timedelta(minutes=2), "2m"]
    limiter.limit_many((str(number), 1, per) for number, per in enumerate(pers))
    shown = [entry["per_ns"] // (60 * NS) for entry in limiter.list()]
    assert shown == [1, 2, 1, 1, 1, 1, 2, 2]


def test_remove_and_reset(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per="1m")
    limiter.check("api")
    limiter.reset("api")
    assert limiter.check("api")
    status = status_of(limiter, "api")
    assert status["total_allowed"] == 2
    assert status["last_reset_at"] == EPOCH_TEXT + "+00:00"
    limiter.remove("api")
    assert limiter.status("api") is None


# ---- Reading -----------------------------------------------------------------------------------


def test_status(limiter: Limiter, clock: ManualClock) -> None:
    limiter.limit("api", rate=2, per="1500ms", algorithm="fixed_window_counter")
    fresh = status_of(limiter, "api")
    assert list(fresh) == STATUS_KEYS
    assert (fresh["last_allowed_at"], fresh["last_denied_at"], fresh["last_reset_at"]) == (
        None,
        None,
        None,
    )
    limiter.check("api", 2)
    clock.advance_ns(1_000)
    limiter.check("api", 2)
    assert status_of(limiter, "api") == {
        "key": "api",
        "rate": 2,
        "per_millis": 1500,
        "algorithm": "fixed_window_counter",
        "remaining": 0,
        "reset_at": "2023-11-14T22:13:21.500+00:00",
        "total_allowed": 1,
        "total_denied": 1,
        "total_allowed_cost": 2,
        "total_denied_cost": 2,
        "last_allowed_at": EPOCH_TEXT + "+00:00",
        "last_denied_at": EPOCH_TEXT + ".000001+00:00",
        "last_reset_at": None,
        "burst": 2,
        "per_ns": 1_500_000_000,
        "template": False,
        "name": None,
        "stack": False,
    }


def test_list_goes_over_pages_and_long_keys(limiter: Limiter) -> None:
    keys = [f"key:{number:05}" for number in range(1_500)]
    keys += [letter * 65_535 for letter in "xyz"]
    limiter.limit_many((key, 1, "1m") for key in reversed(keys))
    assert keys_of(limiter.list()) == keys


def test_list_is_sorted_as_it_is_shown(limiter: Limiter) -> None:
    for key in ["ip:!", "ip:*", "ip:", "ip:~", "ip"]:
        limiter.limit(key, rate=1, per="1m")
    assert keys_of(limiter.list()) == ["ip", "ip:", "ip:!", "ip:*", "ip:~"]


def test_top(limiter: Limiter) -> None:
    limiter.limit("ip:*", rate=2, per="1d")
    limiter.limit("quiet", rate=2, per="1d")
    for key, checks in [("ip:a", 5), ("ip:b", 9), ("ip:c", 2)]:
        for _ in range(checks):
            limiter.allow(key)
    limiter.check("ip:d", 2)
    top = limiter.top()
    assert [(entry["key"], entry["total_denied"]) for entry in top] == [("ip:b", 7), ("ip:a", 3)]
    assert list(top[0]) == STATUS_KEYS
    assert keys_of(limiter.top("denied_cost", 1)) == ["ip:b"]
    assert set(keys_of(limiter.top(by="allowed", limit=3))) == {"ip:a", "ip:b", "ip:c"}
    assert set(keys_of(limiter.top(by="allowed_cost"))) == {"ip:a", "ip:b", "ip:c", "ip:d"}


def test_top_has_room_for_long_keys(limiter: Limiter) -> None:
    limiter.limit("*", rate=1, per="1d")
    keys = {letter * 65_535 for letter in "abcdefgh"}
    for key in keys:
        limiter.check(key)
    assert set(keys_of(limiter.top("allowed"))) == keys


def test_info(data_dir: Path) -> None:
    with Limiter(data_dir, sync="batch") as limiter:
        before = limiter.info()
        limiter.limit("a*", rate=1, per="1m")
        limiter.allow("a1")
        after = limiter.info()
    assert list(before) == [
        "sync",
        "role",
        "recovered_records",
        "recovered_ring_records",
        "torn_bytes",
        "snapshot_limits",
        "limits",
        "counters",
        "log_bytes",
        "segments",
        "snapshot_bytes",
        "sequence",
        "appended",
        "durable",
        "syncs",
        "directory_mode",
        "converted_events",
        "warnings",
        "undecided",
        "evicted",
        "compactions",
        "compaction_failures",
        "compaction_done_bytes",
        "compaction_total_bytes",
        "history_bytes",
        "damaged_history",
        "read_only",
        "compaction_failure",
        "history_failures",
        "unsynced_events",
        "since_sync_ns",
        "sync_time_ns",
        "poisoned",
        "engine_time_ns",
        "compaction_retry_at_ns",
    ]
    assert before["sync"] == "batch"
    assert (after["limits"], after["counters"]) == (1, 1)
    assert after["sequence"] > before["sequence"]
    assert after["directory_mode"] == 0o700


# ---- Opening and closing -----------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_what_was_used_survives(data_dir: Path, clock: ManualClock, sync: flint.Sync) -> None:
    with Limiter(data_dir, sync=sync, clock=clock) as limiter:
        limiter.limit("api", rate=2, per="1h")
        assert limiter.allow("api")
        limiter.flush()
        assert limiter.allow("api")
        limiter.compact()
        assert not limiter.allow("api")
    with Limiter(data_dir, sync=sync, clock=clock) as limiter:
        assert not limiter.allow("api")
        status = status_of(limiter, "api")
        assert (status["total_allowed"], status["total_denied"]) == (2, 2)


def test_the_directory_is_made_with_its_parents_and_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "b" / "c"
    with Limiter(data_dir) as limiter:
        assert limiter.data_dir == str(data_dir)
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
        assert "flint.lock" in modes
        assert set(modes.values()) == {0o600}


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Limiter() as limiter:
        monkeypatch.chdir("/")  # the limiter stays where it was opened
        limiter.limit("api", rate=1, per="1m")
        limiter.compact()
        assert limiter.data_dir == str(tmp_path / ".flint")
    assert (tmp_path / ".flint" / "flint.lock").exists()


def test_paths_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    with Limiter(tmp_path / name) as limiter:
        assert limiter.data_dir == str(tmp_path / name)
    assert (tmp_path / name).is_dir()


def test_memory_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Limiter(":memory:") as limiter:
        limiter.limit("api", rate=1, per="1m")
        limiter.compact()
        assert limiter.data_dir == ":memory:"
        assert limiter.info()["directory_mode"] == 0
    assert list(tmp_path.iterdir()) == []


def test_sizes_can_be_chosen(data_dir: Path) -> None:
    with Limiter(
        data_dir,
        sync="batch",
        flush_every_ms=1,
        flush_every_events=1,
        segment_bytes=256 * 1024,
        ring_bytes=256 * 1024,
    ) as limiter:
        limiter.limit("api", rate=1, per="1m")
        assert limiter.allow("api")


def test_a_directory_that_everybody_may_write(data_dir: Path, clock: ManualClock) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o777)
    with pytest.warns(flint.FlintWarning, match=r"everybody may write in .*data") as caught:
        limiter = Limiter(data_dir, clock=clock)
    assert caught[0].filename == __file__
    limiter.close()
    with pytest.raises(flint.FlintWarning):  # warnings are errors in this test run
        Limiter(data_dir)
    data_dir.chmod(0o755)
    Limiter(data_dir).close()


def test_close_unlocks_and_can_be_repeated(data_dir: Path) -> None:
    limiter = Limiter(data_dir)
    assert limiter.closed is False
    with pytest.raises(flint.LockedError, match="already locked") as caught:
        Limiter(data_dir)
    assert isinstance(caught.value, RuntimeError)
    limiter.close()
    limiter.close()
    assert limiter.closed is True
    with Limiter(data_dir) as other:
        assert other is not limiter
        with pytest.raises(RuntimeError, match="open already"):
            Limiter.__init__(other, data_dir)
    assert other.closed


def test_with_closes_and_lets_the_error_pass(data_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError), Limiter(data_dir) as limiter:
        raise ZeroDivisionError
    assert limiter.closed


def test_losing_the_last_reference_closes(data_dir: Path) -> None:
    limiter = Limiter(data_dir, sync="batch")
    limiter.limit("api", rate=1, per="1h")
    del limiter
    limiter = Limiter(data_dir, sync="batch")
    cycle: dict[str, Any] = {"limiter": limiter}
    cycle["itself"] = cycle
    del limiter, cycle
    gc.collect()
    assert keys_of(Limiter(data_dir).list()) == ["api"]


def test_a_cycle_through_the_clock_is_collected(data_dir: Path) -> None:
    clock = ManualClock(1_700_000_000)
    clock.limiter = Limiter(data_dir, clock=clock)  # type: ignore[attr-defined]
    del clock
    gc.collect()
    Limiter(data_dir).close()


def test_the_limiter_keeps_its_clock(data_dir: Path) -> None:
    with Limiter(data_dir, clock=ManualClock(1_700_000_000)) as limiter:
        gc.collect()
        limiter.limit("api", rate=1, per="1m")
        assert limiter.check("api").reset_at == "2023-11-14T22:14:20+00:00"


def test_interpreter_exit_closes(run_python: Callable[..., str], data_dir: Path) -> None:
    script = """
import sys, threading, flint
limiter = flint.Limiter(sys.argv[1], sync="batch", flush_every_ms=3_600_000)
limiter.limit("api", rate=5, per="1h")
limiter.allow("api")
keep = [limiter]
keep.append(keep)
used_up = threading.Event()
def use():
    try:
        while True:
            limiter.allow("api") or used_up.set()
    except flint.ClosedError:
        pass
threading.Thread(target=use, daemon=True).start()
used_up.wait()
"""
    run_python(script, data_dir)
    with Limiter(data_dir) as limiter:
        assert status_of(limiter, "api")["total_allowed"] == 5
        assert limiter.info()["recovered_ring_records"] == 0


def test_a_damaged_directory(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        limiter.limit("api", rate=100, per="1h")
        for _ in range(20):
            limiter.allow("api")
    log = data_dir / "flint.aof"
    content = bytearray(log.read_bytes())
    place = content.index(b"api")
    content[place] ^= 1
    log.write_bytes(content)
    (data_dir / "flint.ring").unlink()  # it still holds a copy
    with pytest.raises(flint.CorruptionError, match="damaged") as caught:
        Limiter(data_dir)
    error = caught.value
    assert isinstance(error, flint.FlintError)
    assert error.segment == "flint.aof"
    assert error.offset is not None
    assert 0 < error.offset <= place
    assert error.sequence is not None
    assert "flint.aof" in str(error)


def test_use_after_close(data_dir: Path) -> None:
    limiter = Limiter(data_dir)
    limiter.limit("api", rate=1, per="1m")
    limiter.close()
    calls: list[Callable[[], object]] = [
        lambda: limiter.allow("api"),
        lambda: limiter.check("api"),
        lambda: limiter.peek("api"),
        lambda: limiter.allow_all(["api"]),
        lambda: limiter.check_all(["api"]),
        lambda: limiter.limit("api", rate=1, per="1m"),
        lambda: limiter.limit_many([("api", 1, "1m")]),
        lambda: limiter.remove("api"),
        lambda: limiter.reset("api"),
        lambda: limiter.status("api"),
        lambda: limiter.list(),
        lambda: limiter.top(),
        lambda: limiter.info(),
        lambda: limiter.flush(),
        lambda: limiter.compact(),
    ]
    for call in calls:
        with pytest.raises(flint.ClosedError, match="the limiter is closed") as caught:
            call()
        assert isinstance(caught.value, RuntimeError)


def test_repr(data_dir: Path, limiter: Limiter, clock: ManualClock) -> None:
    assert repr(limiter) == "<flint.Limiter ':memory:' sync='always'>"
    with Limiter(data_dir, sync="batch") as other:
        assert repr(other) == f"<flint.Limiter {str(data_dir)!r} sync='batch'>"
    assert repr(other) == f"<flint.Limiter {str(data_dir)!r} sync='batch' closed>"
    assert repr(clock) == "ManualClock(1700000000.0)"
    limiter.limit("it's", rate=1, per="1s")
    assert repr(limiter.check("it's")) == (
        """<flint.Result key="it's" allowed=True cost=1 limit=1 remaining=0 """
        "reset_at='2023-11-14T22:13:21+00:00' retry_after=0.0 algorithm='token_bucket'>"
    )


def test_subclasses(data_dir: Path) -> None:
    class Counting(Limiter):
        def __init__(self, data_dir: Path) -> None:
            super().__init__(data_dir)
            self.closings = 0

        def close(self) -> None:
            self.closings += 1
            super().close()

    with Counting(data_dir) as limiter:
        limiter.limit("api", rate=1, per="1m")
        assert limiter.allow("api")
    assert limiter.closings == 1


# ---- Results -----------------------------------------------------------------------------------


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "key": "api",
        "allowed": False,
        "cost": 1,
        "limit": 2,
        "remaining": 0,
        "reset_at_ns": 1_700_000_000 * NS,
        "reset_after_ns": 5,
        "retry_after_ns": 7,
        "algorithm": "gcra",
    }
    return Result(*(fields | changes).values())


def test_results_compare_by_value() -> None:
    assert result() == result()
    assert hash(result()) == hash(result())
    assert result() != "api"
    changes: list[dict[str, Any]] = [
        {"key": "other"},
        {"allowed": True},
        {"cost": 2},
        {"limit": 3},
        {"remaining": 1},
        {"reset_at_ns": 1},
        {"reset_after_ns": 6},
        {"retry_after_ns": 8},
        {"algorithm": "token_bucket"},
    ]
    for change in changes:
        assert result(**change) != result()
    assert len({result(), result(), *(result(**change) for change in changes)}) == 10


def test_results_do_not_change() -> None:
    for name in ["key", "allowed", "cost", "reset_at", "retry_after", "anything"]:
        with pytest.raises(AttributeError):
            setattr(result(), name, 1)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (1, "1970-01-01T00:00:00.000000001+00:00"),
        (1_000, "1970-01-01T00:00:00.000001+00:00"),
        (1_000_000, "1970-01-01T00:00:00.001+00:00"),
        (1_100_000_000, "1970-01-01T00:00:01.100+00:00"),
        (1_000_001_001, "1970-01-01T00:00:01.000001001+00:00"),
        (951_782_400 * NS, "2000-02-29T00:00:00+00:00"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807+00:00"),
    ],
)
def test_reset_at_shows_as_many_decimals_as_needed(ns: int, text: str) -> None:
    assert result(reset_at_ns=ns).reset_at == text


@given(st.integers(0, 2**63 - 1))
def test_reset_at_is_the_exact_time(ns: int) -> None:
    text = result(reset_at_ns=ns).reset_at
    match = re.fullmatch(r"([^.]+?)(?:\.(\d{3}|\d{6}|\d{9}))?\+00:00", text)
    assert match is not None
    whole = datetime.fromisoformat(match[1] + "+00:00")
    assert int(whole.timestamp()) * NS + int((match[2] or "0").ljust(9, "0")) == ns


@given(st.integers(1, 2**63 - 1))
def test_retry_after_is_the_next_float_that_is_not_too_small(ns: int) -> None:
    exact = Fraction(ns, NS)
    seconds = result(retry_after_ns=ns).retry_after
    assert Fraction(seconds) >= exact
    assert Fraction(nextafter(seconds, 0.0)) < exact


# ---- The clock ---------------------------------------------------------------------------------


def test_manual_clock() -> None:
    clock = ManualClock(Fraction(3, 2))
    assert (clock.now_ns, clock.epoch) == (1_500_000_000, 1.5)
    clock.advance(0.25)
    clock.advance(-1)
    assert clock.now_ns == 750_000_000
    clock.set(2**62 // NS)
    clock.set_ns(2**62)
    assert clock.now_ns == 2**62
    clock.advance_ns(-(2**62))
    assert clock.now_ns == 0


def test_threads_advance_a_clock_together() -> None:
    clock = ManualClock(0)

    def advance() -> None:
        for _ in range(1_000):
            clock.advance_ns(1)

    threads = [threading.Thread(target=advance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now_ns == 4_000


# ---- The package -------------------------------------------------------------------------------


def test_version_and_directories() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", flint.__version__)
    header = Path(flint.get_include(), "flint_limiter.h").read_text()
    assert "flint_limiter_open" in header
    assert Path(flint.get_library_dir(), "libflint_limiter.so").exists()


def test_the_module_can_be_loaded_twice(run_python: Callable[..., str]) -> None:
    """Nothing global is shared: each copy has its own types and errors."""
    script = """
import sys

def load():
    for name in [name for name in sys.modules if name.split(".")[0] == "flint"]:
        del sys.modules[name]
    import flint
    limiter = flint.Limiter(":memory:")
    limiter.limit("api", rate=1, per="1h")
    return flint, limiter

first, first_limiter = load()
second, second_limiter = load()
assert first.Result is not second.Result
for flint, limiter in [(first, first_limiter), (second, second_limiter)]:
    assert type(limiter.check("api")) is flint.Result
    try:
        limiter.check("unknown")
    except flint.NotConfiguredError:
        print("ok")
"""
    assert run_python(script) == "ok\nok\n"


def test_import_is_light(run_python: Callable[..., str]) -> None:
    script = """
import sys, flint
print(sorted({"argparse", "asyncio", "inspect", "fractions", "decimal"} & set(sys.modules)))
"""
    assert run_python(script) == "[]\n"


ALIASES = {"__version__", "Algorithm", "Sync", "Total", "Item", "OnError", "WhenFull", "Mapped"}


def test_everything_public_is_documented() -> None:
    for name in flint.__all__:
        if name not in ALIASES:
            assert getattr(flint, name).__doc__, name
    for kind in [Limiter, Result, ManualClock]:
        for name in dir(kind):
            if not name.startswith("_"):
                assert getattr(kind, name).__doc__, name
