"""What a place where limits live has to offer. The surface is written over these calls alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex, TypeAlias

    from flint._native import Result
    from flint._surface.arguments import Duration
    from flint._surface.types import Algorithm, CheckAllDict, Item, LimitDict, StatusDict, Total

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
    ) -> tuple[Result, int] | None:
        """`check` without waiting: a result and its ticket, 0 when there is nothing to wait for; or
        None if that is not possible now."""
        ...

    def _check_all_now(self, items: Iterable[Item], /) -> tuple[CheckAllDict, int] | None:
        """The same for `check_all`."""
        ...

    def _refuse_now(self, key: str, cost: SupportsIndex = 1) -> tuple[Result, int] | None:
        """The same for a denial that is recorded whatever the limit says."""
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

    def _list(self, counters: bool, /) -> list[StatusDict]:
        """The status of every limit, in any order. May wait."""
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
