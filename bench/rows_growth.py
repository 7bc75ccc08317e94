"""What a call costs when there is a hundred times as much of what it may look through."""

from __future__ import annotations

from collections.abc import Callable

from harness import (
    Bench,
    Case,
    Outcome,
    Side,
    Spec,
    alternate,
    at_most,
    opened,
    python_side,
    slower,
)

FEW, MANY = 1000, 100_000


def beside_few(target: str, thing: str) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        def side(size: int) -> Callable[[], Side]:
            what = f"{size:,} {thing}"
            return lambda: python_side(what, f"targets_growth.{target}", size=size)

        with opened(side(bench.size(MANY)), side(bench.size(FEW))) as (many, few):
            calls = [one.calibrate(bench.round_ns) for one in (many, few)]
            much, little = alternate([many, few], calls, bench.rounds)
            return slower(much, little, (many.what, few.what))

    return run


def grown(name: str, work: str, target: str, thing: str) -> Case:
    spec = Spec(name, work, f"the same with {FEW:,}", at_most(1.5, "x"), "x as long")
    run = beside_few(target, thing)
    return Case((spec,), lambda bench: [run(bench)])


CASES = [
    grown(
        "grow-max-keys",
        f"a new key refused while all {MANY:,} that `max_keys` allows are in use",
        "Refusals",
        "keys",
    ),
    grown("grow-list", f"`list`, each of {MANY:,} limits", "Listing", "limits"),
    grown("grow-aacquire", f"`aacquire`, each of {MANY:,} tasks in line", "Waiters", "tasks"),
    grown(
        "grow-denial",
        f"a denial of a large cost by a sliding window log of {MANY:,} entries",
        "LargeDenials",
        "entries",
    ),
]
