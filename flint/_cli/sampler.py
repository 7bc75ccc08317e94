"""What `top --watch` shows: rates per second, from the totals of one look to the next. It follows a
directory as a reader does, and needs nothing from the program that writes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from flint._cli.failure import CommandError
from flint._cli.log import newest_write_s
from flint.limiter import Limiter

if TYPE_CHECKING:
    from flint._cli.opening import Opened
    from flint._surface.types import StatusDict

# By each of the two totals; a directory may hold a million keys, and nobody reads so many rows.
MOST_KEYS = 1000
REMEMBERED = 60  # looks, for the sparklines
_SPARKS = "▁▂▃▄▅▆▇█"


@dataclass
class Row:
    """A key: its totals, the rates since the look before, and those of earlier looks."""

    key: str
    name: str | None
    total_allowed: int
    total_denied: int
    remaining: int
    burst: int
    allowed_per_s: float = 0.0
    denied_per_s: float = 0.0
    earlier: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def shown_key(self) -> str:
        return self.key if self.name is None else f"{self.key}  {self.name}"


class Storage(NamedTuple):
    """The state of the files."""

    log_bytes: int
    segments: int
    records: int
    unsynced: int  # records that the ring alone holds, as far as a reader sees
    written_s_ago: float | None  # None where the files are a server's


class Look(NamedTuple):
    """All that one look has found."""

    rows: list[Row]
    allowed_per_s: float
    denied_per_s: float
    storage: Storage


class Sampler:
    """Looks at a limiter again and again."""

    def __init__(self, limiter: Opened) -> None:
        self._limiter = limiter
        self._rows: dict[tuple[str, str | None], Row] = {}
        self._complete = False  # whether all keys were seen by the look before
        self._at_s: float | None = None
        self._totals = (0, 0)

    def look(self, now_s: float) -> Look:
        """`now_s` is any clock that only goes forward."""
        if isinstance(self._limiter, Limiter):  # a server shows what is
            self._limiter.refresh()
        passed_s = None if self._at_s is None else max(now_s - self._at_s, 1e-9)
        self._at_s = now_s
        found = self._keys()
        rows = [self._row(one, passed_s) for one in found.values()]
        self._rows = {(row.key, row.name): row for row in rows}
        self._complete = len(found) < MOST_KEYS  # otherwise either list may have been cut
        allowed, denied = self._overall(passed_s)
        return Look(rows, allowed, denied, self._storage())

    def _keys(self) -> dict[tuple[str, str | None], StatusDict]:
        denied = self._limiter.top("denied", MOST_KEYS)
        allowed = self._limiter.top("allowed", MOST_KEYS)
        return {(one["key"], one["name"]): one for one in (*denied, *allowed)}

    def _row(self, now: StatusDict, passed_s: float | None) -> Row:
        row = Row(
            now["key"],
            now["name"],
            now["total_allowed"],
            now["total_denied"],
            now["remaining"],
            now["burst"],
        )
        before = self._rows.get((row.key, row.name))
        if before is not None:
            row.earlier = before.earlier
        if passed_s is not None and (before is not None or self._complete):
            allowed, denied = (before.total_allowed, before.total_denied) if before else (0, 0)
            row.allowed_per_s = rate(row.total_allowed, allowed, passed_s)
            row.denied_per_s = rate(row.total_denied, denied, passed_s)
            row.earlier.append(row.allowed_per_s + row.denied_per_s)
        return row

    def _overall(self, passed_s: float | None) -> tuple[float, float]:
        """Of all limits: what a template's keys have used is in the totals of the template."""
        limits = self._limiter.list()
        totals = (
            sum(one["total_allowed"] for one in limits),
            sum(one["total_denied"] for one in limits),
        )
        before, self._totals = self._totals, totals
        if passed_s is None:
            return 0.0, 0.0
        return rate(totals[0], before[0], passed_s), rate(totals[1], before[1], passed_s)

    def _storage(self) -> Storage:
        info: dict[str, Any] = dict(self._limiter.info())
        if "log_bytes" not in info:
            raise CommandError("limits in a database have no log to watch; leave --watch out")
        written_at_s = newest_write_s(self._limiter)
        return Storage(
            info["log_bytes"],
            info["segments"],
            info["sequence"],
            info["recovered_ring_records"],
            None if written_at_s is None else max(time.time() - written_at_s, 0),
        )


def rate(now: int, before: int, passed_s: float) -> float:
    """Per second; 0 when the key was forgotten meanwhile and its total has begun anew."""
    return max(now - before, 0) / passed_s


def sparkline(values: list[float], cells: int, most: float | None = None) -> str:
    """The last values as bars; the highest of them, or `most`, is a full one."""
    last = values[-cells:]
    most = max(last, default=0) if most is None else most
    if not most:
        return _SPARKS[0] * len(last)
    return "".join(_SPARKS[min(int(one / most * 8), 7)] for one in last)
