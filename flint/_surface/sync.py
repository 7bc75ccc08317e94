"""The calls that a program makes and waits for."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, cast

from flint._surface.arguments import check_limits, period_ns
from flint._surface.declared import Declared
from flint._surface.line import Lines, acquire
from flint._surface.rate import Rate, Several, is_rate_like, read_one_or_several
from flint._surface.several import configure, configure_many, decide, driven

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from types import TracebackType
    from typing import ParamSpec, Self, SupportsIndex, TypeAlias, TypeVar

    from flint._native import Clock, Result
    from flint._surface.arguments import Duration, Seconds
    from flint._surface.decisions import Decisions
    from flint._surface.protocol import Limits, Place
    from flint._surface.rate import RateLike
    from flint._surface.several import Step
    from flint._surface.types import Algorithm, StatusDict

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")
    Values: TypeAlias = tuple[SupportsIndex, SupportsIndex, SupportsIndex | None, Algorithm]
    # Inside the class, `list` is the method.
    StatusList: TypeAlias = list[StatusDict]
else:
    Place = object


class SyncSurface(Place):
    """What is made of the calls of a place."""

    # Nobody waits for a limiter that has never been open; the others have their own.
    _lines = Lines(None)
    _declared = Declared()
    _whole: set[str] = set()  # noqa: RUF012 - nothing is added
    # Kept for who observes them, and by nobody else.
    _decisions: Decisions | None = None
    # The rates that a configuration has given names.
    _rates: Mapping[str, tuple[Rate, ...]] = {}
    # The keys of limits that the configuration file has not; see flint.from_config.
    not_in_config: tuple[str, ...] = ()

    def _begin(self, clock: Clock | None, lines: Lines | None = None) -> None:
        """To be called when the place is open."""
        self._lines = Lines(clock) if lines is None else lines
        self._declared = Declared()
        self._whole: set[str] = set()  # prefixes of sets of limits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _decide_several(self, call: str, key: str, cost: int, several: Several) -> Any:
        """What the extension calls for a check that carries several limits along."""
        return decide(self, self._whole, call, key, cost, several)

    def limit(
        self,
        key: str,
        rate: SupportsIndex | RateLike,
        *,
        per: Duration | None = None,
        per_ns: SupportsIndex | None = None,
        algorithm: Algorithm = "token_bucket",
        burst: SupportsIndex | None = None,
        template: bool | None = None,
        if_absent: bool = False,
        name: str | None = None,
        stack: bool = False,
    ) -> None:
        """Configure a limit: `rate` units per `per`, and up to `burst` (the rate by default) at
        once; or, in words, `limit(key, "100/minute")`.

        `per` is digits with ms, s, m, h or d (`"500ms"`, `"1h"`; bare digits are seconds), a
        timedelta, or a number of seconds; `per_ns` is nanoseconds instead. `rate`, `burst` and the
        period in nanoseconds are integers from 1 to 2**62. The window algorithms take no burst.

        In words (`flint.rates`) `rate` says the period too, and the burst and the algorithm if
        wanted. `"5/minute; 100/hour"` is several limits of the key, which are named by their
        periods: "per minute", "per hour". The words are all there is: what other words had
        configured for the same key, and a limit without a name, is removed.

        A trailing `*` of `key` makes a template: every key that begins with what stands before it
        gets a counter of its own, under the longest prefix that fits, unless it has limits of its
        own. `template=False` takes the `*` literally; `template=True` makes a template of a
        key without it.

        A key, and a template, may have up to 16 limits that are told apart by `name`, 1 to 255
        bytes of UTF-8; one of them may have none. They decide together: a check is admitted when
        all of them admit it, and counts in all of them or in none. `stack=True` leaves the
        templates of shorter prefixes in force for the same keys, but for names that are taken.

        With the values it has already, nothing changes and nothing is written. With others the
        change takes effect now and keeps what was used. `if_absent=True` leaves a limit that
        exists as it is. With `sync="always"` it is on disk when this returns.
        """
        period = (per, per_ns)
        rest = (template, if_absent, name, stack)
        driven(self, self._limiting(key, rate, period, algorithm, burst, *rest))

    def _limiting(
        self,
        key: str,
        rate: SupportsIndex | RateLike,
        period: tuple[Duration | None, SupportsIndex | None],
        algorithm: Algorithm,
        burst: SupportsIndex | None,
        template: bool | None,
        if_absent: bool,
        name: str | None,
        stack: bool,
    ) -> Generator[Step, Any, None]:
        """The calls of the place of which `limit` is made."""
        if is_rate_like(rate) and period == (None, None):
            found = self._read_words(rate, algorithm, burst)
            yield from configure(key, found, template, if_absent, name, stack)
            values: Values | None = found.values if isinstance(found, Rate) else None
        else:
            values = (cast("SupportsIndex", rate), period_ns(*period), burst, algorithm)
            yield "_limit", (key, template, *values, if_absent, name, stack), {}
        is_template = template or (template is None and key.endswith("*"))
        if not is_template and not if_absent and name is None:
            self._declared.forget(key)
            if values is not None:
                self._declared.note(key, *values)
        self._lines.look_again()

    def _read_words(
        self, rate: RateLike, algorithm: Algorithm, burst: SupportsIndex | None
    ) -> Rate | Several:
        # The default of the parameter says nothing about the words.
        said = None if algorithm == "token_bucket" else algorithm
        return read_one_or_several(rate, self._rates, said, burst)

    def limit_many(self, limits: Limits, *, if_absent: bool = False) -> None:
        """Configure any number of limits with one wait for the disk.

        Each is a dict of `limit`'s parameters, `{"key": "api:*", "rate": 100, "per": "1m"}` (with
        `per_ns`, `algorithm`, `burst`, `template`, `name` and `stack` if wanted), or a tuple or
        list `(key, rate, per)`, `(key, rate, per, algorithm)` or `(key, rate, per, algorithm,
        burst)`; or in words, `{"key": "api:*", "rate": "100/minute"}` or `(key, "100/minute")`. All
        are checked before the first takes effect.
        """
        check_limits(limits)
        driven(self, self._limiting_many(tuple(limits), if_absent))

    def _limiting_many(
        self, limits: tuple[Any, ...], if_absent: bool
    ) -> Generator[Step, Any, None]:
        """The calls of the place of which `limit_many` is made."""
        try:
            yield "_limit_many", (limits, if_absent), {}
        except (TypeError, ValueError):
            if not (yield from configure_many(limits, self._rates, if_absent)):
                raise
        self._lines.look_again()

    def remove(self, key: str, template: bool | None = None, *, name: str | None = None) -> None:
        """Delete the limits of a key, or the one with this `name`; deleting a template deletes its
        counters. Returns when that is on disk
        (`sync="always"`) or safe from a kill (`sync="batch"`). `template` is as for `status`.
        Raises NotConfiguredError if there is none, also in those who wait for it."""
        self._remove(key, template, name=name)
        if name is None:
            self._declared.forget(key)
        self._lines.look_again()

    def reset(self, key: str, template: bool | None = None, *, name: str | None = None) -> None:
        """Forget what was used of a key's limits, or of the one with this `name`: the full burst is
        available again. Totals stay. Resetting a
        template resets all its counters. `template` is as for `status`. Raises NotConfiguredError
        if there is nothing to reset."""
        self._reset(key, template, name=name)
        self._lines.look_again()

    def acquire(
        self,
        key: str,
        cost: SupportsIndex = 1,
        timeout: Seconds | None = None,
        *,
        limit: RateLike | None = None,
    ) -> Result:
        """Wait until `cost` units may be used under `key`, count them, and return the Result, which
        is true; or a false one when `timeout` seconds (by default there is no end) are over, at
        once if they would not be enough.

        Callers of `acquire` and `aacquire` in this process, and in all that share a directory, are
        served first come, first served for each key, whatever they cost; `check` and its like do
        not queue. One admission or one denial
        is recorded. (When units that somebody else took had seemed to be there, that is one denial
        more.) A call that an exception ends while it waits uses up nothing.

        `limit` is carried along for a key that has none, as in `check`.

        Time is that of the limiter's clock: with a ManualClock everybody sleeps until it is moved.
        Errors are those of `check`, and ClosedError when the limiter is closed meanwhile.
        """
        return acquire(self, self._lines, key, cost, timeout, limit)

    def list(self, *, counters: bool = False) -> StatusList:
        """Return the `status` of every limit and template, in order of their keys; with `counters`
        also of every key that has a counter under a template now. Limits that change meanwhile may
        be shown before or after their change. Takes time in proportion to all limits and counters,
        shown or not."""
        entries = self._list(counters)
        entries.sort(key=operator.itemgetter("key", "template"))
        return entries
