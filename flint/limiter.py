"""`Limiter`: a data directory, opened. What is called often is inherited from the extension."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from flint._local.doctor import doctor, failing_compactions
from flint._local.options import (
    MEMORY,
    MOST_FLUSH_EVENTS,
    MOST_FLUSH_MS,
    Options,
    absolute_path,
    flush_bound,
    group_plus_1,
    manual,
    optional_ns,
)
from flint._local.place import LocalPlace
from flint._local.shared_lines import SharedLines
from flint._surface.declared import Declaration
from flint._surface.findings import WORLD_WRITABLE
from flint._surface.surface import Surface
from flint.errors import FlintWarning, UnsupportedError

if TYPE_CHECKING:
    import os
    from datetime import datetime
    from typing import Self, SupportsIndex, TextIO

    from flint._native import Clock
    from flint._surface.arguments import Duration, Seconds
    from flint._surface.types import (
        Algorithm,
        DoctorDict,
        HistoryDict,
        Mapped,
        OnError,
        Sync,
        SystemClock,
        WhenFull,
    )

__all__ = ["Limiter", "doctor"]

_CONVERSION_WARNINGS = {
    1: "a limit or cost was beyond today's bounds and is now at the bound",
    2: "its log was shorter than its snapshot said, so the log was replayed from its start",
    4: "the last line of its log was unfinished and has been left out",
    16: "limits of keys that are empty or longer than 65,535 bytes have been left out; they stay "
    "in flint.aof.v0 and flint.snapshot.v0",
}

_DAMAGED_HISTORY = (
    "history in {path!r} is damaged and will be incomplete; the limits themselves are not "
    "affected. flint.doctor({path!r}) tells where"
)
# Whether this process has been told of checks that carry different limits.
_told_of_values = False


class Limiter(LocalPlace, Surface):
    """Rate limits that survive the process, kept in a directory that one Limiter at a time owns.

    >>> with Limiter(":memory:") as limiter:
    ...     limiter.limit("login:*", rate=5, per="1m")
    ...     [limiter.allow("login:alice") for _ in range(6)]
    [True, True, True, True, True, False]

    `data_dir` (a str or path-like, never bytes) is created, readable by its owner alone, with its
    parents; `":memory:"` keeps everything in memory. `sync` says when an admission is answered:
    `"always"` when it is on disk, `"batch"` when it survives the death of the process; a sync then
    starts after `flush_every_events` (1 to 2**32) records or `flush_every_ms` (1 to 3,600,000; with
    `"always"` others are brought into these ranges).
    `max_unsynced_events` makes admissions wait while so many records are not on disk: no more
    admissions than that can be lost with the power. `sync_denials` makes denials wait for the disk
    too, with `"always"`. `segment_bytes` (256 KiB to 1 GiB) and `ring_bytes` (256 KiB to 64 MiB, a
    power of two) size the files of the log.

    `on_error` is what a check answers that cannot be decided because the disk is full or failing,
    the table of keys full or memory short: `"raise"`, or `"allow"` or `"deny"`, which count nothing
    and are themselves counted, `info()["undecided"]`. `max_keys` bounds how many keys under
    templates and inline limits are remembered at a time. Keys with nothing in use go first; when
    there are none, a new key is refused (`when_full="refuse"`: TableFullError, or what `on_error`
    says) or takes the place of one that is nearly full again (`"evict"`), which is recorded as its
    removal and counted, `info()["evicted"]`.

    `max_replay_bytes` (1 MiB to 2^62, 1 GiB by default, at least four segments) bounds how much of
    the log an opening has to replay. With that much behind the last compaction, admissions and
    changes wait for the next one, and fail with what it met when there can be none; denials go on.

    `history_max_bytes` (256 MiB by default) and `history_max_age` bound what is kept for `history`
    behind the last compaction, in at most 256 files more than full segments would take; 0 bytes
    keep none. `max_downtime` is the most time that passes for the limits while the directory is not
    open: a wall clock that is wrong after a restart can give back no more than that. Lengths of
    time are as for `limit`'s `per`.

    The log's ring is a mapped file. Should that file be cut short or its disk fail, a guard against
    SIGBUS stops the limiter (PoisonedError) and not the program; `mapped="never"` installs no
    handler and writes by system calls, which is slower. A handler for SIGBUS that is installed
    later, as `faulthandler.enable()` does, takes the guard's place: call it before opening. Where
    it came later, `info()["warnings"]` has the bit 8.

    `lock_timeout` is how long to wait for a directory that another limiter has open (by default
    not at all). Files are for their user alone; `file_mode` (such as 0o660) and `group`, a name or
    an id, are given to every file that is made, whatever the umask, and a directory that is made
    may be entered by whoever may read its files. `clock`, a `flint.testing.ManualClock`,
    replaces the system's clocks in tests; with `"system"` each check asks the system for the time,
    where it otherwise reads the processor's counter (docs/time.md).

    With `shared=True` processes of one user on one machine may have the directory open together
    (docs/sharing.md), without a server: whoever opens it first owns it and decides, the others ask
    it, and when it is gone one of them takes over; `info()["role"]` is "owner" or "client". All of
    them open it with the same options. A forked child goes on as a client. `lock_timeout` is then
    how long a call looks for an owner (10 s by default), and `answer_timeout` how long an owner may
    say nothing (1 s) before FlintConnectionError, or what `on_error` answers.

    All methods may be called from any thread. A limiter that is not shared cannot be used in a
    forked child (`ForkedError`); none can be pickled. Losing the last reference closes it, as does
    the end of the interpreter; `with` does so at a known moment and raises what the last sync met.

    Opening raises LockedError, FlintPermissionError, UnsupportedError, FlintOSError, DiskFullError,
    CorruptionError, TypeError or ValueError, and warns (FlintWarning) of a directory in which
    everybody may write and of history that is damaged.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = ".flint",
        *,
        sync: Sync = "always",
        flush_every_ms: SupportsIndex = 100,
        flush_every_events: SupportsIndex = 100,
        segment_bytes: SupportsIndex | None = None,
        ring_bytes: SupportsIndex | None = None,
        clock: Clock | SystemClock | None = None,
        max_unsynced_events: SupportsIndex | None = None,
        max_downtime: Duration | None = None,
        history_max_bytes: SupportsIndex | None = None,
        history_max_age: Duration | None = None,
        max_replay_bytes: SupportsIndex | None = None,
        max_keys: SupportsIndex | None = None,
        when_full: WhenFull = "refuse",
        on_error: OnError = "raise",
        mapped: Mapped = "auto",
        sync_denials: bool = False,
        lock_timeout: Duration | None = None,
        file_mode: SupportsIndex | None = None,
        group: str | SupportsIndex | None = None,
        shared: bool = False,
        answer_timeout: Duration | None = None,
    ) -> None:
        path = absolute_path(data_dir)
        options: Options = {
            "sync": sync,
            "flush_every_ms": flush_bound(sync, flush_every_ms, MOST_FLUSH_MS),
            "flush_every_events": flush_bound(sync, flush_every_events, MOST_FLUSH_EVENTS),
            "segment_bytes": segment_bytes,
            "ring_bytes": ring_bytes,
            "clock": clock,
            "max_unsynced_events": max_unsynced_events,
            "max_downtime": optional_ns("max_downtime", max_downtime),
            "history_max_bytes": history_max_bytes,
            "history_max_age": optional_ns("history_max_age", history_max_age),
            "max_replay_bytes": max_replay_bytes,
            "max_keys": max_keys,
            "when_full": when_full,
            "on_error": on_error,
            "mapped": mapped,
            "sync_denials": sync_denials,
            "lock_timeout": optional_ns("lock_timeout", lock_timeout),
            "file_mode": file_mode,
            "group_plus_1": group_plus_1(group),
            "shared": shared,
            "answer_timeout": optional_ns("answer_timeout", answer_timeout),
        }
        self._open_directory(path, False, options)
        lines = None
        if shared:
            answer_timeout_ns = optional_ns("answer_timeout", answer_timeout)
            lines = SharedLines(manual(clock), path, answer_timeout_ns)
        self._begin(manual(clock), lines)
        info = self.info()
        if info["directory_mode"] & WORLD_WRITABLE:
            self._warn(
                f"everybody may write in {path!r}, and so change or delete its limits: chmod o-w"
            )
        for bit, text in _CONVERSION_WARNINGS.items():
            if info["warnings"] & bit:
                self._warn(f"{path!r} was written by Flint 0.1 or 0.2 and is now converted: {text}")
        if info["damaged_history"]:
            self._warn(_DAMAGED_HISTORY.format(path=path))

    @classmethod
    def open_readonly(
        cls,
        data_dir: str | os.PathLike[str],
        *,
        clock: Clock | SystemClock | None = None,
        max_downtime: Duration | None = None,
    ) -> Self:
        """Open a directory that another process may be writing, to look at it: without a lock, and
        creating, changing and deleting nothing.

        `status`, `list`, `top`, `peek`, `history` and `info` answer as of now, or as of the last
        `refresh`, which takes over what has been written since. What would change something raises
        ReadOnlyError. `history` shows a record when it has reached its segment, `flush_every_ms`
        after it was answered at the latest.

        Raises FlintOSError (also where there is no directory), FlintPermissionError,
        UnsupportedError (also for a directory of Flint 0.1 or 0.2, which opening for writing
        converts) and CorruptionError, and warns (FlintWarning) of history that is damaged.
        """
        path = absolute_path(data_dir)
        options: Options = {
            "clock": clock,
            "max_downtime": optional_ns("max_downtime", max_downtime),
        }
        limiter = cls.__new__(cls)
        limiter._open_directory(path, True, options)
        limiter._begin(manual(clock))
        if limiter.info()["damaged_history"]:
            limiter._warn(_DAMAGED_HISTORY.format(path=path))
        return limiter

    def _values_differ(
        self,
        key: str,
        others: tuple[int, int, int, Algorithm],
        values: tuple[int, int, int, Algorithm],
    ) -> None:
        """Called by the extension when checks of a key carry two limits in turn; warns once."""
        global _told_of_values
        if _told_of_values:
            return
        _told_of_values = True
        warnings.warn(
            f"checks of {key!r} carry two limits in turn: {Declaration(*others)} and "
            f"{Declaration(*values)}. Each takes effect, and is written to the log, whenever it "
            "comes. Give the key one limit, or each of the two a key of its own",
            FlintWarning,
            stacklevel=2,
        )

    def _warn(self, text: str) -> None:
        try:
            warnings.warn(text, FlintWarning, stacklevel=3)
        except FlintWarning:  # turned into an error: nobody gets the limiter
            self.close()
            raise

    def close(self) -> None:
        """Sync, unlock the directory and free the limiter. Calls that wait, in other threads, in
        coroutines or in line, raise ClosedError, as does every later call; what they wait for may
        still have come to be on disk, and then they return. Closing again does nothing, as does
        closing in a forked child. Raises what the last sync met, and the limiter is closed all the
        same."""
        try:
            super().close()
        finally:
            self._lines.look_again()

    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<flint.Limiter {self.data_dir!r} sync={self.sync!r}{closed}>"

    def history(
        self,
        key: str | None = None,
        *,
        newest_first: bool = False,
        since: datetime | Seconds | None = None,
        until: datetime | Seconds | None = None,
        limit: SupportsIndex | None = None,
        template: bool | None = None,
    ) -> list[HistoryDict]:
        """Return what has been recorded and is still kept, oldest first, as dicts.

        With `key` only events that name it; an unknown key gives `[]`. A trailing `*` means the
        template itself, as for `status`. `since` (inclusive) and `until` (exclusive) are datetimes
        with a time zone or seconds since 1970; `limit` is the most events to return.

        Read from the log's files, so it takes time in proportion to them. Of denials that came
        faster than they were written, one `DENY` holds the `count`, the sum of their costs, and the
        times of the first and the last. Raises UnsupportedError for `":memory:"`, where no history
        is kept.
        """
        from flint._local.history import history

        return history(self, key, template, newest_first, since, until, limit)

    def dump(self, file: TextIO) -> int:
        """Write the history that is kept as JSON lines of Flint 0.2, with the SHA-256 of each, to
        an open text file (UTF-8), and return how many they are.

        As `flint.aof` in a directory of its own they are converted again when that is opened, with
        the same limits, history and totals; what Flint 0.2 had no words for is in fields that it
        ignores. Where the beginning of the history is not kept any more, the limits are there, but
        not what they had counted before. Raises UnsupportedError for `":memory:"`.
        """
        from flint._local.dump import dump

        return dump(self, file)

    def doctor(self) -> DoctorDict:
        """Sync, then verify the limiter's directory; see `flint.doctor`. `findings` also say when
        compactions fail."""
        if self.data_dir == MEMORY:
            raise UnsupportedError("in memory there are no files to verify")
        if not self.info()["read_only"]:
            self.flush()
        report = doctor(self.data_dir or "")
        report["findings"] += failing_compactions(self.info())
        return report

    async def ahistory(
        self,
        key: str | None = None,
        *,
        newest_first: bool = False,
        since: datetime | Seconds | None = None,
        until: datetime | Seconds | None = None,
        limit: SupportsIndex | None = None,
        template: bool | None = None,
    ) -> list[HistoryDict]:
        """`history` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        return await in_thread(
            self.history,
            key,
            newest_first=newest_first,
            since=since,
            until=until,
            limit=limit,
            template=template,
        )

    async def acompact(self, *, wait: bool = True) -> None:
        """`compact` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(self.compact, wait=wait)

    async def adoctor(self) -> DoctorDict:
        """`doctor` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        return await in_thread(self.doctor)

    async def arefresh(self) -> None:
        """`refresh` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(self.refresh)
