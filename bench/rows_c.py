"""`flint_limiter_check` from C in batch mode."""

from __future__ import annotations

from collections.abc import Callable

import peers
from harness import Bench, Outcome, Side, at_least, case, compare


def check(bench: Bench, threads: int = 1) -> Callable[[], Side]:
    program, directory = peers.c_program("check"), bench.place("check")
    what = "Flint" if threads == 1 else f"Flint, {threads} threads"
    return lambda: Side(what, [program, directory, str(threads)])


def beside_floor(bench: Bench) -> Outcome:
    program = peers.c_program("floor")
    return compare(bench, check(bench), lambda: Side("hash, clock, copy", [program]))


def two_threads(bench: Bench) -> Outcome:
    return compare(bench, check(bench, 2), check(bench))


def beside_governor(bench: Bench) -> Outcome:
    program = peers.governor()
    return compare(bench, check(bench), lambda: Side("governor", [program]))


CASES = [
    case(
        "c-floor",
        "`flint_limiter_check` from C, batch mode",
        "a program that hashes the key, reads the clock and copies 40 bytes",
        at_least(0.3),
        beside_floor,
    ),
    case(
        "c-two-threads",
        "the same from 2 threads on 2 cores, different keys",
        "1 thread",
        at_least(1.7),
        two_threads,
    ),
    case(
        "c-governor",
        "the same from 1 thread",
        "governor 0.10, keyed (Rust, in memory)",
        at_least(0.5),
        beside_governor,
    ),
]
