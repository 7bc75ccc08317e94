"""asyncio."""

from __future__ import annotations

import peers
from harness import Bench, Outcome, at_least, case, compare, python_side


def awaited(bench: Bench) -> Outcome:
    ours, theirs = bench.place("acheck"), bench.place("executor")
    target = "targets_async.Awaited"
    return compare(
        bench,
        lambda: python_side("acheck", target, directory=ours),
        lambda: python_side("run_in_executor", target, directory=theirs, executor=True),
    )


def gathered(bench: Bench) -> Outcome:
    python, target = peers.flint_02(), "targets_async.Gathered"
    ours, theirs = bench.place("flint"), bench.place("flint-0.2")
    return compare(
        bench,
        lambda: python_side("Flint", target, directory=ours),
        lambda: python_side("flint-limiter 0.2.1", target, python=python, directory=theirs),
        note="a figure is one `gather`",
    )


CASES = [
    case(
        "acheck",
        "`await acheck()` in batch mode",
        "the same call through `run_in_executor`",
        at_least(30),
        awaited,
    ),
    case(
        "gather",
        "`gather` of 1,000 `acheck` in always mode",
        "flint-limiter 0.2.1",
        at_least(8),
        gathered,
    ),
]
