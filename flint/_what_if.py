"""What another limit would have decided: the recorded history, replayed."""

from __future__ import annotations

import operator
from array import array
from collections import Counter, defaultdict
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from flint._local.history import recorded
from flint._surface.arguments import refusal
from flint._surface.rate import Rate, canonical, read_rates
from flint.errors import NotConfiguredError, UnsupportedError
from flint.limiter import Limiter
from flint.testing import ManualClock

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from flint._surface.rate import RateLike

_MOST_CANDIDATES = 64
MAX_BUCKETS = 100_000
_FIRST_EVENT = 3  # its number in a log that has its beginning: a CLOCK and a KEY come before it
_PAGE = 1 << 17  # items: each page looks for its beginning in a segment of the log, so few are read
_AT_ONCE = 1 << 14  # rows that are replayed without looking at other threads and at signals

# As flint/_ext/replay.c has them: the columns of a row, its kinds, and the bits of an answer.
_COLUMNS = 8
_ROW_BYTES = 8 * _COLUMNS
_KEY, _KIND, _AT, _FIRST_AT, _COST, _COUNT = 0, 1, 2, 3, 6, 7
_RESET, _RESET_PREFIX = 2, 3
_ALLOWED, _UNKNOWN, _WAS_ALLOWED = 1, 2, 4
_NAMES = ("was_allowed", "was_denied", "unknown", "allowed", "denied")


class _Reset(NamedTuple):
    """Of one key, or of all keys that begin so."""

    key: str
    is_prefix: bool


class _Recorded:
    """What was decided about the keys of a pattern. `keys` are by their numbers; of the decisions
    there are a column of key numbers, of times and of counts. A count is more than 1 for denials
    that were merged, which `merged` lists. `steps` are rows of decisions, with resets between."""

    def __init__(self, limiter: Limiter, pattern: str) -> None:
        self.steps: list[bytes | _Reset] = []
        self._columns = {name: array("q") for name in (_KEY, _AT, _FIRST_AT, _COST, _COUNT)}
        numbers: dict[str, int] = {}
        self.keys: list[str] = []
        cursor = 0
        while True:
            rows, cursor = limiter._decided(pattern, cursor, _PAGE, numbers)
            self.keys += list(numbers)[len(self.keys) :]
            self._add(rows)
            if cursor == 0:
                break
        self.key_column, self.at_column = self._columns[_KEY], self._columns[_AT]
        self.counts = self._columns[_COUNT]
        self.start_ns = min(self._columns[_FIRST_AT], default=0)
        self.span_ns = max(self.at_column, default=0) - self.start_ns + 1
        self.events = sum(self.counts)
        self.cost = sum(self._columns[_COST])
        self.merged = [place for place, count in enumerate(self.counts) if count > 1]

    def _add(self, rows: bytes) -> None:
        """A page of rows. Those of decisions stay together, as far as there is no reset."""
        table = array("q", rows)
        first = 0
        resets = [place for place, kind in enumerate(table[_KIND::_COLUMNS]) if kind >= _RESET]
        for place in (*resets, len(rows) // _ROW_BYTES):
            decisions = rows[first * _ROW_BYTES : place * _ROW_BYTES]
            if decisions:
                self.steps.append(decisions)
                part = table[first * _COLUMNS : place * _COLUMNS]
                for name, column in self._columns.items():
                    column += part[name::_COLUMNS]
            first = place + 1
            if place < len(rows) // _ROW_BYTES:
                key, kind = table[place * _COLUMNS : place * _COLUMNS + 2]
                self.steps.append(_Reset(self.keys[key], kind == _RESET_PREFIX))

    def replay(self, rates: tuple[Rate, ...]) -> bytes:
        """What these would have answered, a byte for each decision."""
        clock = ManualClock(0)
        last_admitted = array("q", [-1]) * len(self.keys)
        most = min(rate.burst or rate.rate for rate in rates)
        answers = bytearray()
        with closing(Limiter(":memory:", clock=clock)) as engine:
            engine.limit("*", rates)
            for step in self.steps:
                if isinstance(step, _Reset):
                    self._reset(engine, step, last_admitted)
                    continue
                for first in range(0, len(step), _AT_ONCE * _ROW_BYTES):
                    rows = step[first : first + _AT_ONCE * _ROW_BYTES]
                    answers += engine._replay(clock, self.keys, rows, last_admitted, most)
        return bytes(answers)

    def _reset(self, engine: Limiter, what: _Reset, last_admitted: Sequence[int]) -> None:
        keys = [what.key]
        if what.is_prefix:
            used = zip(self.keys, last_admitted, strict=True)
            keys = [key for key, at in used if at >= 0 and key.startswith(what.key)]
        for key in keys:
            with suppress(NotConfiguredError):  # nothing of it is in use
                engine.reset(key, False)

    def places(self, buckets: int) -> list[int]:
        """For each decision the part of the time that it is in."""
        start, span = self.start_ns, self.span_ns
        return [(at - start) * buckets // span for at in self.at_column]

    def counted(self, groups: Sequence[int], answers: bytes) -> Mapping[int, list[int]]:
        """For each group of decisions how many are of what `_NAMES` says."""
        found = Counter(zip(groups, answers, strict=True))
        for place in self.merged:
            found[groups[place], answers[place]] += self.counts[place] - 1
        rows: dict[int, list[int]] = defaultdict(lambda: [0] * len(_NAMES))
        for (group, answer), count in found.items():
            rows[group][0 if answer & _WAS_ALLOWED else 1] += count
            rows[group][2 if answer & _UNKNOWN else 3 if answer & _ALLOWED else 4] += count
        return rows


def _summary(
    recorded: _Recorded, answers: bytes, places: Sequence[int], buckets: int
) -> dict[str, Any]:
    by_key = recorded.counted(recorded.key_column, answers)
    over_time = recorded.counted(places, answers)
    totals = [sum(row[i] for row in by_key.values()) for i in range(len(_NAMES))]
    known = totals[3] + totals[4]
    named = ((recorded.keys[number], row) for number, row in by_key.items())
    rows = sorted(named, key=lambda item: (-item[1][4], -item[1][2], item[0]))
    nothing = [0] * len(_NAMES)
    return {
        **dict(zip(_NAMES, totals, strict=True)),
        "denied_share": totals[4] / known if known else 0.0,
        "keys": [{"key": key, **dict(zip(_NAMES, row, strict=True))} for key, row in rows],
        "buckets": [
            {
                "at_ns": recorded.start_ns + recorded.span_ns * i // buckets,
                **dict(zip(_NAMES, over_time.get(i, nothing), strict=True)),
            }
            for i in range(buckets)
        ],
    }


def _smallest(recorded: _Recorded, rate: Rate, most_denied: float) -> Rate:
    """The smallest rate of this period and algorithm that denies no larger share."""
    together = bytes(len(recorded.counts))  # one group

    def share(number: int) -> float:
        answers = recorded.replay((Rate(number, rate.per_ns, None, rate.algorithm),))
        *_, allowed, denied = recorded.counted(together, answers)[0]
        return denied / (allowed + denied) if allowed + denied else 0.0

    high = 1
    most = recorded.cost or 1
    while high < most and share(high) > most_denied:
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if share(middle) <= most_denied else (middle, high)
    return Rate(high, rate.per_ns, None, rate.algorithm)


def _begins_later(limiter: Limiter) -> list[str]:
    """A note, if the history that is kept has no beginning."""
    first = next(recorded(limiter, None, None, False, 0, 0), None)
    if first is None or first[0][0] <= _FIRST_EVENT:
        return []
    return [
        f"the history that is kept begins at {first[0][2]}; what came before is not in these "
        "numbers, nor is what it had used up"
    ]


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
    They count as denied where nothing else is possible, and as `unknown` elsewhere. The limits see
    the times by which was decided, whatever the wall clock did meanwhile; `at_ns` is the wall
    clock's. Raises UnsupportedError for `":memory:"`, RateError, TypeError, ValueError.
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
    if isinstance(source, Limiter):
        if source.data_dir == ":memory:":
            raise UnsupportedError("in memory no history is kept")
        notes, found = _begins_later(source), _Recorded(source, pattern)
    else:
        with closing(Limiter.open_readonly(source)) as limiter:
            notes, found = _begins_later(limiter), _Recorded(limiter, pattern)
    if found.merged:
        merged = sum(found.counts[place] for place in found.merged)
        notes.append(f"{merged} denials were merged; their single times are not recorded")
    if target_denied is not None:
        singles = [one[0] for one in tried if len(one) == 1]
        tried += [(_smallest(found, one, target_denied),) for one in singles]
        tried = list(dict.fromkeys(tried))
    places = found.places(buckets)
    return {
        "pattern": pattern,
        "events": found.events,
        "notes": notes,
        "candidates": [
            {"rate": canonical(one), **_summary(found, found.replay(one), places, buckets)}
            for one in tried
        ],
    }
