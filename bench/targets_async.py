"""Flint and Flint 0.2.1 awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from targets_flint import ONE_KEY, Flint

GATHERED = 1000


class Awaited(Flint):
    """One call after another: `acheck`, or `check` in the loop's executor."""

    def __init__(self, directory: str, executor: bool = False) -> None:
        super().__init__(directory)
        self.loop = asyncio.new_event_loop()
        self.executor = executor

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        super().close()

    async def in_turn(self, calls: int) -> int:
        check, run = self.limiter.check, self.loop.run_in_executor
        allowed = 0
        if self.executor:
            for _ in range(calls):
                allowed += (await run(None, check, ONE_KEY)).allowed
            return allowed
        acheck: Callable[[str], Awaitable[Any]] = self.limiter.acheck
        for _ in range(calls):
            allowed += (await acheck(ONE_KEY)).allowed
        return allowed

    def run(self, calls: int) -> dict[str, Any]:
        self.before()
        started = time.perf_counter_ns()
        allowed = self.loop.run_until_complete(self.in_turn(calls))
        ns = time.perf_counter_ns() - started
        lag = self.unsynced(calls)
        self.after()
        return {
            "ns": ns,
            "calls": calls,
            "allowed": allowed,
            "denied": calls - allowed,
            "unsynced": lag,
        }


class Gathered(Flint):
    """`gather` of 1,000 `acheck` in always mode; one call is one gathering."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory, sync="always")
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        super().close()

    async def together(self) -> int:
        acheck = self.limiter.acheck
        results = await asyncio.gather(*(acheck(ONE_KEY) for _ in range(GATHERED)))
        return sum(result.allowed for result in results)

    def run(self, calls: int) -> dict[str, Any]:
        started = time.perf_counter_ns()
        allowed = sum(self.loop.run_until_complete(self.together()) for _ in range(calls))
        ns = time.perf_counter_ns() - started
        return {
            "ns": ns,
            "calls": calls,
            "allowed": allowed,
            "denied": calls * GATHERED - allowed,
            "unsynced": 0,
        }
