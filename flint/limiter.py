"""`Limiter`: a data directory, opened. What is called often is inherited from the extension."""

from __future__ import annotations

import atexit
import contextlib
import operator
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from flint import _native
from flint._acquire import Lines, acquire
from flint._arguments import MEMORY, absolute_path, check_limits, duration_ns, period_ns
from flint.errors import FlintWarning, UnsupportedError

if TYPE_CHECKING:
    import os
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from types import TracebackType
    from typing import ParamSpec, Self, SupportsIndex, TextIO, TypeAlias, TypeVar

    from flint._aio import _Watcher
    from flint._arguments import Duration, Seconds
    from flint._types import (
        Algorithm,
        CheckAllDict,
        DoctorDict,
        HistoryDict,
        Item,
        LimitDict,
        Mapped,
        OnError,
        StatusDict,
        Sync,
        Total,
        WhenFull,
    )

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")
    # Inside the class, `list` is the method.
    StatusList: TypeAlias = list[StatusDict]
    Events: TypeAlias = list[HistoryDict]
    Limits: TypeAlias = Iterable[LimitDict | tuple[Any, ...] | list[Any]]

_WORLD_WRITABLE = 0o002
_CONVERSION_WARNINGS = {
    1: "a limit or cost was beyond today's bounds and is now at the bound",
    2: "its log was shorter than its snapshot said, so the log was replayed from its start",
    4: "the last line of its log was unfinished and has been left out",
}

_DAMAGED_HISTORY = (
    "history in {path!r} is damaged and will be incomplete; the limits themselves are not "
    "affected. flint.doctor({path!r}) tells where"
)

# Those that interpreter exit finds open. Keys are ids: a limiter need not be hashable.
_open_limiters: weakref.WeakValueDictionary[int, Limiter] = weakref.WeakValueDictionary()
_no_watchers: weakref.WeakValueDictionary[AbstractEventLoop, _Watcher] = (
    weakref.WeakValueDictionary()
)


@atexit.register
def _close_all() -> None:
    with contextlib.ExitStack() as stack:  # closes the rest when one raises
        for reference in _open_limiters.valuerefs():
            limiter = reference()
            if limiter is not None:
                stack.callback(limiter.close)


def doctor(data_dir: str | os.PathLike[str]) -> DoctorDict:
    """Verify a data directory, which may be in use, without a lock and without writing: every
    record against the chain of checksums, every seal's SHA-256, the snapshot, that no segment is
    missing, and that the records make sense.

    The answer's `ok` says whether there is no damage; `damage` tells of the first one with segment,
    offset in the file and record number; `findings` are sentences for people, also about what is no
    damage. Takes time in proportion to the files. Raises FlintOSError, FlintPermissionError or
    UnsupportedError when the directory cannot be read.
    """
    path = absolute_path(data_dir)
    found: Any = _native.examine(path)
    findings: list[str] = []
    damage: Any = None
    if found["damage"] is not None:
        names = ("message", "segment", "offset", "sequence")
        damage = dict(zip(names, found["damage"], strict=True))
        findings.append(damage["message"])
    if found["torn_bytes"]:
        findings.append(
            f"{found['torn_bytes']} bytes at the end of the log were torn by a power loss; the "
            "next opening cuts them and keeps them aside"
        )
    if found.pop("directory_mode") & _WORLD_WRITABLE:
        findings.append(f"everybody may write in {path!r}: chmod o-w")
    found["aof_bytes"] = found.pop("log_bytes")
    found.update(ok=damage is None, findings=findings, damage=damage)
    answer: DoctorDict = found
    return answer


class Limiter(_native.LimiterBase):
    """Rate limits that survive the process, kept in a directory that one Limiter at a time owns.

    >>> with Limiter(":memory:") as limiter:
    ...     limiter.limit("login:*", rate=5, per="1m")
    ...     [limiter.allow("login:alice") for _ in range(6)]
    [True, True, True, True, True, False]

    `data_dir` (a str or path-like, never bytes) is created, readable by its owner alone, with its
    parents; `":memory:"` keeps everything in memory. `sync` says when an admission is answered:
    `"always"` when it is on disk, `"batch"` when it survives the death of the process; a sync then
    starts after `flush_every_events` (1 to 2**32) records or `flush_every_ms` (1 to 3,600,000).
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

    `history_max_bytes` (256 MiB by default) and `history_max_age` bound what is kept for `history`
    behind the last compaction; 0 bytes keep none. `max_downtime` is the most time that passes for
    the limits while the directory is not open: a wall clock that is wrong after a restart can give
    back no more than that. Lengths of time are as for `limit`'s `per`.

    The log's ring is a mapped file. Should that file be cut short or its disk fail, a guard against
    SIGBUS stops the limiter (PoisonedError) and not the program; `mapped="never"` installs no
    handler and writes by system calls, which is slower. `clock`, a `flint.testing.ManualClock`,
    replaces the system's clocks in tests.

    All methods may be called from any thread. A limiter cannot be used in a forked child
    (`ForkedError`) and cannot be pickled. Losing the last reference closes it, as does the end of
    the interpreter; `with` does so at a known moment and raises what the last sync met.

    Opening raises LockedError, FlintPermissionError, UnsupportedError, FlintOSError, DiskFullError,
    CorruptionError, TypeError or ValueError, and warns (FlintWarning) of a directory in which
    everybody may write and of history that is damaged.
    """

    # Nobody waits for a limiter that has never been open; the others have their own.
    _lines = Lines(None)
    _watchers = _no_watchers

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = ".flint",
        *,
        sync: Sync = "always",
        flush_every_ms: SupportsIndex = 100,
        flush_every_events: SupportsIndex = 100,
        segment_bytes: SupportsIndex | None = None,
        ring_bytes: SupportsIndex | None = None,
        clock: _native.Clock | None = None,
        max_unsynced_events: SupportsIndex | None = None,
        max_downtime: Duration | None = None,
        history_max_bytes: SupportsIndex | None = None,
        history_max_age: Duration | None = None,
        max_keys: SupportsIndex | None = None,
        when_full: WhenFull = "refuse",
        on_error: OnError = "raise",
        mapped: Mapped = "auto",
        sync_denials: bool = False,
    ) -> None:
        path = absolute_path(data_dir)
        self._open(
            path,
            False,
            sync,
            flush_every_ms,
            flush_every_events,
            segment_bytes,
            ring_bytes,
            clock,
            max_unsynced_events,
            None if max_downtime is None else duration_ns("max_downtime", max_downtime),
            history_max_bytes,
            None if history_max_age is None else duration_ns("history_max_age", history_max_age),
            max_keys,
            when_full,
            on_error,
            mapped,
            sync_denials,
        )
        self._begin(clock)
        info = self.info()
        if info["directory_mode"] & _WORLD_WRITABLE:
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
        clock: _native.Clock | None = None,
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
        limiter = cls.__new__(cls)
        downtime_ns = None if max_downtime is None else duration_ns("max_downtime", max_downtime)
        path = absolute_path(data_dir)
        limiter._open(
            path,
            True,
            "always",
            100,
            100,
            None,
            None,
            clock,
            None,
            downtime_ns,
            None,
            None,
            None,
            "refuse",
            "raise",
            "auto",
            False,
        )
        limiter._begin(clock)
        if limiter.info()["damaged_history"]:
            limiter._warn(_DAMAGED_HISTORY.format(path=path))
        return limiter

    def _begin(self, clock: _native.Clock | None) -> None:
        self._lines = Lines(clock)
        self._watchers = weakref.WeakValueDictionary()
        _open_limiters[id(self)] = self

    def _warn(self, text: str) -> None:
        try:
            warnings.warn(text, FlintWarning, stacklevel=3)
        except FlintWarning:  # turned into an error: nobody gets the limiter
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Sync, unlock the directory and free the limiter. Calls that wait, in other threads, in
        coroutines or in line, raise ClosedError, as does every later call; what they wait for may
        still have come to be on disk, and then they return. Closing again does nothing, as does
        closing in a forked child. Raises what the last sync met, and the limiter is closed all the
        same."""
        try:
            super().close()
        finally:
            for reference in self._watchers.valuerefs():
                watcher = reference()
                if watcher is not None:
                    watcher.wake()
            self._lines.look_again()

    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<flint.Limiter {self.data_dir!r} sync={self.sync!r}{closed}>"

    def limit(
        self,
        key: str,
        *,
        rate: SupportsIndex,
        per: Duration | None = None,
        per_ns: SupportsIndex | None = None,
        algorithm: Algorithm = "token_bucket",
        burst: SupportsIndex | None = None,
        template: bool | None = None,
        if_absent: bool = False,
    ) -> None:
        """Configure a limit: `rate` units per `per`, and up to `burst` (the rate by default) at
        once.

        `per` is digits with ms, s, m, h or d (`"500ms"`, `"1h"`; bare digits are seconds), a
        timedelta, or a number of seconds; `per_ns` is nanoseconds instead. `rate`, `burst` and the
        period in nanoseconds are integers from 1 to 2**62. The window algorithms take no burst.

        A trailing `*` of `key` makes a template: every key that begins with what stands before it
        gets a counter of its own, under the longest template that fits, unless it has a limit of
        its own. `template=False` takes the `*` literally; `template=True` makes a template of a
        key without it.

        With the values it has already, nothing changes and nothing is written. With others the
        change takes effect now and keeps what was used. `if_absent=True` leaves a limit that
        exists as it is. With `sync="always"` it is on disk when this returns.
        """
        self._limit(key, template, rate, period_ns(per, per_ns), burst, algorithm, if_absent)
        self._lines.look_again()

    def limit_many(self, limits: Limits, *, if_absent: bool = False) -> None:
        """Configure any number of limits with one wait for the disk.

        Each is a dict of `limit`'s parameters, `{"key": "api:*", "rate": 100, "per": "1m"}` (with
        `per_ns`, `algorithm`, `burst` and `template` if wanted), or a tuple or list `(key, rate,
        per)`, `(key, rate, per, algorithm)` or `(key, rate, per, algorithm, burst)`. All are
        checked before the first takes effect.
        """
        check_limits(limits)
        self._limit_many(limits, if_absent)
        self._lines.look_again()

    def remove(self, key: str, template: bool | None = None) -> None:
        """Delete a limit; deleting a template deletes its counters. Returns when that is on disk
        (`sync="always"`) or safe from a kill (`sync="batch"`). `template` is as for `status`.
        Raises NotConfiguredError if there is none, also in those who wait for it."""
        super().remove(key, template=template)
        self._lines.look_again()

    def reset(self, key: str, template: bool | None = None) -> None:
        """Forget what was used: the full burst is available again. Totals stay. Resetting a
        template resets all its counters. `template` is as for `status`. Raises NotConfiguredError
        if there is nothing to reset."""
        super().reset(key, template=template)
        self._lines.look_again()

    def acquire(
        self, key: str, cost: SupportsIndex = 1, timeout: Seconds | None = None
    ) -> _native.Result:
        """Wait until `cost` units may be used under `key`, count them, and return the Result, which
        is true; or a false one when `timeout` seconds (by default there is no end) are over, at
        once if they would not be enough.

        Callers of `acquire` and `aacquire` in this process are served first come, first served for
        each key, whatever they cost; `check` and its like do not queue. One admission or one denial
        is recorded. (When units that somebody else took had seemed to be there, that is one denial
        more.) A call that an exception ends while it waits uses up nothing.

        Time is that of the limiter's clock: with a ManualClock everybody sleeps until it is moved.
        Errors are those of `check`, and ClosedError when the limiter is closed meanwhile.
        """
        return acquire(self, key, cost, timeout)

    def list(self, *, counters: bool = False) -> StatusList:
        """Return the `status` of every limit and template, in order of their keys; with `counters`
        also of every key that has a counter under a template now. Limits that change meanwhile may
        be shown before or after their change."""
        entries = self._list(counters)
        entries.sort(key=operator.itemgetter("key", "template"))
        return entries

    def history(
        self,
        key: str | None = None,
        *,
        newest_first: bool = False,
        since: datetime | Seconds | None = None,
        until: datetime | Seconds | None = None,
        limit: SupportsIndex | None = None,
        template: bool | None = None,
    ) -> Events:
        """Return what has been recorded and is still kept, oldest first, as dicts.

        With `key` only events that name it; an unknown key gives `[]`. A trailing `*` means the
        template itself, as for `status`. `since` (inclusive) and `until` (exclusive) are datetimes
        with a time zone or seconds since 1970; `limit` is the most events to return.

        Read from the log's files, so it takes time in proportion to them. Of denials that came
        faster than they were written, one `DENY` holds the `count`, the sum of their costs, and the
        times of the first and the last. Raises UnsupportedError for `":memory:"`, where no history
        is kept.
        """
        from flint._history import history

        return history(self, key, template, newest_first, since, until, limit)

    def dump(self, file: TextIO) -> int:
        """Write the history that is kept as JSON lines of Flint 0.2, with the SHA-256 of each, to
        an open text file (UTF-8), and return how many they are.

        As `flint.aof` in a directory of its own they are converted again when that is opened, with
        the same limits, history and totals; what Flint 0.2 had no words for is in fields that it
        ignores. Where the beginning of the history is not kept any more, the limits are there, but
        not what they had counted before. Raises UnsupportedError for `":memory:"`.
        """
        from flint._dump import dump

        return dump(self, file)

    def doctor(self) -> DoctorDict:
        """Sync, then verify the limiter's directory; see `flint.doctor`."""
        if self.data_dir == MEMORY:
            raise UnsupportedError("in memory there are no files to verify")
        if not self.info()["read_only"]:
            self.flush()
        return doctor(self.data_dir or "")

    def rate_limit(
        self,
        key: str | Callable[..., str],
        *,
        rate: SupportsIndex,
        per: Duration,
        algorithm: Algorithm = "token_bucket",
        cost: SupportsIndex = 1,
        burst: SupportsIndex | None = None,
    ) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
        """Return a decorator that lets a function be called only within a limit.

        Each call takes `cost` units; when they are not there, `RateLimitExceeded` is raised and the
        function is not called. A str `key` is configured now, unless it has a limit already, and
        taken literally. A callable `key` is called with the function's arguments and returns the
        key of the call; such limits are forgotten when nothing is used any more.

        Works on functions, methods, generator functions (checked when called, not when iterated),
        coroutine functions and asynchronous generator functions (checked without blocking the event
        loop, when awaited and when first iterated), and keeps the function's signature.
        """
        from flint._decorator import RateLimit, decorate

        limit = RateLimit(self, key, rate, per, algorithm, cost, burst)
        return lambda function: decorate(limit, function)

    # ---- Coroutines ----------------------------------------------------------------------------
    #
    # No import of asyncio at the top: programs without an event loop do not pay for it.

    async def acheck(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
    ) -> _native.Result:
        """`check` as a coroutine. It decides at once, without a thread; with `sync="always"` an
        admission then awaits the disk, together with all others that the event loop waits for.

        Cancelling it does not take the admission back, nor does closing its loop. Any number of
        loops, in any threads, may use one limiter.
        """
        decided = self._check_now(key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm)
        if decided is None:
            from flint._aio import in_thread

            return await in_thread(
                self.check, key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm
            )
        result, ticket = decided
        if ticket:
            from flint._aio import durable

            await durable(self, ticket)
        return result

    async def aallow(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
    ) -> bool:
        """`allow` as a coroutine; see `acheck`."""
        result = await self.acheck(key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm)
        return result.allowed

    async def apeek(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
    ) -> _native.Result:
        """`peek` as a coroutine."""
        return self.peek(key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm)

    async def acheck_all(self, items: Iterable[Item]) -> CheckAllDict:
        """`check_all` as a coroutine; see `acheck`."""
        items = tuple(items) if not isinstance(items, (str, dict)) else items
        decided = self._check_all_now(items)
        if decided is None:
            from flint._aio import in_thread

            return await in_thread(self.check_all, items)
        answer, ticket = decided
        if ticket:
            from flint._aio import durable

            await durable(self, ticket)
        return answer

    async def aallow_all(self, items: Iterable[Item]) -> bool:
        """`allow_all` as a coroutine; see `acheck`."""
        return (await self.acheck_all(items))["allowed"]

    async def aacquire(
        self, key: str, cost: SupportsIndex = 1, timeout: Seconds | None = None
    ) -> _native.Result:
        """`acquire` as a coroutine. Cancelled while it stands in line it uses up nothing; from the
        decision on it is as for `acheck`."""
        from flint import _aio

        return await _aio.acquire(self, key, cost, timeout)

    async def alimit(
        self,
        key: str,
        *,
        rate: SupportsIndex,
        per: Duration | None = None,
        per_ns: SupportsIndex | None = None,
        algorithm: Algorithm = "token_bucket",
        burst: SupportsIndex | None = None,
        template: bool | None = None,
        if_absent: bool = False,
    ) -> None:
        """`limit` in a thread of the event loop."""
        from flint._aio import in_thread

        await in_thread(
            self.limit,
            key,
            rate=rate,
            per=per,
            per_ns=per_ns,
            algorithm=algorithm,
            burst=burst,
            template=template,
            if_absent=if_absent,
        )

    async def aremove(self, key: str, template: bool | None = None) -> None:
        """`remove` in a thread of the event loop."""
        from flint._aio import in_thread

        await in_thread(self.remove, key, template=template)

    async def areset(self, key: str, template: bool | None = None) -> None:
        """`reset` in a thread of the event loop."""
        from flint._aio import in_thread

        await in_thread(self.reset, key, template=template)

    async def astatus(self, key: str, template: bool | None = None) -> StatusDict | None:
        """`status` in a thread of the event loop."""
        from flint._aio import in_thread

        return await in_thread(self.status, key, template=template)

    async def alist(self, *, counters: bool = False) -> StatusList:
        """`list` in a thread of the event loop."""
        from flint._aio import in_thread

        return await in_thread(self.list, counters=counters)

    async def atop(self, by: Total = "denied", limit: SupportsIndex = 20) -> StatusList:
        """`top` in a thread of the event loop."""
        from flint._aio import in_thread

        return await in_thread(self.top, by, limit)

    async def ahistory(
        self,
        key: str | None = None,
        *,
        newest_first: bool = False,
        since: datetime | Seconds | None = None,
        until: datetime | Seconds | None = None,
        limit: SupportsIndex | None = None,
        template: bool | None = None,
    ) -> Events:
        """`history` in a thread of the event loop."""
        from flint._aio import in_thread

        return await in_thread(
            self.history,
            key,
            newest_first=newest_first,
            since=since,
            until=until,
            limit=limit,
            template=template,
        )

    async def aflush(self) -> None:
        """`flush` in a thread of the event loop."""
        from flint._aio import in_thread

        await in_thread(self.flush)

    async def acompact(self, *, wait: bool = True) -> None:
        """`compact` in a thread of the event loop."""
        from flint._aio import in_thread

        await in_thread(self.compact, wait=wait)

    async def adoctor(self) -> DoctorDict:
        """`doctor` in a thread of the event loop."""
        from flint._aio import in_thread

        return await in_thread(self.doctor)

    async def arefresh(self) -> None:
        """`refresh` in a thread of the event loop."""
        from flint._aio import in_thread

        await in_thread(self.refresh)

    async def aclose(self) -> None:
        """`close` in a thread of the event loop; so does `async with` at its end."""
        from flint._aio import in_thread

        await in_thread(self.close)

    def _wait_durable(self, ticket: int) -> None:
        """Wait until a ticket is on disk. Raises PoisonedError or ClosedError if it never is."""
        if not self._durable(ticket, True):
            self.close()  # waits for whoever is closing it
            self._durable(ticket, False)
