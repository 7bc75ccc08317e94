"""What a limiter offers, wherever it lives (`AnyLimiter`), and what a place where limits live has
to offer for that (`Place`). The surface is written over the calls of a place alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType
    from typing import ParamSpec, Self, SupportsIndex, TypeAlias, TypeVar

    from flint._native import Result
    from flint._surface.arguments import Duration, Seconds
    from flint._surface.rate import LimitDict, RateLike
    from flint._surface.types import Algorithm, CheckAllDict, Item, StatusDict, Total

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")
    # Inside the class, `list` is the method.
    StatusList: TypeAlias = list[StatusDict]
    Limits: TypeAlias = Iterable[LimitDict | tuple[Any, ...] | list[Any]]


class Place(Protocol):
    """The calls of a place. Those without an underscore are also the users' own. Any thread may
    make any of them; those that may wait say so."""

    def check(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """Decide, count and record; the answer is as durable as the place promises. May wait."""
        ...

    def peek(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """What `check` would answer."""
        ...

    def check_all(self, items: Iterable[Item]) -> CheckAllDict:
        """Decide several items, all or nothing. May wait."""
        ...

    def _check_now(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> tuple[Result, int] | None:
        """`check` without waiting: a result and its ticket, 0 when there is nothing to wait for; or
        None if that is not possible now."""
        ...

    def _check_all_now(self, items: Iterable[Item], /) -> tuple[CheckAllDict, int] | None:
        """The same for `check_all`."""
        ...

    def _peek_now(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result | None:
        """`peek` without waiting, or None if that is not possible now."""
        ...

    def _refuse_now(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> tuple[Result, int] | None:
        """`_check_now` for a denial that is recorded whatever the limit says."""
        ...

    def _refuse(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> tuple[Result, int]:
        """The same. May wait, but not for its ticket."""
        ...

    def _wait_durable(self, ticket: int) -> None:
        """Wait until a ticket is on disk. Raises if it never will be."""
        ...

    async def _await_durable(self, ticket: int) -> None:
        """The same, for event loops."""
        ...

    def _limit(
        self,
        key: str,
        template: bool | None,
        rate: SupportsIndex,
        per_ns: SupportsIndex,
        burst: SupportsIndex | None,
        algorithm: Algorithm,
        if_absent: bool,
        name: str | None,
        stack: bool,
        /,
    ) -> None:
        """Configure a limit. May wait."""
        ...

    def _limit_many(self, limits: Limits, if_absent: bool, /) -> None:
        """Configure many. May wait."""
        ...

    def _remove(self, key: str, template: bool | None = None, *, name: str | None = None) -> None:
        """Delete limits, all of the key if `name` is None. May wait."""
        ...

    def _reset(self, key: str, template: bool | None = None, *, name: str | None = None) -> None:
        """Forget what was used. May wait."""
        ...

    def _list(self, counters: bool | None, /) -> list[StatusDict]:
        """The status of every limit, in any order; None leaves out those that came with checks.
        May wait."""
        ...

    def _limits_of(self, keys: Collection[tuple[str, bool]], /) -> list[StatusDict]:
        """The status of every limit of these keys, each as lists show it, and whether it is a
        template. May wait."""
        ...

    def status(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> StatusDict | None:
        """The status of one. May wait."""
        ...

    def top(self, by: Total = "denied", limit: SupportsIndex = 20) -> list[StatusDict]:
        """The keys with the largest totals. May wait."""
        ...

    def flush(self) -> None:
        """Wait until all that was answered before is on disk."""
        ...

    def close(self) -> None:
        """Sync and give the place up. Every call that waits returns or raises."""
        ...


class LoopPlace(Place, Protocol):
    """A place that event loops ask too."""

    async def apeek(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> Result:
        """`peek` as a coroutine."""
        ...

    async def _arefuse(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> tuple[Result, int]:
        """`_refuse` as a coroutine."""
        ...


class AnyLimiter(Protocol):
    """Every limiter, wherever its decisions are made: `flint.connect` returns one. What a program
    writes against these calls works with all of them, and answers the same. The docstrings of
    `flint.Limiter` say what each does; what a place cannot do raises UnsupportedError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        ...

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
        """Configure a limit, in numbers or in words."""
        ...

    def limit_many(
        self,
        limits: Limits,
        *,
        if_absent: bool = False,
    ) -> None:
        """Configure any number of limits."""
        ...

    def allow(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> bool:
        """Whether `cost` units may be used under `key` now; then they are counted."""
        ...

    def check(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """The same, with the numbers behind it."""
        ...

    def peek(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """What `check` would answer, counting nothing."""
        ...

    def allow_all(
        self,
        items: Iterable[Item],
    ) -> bool:
        """Several keys, all or nothing."""
        ...

    def check_all(
        self,
        items: Iterable[Item],
    ) -> CheckAllDict:
        """The same, with the numbers behind it."""
        ...

    def acquire(
        self,
        key: str,
        cost: SupportsIndex = 1,
        timeout: Seconds | None = None,
        *,
        limit: RateLike | None = None,
    ) -> Result:
        """Wait in line until the units are there."""
        ...

    def status(
        self,
        key: str,
        template: bool | None = None,
        *,
        name: str | None = None,
    ) -> StatusDict | None:
        """What a limit is and what has happened to it."""
        ...

    def list(
        self,
        *,
        counters: bool = False,
    ) -> StatusList:
        """The status of every limit."""
        ...

    def top(
        self,
        by: Total = "denied",
        limit: SupportsIndex = 20,
    ) -> StatusList:
        """The keys with the largest totals."""
        ...

    def reset(
        self,
        key: str,
        template: bool | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Forget what was used."""
        ...

    def remove(
        self,
        key: str,
        template: bool | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Delete a limit."""
        ...

    def flush(self) -> None:
        """Wait until all that was answered is as durable as it will be."""
        ...

    def close(self) -> None:
        """Give the limiter up; every later call raises ClosedError."""
        ...

    async def alimit(
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
        """`limit` as a coroutine."""
        ...

    async def alimit_many(
        self,
        limits: Limits,
        *,
        if_absent: bool = False,
    ) -> None:
        """`limit_many` as a coroutine."""
        ...

    async def aallow(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> bool:
        """`allow` as a coroutine."""
        ...

    async def acheck(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """`check` as a coroutine."""
        ...

    async def apeek(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> Result:
        """`peek` as a coroutine."""
        ...

    async def aallow_all(
        self,
        items: Iterable[Item],
    ) -> bool:
        """`allow_all` as a coroutine."""
        ...

    async def acheck_all(
        self,
        items: Iterable[Item],
    ) -> CheckAllDict:
        """`check_all` as a coroutine."""
        ...

    async def aacquire(
        self,
        key: str,
        cost: SupportsIndex = 1,
        timeout: Seconds | None = None,
        *,
        limit: RateLike | None = None,
    ) -> Result:
        """`acquire` as a coroutine."""
        ...

    async def astatus(
        self,
        key: str,
        template: bool | None = None,
        *,
        name: str | None = None,
    ) -> StatusDict | None:
        """`status` as a coroutine."""
        ...

    async def alist(
        self,
        *,
        counters: bool = False,
    ) -> StatusList:
        """`list` as a coroutine."""
        ...

    async def atop(
        self,
        by: Total = "denied",
        limit: SupportsIndex = 20,
    ) -> StatusList:
        """`top` as a coroutine."""
        ...

    async def areset(
        self,
        key: str,
        template: bool | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """`reset` as a coroutine."""
        ...

    async def aremove(
        self,
        key: str,
        template: bool | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """`remove` as a coroutine."""
        ...

    async def aflush(self) -> None:
        """`flush` as a coroutine."""
        ...

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        ...

    def rate_limit(
        self,
        key: str | Callable[..., str],
        rate: SupportsIndex | RateLike,
        *,
        per: Duration | None = None,
        algorithm: Algorithm = "token_bucket",
        cost: SupportsIndex = 1,
        burst: SupportsIndex | None = None,
        if_absent: bool = False,
    ) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
        """A decorator that lets a function be called only within a limit."""
        ...
