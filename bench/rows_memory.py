"""Memory for each live counter under a template."""

from __future__ import annotations

import contextlib
import statistics

import peers
from harness import Bench, Case, Outcome, Side, Spec, at_most, quartiles, tally

KEYS = 1_000_000


def per_counter(bench: Bench) -> Outcome:
    keys, rounds = bench.size(KEYS), []
    for _ in range(bench.long_rounds):
        command = [peers.c_program("memory"), bench.place("memory")]
        side = Side("Flint", command)
        with contextlib.closing(side):
            rounds.append(side.round(keys))
    values = [float(one["bytes"]) / one["calls"] for one in rounds]
    seen = tally("Flint", rounds, lambda one: float(one["bytes"]) / one["calls"], "B")
    return Outcome(statistics.median(values), quartiles(values), len(values), [seen])


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
        lambda bench: [per_counter(bench)],
    )
]
