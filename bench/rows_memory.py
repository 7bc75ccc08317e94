"""Memory for each live counter under a template."""

from __future__ import annotations

import contextlib
import statistics
from pathlib import Path

import peers
from harness import Bench, Case, Outcome, Round, Side, Spec, at_most, quartiles, tally

KEYS = 1_000_000


def per_counter(one: Round) -> float:
    return float(one["bytes"]) / float(one["calls"])


def grow(bench: Bench, place: str | Path) -> Round:
    """One process, which is new: what another round has freed would be used again."""
    side = Side("Flint", [peers.c_program("memory"), place])
    with contextlib.closing(side):
        return side.round(bench.size(KEYS))


def memory(bench: Bench) -> Outcome:
    names = (":memory:", "a directory, while it is compacted")
    rounds = [
        (grow(bench, ":memory:"), grow(bench, bench.place("memory")))
        for _ in range(bench.long_rounds)
    ]
    values = [per_counter(one) for one, _ in rounds]
    sides = [
        tally(name, seen, per_counter, "B")
        for name, seen in zip(names, zip(*rounds, strict=True), strict=True)
    ]
    return Outcome(statistics.median(values), quartiles(values), len(values), sides)


CASES = [
    Case(
        (
            Spec(
                "memory",
                "bytes of memory per live template counter, totals and time stamps included, "
                "1,000,000 keys of 16 bytes",
                "",
                at_most(160, "B"),
                unit="B",
            ),
        ),
        lambda bench: [memory(bench)],
    )
]
