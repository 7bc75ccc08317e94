"""How long single checks take from C, in batch mode: while a log is compacted, and the worst cases.
A figure is the percentile that the row names."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import peers
from harness import (
    HERE,
    SHOWN,
    Bench,
    Case,
    Outcome,
    Round,
    Side,
    Spec,
    figure,
    opened,
    slower,
)

EVENTS, CHECKS = 1_000_000, 1_000_000
PERCENTILES = ("p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns")


def side(bench: Bench, what: str, scenario: str, place: Path | None = None) -> Callable[[], Side]:
    program, place = peers.c_program("latency"), place or bench.place(scenario)
    events = str(bench.size(EVENTS))
    return lambda: Side(what, [program, place, scenario, events])


def longer(
    disturbed: Sequence[Round],
    quiet: Sequence[Round],
    names: tuple[str, str],
    percentile: str,
    note: str = "",
) -> Outcome:
    """How many times as long the percentile is when disturbed."""
    details = [name for name in PERCENTILES if name != percentile]
    return slower(disturbed, quiet, names, figure(percentile), details, note)


def while_compacting(bench: Bench) -> Sequence[Outcome]:
    names = ("compacting", "quiet")
    disturbed, quiet = [], []
    with opened(side(bench, names[0], "compact"), side(bench, names[1], "still")) as (one, other):
        for _ in range(bench.long_rounds):
            disturbed.append(one.round(1))
            quiet.append(other.round(disturbed[-1]["calls"]))
    return [longer(disturbed, quiet, names, "p999_ns")]


@contextlib.contextmanager
def busy_disk(path: Path) -> Iterator[None]:
    program = [sys.executable, str(HERE / "busy_disk.py"), str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()
            process.wait()


def worst(scenario: str, quiet_scenario: str) -> Callable[[Bench], Sequence[Outcome]]:
    def run(bench: Bench) -> Sequence[Outcome]:
        names = (scenario, quiet_scenario)
        checks = bench.size(CHECKS)
        disturbed, quiet = [], []
        with opened(side(bench, names[0], scenario), side(bench, names[1], quiet_scenario)) as both:
            for _ in range(bench.long_rounds):
                disturbed.append(both[0].round(checks))
                quiet.append(both[1].round(checks))
        ended = sum(one["segments"] for one in disturbed)
        note = f"{ended} segments ended" if scenario == "rotate" else ""
        return two_rows(disturbed, quiet, names, note)

    return run


def two_rows(
    disturbed: Sequence[Round], quiet: Sequence[Round], names: tuple[str, str], note: str = ""
) -> list[Outcome]:
    return [longer(disturbed, quiet, names, name, note) for name in ("p9999_ns", "max_ns")]


def on_a_busy_disk(bench: Bench) -> Sequence[Outcome]:
    checks = bench.size(CHECKS)
    disturbed, quiet = [], []
    with opened(side(bench, "busy disk", "quiet"), side(bench, "quiet disk", "quiet")) as both:
        for _ in range(bench.long_rounds):
            with busy_disk(bench.directory / "busy"):
                disturbed.append(both[0].round(checks))
            quiet.append(both[1].round(checks))
    return two_rows(disturbed, quiet, ("busy disk", "quiet disk"))


def shown_case(
    name: str, when: str, against: str, run: Callable[[Bench], Sequence[Outcome]]
) -> Case:
    work = f"worst case of a check from C {when}"
    return Case(
        (
            Spec(f"worst-{name}", f"{work}: p99.99", against, SHOWN, "x as long"),
            Spec(f"worst-{name}-max", f"{work}: maximum", against, SHOWN, "x as long"),
        ),
        run,
    )


CASES = [
    shown_case(
        "rotate", "while segments of 8 MiB end", "without rotation", worst("rotate", "quiet")
    ),
    shown_case(
        "busy-disk",
        "during syncs on a disk that another program keeps busy",
        "a quiet disk",
        on_a_busy_disk,
    ),
    shown_case(
        "grow",
        "while the table grows from nothing to 1,000,000 keys",
        "the same keys, once they are there",
        worst("growing", "grown"),
    ),
]
