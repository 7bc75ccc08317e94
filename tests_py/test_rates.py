"""Rates in words: how they are read, printed and refused, and what limits they make."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

import flint
from flint import Limiter, RateError, rates
from flint._surface.rate import ALGORITHMS, Rate, Several, canonical, parse, parse_many
from flint.testing import ManualClock

SECOND = 10**9
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND

# The text, and units and nanoseconds of each rate.
WRITTEN = [
    ("100/minute", [(100, MINUTE)]),
    ("100 per minute", [(100, MINUTE)]),
    ("5 per 10 seconds", [(5, 10 * SECOND)]),
    ("10/s", [(10, SECOND)]),
    ("10/5m", [(10, 5 * MINUTE)]),
    ("100/1h30m", [(100, 90 * MINUTE)]),
    ("5/minute; 100/hour", [(5, MINUTE), (100, HOUR)]),
    ("250/500ms", [(250, SECOND // 2)]),
    ("3/2w", [(3, 14 * DAY)]),
    ("1/1us1ns", [(1, 1001)]),
]
LIMITS = [  # every one of its documentation, and of its tests
    ("1/minute", [(1, MINUTE)]),
    ("10 per hour", [(10, HOUR)]),
    ("10/hour", [(10, HOUR)]),
    ("10/hour;100/day;2000 per year", [(10, HOUR), (100, DAY), (2000, 360 * DAY)]),
    ("100/day, 500/7days", [(100, DAY), (500, 7 * DAY)]),
    ("1 / Second", [(1, SECOND)]),
    ("1/MONTH", [(1, 30 * DAY)]),
    ("1 per 3 hour", [(1, 3 * HOUR)]),
    ("2 per 3 hours", [(2, 3 * HOUR)]),
    ("1/2 day", [(1, 2 * DAY)]),
    ("1 per day", [(1, DAY)]),
    ("10/second", [(10, SECOND)]),
    ("1 per 3 hour, 1 per second", [(1, 3 * HOUR), (1, SECOND)]),
    ("1/second|5/minute", [(1, SECOND), (5, MINUTE)]),
]
DJANGO_RATELIMIT = [
    ("5/m", [(5, MINUTE)]),
    ("100/h", [(100, HOUR)]),
    ("1000/d", [(1000, DAY)]),
    ("100/5m", [(100, 5 * MINUTE)]),
    ("100/300s", [(100, 5 * MINUTE)]),
    ("100/300", [(100, 5 * MINUTE)]),
]
PYRATE_LIMITER = [  # the rates of its documentation, which are numbers there, in its own names
    ("5/2 second", [(5, 2 * SECOND)]),  # Rate(5, Duration.SECOND * 2)
    ("500/HOUR; 1000/DAY; 10000/4 WEEK", [(500, HOUR), (1000, DAY), (10_000, 28 * DAY)]),
    ("500/hour, 1000/day, 10000/month", [(500, HOUR), (1000, DAY), (10_000, 30 * DAY)]),
    ("5/2 MINUTE", [(5, 2 * MINUTE)]),
    ("100 / hour", [(100, HOUR)]),
    ("3/1000ms; 4/1500ms", [(3, SECOND), (4, 1_500_000_000)]),  # Rate(3, 1000), Rate(4, 1500)
]
PYRATE_DURATIONS_MS = {  # the values of its Duration; its intervals are milliseconds
    "SECOND": 1000,
    "MINUTE": 60_000,
    "HOUR": 3_600_000,
    "DAY": 86_400_000,
    "WEEK": 604_800_000,
}


@pytest.mark.parametrize(
    ("text", "meaning"), [*WRITTEN, *LIMITS, *DJANGO_RATELIMIT, *PYRATE_LIMITER]
)
def test_what_is_written_has_its_meaning(text: str, meaning: list[tuple[int, int]]) -> None:
    assert [(rate.rate, rate.per_ns) for rate in parse_many(text)] == meaning


def test_bursts_and_algorithms() -> None:
    assert parse("10/s burst 20") == Rate(10, SECOND, 20)
    assert parse("1000/day using sliding_window_log") == Rate(
        1000, DAY, algorithm="sliding_window_log"
    )
    assert parse("1/s USING gcra BURST 3") == parse("1/s burst 3 using gcra")
    assert parse("10/s burst 10") == parse("10/s")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("100 per 60", "100/minute"),
        ("5/90m", "5/1h30m"),
        ("1/s burst 3 using leaky_bucket", "1/second burst 3 using leaky_bucket"),
        ("1/year", "1/360d"),
    ],
)
def test_printing(text: str, printed: str) -> None:
    assert str(parse(text)) == printed


QUANTITIES = st.integers(1, 10**9)


@st.composite
def any_rate(draw: st.DrawFn) -> Rate:
    algorithm = draw(st.sampled_from(ALGORITHMS))
    burst = draw(st.none() | QUANTITIES) if algorithm in ALGORITHMS[:3] else None
    per_ns = draw(st.integers(1, 2**62 // 10**9))
    return Rate(draw(QUANTITIES), per_ns, burst, algorithm)  # type: ignore[arg-type]


@given(any_rate())
def test_what_is_printed_is_read_as_the_same(rate: Rate) -> None:
    assert parse(str(rate)) == rate
    assert pickle.loads(pickle.dumps(rate)) == rate


@given(
    st.integers(1, 10**6),
    st.sampled_from(sorted(PYRATE_DURATIONS_MS)),
    st.integers(1, 10),
    st.none() | st.integers(1, 700),
)
def test_rates_of_pyrate_limiter_are_read_as_they_mean(
    limit: int, name: str, times: int, burst: int | None
) -> None:
    """Rate(limit, Duration.NAME * times, burst), in its names and in its milliseconds."""
    more = "" if burst is None else f" burst {burst}"
    interval_ms = PYRATE_DURATIONS_MS[name] * times
    meant = Rate(limit, interval_ms * 10**6, burst)
    for period in (f"{times} {name}", f"{times}{name.lower()}s", f"{interval_ms}ms"):
        assert parse(f"{limit}/{period}{more}") == meant


@given(st.lists(any_rate(), min_size=1, max_size=16, unique=True))
def test_several_are_read_as_the_same_in_one_order(found: list[Rate]) -> None:
    text = canonical(found)
    assert set(parse_many(text)) == set(found)
    assert canonical(parse_many(text)) == canonical(found[::-1]) == text


@given(st.text(max_size=60))
def test_any_text_is_read_or_pointed_at(text: str) -> None:
    found = None
    try:
        parse_many(text)
    except RateError as error:
        found = error
    if found is not None:
        assert 0 <= found.position <= len(text)
        assert str(found).split("\n")[-1].strip().strip("^") == ""


REFUSED = [
    ("", 0),
    ("100", 3),
    ("100/", 4),
    ("100/fortnight", 4),
    ("0/s", 0),
    ("-1/s", 0),
    ("5/1.5h", 3),
    ("5/m burst", 9),
    ("5/m bursts 3", 4),
    ("5/m using gcraa", 10),
    ("5/m;", 4),
    ("5/m 3", 4),
    ("5/1h30", 4),
    ("5/m burst 3 burst 4", 12),
    ("100 pro Minute", 4),
    ("10/s burst 20 using fixed_window_counter", 0),
    ("9/9999999999999d", 2),
    ("99999999999999999999999999999999999999999/s", 0),
]


@pytest.mark.parametrize(("text", "position"), REFUSED)
def test_a_refusal_points_at_what_is_wrong(text: str, position: int) -> None:
    with pytest.raises(ValueError, match=r"\^") as caught:
        parse_many(text)
    error = caught.value
    assert isinstance(error, RateError)
    assert (error.text, error.position) == (text, position)
    _, shown, marks = str(error).split("\n")[-3:]
    assert marks.index("^") == (shown.index(text[position:][:9]) if text[position:] else len(shown))


VECTORS = json.loads((ROOT / "tests_c" / "rates.json").read_text("utf-8"))


@pytest.mark.parametrize("one", VECTORS["read"], ids=lambda one: one["text"])
def test_the_server_reads_the_same(one: dict[str, Any]) -> None:
    """Its own test has the same file."""
    found = parse_many(one["text"])
    assert [[r.rate, r.per_ns, r.burst or 0, r.algorithm] for r in found] == one["rates"]
    several = Several(found)
    assert (several.prefix, several.names) == (one["prefix"], one["names"])


@pytest.mark.parametrize("one", VECTORS["refused"], ids=lambda one: one["text"][:40])
def test_the_server_refuses_the_same(one: dict[str, Any]) -> None:
    with pytest.raises(RateError) as caught:
        parse_many(one["text"])
    assert str(caught.value).startswith(one["why"])
    assert caught.value.position == one["position"]


def test_the_line_shows_no_control_characters_and_knows_wide_ones() -> None:
    with pytest.raises(RateError) as caught:
        parse_many("5/m; 日本\x1b")
    assert str(caught.value).split("\n")[-2:] == ["  5/m; 日本\\x1b", "       ^^"]


def test_a_rate_cannot_be_changed() -> None:
    rate = Rate(1, 1)
    with pytest.raises(AttributeError, match="cannot be changed"):
        rate.rate = 2
    assert rate != "1/nanosecond"
    assert len({rate, Rate(1, 1, 1)}) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, 1), ValueError),
        ((1, 2**62 + 1), ValueError),
        ((1.5, 1), TypeError),
        ((1, 2**61, 2**61), ValueError),
        ((1, 1, 2, "fixed_window_counter"), ValueError),
        ((1, 1, None, "bucket"), ValueError),
    ],
)
def test_rates_that_no_limit_can_have(arguments: tuple[object, ...], error: type) -> None:
    with pytest.raises(error):
        Rate(*arguments)  # type: ignore[arg-type]


# ---- Limits in words ---------------------------------------------------------------------------


def limits_of(limiter: Limiter) -> list[tuple[str, str | None, int]]:
    return [(entry["key"], entry["name"], entry["rate"]) for entry in limiter.list()]


def test_one_is_the_same_in_words_and_in_numbers(limiter: Limiter) -> None:
    limiter.limit("a", "10/s burst 20")
    limiter.limit("b", rate=10, per="1s", burst=20)
    left, right = limiter.status("a"), limiter.status("b")
    assert left is not None
    assert right is not None
    assert {**left, "key": "b"} == right
    assert limiter.check("c", limit="3/m").limit == 3
    assert limiter.status("c") is not None


def test_several_are_named_by_their_periods(limiter: Limiter) -> None:
    limiter.limit("mail:*", "2/minute; 50/day using fixed_window_counter")
    assert limits_of(limiter) == [("mail:*", "per day", 50), ("mail:*", "per minute", 2)]
    assert limiter.allow("mail:a", 2)
    denied = limiter.check("mail:a")
    assert denied.name == "per minute"
    assert [one.remaining for one in denied.results] == [48, 0]
    limiter.limit("mail:*", "3/minute; 50/day using fixed_window_counter")
    assert [one.remaining for one in limiter.peek("mail:a").results] == [48, 1]


def test_words_replace_the_words_before(limiter: Limiter) -> None:
    limiter.limit("k", rate=9, per="1h", name="mine")
    limiter.limit("k", "1/s; 2/m; 7/m burst 8")
    names = [name for _, name, _ in limits_of(limiter)]
    assert names == ["mine", "per minute", "per minute 2", "per second"]
    limiter.limit("k", "5/hour")
    assert limits_of(limiter) == [("k", None, 5), ("k", "mine", 9)]
    limiter.limit_many([("k", "1/s; 2/m"), {"key": "t:*", "rate": "4/d"}, ("n", 1, "1s")])
    expected = [("k", "mine", 9), ("k", "per minute", 2), ("k", "per second", 1)]
    assert limits_of(limiter) == [*expected, ("n", None, 1), ("t:*", None, 4)]
    limiter.limit("k", "8/d", if_absent=True)
    assert limits_of(limiter)[:3] == expected


def test_several_that_go_with_a_check_decide_together(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000)
    with Limiter(tmp_path, sync="batch", clock=clock) as limiter:
        limit = "100/hour; 2/minute"
        fresh = limiter.peek("u", limit=limit)
        assert limits_of(limiter) == []  # asking writes nothing
        first = limiter.check("u", limit=limit)
        assert (first.key, first.name, first.remaining) == ("u", "per minute", 1)
        assert [(one.key, one.name) for one in first.results] == [
            ("u", "per hour"),
            ("u", "per minute"),
        ]
        assert [one.remaining for one in fresh.results] == [100, 2]
        assert limiter.allow("u", limit="2/minute;100/hour")  # the same, in another order
        assert not limiter.allow("u", limit=limit)
        key = rates.counter_key(limit, "u")
        assert key == "2/minute; 100/hour @ u"
        kinds = [event["type"] for event in limiter.history(key)]
        assert kinds == ["ALLOW_ALL", "ALLOW_ALL", "DENY"]
        assert limiter.allow("u", limit="5/day; 6/h")  # other limits count apart
        clock.advance(7200)
        assert limiter.peek("u", limit=limit).remaining == 2


def test_a_set_of_which_a_part_is_configured_is_made_whole(limiter: Limiter) -> None:
    """What a crash while it is configured leaves."""
    found = Several(parse_many("5/minute; 1/hour"))
    limiter.limit_many(found.limits[:1])
    assert [limiter.allow("k", limit="5/minute; 1/hour") for _ in range(2)] == [True, False]
    limiter.remove(found.prefix + "*")
    assert limiter.allow("k", limit="5/minute; 1/hour")


def test_a_key_keeps_the_limits_that_it_has(limiter: Limiter) -> None:
    limiter.limit("k", "1/day")
    assert limiter.allow("k", limit="5/m; 9/h")
    assert not limiter.allow("k", limit="5/m; 9/h")


def test_names_of_rates_and_wrong_words(limiter: Limiter) -> None:
    limiter._rates = {"strict": parse_many("1/m")}
    assert limiter.allow("k", limit="strict")
    with pytest.raises(RateError, match="no rate is named 'strikt'; did you mean \"strict\""):
        limiter.allow("k", limit="strikt")
    with pytest.raises(TypeError, match="leave rate and per out"):
        limiter.allow("k", limit="1/m", rate=1, per="1m")
    with pytest.raises(RateError, match=r"limits\[1\]: a unit of time"):
        limiter.limit_many([("a", "1/s"), ("b", "1/x")])
    with pytest.raises(ValueError, match="cost"):
        limiter.check("z", 3, limit="2/s; 9/m")
    assert "a" not in [key for key, _, _ in limits_of(limiter)]


def test_decorators_and_lines(limiter: Limiter) -> None:
    @limiter.rate_limit(lambda user: f"mail:{user}", "1/s; 5/m")
    def mail(user: str) -> str:
        return user

    assert mail("a") == "a"
    with pytest.raises(flint.RateLimitExceeded) as caught:
        mail("a")
    assert caught.value.key == "mail:a"
    assert limiter.acquire("q", limit="1/s; 5/m")
    assert not limiter.acquire("q", timeout=0, limit="1/s; 5/m")


def test_coroutines_read_words() -> None:
    async def main() -> None:
        async with Limiter(":memory:") as limiter:
            await limiter.alimit("a", "1/h; 5/d")
            await limiter.alimit_many([("b", "1/h")])
            assert (await limiter.acheck("a")).name == "per hour"
            assert await limiter.aallow("c", limit="1/h; 2/d")
            assert not await limiter.aallow("c", limit="1/h; 2/d")
            assert not (await limiter.apeek("c", limit="1/h; 2/d")).allowed
            assert await limiter.aacquire("d", limit="1/h; 2/d")

    asyncio.run(main())
