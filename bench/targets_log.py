"""What costs more the more events a log holds: Flint and Flint 0.2.1 as sides."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from loops import Loop, Target
from targets_flint import PER, RATE, TEMPLATE_RATE, Flint, drawn, made_keys, version

import flint

KEYS = [f"user:{number}" for number in range(1000)]
BEFORE = "flint before"


def is_ours() -> bool:
    return hasattr(flint.Limiter, "info")


def named(before: bool = False) -> dict[str, str]:
    ours = BEFORE if before else "flint"
    return {ours if is_ours() else "flint-limiter 0.2.1": version()}


def shut(limiter: Any) -> None:
    """Flint 0.2.1 has no close; it unlocks when the last reference goes."""
    limiter.flush()
    if is_ours():
        limiter.close()


def write_events(limiter: Any, events: int, keys: Sequence[str] = KEYS) -> None:
    if keys is KEYS:
        for key in keys:
            limiter.limit(key, rate=RATE, per=PER)
    else:
        limiter.limit("user:*", rate=TEMPLATE_RATE, per=PER)
    for number in range(events):
        limiter.allow(keys[number % len(keys)])


class Reopen(Target):
    """Opens a log of so many events, written in batch mode. Flint has compacted it as it went, so
    that most events are in the snapshot; with `replay` all of them are read from the log, since
    the snapshot is gone and kept history stands for it. Each round has a copy of its own. Keys are
    1,000 with limits of their own, or `keys` under a template. `before` is an earlier Flint."""

    def __init__(
        self,
        directory: str,
        events: int,
        replay: bool = False,
        keys: int | None = None,
        before: bool = False,
    ) -> None:
        super().__init__()
        self.versions = named(before)
        self.events = events
        self.replay = replay
        self.written = Path(directory, "written")
        self.copy = Path(directory, "copy")
        limiter = flint.Limiter(str(self.written), sync="batch")
        write_events(limiter, events, KEYS if keys is None else made_keys(keys))
        shut(limiter)
        del limiter

    def run(self, calls: int) -> dict[str, Any]:  # noqa: ARG002
        shutil.copytree(self.written, self.copy)
        if self.replay and is_ours():
            (self.copy / "flint.snapshot").unlink(missing_ok=True)
        limiter, ns = self.timed()
        if self.replay and is_ours() and limiter.info()["recovered_records"] < self.events:
            raise RuntimeError("the log does not reach back to the first event")
        shut(limiter)
        del limiter
        shutil.rmtree(self.copy)
        return {
            "ns": ns,
            "calls": 1,
            "allowed": self.events,
            "denied": 0,
            "unsynced": 0,
        }

    def timed(self) -> tuple[Any, int]:
        """The limiter, and how long what is measured took."""
        started = time.perf_counter_ns()
        limiter = flint.Limiter(str(self.copy), sync="batch")
        return limiter, time.perf_counter_ns() - started


class Compact(Reopen):
    """Compacts such a log, all events of it. Flint begins that when it opens the log, so opening
    counts for it as well, and so does the compaction that follows because it was asked for."""

    def __init__(self, directory: str, events: int, **options: Any) -> None:
        super().__init__(directory, events, replay=True, **options)

    def timed(self) -> tuple[Any, int]:
        limiter, opening_ns = super().timed()
        started = time.perf_counter_ns()
        limiter.compact()
        ns = time.perf_counter_ns() - started
        return limiter, opening_ns + ns if is_ours() else ns


class WhatIf(Target):
    """Replays a history of so many decisions, 50 a second about 1,000 keys, against one limit."""

    def __init__(self, directory: str, events: int) -> None:
        from flint.testing import ManualClock  # which Flint 0.2.1 has not

        super().__init__()
        self.versions = named()
        self.directory = directory
        clock = ManualClock(1_700_000_000)
        kept: dict[str, Any] = {"history_max_bytes": 1 << 30}
        with flint.Limiter(directory, sync="batch", clock=clock, **kept) as limiter:
            limiter.limit("user:*", rate=100, per="1h")
            for number in range(events):
                clock.advance_ns(20_000_000)
                limiter.allow(KEYS[number % len(KEYS)])

    def run(self, calls: int) -> dict[str, Any]:  # noqa: ARG002
        started = time.perf_counter_ns()
        answer = flint.what_if(self.directory, "user:*", "50/hour")
        ns = time.perf_counter_ns() - started
        found = answer["candidates"][0]
        return {
            "ns": ns,
            "calls": 1,
            "allowed": found["allowed"],
            "denied": found["denied"],
            "unsynced": None,
        }


class Limits(Target):
    """Configures so many new limits in always mode, in a new directory each time."""

    def __init__(self, directory: str, many: bool) -> None:
        super().__init__()
        self.versions = named()
        self.directory = Path(directory, "data")
        self.many = many

    def run(self, calls: int) -> dict[str, Any]:
        limiter: Any = flint.Limiter(str(self.directory), sync="always")
        keys = [f"user:{number}" for number in range(calls)]
        limits = [(key, 100, "1m") for key in keys]
        started = time.perf_counter_ns()
        if self.many:
            limiter.limit_many(limits)
        else:
            for key in keys:
                limiter.limit(key, rate=100, per="1m")
        ns = time.perf_counter_ns() - started
        shut(limiter)
        del limiter
        shutil.rmtree(self.directory)
        return {"ns": ns, "calls": calls, "allowed": 0, "denied": 0, "unsynced": 0}


class AllowAll(Flint):
    """`allow_all` of three keys, or `allow` of one, in batch mode after so many events; with
    `fresh` after no more than these, in a new directory for each round."""

    def __init__(self, directory: str, events: int, together: bool, fresh: bool = False) -> None:
        self.directory = Path(directory)
        self.events, self.together, self.fresh = events, together, fresh
        self.number = 0
        self.open()

    def open(self) -> None:
        self.number += 1
        super().__init__(str(self.directory / str(self.number)))
        write_events(self.limiter, self.events)
        self.limiter.flush()
        if self.together:
            Loop.__init__(self, self.limiter.allow_all, [KEYS[:3]])
        else:
            Loop.__init__(self, self.limiter.allow, KEYS[:1])
        self.versions = named()

    def run(self, calls: int) -> dict[str, Any]:
        if self.fresh:
            self.close()
            self.open()
        return super().run(calls)


class ManyKeys(Target):
    """Checks of so many keys of 16 bytes under one template, drawn uniformly, and the bytes of the
    log that they are."""

    def __init__(self, directory: str, keys: int) -> None:
        super().__init__()
        self.versions = named()
        self.names = drawn(made_keys(keys))
        self.limiter = flint.Limiter(directory, sync="batch")
        self.limiter.limit("user:*", rate=RATE, per=PER)

    def run(self, calls: int) -> dict[str, Any]:
        before = self.limiter.info()["appended"]
        started = time.perf_counter_ns()
        allowed = sum(self.limiter.allow(name) for name in islice(cycle(self.names), calls))
        ns = time.perf_counter_ns() - started
        self.limiter.flush()
        return {
            "ns": ns,
            "calls": calls,
            "allowed": allowed,
            "denied": calls - allowed,
            "unsynced": 0,
            "bytes": self.limiter.info()["appended"] - before,
        }
