"""The command `flint`: how long it takes to start, and what its looks at a directory cost the
program that writes there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness import (
    Bench,
    Case,
    Demand,
    NotRun,
    Outcome,
    Round,
    Side,
    Spec,
    alternate,
    at_most,
    case,
    opened,
    python_side,
    slower,
)
from rows_latency import longer, side

CHECKS = 20_000  # two seconds of a steady writer

# As far as the rounds can tell.
NO_LONGER = Demand("no longer", lambda outcome: outcome.quartiles[0] <= 1)


def installed() -> Path:
    """The command of the environment that measures."""
    found = shutil.which("flint", path=str(Path(sys.executable).parent))
    if found is None:
        raise NotRun(f"the command is not installed beside {sys.executable}")
    return Path(found)


def start(bench: Bench) -> Outcome:
    def processes(what: str, *command: str | Path) -> Callable[[], Side]:
        words = [str(word) for word in command]
        return lambda: python_side(what, "targets_plain.Processes", command=words)

    names = ("flint version", "python -c pass")
    with opened(
        processes(names[0], installed(), "version"),
        processes(names[1], sys.executable, "-c", "pass"),
    ) as sides:
        calls = [one.calibrate(bench.round_ns) for one in sides]
        ours, theirs = alternate(sides, calls, bench.rounds)
    return slower(ours, theirs, names)


@contextlib.contextmanager
def looking(command: str, place: Path) -> Iterator[None]:
    """A shell's command that looks at the directory, and has begun to say what it sees."""
    shell = subprocess.Popen(
        ["sh", "-c", command],
        env={**os.environ, "FLINT_DATA_DIR": str(place)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert shell.stdout is not None
    try:
        if not os.read(shell.stdout.fileno(), 1):
            raise NotRun(f"{command} ended with status {shell.wait()}")
        with subprocess.Popen(["cat"], stdin=shell.stdout, stdout=subprocess.DEVNULL):
            shell.stdout.close()
            try:
                yield
            finally:
                os.killpg(shell.pid, signal.SIGKILL)
    finally:
        shell.wait()


def beside(words: str) -> Callable[[Bench], Sequence[Outcome]]:
    def run(bench: Bench) -> Sequence[Outcome]:
        command = f"'{installed()}' {words}"
        if not words.startswith(("top", "log")):  # which end by themselves
            command = f"while {command}; do :; done"
        place = bench.place("looked-at")
        disturbed: list[Round] = []
        quiet: list[Round] = []
        names = (f"beside flint {words}", "alone")
        checks = bench.size(CHECKS)
        looked_at = side(bench, names[0], "steady", place)
        with opened(looked_at, side(bench, names[1], "steady")) as (one, other):
            one.round(checks)  # so that there is something to see
            other.round(checks)
            for _ in range(bench.long_rounds):
                with looking(command, place):
                    disturbed.append(one.round(checks))
                quiet.append(other.round(checks))
        return [longer(disturbed, quiet, names, "p99_ns")]

    return run


def beside_case(name: str, words: str) -> Case:
    work = f"a check from C, 10,000 a second, while `flint {words}` looks on: p99"
    return Case((Spec(name, work, "alone", NO_LONGER, "x as long"),), beside(words))


CASES = [
    case("version", "`flint version`", "`python -c pass`", at_most(2, "x"), start),
    beside_case("beside-top", "top --watch"),
    beside_case("beside-dump", "log dump --follow"),
    beside_case("beside-doctor", "doctor"),
]
