"""What may cost more the more there is of something: sides that have so much of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from loops import Target
from targets_flint import OPEN, PER, TEMPLATE_RATE, made_keys, version

import flint


class Grown(Target):
    """One limiter in memory, in which there is `size` of something."""

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__()
        self.versions = {"flint": version()}
        self.size = size
        self.limiter: Any = OPEN(":memory:", **options)

    def close(self) -> None:
        self.limiter.close()

    def made(self, ns: int, calls: int, denied: int = 0) -> dict[str, Any]:
        return {"ns": ns, "calls": calls, "allowed": 0, "denied": denied, "unsynced": None}


class Refusals(Grown):
    """New keys, while all `max_keys` places are in use."""

    def __init__(self, size: int) -> None:
        super().__init__(size, max_keys=size)
        self.limiter.limit("user:*", rate=TEMPLATE_RATE, per=PER)
        for name in made_keys(size):
            self.limiter.allow(name)
        self.names = itertools.cycle([f"user:new:{number}" for number in range(1000)])

    def run(self, calls: int) -> dict[str, Any]:
        refused, allow = 0, self.limiter.allow
        started = time.perf_counter_ns()
        for name in itertools.islice(self.names, calls):
            try:
                allow(name)
            except flint.TableFullError:
                refused += 1
        ns = time.perf_counter_ns() - started
        if refused != calls:
            raise RuntimeError(f"{calls - refused} of {calls} keys were not refused")
        return self.made(ns, calls, refused)


class Listing(Grown):
    """`list` of all limits; a call is one limit of them."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.limiter.limit_many([(name, 100, "1m") for name in made_keys(size)])

    def run(self, calls: int) -> dict[str, Any]:
        times = max(calls // self.size, 1)
        started = time.perf_counter_ns()
        listed = sum(len(self.limiter.list()) for _ in range(times))
        ns = time.perf_counter_ns() - started
        if listed != times * self.size:
            raise RuntimeError(f"{listed} limits were listed, not {times * self.size}")
        return self.made(ns, listed)


class Waiters(Grown):
    """`aacquire` of one key by so many tasks at once, none of which gets it; a call is one task,
    its end included."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.limiter.limit("key", rate=1, per=PER)
        self.limiter.allow("key")
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.close()
        super().close()

    async def wait(self) -> int:
        acquire = self.limiter.aacquire
        tasks = [asyncio.ensure_future(acquire("key")) for _ in range(self.size)]
        for _ in range(3):  # until all stand in line
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(one, asyncio.CancelledError) for one in ended)

    def run(self, calls: int) -> dict[str, Any]:
        times = max(calls // self.size, 1)
        started = time.perf_counter_ns()
        waited = sum(self.loop.run_until_complete(self.wait()) for _ in range(times))
        ns = time.perf_counter_ns() - started
        if waited != times * self.size:
            raise RuntimeError(f"{times * self.size - waited} tasks did not wait")
        return self.made(ns, waited, waited)


class LargeDenials(Grown):
    """A cost as large as the limit, of a sliding window log that has so many entries."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.limiter.limit("key", rate=size, per=PER, algorithm="sliding_window_log")
        for _ in range(size):
            self.limiter.allow("key")

    def run(self, calls: int) -> dict[str, Any]:
        check, size = self.limiter.check, self.size
        started = time.perf_counter_ns()
        allowed = sum(check("key", size).allowed for _ in range(calls))
        ns = time.perf_counter_ns() - started
        if allowed:
            raise RuntimeError("a cost was admitted for which there was no room")
        return self.made(ns, calls, calls)
