"""`flint.what_if`: the recorded history against another limit."""

from __future__ import annotations

import runpy
from array import array
from pathlib import Path

import pytest

import flint
from flint import Limiter, _what_if
from flint.testing import ManualClock

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
COUNTS = {
    "10/minute": 8987,
    "10/minute using gcra": 8987,
    "10/minute using leaky_bucket": 8987,
    "10/minute using fixed_window_counter": 8271,
    "10/minute using sliding_window_log": 8271,
    "10/minute using sliding_window_counter": 8271,
    "30/day": 8681,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a limit of 30 a day has decided about four days of a web server."""
    path = tmp_path_factory.mktemp("log") / "data"
    requests = runpy.run_path(str(EXAMPLES / "access_log.py"))["requests"]
    requests = requests(EXAMPLES / "data" / "access.log.gz")
    clock = ManualClock(requests[0][0])
    with Limiter(path, sync="batch", flush_every_events=1, clock=clock) as limiter:
        limiter.limit("ip:*", "30/day")
        for time_s, address in requests:
            clock.set(time_s)
            limiter.allow(f"ip:{address}")
            limiter.flush()  # so that no denials are merged
    return path


def test_the_counts_of_a_public_log(directory: Path) -> None:
    answer = flint.what_if(directory, "ip:*", *COUNTS)
    assert answer["events"] == 10_000
    assert answer["notes"] == []
    assert {one["rate"]: one["allowed"] for one in answer["candidates"]} == COUNTS
    same = answer["candidates"][-1]
    for row in (same, *same["keys"], *same["buckets"]):
        assert (row["allowed"], row["denied"]) == (row["was_allowed"], row["was_denied"])
    assert sum(row["denied"] for row in same["buckets"]) == same["denied"] == 10_000 - 8681
    denied = [row["denied"] for row in same["keys"]]
    assert denied == sorted(denied, reverse=True)


def test_no_count_depends_on_how_much_is_read_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ("10/minute", "5/minute; 100/day using sliding_window_log")
    whole = flint.what_if(directory, "ip:*", *rates)
    monkeypatch.setattr(_what_if, "_PAGE", 500)
    monkeypatch.setattr(_what_if, "_AT_ONCE", 7)
    assert flint.what_if(directory, "ip:*", *rates) == whole


def test_several_limits_of_a_key_are_one_decision(tmp_path: Path) -> None:
    with Limiter(tmp_path, sync="batch", clock=ManualClock(1_700_000_000)) as limiter:
        limiter.limit("t:*", "2/minute; 3/day")
        limiter.limit("other", "9/day")
        for _ in range(3):
            limiter.check_all(["other", ("t:1", 1), ("t:2", 2)])
        limiter.flush()
        found = flint.what_if(limiter, "t:*", "2/minute; 3/day")["candidates"][0]
        assert (found["was_allowed"], found["was_denied"]) == (2, 2)
        assert {one["key"]: one["was_allowed"] for one in found["keys"]} == {"t:1": 1, "t:2": 1}
        exact = flint.what_if(limiter, "t:1", "1/day")
        assert [one["key"] for one in exact["candidates"][0]["keys"]] == ["t:1"]


def test_a_rate_that_was_asked_for_is_not_added_again(directory: Path) -> None:
    found = flint.what_if(directory, "ip:*", "1/day", target_denied=0.01)["candidates"][1]["rate"]
    answer = flint.what_if(directory, "ip:*", found, "2/day", target_denied=0.01)
    assert [one["rate"] for one in answer["candidates"]] == [found, "2/day"]


def test_rows_are_of_keys_that_are_there() -> None:
    clock = ManualClock(0)
    with Limiter(":memory:", clock=clock) as limiter:
        limiter.limit("*", "1/day")
        row = array("q", [0, 1, 5, 5, 5, 5, 1, 1])
        last = array("q", [-1])
        assert limiter._replay(clock, ["k"], row.tobytes(), last, 1) == b"\5"
        assert last[0] == 5
        for wrong in (b"short", array("q", [1, 1, 5, 5, 5, 5, 1, 1]).tobytes()):
            with pytest.raises(ValueError, match="rows must be"):
                limiter._replay(clock, ["k"], wrong, last, 1)
        with pytest.raises(TypeError):
            limiter._replay("clock", ["k"], row.tobytes(), last, 1)  # type: ignore[arg-type]
        with pytest.raises(IndexError):
            limiter._replay(clock, [], row.tobytes(), last, 1)
        with pytest.raises(TypeError):
            limiter._decided("k", 0, 10)  # type: ignore[call-arg]


def test_the_smallest_rate_that_denies_no_more(directory: Path) -> None:
    answer = flint.what_if(directory, "ip:*", "1/day", target_denied=0.01)
    found = answer["candidates"][1]
    assert found["denied_share"] <= 0.01
    number = int(found["rate"].split("/")[0])
    less = flint.what_if(directory, "ip:*", f"{number - 1}/day")["candidates"][0]
    assert less["denied_share"] > 0.01


def test_merged_denials_are_not_guessed(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000)
    with Limiter(tmp_path, clock=clock) as limiter:
        limiter.limit("k", "1/day")
        for _ in range(101):
            clock.advance(1)
            limiter.allow("k")
        limiter.flush()
        answer = flint.what_if(limiter, "k", "1/day", "1/s")
        assert "merged" in answer["notes"][0]
        same, other = answer["candidates"]
        assert (same["allowed"], same["denied"], same["unknown"]) == (1, 100, 0)
        assert other["unknown"] > 0
        assert other["allowed"] + other["denied"] + other["unknown"] == 101


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    with Limiter(":memory:") as limiter, pytest.raises(flint.UnsupportedError, match="no history"):
        flint.what_if(limiter, "k", "1/s")
    with pytest.raises(flint.RateError):
        flint.what_if(tmp_path, "k", "1/x")
    with pytest.raises(ValueError, match="target_denied"):
        flint.what_if(tmp_path, "k", "1/s", target_denied=2)


def test_resets_are_replayed(tmp_path: Path) -> None:
    with Limiter(tmp_path, sync="batch", clock=ManualClock(1_700_000_000)) as limiter:
        limiter.limit("t:*", "1/day")
        for key in ("t:1", "t:1", "t:2"):
            limiter.allow(key)
        limiter.reset("t:1")
        limiter.allow("t:1")
        limiter.reset("t:*")
        limiter.allow("t:1")
        limiter.allow("t:2")
        limiter.flush()
        for rate, pattern, allowed in (("1/day", "t:*", 5), ("1/day; 9/m", "t:1", 3)):
            (found,) = flint.what_if(limiter, pattern, rate)["candidates"]
            assert (found["allowed"], found["was_allowed"]) == (allowed, allowed)
            assert found["denied"] == 1


def test_history_that_is_not_kept_any_more_is_named(tmp_path: Path) -> None:
    with Limiter(tmp_path, sync="batch", history_max_bytes=0, segment_bytes=1 << 18) as limiter:
        limiter.limit("t:*", "1/day")
        for number in range(20_000):
            limiter.allow(f"t:{number}")
        limiter.compact()
        limiter.limit("new", "1/s")
        limiter.flush()
        assert "what came before is not" in flint.what_if(limiter, "t:*", "1/s")["notes"][0]
