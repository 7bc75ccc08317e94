"""What another limit would have decided: the recorded history, replayed."""

from __future__ import annotations

import operator
from collections import defaultdict
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from flint._local.history import TYPES, recorded
from flint._surface.arguments import refusal
from flint._surface.rate import Rate, canonical, read_rates
from flint.errors import NotConfiguredError, UnsupportedError
from flint.limiter import Limiter
from flint.testing import ManualClock

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Sequence

    from flint._surface.rate import RateLike

_SECOND_NS = 1_000_000_000
_MOST_CANDIDATES = 64
MAX_BUCKETS = 100_000
_FIRST_EVENT = 3  # its number in a log that has its beginning: a CLOCK and a KEY come before it
_TEMPLATE = 1  # the kind of an event's key


class _Event(NamedTuple):
    """A decision about one key, or with `times` 0 a reset of all keys that begin so (`first_ns` 0)
    or of one. Of merged denials `at_ns` is the last's time."""

    key: str
    at_ns: int
    first_ns: int
    cost: int
    times: int  # how many denials; 1 for an admission
    allowed: bool


class _Moments:
    """Times as history writes them, read; most have the second of the one before."""

    def __init__(self) -> None:
        self._text = ""
        self._ns = 0

    def ns(self, text: str) -> int:
        second, _, decimals = text.rstrip("Z").partition(".")
        if second != self._text:
            self._text = second
            moment = datetime.fromisoformat(second + "+00:00")
            self._ns = int(moment.timestamp()) * _SECOND_NS
        return self._ns + int(decimals.ljust(9, "0") if decimals else 0)


def _events(limiter: Limiter, pattern: str, notes: list[str]) -> Iterator[_Event]:
    prefix = pattern[:-1] if pattern.endswith("*") else None
    moments = _Moments()
    first = True
    for items in recorded(limiter, None, None, False, 0, 0):
        if first and items[0][0] > _FIRST_EVENT:
            notes.append(
                f"the history that is kept begins at {items[0][2]}; what came before is not in "
                "these numbers, nor is what it had used up"
            )
        first = False
        kind = TYPES[items[0][1]]
        if kind == "RESET":
            key, is_template = items[0][6], items[0][7] == _TEMPLATE
            yield _Event(key, moments.ns(items[0][2]), 0 if is_template else 1, 0, 0, False)
        if kind not in ("ALLOW", "ALLOW_ALL", "DENY"):
            continue
        seen = set()  # several limits of one key are items of one event
        for _, _, at, first_at, count, cost, key, *_ in items:
            if key in seen or not (key == pattern if prefix is None else key.startswith(prefix)):
                continue
            seen.add(key)
            at_ns = moments.ns(at)
            first_ns = at_ns if first_at == at else moments.ns(first_at)
            yield _Event(key, at_ns, first_ns, cost, count, kind != "DENY")


def _reset(engine: Limiter, event: _Event, seen: Collection[str]) -> None:
    keys = [event.key] if event.first_ns else [key for key in seen if key.startswith(event.key)]
    for key in keys:
        with suppress(NotConfiguredError):  # nothing of it is in use
            engine.reset(key, False)


def _replay(events: Sequence[_Event], rates: tuple[Rate, ...]) -> list[bool | None]:
    """For each decision whether it would have been an admission; None where that cannot be
    known."""
    answers: list[bool | None] = []
    clock = ManualClock(0)
    last_admitted: dict[str, int] = {}
    with closing(Limiter(":memory:", clock=clock)) as engine:
        engine.limit("*", rates)
        most = min(rate.burst or rate.rate for rate in rates)
        for event in events:
            key, at_ns, first_ns, cost, times, _ = event
            clock.set_ns(at_ns)
            if times == 1:
                admitted = cost <= most and engine.allow(key, cost)
                if admitted:
                    last_admitted[key] = at_ns
                answers.append(admitted)
            elif times == 0:
                _reset(engine, event, last_admitted)
            elif (
                cost == times
                and last_admitted.get(key, 0) <= first_ns
                and not engine.peek(key).allowed
            ):
                # Without an admission in between, who came earlier found no more than the last.
                answers.append(False)
            else:
                answers.append(None)
    return answers


def _summary(
    decisions: Sequence[_Event], answers: list[bool | None], buckets: int
) -> dict[str, Any]:
    start = min((event.first_ns for event in decisions), default=0)
    span = max((event.at_ns for event in decisions), default=0) - start + 1
    keys: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    over_time = [[0] * 5 for _ in range(buckets)]
    for event, answer in zip(decisions, answers, strict=True):
        place = 3 + (answer is False) if answer is not None else 2
        for row in (keys[event.key], over_time[(event.at_ns - start) * buckets // span]):
            row[0 if event.allowed else 1] += event.times
            row[place] += event.times
    names = ("was_allowed", "was_denied", "unknown", "allowed", "denied")
    totals = [sum(row[i] for row in keys.values()) for i in range(5)]
    known = totals[3] + totals[4]
    rows = sorted(keys.items(), key=lambda item: (-item[1][4], -item[1][2], item[0]))
    return {
        **dict(zip(names, totals, strict=True)),
        "denied_share": totals[4] / known if known else 0.0,
        "keys": [{"key": key, **dict(zip(names, row, strict=True))} for key, row in rows],
        "buckets": [
            {"at_ns": start + span * i // buckets, **dict(zip(names, row, strict=True))}
            for i, row in enumerate(over_time)
        ],
    }


def _smallest(events: Sequence[_Event], rate: Rate, most_denied: float) -> Rate:
    """The smallest rate of this period and algorithm that denies no larger share."""

    def share(number: int) -> float:
        answers = _replay(events, (Rate(number, rate.per_ns, None, rate.algorithm),))
        decisions = [event for event in events if event.times]
        denied = sum(e.times for e, a in zip(decisions, answers, strict=True) if a is False)
        known = sum(e.times for e, a in zip(decisions, answers, strict=True) if a is not None)
        return denied / known if known else 0.0

    high = 1
    most = sum(event.cost for event in events) or 1
    while high < most and share(high) > most_denied:
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if share(middle) <= most_denied else (middle, high)
    return Rate(high, rate.per_ns, None, rate.algorithm)


def what_if(
    source: Limiter | str | os.PathLike[str],
    pattern: str,
    rates: RateLike,
    *candidates: RateLike,
    target_denied: float | None = None,
    buckets: int = 60,
) -> dict[str, Any]:
    """Replay the history of `pattern`'s keys against other limits, and tell what they would have
    decided.

    `source` is a limiter or a data directory, which is opened for reading only. `pattern` is a key,
    or with a trailing `*` every key that begins so, each with a counter of its own. `rates` and
    each of `candidates` is a limit in words (`flint.rates`), or several that hold together. With
    `target_denied`, a share from 0 to 1, the smallest rate of each one's period and algorithm is
    added that would have denied no larger share.

    Returns a dict: `pattern`, `events`, `notes` (what the history does not hold, in words) and
    `candidates`, one dict for each: `rate` (its text), `was_allowed`, `was_denied`, `allowed`,
    `denied`, `unknown`, `denied_share` (of what is known), `keys` (the same for each key, most
    denied first) and `buckets` (the same for equal parts of the time, with `at_ns`).

    Denials that came faster than they were written were merged, and their single times are gone.
    They count as denied where nothing else is possible, and as `unknown` elsewhere. Times are those
    of the wall clock. Raises UnsupportedError for `":memory:"`, RateError, TypeError, ValueError.
    """
    if not isinstance(pattern, str):
        raise TypeError(refusal("pattern", "a str", pattern))
    if not 1 <= operator.index(buckets) <= MAX_BUCKETS:
        raise ValueError(refusal("buckets", "an integer from 1 to 100,000", buckets))
    if target_denied is not None and not 0 <= target_denied <= 1:
        raise ValueError(refusal("target_denied", "a share from 0 to 1", target_denied))
    if len(candidates) >= _MOST_CANDIDATES:
        raise ValueError(f"at most {_MOST_CANDIDATES} limits are compared at a time")
    named = source._rates if isinstance(source, Limiter) else {}
    tried = [read_rates(one, named) for one in (rates, *candidates)]
    notes: list[str] = []
    if isinstance(source, Limiter):
        if source.data_dir == ":memory:":
            raise UnsupportedError("in memory no history is kept")
        events = list(_events(source, pattern, notes))
    else:
        with closing(Limiter.open_readonly(source)) as limiter:
            events = list(_events(limiter, pattern, notes))
    decisions = [event for event in events if event.times]
    merged = sum(event.times for event in events if event.times > 1)
    if merged:
        notes.append(f"{merged} denials were merged; their single times are not recorded")
    if target_denied is not None:
        tried += [(_smallest(events, one[0], target_denied),) for one in tried if len(one) == 1]
    return {
        "pattern": pattern,
        "events": sum(event.times for event in events),
        "notes": notes,
        "candidates": [
            {"rate": canonical(one), **_summary(decisions, _replay(events, one), buckets)}
            for one in tried
        ],
    }
