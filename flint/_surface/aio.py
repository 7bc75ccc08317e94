"""The same calls as coroutines.

No import of asyncio at the top of any module that `import flint` loads: programs without an event
loop do not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from flint._surface.arguments import MAX_ITEMS
from flint._surface.sync import SyncSurface

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self, SupportsIndex

    from flint._native import Result
    from flint._surface.arguments import Duration, Seconds
    from flint._surface.line import Decided
    from flint._surface.protocol import Limits
    from flint._surface.rate import RateLike
    from flint._surface.sync import StatusList
    from flint._surface.types import Algorithm, CheckAllDict, Item, StatusDict, Total


class AsyncSurface(SyncSurface):
    """Decides in the event loop, and waits for everything else without blocking it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

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
        """`check` as a coroutine. It decides at once, without a thread; with `sync="always"` an
        admission then awaits the disk, together with all others that the event loop waits for.

        Cancelling it does not take the admission back, nor does closing its loop. Any number of
        loops, in any threads, may use one limiter.
        """
        decided = self._check_now(
            key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm, limit=limit
        )
        if decided is None:
            from flint._surface.loop import in_thread

            return await in_thread(
                self.check,
                key,
                cost,
                rate=rate,
                per=per,
                burst=burst,
                algorithm=algorithm,
                limit=limit,
            )
        result, ticket = decided
        if ticket:
            await self._await_durable(ticket)
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
        limit: RateLike | None = None,
    ) -> bool:
        """`allow` as a coroutine; see `acheck`."""
        result = await self.acheck(
            key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm, limit=limit
        )
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
        limit: RateLike | None = None,
    ) -> Result:
        """`peek` as a coroutine. It looks at once, and in a thread of the event loop where it would
        have to wait."""
        seen = self._peek_now(
            key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm, limit=limit
        )
        if seen is not None:
            return seen
        from flint._surface.loop import in_thread

        return await in_thread(
            self.peek,
            key,
            cost,
            rate=rate,
            per=per,
            burst=burst,
            algorithm=algorithm,
            limit=limit,
        )

    async def _arefuse(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> Decided:
        """`_refuse` as a coroutine, as `apeek` does it."""
        decided = self._refuse_now(key, cost, limit=limit)
        if decided is not None:
            return decided
        from flint._surface.loop import in_thread

        return await in_thread(self._refuse, key, cost, limit=limit)

    async def acheck_all(self, items: Iterable[Item]) -> CheckAllDict:
        """`check_all` as a coroutine; see `acheck`."""
        if isinstance(items, Iterator):  # it can be read once, and is needed twice
            items = tuple(islice(items, MAX_ITEMS + 1))
        decided = self._check_all_now(items)
        if decided is None:
            from flint._surface.loop import in_thread

            return await in_thread(self.check_all, items)
        answer, ticket = decided
        if ticket:
            await self._await_durable(ticket)
        return answer

    async def aallow_all(self, items: Iterable[Item]) -> bool:
        """`allow_all` as a coroutine; see `acheck`."""
        return (await self.acheck_all(items))["allowed"]

    async def aacquire(
        self,
        key: str,
        cost: SupportsIndex = 1,
        timeout: Seconds | None = None,
        *,
        limit: RateLike | None = None,
    ) -> Result:
        """`acquire` as a coroutine. Cancelled while it stands in line it uses up nothing; from the
        decision on it is as for `acheck`."""
        from flint._surface.loop import acquire

        return await acquire(self, self._lines, key, cost, timeout, limit)

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
        """`limit` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(
            self.limit,
            key,
            rate,
            per=per,
            per_ns=per_ns,
            algorithm=algorithm,
            burst=burst,
            template=template,
            if_absent=if_absent,
            name=name,
            stack=stack,
        )

    async def alimit_many(self, limits: Limits, *, if_absent: bool = False) -> None:
        """`limit_many` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(self.limit_many, limits, if_absent=if_absent)

    async def aremove(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> None:
        """`remove` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(self.remove, key, template=template, name=name)

    async def areset(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> None:
        """`reset` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(self.reset, key, template=template, name=name)

    async def astatus(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> StatusDict | None:
        """`status` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        return await in_thread(self.status, key, template=template, name=name)

    async def alist(self, *, counters: bool = False) -> StatusList:
        """`list` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        return await in_thread(self.list, counters=counters)

    async def atop(self, by: Total = "denied", limit: SupportsIndex = 20) -> StatusList:
        """`top` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        return await in_thread(self.top, by, limit)

    async def aflush(self) -> None:
        """`flush` in a thread of the event loop."""
        from flint._surface.loop import in_thread

        await in_thread(self.flush)

    async def aclose(self) -> None:
        """`close` in a thread of the event loop; so does `async with` at its end."""
        from flint._surface.loop import in_thread

        await in_thread(self.close)
