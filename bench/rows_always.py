"""`allow()` from Python in always mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peers
from harness import Bench, Outcome, Side, at_least, case, compare, python_side

THREADS = 16


def ours(bench: Bench, **options: Any) -> Callable[[], Side]:
    directory = bench.place("always")
    return lambda: python_side(
        "Flint", "targets_flint.Flint", directory=directory, sync="always", **options
    )


def beside_floor(bench: Bench) -> Outcome:
    directory = bench.place("plain")
    return compare(
        bench,
        ours(bench),
        lambda: python_side("pwrite, fdatasync", "targets_plain.PlainFile", directory=directory),
    )


def threads(bench: Bench) -> Outcome:
    return compare(bench, ours(bench, threads=THREADS), ours(bench))


def denied(bench: Bench) -> Outcome:
    python, directory = peers.flint_02(), bench.place("flint-0.2")
    return compare(
        bench,
        ours(bench, rate=1),
        lambda: python_side(
            "flint-limiter 0.2.1",
            "targets_flint.Flint",
            python=python,
            directory=directory,
            sync="always",
            rate=1,
        ),
    )


CASES = [
    case(
        "always-floor",
        "`allow()` in always mode, 1 thread",
        "pwrite + fdatasync of 64 bytes",
        at_least(0.85),
        beside_floor,
    ),
    case("always-16-threads", "the same, 16 threads", "its own 1 thread", at_least(2.5), threads),
    case(
        "always-denied",
        "denied `allow()` in always mode",
        "flint-limiter 0.2.1, always",
        at_least(100),
        denied,
    ),
]
