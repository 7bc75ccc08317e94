"""Several limits of one key, told apart by name: what Python shows of them."""

from __future__ import annotations

import asyncio
import io
import pickle
from pathlib import Path

import pytest

from flint import Limiter, NotConfiguredError
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(":memory:", clock=ManualClock(1_700_000_000))


def test_all_limits_decide_together(limiter: Limiter) -> None:
    limiter.limit("mail", rate=3, per="1m")
    limiter.limit("mail", rate=4, per="1d", algorithm="fixed_window_counter", name="day")
    result = limiter.check("mail", 2)
    assert result
    assert result.name is None
    assert result.remaining == 1
    assert [(one.name, one.remaining) for one in result.results] == [(None, 1), ("day", 2)]
    denied = limiter.check("mail", 3)
    assert not denied
    assert denied.name == "day"
    assert denied.retry_after == 86_400.0
    assert [one.allowed for one in denied.results] == [False, False]
    assert limiter.peek("mail", 2).results[1].allowed
    assert [one.remaining for one in limiter.peek("mail").results] == [1, 2]
    assert limiter.allow("mail")
    assert not limiter.allow("mail")


def test_a_result_of_several_is_immutable_comparable_and_picklable(limiter: Limiter) -> None:
    limiter.limit("a", rate=3, per="1m", name="x")
    limiter.limit("a", rate=9, per="1m", name="y")
    result = limiter.peek("a")
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result == limiter.peek("a")
    assert hash(copy) == hash(result)
    assert copy.name == "x"
    assert copy.results == result.results
    limiter.limit("plain", rate=3, per="1m")
    plain = limiter.peek("plain")
    assert plain.name is None
    assert plain.results == (plain,)
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_one_limit_is_asked_for_by_name(limiter: Limiter) -> None:
    limiter.limit("a", rate=3, per="1m", name="x")
    limiter.limit("a", rate=9, per="1m", name="y")
    limiter.check("a", 2)
    status = limiter.status("a", name="x")
    assert status is not None
    assert status["name"] == "x"
    assert status["remaining"] == 1
    assert limiter.status("a") is None
    assert [(entry["key"], entry["name"]) for entry in limiter.list()] == [("a", "x"), ("a", "y")]
    limiter.reset("a", name="x")
    assert [one.remaining for one in limiter.peek("a").results] == [3, 7]
    limiter.reset("a")
    assert [one.remaining for one in limiter.peek("a").results] == [3, 9]
    limiter.remove("a", name="x")
    assert limiter.check("a").name == "y"
    with pytest.raises(NotConfiguredError, match="limit is not configured: a"):
        limiter.remove("a", name="x")
    limiter.remove("a")
    with pytest.raises(NotConfiguredError):
        limiter.check("a")


def test_templates_stack_if_asked_for(limiter: Limiter) -> None:
    limiter.limit_many(
        [
            {"key": "*", "rate": 100, "per": "1m", "name": "all"},
            {"key": "user:*", "rate": 10, "per": "1m", "name": "user", "stack": True},
        ]
    )
    assert [one.name for one in limiter.check("user:1").results] == ["user", "all"]
    limiter.limit("user:1", rate=5, per="1m")
    assert limiter.check("user:1").results[0].name is None
    assert len(limiter.check("user:1").results) == 1
    entry = limiter.status("user:*", name="user")
    assert entry is not None
    assert entry["stack"] is True
    assert entry["template"] is True


def test_names_are_kept_and_told_by_history(tmp_path: Path) -> None:
    with Limiter(tmp_path, sync="batch") as limiter:
        limiter.limit("a", rate=3, per="1h", name="x")
        limiter.limit("a", rate=9, per="1h", name="y")
        limiter.check("a", 3)
        limiter.check("a")
    with Limiter(tmp_path, sync="batch") as limiter:
        assert [one.remaining for one in limiter.peek("a").results] == [0, 6]
        events = limiter.history("a")
        assert [event["config"]["name"] for event in events[:2]] == ["x", "y"]
        assert [item["name"] for item in events[2]["items"]] == ["x", "y"]
        assert events[3]["type"] == "DENY"
        assert events[3]["name"] == "x"
        lines = io.StringIO()
        limiter.dump(lines)
        assert lines.getvalue().count('"name":"y"') == 2


def test_coroutines_take_names() -> None:
    async def main() -> None:
        async with Limiter(":memory:") as limiter:
            await limiter.alimit("a", rate=3, per="1h", name="x")
            await limiter.alimit("a", rate=9, per="1h", name="y", stack=True)
            assert (await limiter.acheck("a")).name == "x"
            assert (await limiter.astatus("a", name="y"))["remaining"] == 8  # type: ignore[index]
            await limiter.areset("a", name="y")
            await limiter.aremove("a", name="x")
            assert (await limiter.apeek("a")).remaining == 9

    asyncio.run(main())


@pytest.mark.parametrize("name", ["n" * 256, 7])
def test_names_out_of_bounds_are_refused(limiter: Limiter, name: object) -> None:
    with pytest.raises((ValueError, TypeError), match="name"):
        limiter.limit("a", rate=3, per="1m", name=name)  # type: ignore[arg-type]
    assert limiter.list() == []


def test_a_longest_key_with_a_longest_name_does_not_end_a_listing(limiter: Limiter) -> None:
    longest = "a" * 65_535
    limiter.limit(longest, 1, per="1d", name="n" * 255)
    limiter.limit("b", 1, per="1d")
    assert [one["key"] for one in limiter.list()] == [longest, "b"]
