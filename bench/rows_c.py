"""`flint_limiter_check` from C in batch mode."""

from __future__ import annotations

from collections.abc import Callable

import peers
from harness import SHOWN, Bench, Outcome, Side, at_least, case, compare

DECISION_ONLY = 4  # FLINT_LIMITER_DECISION_ONLY


def check(
    bench: Bench, threads: int = 1, flags: int = 0, memory: bool = False, apart: bool = False
) -> Callable[[], Side]:
    program = peers.c_program("check")
    directory = ":memory:" if memory else bench.place("check")
    what = "Flint" if threads == 1 else f"Flint, {threads} threads"
    command = [program, directory, str(threads), str(flags)]
    if apart:
        return lambda: Side(f"{threads} x Flint", [*command, "apart"])
    return lambda: Side(what, command)


def beside_floor(clock: str, flags: int = 0) -> Callable[[Bench], Outcome]:
    def floor() -> Side:
        return Side("hash, clock, copy", [peers.c_program("floor"), clock])

    return lambda bench: compare(bench, check(bench, flags=flags), floor)


def two_threads(memory: bool) -> Callable[[Bench], Outcome]:
    return lambda bench: compare(bench, check(bench, 2, memory=memory), check(bench, memory=memory))


def beside_apart(bench: Bench) -> Outcome:
    return compare(bench, check(bench, 2, memory=True), check(bench, 2, memory=True, apart=True))


def beside_governor(memory: bool) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        program = peers.governor()
        ours = check(bench, flags=DECISION_ONLY, memory=memory)
        return compare(bench, ours, lambda: Side("governor", [program]))

    return run


CASES = [
    case(
        "c-floor",
        "`flint_limiter_check` from C, batch mode",
        "a program that hashes the key, reads the clock as Flint does and copies 40 bytes",
        at_least(0.4),
        beside_floor("counter"),
    ),
    case(
        "c-floor-system",
        "the same",
        "one that asks `clock_gettime` instead",
        at_least(0.4),
        beside_floor("system"),
    ),
    case(
        "c-decision",
        "the same, asking for the decision alone",
        "the program that reads the clock as Flint does",
        SHOWN,
        beside_floor("counter", DECISION_ONLY),
    ),
    case(
        "c-two-threads",
        "`flint_limiter_check` from 2 threads on 2 cores, different keys",
        "1 thread",
        at_least(1.2),
        two_threads(memory=False),
    ),
    case(
        "c-two-threads-memory",
        "the same in memory, where threads share nothing but the processor",
        "1 thread",
        at_least(1.8),
        two_threads(memory=True),
    ),
    case(
        "c-two-threads-apart",
        "the same in memory from 2 threads",
        "2 threads, each with a limiter of its own",
        SHOWN,
        beside_apart,
    ),
    case(
        "c-governor",
        "the same in batch mode from 1 thread, asking for the decision alone",
        "governor 0.10, keyed (Rust, in memory), which tells no more",
        at_least(0.5),
        beside_governor(memory=False),
    ),
    case(
        "c-governor-memory",
        "the same in memory",
        "governor 0.10, keyed",
        at_least(0.9),
        beside_governor(memory=True),
    ),
]
