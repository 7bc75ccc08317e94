"""The loops in which calls are timed: the same for every side that is written in Python."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

# Between chunks, and outside the time that is taken, a side looks at what is not on disk yet.
CHUNK = 1000


class Target:
    """What a worker measures. `versions` says of what."""

    versions: dict[str, str]

    def __init__(self) -> None:
        self.versions = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        pass

    def run(self, calls: int) -> dict[str, Any]:
        raise NotImplementedError


class Loop(Target):
    """Calls `allow` with one key after another; what it takes as a key may be several."""

    chunk = CHUNK

    def __init__(self, allow: Callable[[Any], Any], keys: Sequence[Any]) -> None:
        super().__init__()
        self.allow = allow
        # Neither copies nor touches the keys before their turn.
        self.keys: Iterator[Any] = itertools.chain.from_iterable(itertools.repeat(keys))

    def before(self) -> None:
        """Called before each round."""

    def unsynced(self, made: int) -> int | None:
        """Events that are not on disk, after so many calls of the round."""
        raise NotImplementedError

    def after(self) -> None:
        """Called after each round, so that nothing of it runs on in the other sides' rounds."""

    def run(self, calls: int) -> dict[str, Any]:
        allow, keys = self.allow, self.keys
        ns = made = allowed = 0
        largest: int | None = None
        self.before()
        while made < calls:
            count = min(self.chunk, calls - made)
            started = time.perf_counter_ns()
            for key in itertools.islice(keys, count):
                if allow(key):
                    allowed += 1
            ns += time.perf_counter_ns() - started
            made += count
            lag = self.unsynced(made)
            if lag is not None:
                largest = max(largest or 0, lag)
        self.after()
        return {
            "ns": ns,
            "calls": made,
            "allowed": allowed,
            "denied": made - allowed,
            "unsynced": largest,
        }


class MemoryLoop(Loop):
    """Of what keeps nothing on disk: all that has ever been allowed would be lost."""

    def __init__(self, allow: Callable[[str], Any], keys: Sequence[str]) -> None:
        super().__init__(allow, keys)
        self.total = 0

    def unsynced(self, made: int) -> int | None:
        return self.total + made

    def run(self, calls: int) -> dict[str, Any]:
        done = super().run(calls)
        self.total += done["calls"]
        return done


def percentiles(latencies_ns: list[int]) -> dict[str, float]:
    ordered = sorted(latencies_ns)

    def at(share: float) -> float:
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    return {
        "mean_ns": sum(ordered) / len(ordered),
        "p50_ns": at(0.5),
        "p99_ns": at(0.99),
        "p999_ns": at(0.999),
        "p9999_ns": at(0.9999),
        "max_ns": ordered[-1],
    }
