"""The coroutines of a remote place: they ask in the event loop, without threads."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from flint._remote.place import RemotePlace
from flint._surface.arguments import check_limits
from flint._surface.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import SupportsIndex

    from flint._native import Result
    from flint._surface.arguments import Duration, Seconds
    from flint._surface.line import Decided
    from flint._surface.protocol import Limits
    from flint._surface.rate import RateLike
    from flint._surface.several import Step
    from flint._surface.sync import StatusList
    from flint._surface.types import Algorithm, CheckAllDict, Item, StatusDict, Total


class RemoteSurface(RemotePlace, Surface):
    """`Surface`, where what an event loop awaits is an answer and not a disk."""

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
        """`check` as a coroutine, without a thread. Cancelling it does not take an admission back
        that the server has made."""
        return await self._decide_in_loop("check", key, cost, rate, per, burst, algorithm, limit)

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
        return await self._decide_in_loop("peek", key, cost, rate, per, burst, algorithm, limit)

    async def _arefuse(
        self, key: str, cost: SupportsIndex = 1, *, limit: RateLike | None = None
    ) -> Decided:
        return await self.apeek(key, cost, limit=limit), 0

    async def _decide_in_loop(
        self, call: str, key: str, cost: SupportsIndex, *limit: Any
    ) -> Result:
        asked = self._questions.read_check(self._rates, key, cost, *limit)
        return await self._ask_in_loop(self._questions.decision(call, asked))

    async def acheck_all(self, items: Iterable[Item]) -> CheckAllDict:
        """`check_all` as a coroutine; see `acheck`."""
        return await self._ask_in_loop(self._questions.check_all(items))

    async def aacquire(
        self,
        key: str,
        cost: SupportsIndex = 1,
        timeout: Seconds | None = None,
        *,
        limit: RateLike | None = None,
    ) -> Result:
        """`acquire` as a coroutine. Cancelled while it stands in line it uses up nothing."""
        from flint._remote.waiting import acquire

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
        """`limit` as a coroutine."""
        rest = (template, if_absent, name, stack)
        await self._drive(self._limiting(key, rate, (per, per_ns), algorithm, burst, *rest))

    async def alimit_many(self, limits: Limits, *, if_absent: bool = False) -> None:
        """`limit_many` as a coroutine."""
        check_limits(limits)
        await self._drive(self._limiting_many(tuple(limits), if_absent))

    async def _drive(self, steps: Generator[Step, Any, None]) -> None:
        """Make the calls of a place that configuring takes."""
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._make(*step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration:
            pass

    async def _make(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if call == "_limit":
            return await self._ask_in_loop(self._questions.limit(*args))
        if call == "_limit_many":
            for question in self._questions.limit_many(*args):
                await self._ask_in_loop(question)
            return None
        if call == "_remove":
            return await self._ask_in_loop(self._questions.change("remove", *args, **kwargs))
        if call == "_limits_of":
            answers = [await self._ask_in_loop(one) for one in self._questions.limits_of(*args)]
            return [one for answer in answers for one in answer]
        return await self.apeek(*args)

    async def areset(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> None:
        """`reset` as a coroutine."""
        await self._ask_in_loop(self._questions.change("reset", key, template, name))
        self._lines.look_again()

    async def aremove(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> None:
        """`remove` as a coroutine."""
        await self._ask_in_loop(self._questions.change("remove", key, template, name))
        if name is None:
            self._declared.forget(key)
        self._lines.look_again()

    async def astatus(
        self, key: str, template: bool | None = None, *, name: str | None = None
    ) -> StatusDict | None:
        """`status` as a coroutine."""
        return await self._ask_in_loop(self._questions.status(key, template, name))

    async def alist(self, *, counters: bool = False) -> StatusList:
        """`list` as a coroutine."""
        entries: StatusList = await self._ask_in_loop(self._questions.listing(counters))
        entries.sort(key=operator.itemgetter("key", "template"))
        return entries

    async def atop(self, by: Total = "denied", limit: SupportsIndex = 20) -> StatusList:
        """`top` as a coroutine."""
        return await self._ask_in_loop(self._questions.top(by, limit))

    async def aflush(self) -> None:
        """`flush` as a coroutine."""
        await self._ask_in_loop(self._questions.flush())
