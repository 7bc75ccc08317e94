"""Following a log: what it has got since the look before."""

from __future__ import annotations

import math
import operator
import random
import time
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, cast

from flint._local import history
from flint._surface.arguments import duration_ns, moment_ns, refusal
from flint._surface.recorded import TYPES, event_dict
from flint.errors import HistoryGoneError

if TYPE_CHECKING:
    from typing import SupportsIndex

    from flint._local.place import LocalPlace
    from flint._surface.arguments import Duration, Moment
    from flint._surface.types import HistoryItemDict

DECISIONS = frozenset(
    number for number, name in TYPES.items() if name in ("ALLOW", "ALLOW_ALL", "DENY")
)
# A look at the log reads its last segment again, so looks take this part of the time at most.
_BUSY = 1 / 10


class EventDict(TypedDict):
    """A decision, in the shape that `Limiter.history` gives it; or `SKIPPED`, which says that
    `count` records of the log have been passed over."""

    type: Literal["ALLOW", "ALLOW_ALL", "DENY", "SKIPPED"]
    key: NotRequired[str]
    name: NotRequired[str]
    at: NotRequired[str]
    cost: NotRequired[int]
    count: NotRequired[int]
    first_at: NotRequired[str]
    items: NotRequired[list[HistoryItemDict]]


class _Sample:
    """Each decision is taken with the same probability, whatever happens to the others."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._ahead = self._gap()  # decisions to leave before the next that is taken

    def _gap(self) -> int:
        if self._share == 1:
            return 0
        return int(math.log(1 - random.random()) / math.log1p(-self._share))

    def of(self, count: int) -> int:
        """How many of the next `count` decisions are taken."""
        if self._share == 1:
            return count
        taken = 0
        while self._ahead < count:
            count -= self._ahead + 1
            taken += 1
            self._ahead = self._gap()
        self._ahead -= count
        return taken


class Reader:
    """What the log has got since the look before, page by page."""

    def __init__(
        self,
        sample: float,
        since: Moment | None,
        max_waiting: SupportsIndex,
        every: Duration,
    ) -> None:
        self._sample = _Sample(_share(sample))
        self._since_ns = moment_ns("since", since)
        self._most_behind = count_of("max_waiting", max_waiting)
        self._every_s = duration_ns("every", every) / 1e9
        # What was there before the stream is waited for, however much it is.
        self._is_live = since is None
        self._gone_from = 0  # the cursor behind which the log has dropped what came next
        self.skipped = 0
        self.pause_s = 0.0  # until the next look

    def begin(self, limiter: LocalPlace, closes: bool) -> None:
        """Follow this one's log, and close it in the end if asked to."""
        info = limiter.info()
        self._limiter = limiter
        self._closes = closes
        self._is_read_only = bool(info["read_only"])
        self._cursor = info["sequence"] + 1 if self._is_live else 0

    def close(self) -> None:
        if self._closes:
            self._limiter.close()

    def look(self) -> list[EventDict]:
        """The next events, none where there are none yet; then `pause_s` is to be waited."""
        begun_s = time.monotonic()
        found: list[EventDict] = []
        if self._is_read_only:
            self._limiter.refresh()
        newest = self._limiter.info()["sequence"]
        if newest + 1 < self._cursor:  # a crash has cut off what was read
            self._cursor = newest + 1
        behind = newest + 1 - self._cursor
        if self._is_live and behind > self._most_behind:
            self._cursor += behind - self._most_behind
            found.append(self._skip(behind - self._most_behind))
        page = self._page() if newest + 1 > self._cursor else []
        first = 0
        while first < len(page):
            items = page[first : first + page[first][13]]
            first += len(items)
            if self._gone_from:
                found.append(self._skip(max(items[0][0] - self._gone_from, 1)))
                self._gone_from = 0
            event = self._event(items)
            if event is not None:
                found.append(event)
        took_s = time.monotonic() - begun_s
        has_more = bool(page) and self._cursor <= newest
        self._is_live = self._is_live or not has_more
        self.pause_s = 0.0 if has_more else max(self._every_s, took_s / _BUSY)
        return found

    def _page(self) -> list[tuple[Any, ...]]:
        while True:
            try:
                page, self._cursor = self._limiter._history(
                    None, None, False, self._since_ns, 0, self._cursor, history._PAGE
                )
                return page
            except HistoryGoneError:
                self._gone_from, self._cursor = self._cursor, 0

    def _event(self, items: list[tuple[Any, ...]]) -> EventDict | None:
        if items[0][1] not in DECISIONS:
            return None
        count: int = items[0][4]
        taken = self._sample.of(count)
        if not taken:
            return None
        found = event_dict(items)
        if taken < count:  # of denials that were merged
            found["cost"] = found["cost"] * taken // count
            found["count"] = taken
        return cast("EventDict", found)

    def _skip(self, count: int) -> EventDict:
        self.skipped += count
        return {"type": "SKIPPED", "count": count}


def _share(sample: object) -> float:
    words = "a number above 0, and 1 at most"
    if isinstance(sample, bool) or not isinstance(sample, (int, float)):
        raise TypeError(refusal("sample", words, sample))
    if not 0 < sample <= 1:
        raise ValueError(refusal("sample", words, sample))
    return float(sample)


def count_of(name: str, value: object) -> int:
    words = "an integer from 1 to 2**62"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(refusal(name, words, value))
    number = operator.index(cast("SupportsIndex", value))
    if not 1 <= number <= 2**62:
        raise ValueError(refusal(name, words, value))
    return number
