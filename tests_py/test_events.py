"""Decisions as they are recorded: flint.events."""

from __future__ import annotations

import asyncio
import doctest
import re
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import flint
import flint.events
from flint._local.follow import _Sample
from flint._web.keys import route_of
from flint.events import Totals, astream, stream, totals
from flint.testing import ManualClock

SOON_S = 0.001  # between looks


@pytest.fixture
def writer(data_dir: Path, clock: ManualClock) -> Iterator[flint.Limiter]:
    with flint.Limiter(data_dir, sync="batch", clock=clock) as limiter:
        limiter.limit("user:*", rate=2, per="1d")
        yield limiter


def use(limiter: flint.Limiter, *keys: str) -> None:
    for key in keys:
        limiter.allow(key)


def told(events: Any, number: int) -> list[tuple[str, str | None]]:
    return [(event["type"], event.get("key")) for event in islice(events, number)]


def test_decisions_are_told_as_they_come(writer: flint.Limiter) -> None:
    use(writer, "user:before")
    with stream(writer, every=SOON_S) as events:
        use(writer, "user:a", "user:a", "user:a")
        writer.reset("user:a")
        assert told(events, 3) == [("ALLOW", "user:a")] * 2 + [("DENY", "user:a")]
        writer.check_all(["user:b", "user:c"])
        [event] = islice(events, 1)
        assert event["type"] == "ALLOW_ALL"
        assert event["items"] == [{"key": "user:b", "cost": 1}, {"key": "user:c", "cost": 1}]
        assert event in writer.history()
        assert events.skipped == 0


def test_a_directory_that_another_limiter_writes(writer: flint.Limiter, data_dir: Path) -> None:
    use(writer, "user:before")
    writer.flush()
    with stream(data_dir, every=SOON_S) as events:
        use(writer, "user:a")
        writer.flush()
        assert told(events, 1) == [("ALLOW", "user:a")]
        writer.compact()
        use(writer, "user:b")
        writer.flush()
        assert told(events, 1) == [("ALLOW", "user:b")]


def test_a_limiter_that_only_reads(writer: flint.Limiter, data_dir: Path) -> None:
    with flint.Limiter.open_readonly(data_dir) as reader:
        with stream(reader, every=SOON_S) as events:
            use(writer, "user:a")
            writer.flush()
            assert told(events, 1) == [("ALLOW", "user:a")]
        assert not reader.closed


def test_since(writer: flint.Limiter, clock: ManualClock) -> None:
    use(writer, "user:a")
    clock.advance(10)
    use(writer, "user:b")
    # What was there before is waited for, however much it is.
    with stream(writer, since=1_700_000_005, max_waiting=1, every=SOON_S) as events:
        use(writer, "user:c")
        assert told(events, 2) == [("ALLOW", "user:b"), ("ALLOW", "user:c")]


def test_who_falls_behind_is_taken_forward_and_told(writer: flint.Limiter) -> None:
    with stream(writer, max_waiting=3, every=SOON_S) as events:
        use(writer, *(f"user:{number}" for number in range(20)))
        first, *rest = islice(events, 4)
        assert first == {"type": "SKIPPED", "count": 18}  # records: 17 uses, and a KEY
        assert [event["key"] for event in rest] == ["user:17", "user:18", "user:19"]
        assert events.skipped == 18
        use(writer, "user:0")
        assert told(events, 1) == [("ALLOW", "user:0")]


def test_what_the_log_does_not_keep_is_told(data_dir: Path, clock: ManualClock) -> None:
    options: Any = {"sync": "batch", "clock": clock, "history_max_bytes": 0}
    with flint.Limiter(data_dir, segment_bytes=256 * 1024, **options) as limiter:
        limiter.limit("k", rate=10**9, per="1d")
        with stream(limiter, every=SOON_S) as events:
            for _ in range(10_000):
                limiter.allow("k")
            limiter.compact()
            limiter.allow("k")
            first, second = islice(events, 2)
            assert first["type"] == "SKIPPED"
            assert first["count"] == events.skipped > 9_000
            assert second["type"] == "ALLOW"


def test_a_sample(writer: flint.Limiter) -> None:
    writer.limit("k", rate=10**6, per="1d")
    with stream(writer, sample=0.1, every=SOON_S) as events:
        for _ in range(4000):
            writer.allow("k")
        writer.flush()
        found = events._reader.look()
    assert 250 < len(found) < 550  # 400, and 8 times the standard deviation to each side


def test_a_sample_of_denials_that_were_merged() -> None:
    sample = _Sample(0.25)
    assert 24_000 < sample.of(100_000) < 26_000  # 25,000, and 7 standard deviations
    assert _Sample(1).of(7) == 7
    assert _Sample(1e-300).of(10**6) == 0


def test_the_stream_ends_with_its_limiter(writer: flint.Limiter) -> None:
    found: list[str] = []
    events = stream(writer, every=SOON_S)
    told_one = threading.Event()

    def take() -> None:
        for event in events:
            found.append(event["type"])
            told_one.set()

    thread = threading.Thread(target=take)
    thread.start()
    use(writer, "user:a")
    assert told_one.wait(60)
    writer.close()
    thread.join(60)
    assert (found, thread.is_alive()) == (["ALLOW"], False)


def test_closing_wakes_who_waits(writer: flint.Limiter) -> None:
    events = stream(writer, every="1d")
    thread = threading.Thread(target=list, args=(events,))
    thread.start()
    events.close()
    thread.join(60)
    assert not thread.is_alive()
    assert list(events) == []


def test_event_loops(writer: flint.Limiter, data_dir: Path) -> None:
    async def main() -> None:
        async with astream(data_dir, every=SOON_S) as events:
            # Who has stopped waiting misses nothing.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
            use(writer, "user:a", "user:b")
            writer.flush()
            assert (await anext(events))["key"] == "user:a"
            assert (await anext(events))["key"] == "user:b"
            assert events.skipped == 0
        assert [event async for event in events] == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"sample": 0}, ValueError, "sample"),
        ({"sample": 1.5}, ValueError, "sample"),
        ({"sample": float("nan")}, ValueError, "sample"),
        ({"sample": "all"}, TypeError, "sample"),
        ({"max_waiting": 0}, ValueError, "max_waiting"),
        ({"max_waiting": 1.5}, TypeError, "max_waiting"),
        ({"every": 0}, ValueError, "every"),
        ({"since": "yesterday"}, TypeError, "since"),
    ],
)
def test_bad_arguments(writer: flint.Limiter, options: Any, error: type, word: str) -> None:
    for call in (stream, astream):
        with pytest.raises(error, match=word):
            call(writer, **options)


def test_without_a_log(limiter: flint.Limiter, tmp_path: Path) -> None:
    with pytest.raises(flint.UnsupportedError, match="no history"):
        stream(limiter)
    with pytest.raises(flint.UnsupportedError, match=r"a flint\.Limiter"):
        stream(object())  # type: ignore[arg-type]
    with pytest.raises(flint.FlintOSError):
        stream(tmp_path / "nowhere")


# ---- Totals ----


def test_totals_of_keys(writer: flint.Limiter, data_dir: Path) -> None:
    use(writer, "user:a", "user:a", "user:a", "user:b")
    writer.check_all([("user:c", 2), "user:b"])
    writer.flush()
    found = totals(writer)
    assert totals(data_dir) == found
    shown = [(one["name"], one["allowed"], one["denied"], one["allowed_cost"]) for one in found]
    assert shown == [("user:a", 2, 1, 2), ("user:b", 2, 0, 2), ("user:c", 1, 0, 2)]
    assert (found[0]["denied_cost"], found[0]["denied_share"]) == (1, 0.3333)
    assert found[0]["last_at"] == "2023-11-14T22:13:20Z"
    assert totals(writer, since=1_700_000_001) == []
    [all_of_them] = totals(writer, by=lambda key: key.partition(":")[0])
    assert (all_of_them["name"], all_of_them["allowed"]) == ("user", 4)


def test_a_key_with_several_limits_counts_once(writer: flint.Limiter) -> None:
    writer.limit("mail", "5/minute; 100/day")
    use(writer, "mail")
    assert [(one["allowed"], one["allowed_cost"]) for one in totals(writer)] == [(1, 1)]


def test_names_are_bounded_and_the_sum_stays() -> None:
    counted = Totals(most=10)
    for round_number in range(5):
        for number in range(1000):
            key = "often" if number % 2 else f"k{round_number}:{number}"
            event: Any = {"type": "DENY", "key": key, "at": "2026-01-31T12:00:00Z", "cost": 1}
            counted.add(event)
    found = counted.top()
    assert len(counted._totals) <= 20
    assert len(found) == 11
    assert (found[0]["name"], found[0]["denied"]) == ("often", 2500)
    assert (found[-1]["name"], sum(one["denied"] for one in found)) == ("other", 5000)
    assert [one["name"] for one in counted.top(1)] == ["often", "other"]


def test_other_events_count_nothing() -> None:
    counted = Totals()
    counted.add({"type": "SKIPPED", "count": 7})
    counted.add({"type": "RESET", "key": "a"})  # type: ignore[typeddict-item]
    assert (counted.top(), counted.skipped) == ([], 7)


def test_bad_totals() -> None:
    with pytest.raises(ValueError, match="by must be"):
        Totals(by="day")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="most must be"):
        Totals(most=0)


@pytest.mark.parametrize(
    ("key", "route"),
    [
        ("10/m @ web GET /items/{id} ip:203.0.113.7", "GET /items/{id}"),
        ("5/m; 100/d @ @web POST /login user:ann route:/login", "POST /login"),
        ("10/m @ web GET - ip:unknown", "GET -"),
        ("10/m @ web GET #0123 ip:unknown", "GET #0123"),
        ("10/m @ web search ip:203.0.113.7", "search"),
        ("10/m @ web all ip:203.0.113.7 route:/a", "all"),
        ("all:ip:203.0.113.7", "all"),
        ("GET /items/{id:int}:ip:203.0.113.7", "GET /items/{id:int}"),
        ("user:42", "user"),
        ("plain", "plain"),
    ],
)
def test_the_route_of_a_key(key: str, route: str) -> None:
    assert route_of(key) == route


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(flint.events).failed == 0


def test_the_example_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    [example] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "ALLOW user:ann 1\nALLOW user:ann 1\nDENY user:ann 1\n"
