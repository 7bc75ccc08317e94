"""Decisions as they are recorded, and their totals.

    import flint.events

    for event in flint.events.stream("data/limits"):
        print(event["type"], event.get("key"))

What is told is read from the log, where every decision is written anyway, so that a check does not
wait for whoever listens. `stream` is for threads, `astream` for event loops. `totals` counts what
is recorded by key, by route, or by what a function makes of a key; `Totals` does so with events as
they come.

>>> totals = Totals(by=lambda key: key.partition(":")[0])
>>> totals.add({"type": "ALLOW", "key": "user:ann", "at": "2026-01-31T12:00:00Z", "cost": 1})
>>> totals.add({"type": "DENY", "key": "user:bob", "at": "2026-01-31T12:00:01Z", "cost": 1})
>>> [(one["name"], one["allowed"], one["denied"]) for one in totals.top()]
[('user', 1, 1)]
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from flint._local import history
from flint._local.follow import DECISIONS, EventDict, Reader, count_of
from flint._surface.arguments import moment_ns, refusal
from flint._surface.recorded import event_dict
from flint._web.keys import route_of
from flint.errors import ClosedError, UnsupportedError
from flint.limiter import Limiter

if TYPE_CHECKING:
    import os
    from asyncio import Future
    from collections.abc import Callable, Iterator
    from typing import Self, SupportsIndex, TypeAlias

    from flint._surface.arguments import Duration, Moment

    Where: TypeAlias = Limiter | str | os.PathLike[str]
    By: TypeAlias = Literal["key", "route"] | Callable[[str], str]

__all__ = [
    "AsyncStream",
    "EventDict",
    "Stream",
    "TotalDict",
    "Totals",
    "astream",
    "stream",
    "totals",
]

OTHER = "other"


# ---- Streams -----------------------------------------------------------------------------------


class Stream:
    """What `stream` returns: an iterator that waits for the next event, for one thread at a time.
    `skipped` is the number of records that have been passed over so far."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._events: Iterator[EventDict] = iter(())
        self._closed = threading.Event()

    @property
    def skipped(self) -> int:
        return self._reader.skipped

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EventDict:
        while not self._closed.is_set():
            for event in self._events:
                return event
            if self._closed.wait(self._reader.pause_s):
                break
            try:
                self._events = iter(self._reader.look())
            except ClosedError:
                break
        raise StopIteration

    def close(self) -> None:
        """End the stream, also for a thread that waits in it. Any thread."""
        self._closed.set()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream:
    """What `astream` returns: an asynchronous iterator, for one task at a time. `skipped` is the
    number of records that have been passed over so far."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._events: Iterator[EventDict] = iter(())
        self._looking: Future[list[EventDict]] | None = None

    @property
    def skipped(self) -> int:
        return self._reader.skipped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventDict:
        import asyncio

        from flint._surface.loop import in_thread

        while True:
            for event in self._events:
                return event
            if self._looking is None:
                await asyncio.sleep(self._reader.pause_s)
                self._looking = asyncio.ensure_future(in_thread(self._reader.look))
            # Who stops waiting finds at the next call what the look has found.
            await asyncio.wait([self._looking])
            looked, self._looking = self._looking, None
            try:
                self._events = iter(looked.result())
            except ClosedError:
                raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End the stream; a task that waits in it is to be cancelled first."""
        from flint._surface.loop import in_thread

        await in_thread(self._reader.close)
        if self._looking is not None:
            with contextlib.suppress(ClosedError):
                await self._looking

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _opened(where: Where) -> Limiter:
    """The limiter, or the directory opened for reading."""
    if isinstance(where, str) or hasattr(where, "__fspath__"):
        return Limiter.open_readonly(cast("str", where))
    if not hasattr(where, "_history"):
        raise UnsupportedError(f"events are read from the log of a flint.Limiter, not of {where!r}")
    where._history(None, None, False, 0, 0, 0, 1024)  # raises where there is no log
    return where


def _following(where: Where, reader: Reader) -> Reader:
    limiter = _opened(where)
    reader.begin(limiter, closes=limiter is not where)
    return reader


def stream(
    limiter: Where,
    *,
    sample: float = 1,
    since: Moment | None = None,
    max_waiting: SupportsIndex = 100_000,
    every: Duration = 0.25,
) -> Stream:
    """Every decision as it is recorded: an iterator that waits for the next one.

    `limiter` is a `flint.Limiter`, also one opened for reading, or a data directory, which another
    process may be writing; that is opened for reading here and closed with the stream. An event is
    a dict as `Limiter.history` returns it, of type ALLOW, ALLOW_ALL or DENY. A DENY may stand for
    `count` denials that came faster than they were written.

    Told is what comes from now on, or since `since` (as for `history`). `sample` is the share of
    decisions that is told, each with the same probability: above 0, 1 at most. The log is looked at
    `every` so often (a length of time as for `limit`), and less often where a look takes long, so
    that looks take no more than about a tenth of the time. A decision is told when it has reached
    the log's files: after `flush_every_ms` at the latest, and after the next look.

    Who takes events more slowly than they come falls behind in the log, and nothing is kept in
    memory. One that is more than `max_waiting` records behind, or whose next ones the log does not
    keep any more (`history_max_bytes`), is taken forward; an event of type SKIPPED says how many
    records were passed over (`count`). Most records are a decision, some tell of a key or a clock.

    The stream ends when the limiter is closed. Raises TypeError or ValueError for an argument,
    UnsupportedError where there is no log (`":memory:"`, limiters elsewhere), and what opening or
    reading the directory raises.
    """
    return Stream(_following(limiter, Reader(sample, since, max_waiting, every)))


def astream(
    limiter: Where,
    *,
    sample: float = 1,
    since: Moment | None = None,
    max_waiting: SupportsIndex = 100_000,
    every: Duration = 0.25,
) -> AsyncStream:
    """`stream` for event loops, `async for event in astream(limiter)`: the log is read in a thread
    of the loop. A directory is opened here and now."""
    return AsyncStream(_following(limiter, Reader(sample, since, max_waiting, every)))


# ---- Totals ------------------------------------------------------------------------------------


class TotalDict(TypedDict):
    """How often was decided under one name, for how many units, and when last (RFC 3339).
    `denied_share` is the part of the decisions that were denials, 0 to 1."""

    name: str
    allowed: int
    denied: int
    allowed_cost: int
    denied_cost: int
    denied_share: float
    last_at: str


class Totals:
    """Counts events by `by`: "key"; "route", the route that a web framework's limit counted, and
    for other keys what stands before the first colon; or a function that is given a key and returns
    a name. At most twice `most` names are kept. Then the half that has been seen least goes into
    the total named "other", and begins anew when it is seen again. One thread at a time."""

    def __init__(self, by: By = "key", most: SupportsIndex = 1000) -> None:
        if not callable(by) and by not in ("key", "route"):
            raise ValueError(refusal("by", '"key", "route" or a callable', by))
        named: dict[str, Callable[[str], str]] = {"key": str, "route": route_of}
        self._name_of = by if callable(by) else named[by]
        self._most = count_of("most", most)
        self._totals: dict[str, _Total] = {}
        self._other = _Total()
        self.skipped = 0

    def add(self, event: EventDict) -> None:
        """Count an event of a stream, or of `history`; what is no decision counts nothing."""
        kind = event["type"]
        if kind == "SKIPPED":
            self.skipped += event["count"]
        if kind not in ("ALLOW", "ALLOW_ALL", "DENY"):
            return
        costs: dict[str, dict[str, int]] = {}  # by name, then by key: of one check
        if kind == "ALLOW_ALL":
            for item in event["items"]:
                costs.setdefault(self._name_of(item["key"]), {})[item["key"]] = item["cost"]
        else:
            costs[self._name_of(event["key"])] = {event["key"]: event["cost"]}
        for name, of_keys in costs.items():
            total = self._totals.get(name)
            if total is None:
                total = self._new(name)
            total.add(kind != "DENY", event.get("count", 1), sum(of_keys.values()), event["at"])

    def _new(self, name: str) -> _Total:
        if len(self._totals) >= 2 * self._most:
            ordered = sorted(self._totals.items(), key=lambda one: -one[1].decisions)
            self._totals = dict(ordered[: self._most])
            for _, total in ordered[self._most :]:
                self._other.merge(total)
        total = self._totals[name] = _Total()
        return total

    def top(self, limit: SupportsIndex | None = None) -> list[TotalDict]:
        """The totals, most decisions first: `limit` of them, by default `most`, and in "other" what
        all others have together."""
        most = self._most if limit is None else count_of("limit", limit)
        ordered = sorted(self._totals.items(), key=lambda one: (-one[1].decisions, one[0]))
        other = _Total()
        for total in (self._other, *(total for _, total in ordered[most:])):
            other.merge(total)
        shown = [*ordered[:most], (OTHER, other)] if other.decisions else ordered
        return [total.shown(name) for name, total in shown]


class _Total:
    __slots__ = ("allowed", "allowed_cost", "denied", "denied_cost", "last_at")

    def __init__(self) -> None:
        self.allowed = self.denied = self.allowed_cost = self.denied_cost = 0
        self.last_at = ""

    @property
    def decisions(self) -> int:
        return self.allowed + self.denied

    def add(self, allowed: bool, count: int, cost: int, at: str) -> None:
        if allowed:
            self.allowed += count
            self.allowed_cost += cost
        else:
            self.denied += count
            self.denied_cost += cost
        self.last_at = max(self.last_at, at)

    def merge(self, other: _Total) -> None:
        self.add(True, other.allowed, other.allowed_cost, other.last_at)
        self.add(False, other.denied, other.denied_cost, other.last_at)

    def shown(self, name: str) -> TotalDict:
        return {
            "name": name,
            "allowed": self.allowed,
            "denied": self.denied,
            "allowed_cost": self.allowed_cost,
            "denied_cost": self.denied_cost,
            "denied_share": round(self.denied / self.decisions, 4),
            "last_at": self.last_at,
        }


def totals(
    limiter: Where,
    *,
    since: Moment | None = None,
    by: By = "key",
    most: SupportsIndex = 1000,
) -> list[TotalDict]:
    """Totals of what the log has kept, or has got since `since` (as for `history`), as
    `Totals(by, most)` counts them: most decisions first, at most `most` of them and "other".
    `limiter` is as for `stream`. Takes time in proportion to the log's files."""
    counted = Totals(by, most)
    since_ns = moment_ns("since", since)
    found = _opened(limiter)
    try:
        for items in history.recorded(found, None, None, False, since_ns, 0):
            if items[0][1] in DECISIONS:
                counted.add(cast("EventDict", event_dict(items)))
    finally:
        if found is not limiter:
            found.close()
    return counted.top()
