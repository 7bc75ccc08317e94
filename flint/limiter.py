"""`Limiter`: a data directory, opened. What is called often is inherited from the extension."""

from __future__ import annotations

import atexit
import contextlib
import operator
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from flint import _native
from flint._arguments import absolute_path, limit_configs, period_ns
from flint.errors import FlintWarning

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import ParamSpec, Self, SupportsIndex, TypeAlias, TypeVar

    from flint._arguments import Duration
    from flint._types import Algorithm, LimitDict, StatusDict, Sync

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")
    # Inside the class, `list` is the method.
    StatusList: TypeAlias = list[StatusDict]
    Limits: TypeAlias = Iterable[LimitDict | tuple[Any, ...] | list[Any]]

_WORLD_WRITABLE = 0o002

# Those that interpreter exit finds open. Keys are ids: a limiter need not be hashable.
_open_limiters: weakref.WeakValueDictionary[int, Limiter] = weakref.WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    with contextlib.ExitStack() as stack:  # closes the rest when one raises
        for reference in _open_limiters.valuerefs():
            limiter = reference()
            if limiter is not None:
                stack.callback(limiter.close)


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
    `segment_bytes` (256 KiB to 1 GiB) and `ring_bytes` (256 KiB to 64 MiB, a power of two) size the
    files of the log. `clock`, a `flint.testing.ManualClock`, replaces the system's clocks in tests.

    All methods may be called from any thread. A limiter cannot be used in a forked child
    (`ForkedError`) and cannot be pickled. Losing the last reference closes it, as does the end of
    the interpreter; `with` does so at a known moment and raises what the last sync met.

    Opening raises LockedError, FlintPermissionError, UnsupportedError, FlintOSError, DiskFullError,
    CorruptionError, TypeError or ValueError, and warns (FlintWarning) of a directory in which
    everybody may write.
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
        clock: _native.Clock | None = None,
    ) -> None:
        path = absolute_path(data_dir)
        self._open(path, sync, flush_every_ms, flush_every_events, segment_bytes, ring_bytes, clock)
        _open_limiters[id(self)] = self
        if self.info()["directory_mode"] & _WORLD_WRITABLE:
            self._warn_of_world_writable(path)

    def _warn_of_world_writable(self, path: str) -> None:
        try:
            warnings.warn(
                f"everybody may write in {path!r}, and so change or delete its limits: chmod o-w",
                FlintWarning,
                stacklevel=3,
            )
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

    def limit_many(self, limits: Limits, *, if_absent: bool = False) -> None:
        """Configure any number of limits with one wait for the disk.

        Each is a dict of `limit`'s parameters, `{"key": "api:*", "rate": 100, "per": "1m"}` (with
        `per_ns`, `algorithm`, `burst` and `template` if wanted), or a tuple or list `(key, rate,
        per)`, `(key, rate, per, algorithm)` or `(key, rate, per, algorithm, burst)`. All are
        checked before the first takes effect.
        """
        self._limit_many(limit_configs(limits), if_absent)

    def list(self, *, counters: bool = False) -> StatusList:
        """Return the `status` of every limit and template, in order of their keys; with `counters`
        also of every key that has a counter under a template now. Limits that change meanwhile may
        be shown before or after their change."""
        entries = self._list(counters)
        entries.sort(key=operator.itemgetter("key", "template"))
        return entries

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

        Works on functions, methods, generator functions (checked when called, not when iterated)
        and coroutine functions (checked without blocking the event loop when awaited), and keeps
        the function's signature.
        """
        from flint._decorator import RateLimit, decorate

        limit = RateLimit(self, key, rate, per, algorithm, cost, burst)
        return lambda function: decorate(limit, function)
