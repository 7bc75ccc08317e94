from array import array
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final, Literal, NoReturn, Self, SupportsIndex, final

from typing_extensions import disjoint_base

from flint._local.options import Options
from flint._surface.arguments import Duration
from flint._surface.rate import LimitDict, RateLike
from flint._surface.types import (
    Algorithm,
    CheckAllDict,
    InfoDict,
    Item,
    StatusDict,
    Sync,
    Total,
)

version: Final[str]
gil_table: Final[dict[str, Literal["HELD", "HELD_FIRST", "RELEASED"]]]

def examine(path: str, /) -> dict[str, Any]: ...
def describe(
    limit: tuple[int, int, int, int],
    state: tuple[int, int, int, int, int, int, int, int],
    now_ns: int,
    cost: int,
    allowed: bool,
    /,
) -> tuple[int, int, int]: ...
def set_errors(errors: ModuleType, /) -> None: ...
def set_per_to_ns(function: Callable[[Duration], int], /) -> None: ...
def set_read_limit(function: Callable[..., object], /) -> None: ...

@disjoint_base
class LimiterBase:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    @property
    def data_dir(self) -> str | None: ...
    @property
    def sync(self) -> Sync: ...
    @property
    def closed(self) -> bool: ...
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
    ) -> bool: ...
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
    ) -> Result: ...
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
    ) -> Result: ...
    def allow_all(self, items: Iterable[Item]) -> bool: ...
    def check_all(self, items: Iterable[Item]) -> CheckAllDict: ...
    def status(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> StatusDict | None: ...
    def top(self, by: Total = "denied", limit: SupportsIndex = 20) -> list[StatusDict]: ...
    def _remove(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> None: ...
    def _reset(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> None: ...
    def info(self) -> InfoDict: ...
    def flush(self) -> None: ...
    def compact(self, *, wait: bool = True) -> None: ...
    def refresh(self) -> None: ...
    def close(self) -> None: ...
    def __reduce__(self) -> NoReturn: ...
    def _open(self, data_dir: str, read_only: bool, options: Options, /) -> None: ...
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
    ) -> None: ...
    def _limit_many(
        self,
        limits: Iterable[LimitDict | tuple[Any, ...] | list[Any]],
        if_absent: bool,
        /,
    ) -> None: ...
    def _list(self, counters: bool | None, /) -> list[StatusDict]: ...
    def _history(
        self,
        key: str | None,
        template: bool | None,
        newest_first: bool,
        since_ns: SupportsIndex,
        until_ns: SupportsIndex,
        cursor: SupportsIndex,
        capacity: SupportsIndex,
        /,
    ) -> tuple[list[tuple[Any, ...]], int]: ...
    def _decided(
        self,
        pattern: str,
        cursor: SupportsIndex,
        capacity: SupportsIndex,
        numbers: dict[str, int],
        /,
    ) -> tuple[bytes, int]: ...
    def _replay(
        self,
        clock: Clock,
        keys: list[str],
        rows: bytes,
        last_admitted: array[int],
        most: SupportsIndex,
        /,
    ) -> bytes: ...
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
    ) -> tuple[Result, int] | None: ...
    def _refuse_now(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> tuple[Result, int] | None: ...
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
    ) -> Result | None: ...
    def _refuse(
        self,
        key: str,
        cost: SupportsIndex = 1,
        *,
        rate: SupportsIndex | None = None,
        per: Duration | None = None,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm | None = None,
        limit: RateLike | None = None,
    ) -> tuple[Result, int]: ...
    def _check_all_now(self, items: Iterable[Item], /) -> tuple[CheckAllDict, int] | None: ...
    def _durable(self, ticket: int, wait: bool, /) -> bool: ...
    def _adopt(self) -> None: ...
    def _watch(self) -> tuple[int, int]: ...
    def _unwatch(self, name: int, /) -> None: ...

@final
class Result:
    def __new__(
        cls,
        key: str,
        allowed: bool,
        cost: SupportsIndex,
        limit: SupportsIndex,
        remaining: SupportsIndex,
        reset_at_ns: SupportsIndex,
        reset_after_ns: SupportsIndex,
        retry_after_ns: SupportsIndex,
        algorithm: Algorithm,
        undecided: bool = False,
        name: str | None = None,
        results: tuple[Result, ...] | None = None,
        /,
    ) -> Self: ...
    @property
    def key(self) -> str: ...
    @property
    def allowed(self) -> bool: ...
    @property
    def cost(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_at(self) -> str: ...
    @property
    def reset_at_ns(self) -> int: ...
    @property
    def reset_after_ns(self) -> int: ...
    @property
    def retry_after(self) -> float: ...
    @property
    def retry_after_ns(self) -> int: ...
    @property
    def algorithm(self) -> Algorithm: ...
    @property
    def undecided(self) -> bool: ...
    @property
    def name(self) -> str | None: ...
    @property
    def results(self) -> tuple[Result, ...]: ...
    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[type[Result], tuple[Any, ...]]: ...

@disjoint_base
class Clock:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    @property
    def now_ns(self) -> int: ...
    def set_ns(self, now_ns: SupportsIndex, /) -> None: ...
    def advance_ns(self, by_ns: SupportsIndex, /) -> None: ...
