"""Paired rounds: the one way in which everything here is measured.

A side is a process that has prepared its work and waits. Given a number of calls it makes them and
answers how long they took, how many were allowed and how many events a power loss would have cost
at the worst moment. The rounds of the sides that are compared alternate, each first in turn, so
that what else the machine does touches all of them. A ratio is computed for each round; shown are
the median of the ratios and their quartiles.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MOST_CALLS = 50_000_000
VERSIONS: dict[str, str] = {}  # of whatever has been measured


class NotRun(Exception):  # noqa: N818  (it is an outcome)
    """Why a row cannot be measured here."""


# ---- What is measured --------------------------------------------------------------------------


@dataclass(frozen=True)
class Demand:
    """What a row has to show."""

    text: str
    met: Callable[[Outcome], bool] | None  # None: the figure is shown and nothing demanded


def at_least(ratio: float) -> Demand:
    return Demand(f"{ratio:g} x", lambda outcome: outcome.value >= ratio)


def at_most(value: float, unit: str) -> Demand:
    return Demand(f"at most {value:g} {unit}", lambda outcome: outcome.value <= value)


def no_worse() -> Demand:
    """A ratio of 1, as far as the rounds can tell: their upper quartile reaches it."""
    return Demand("no worse", lambda outcome: outcome.quartiles[1] >= 1)


SHOWN = Demand("shown", None)
LOWER = Demand("lower", lambda outcome: outcome.value > 1)


@dataclass(frozen=True)
class Spec:
    """A row of the table, before it is measured."""

    name: str
    work: str
    against: str
    demand: Demand
    unit: str = "x"


@dataclass
class Tally:
    """One side of a row, all its rounds together."""

    what: str
    figure: float  # median over the rounds
    figure_unit: str
    calls: int
    allowed: int
    denied: int
    unsynced: int | None  # the largest number of events not on disk; None where none are kept
    details: dict[str, float] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a row has shown."""

    value: float
    quartiles: tuple[float, float]
    rounds: int
    sides: list[Tally]
    note: str = ""


@dataclass(frozen=True)
class Case:
    """Rows that are measured together."""

    specs: tuple[Spec, ...]
    run: Callable[[Bench], Sequence[Outcome]]


def case(
    name: str,
    work: str,
    against: str,
    demand: Demand,
    run: Callable[[Bench], Outcome],
) -> Case:
    """One row, measured alone."""
    return Case((Spec(name, work, against, demand),), lambda bench: [run(bench)])


@dataclass(frozen=True)
class Bench:
    """How large the measurement is, and where it may write."""

    directory: Path
    quick: bool

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 25

    @property
    def long_rounds(self) -> int:
        """Of rows whose single round takes seconds."""
        return 2 if self.quick else 5

    @property
    def longest_rounds(self) -> int:
        """Of rows whose single round takes minutes."""
        return 2

    @property
    def round_ns(self) -> int:
        return 2_000_000 if self.quick else 100_000_000

    def size(self, full: int) -> int:
        """Of a log or a table that is filled before the measurement."""
        return max(full // 1000, 100) if self.quick else full

    def place(self, name: str) -> Path:
        """A directory for one side, new and empty."""
        number = 0
        while True:
            path = self.directory / f"{name}-{number}"
            if not path.exists():
                path.mkdir(parents=True)
                return path
            number += 1


# ---- Sides -------------------------------------------------------------------------------------

Round = dict[str, Any]  # what a side answers: ns, calls, allowed, denied, unsynced, more


class Side:
    """A process that makes calls when told how many, one line of JSON for each round."""

    def __init__(self, what: str, command: Sequence[str | Path]) -> None:
        self.what = what
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            VERSIONS.update(self.answer().get("versions", {}))
        except BaseException:
            self.close()
            raise

    def answer(self) -> Round:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise NotRun(f"{self.what} ended with status {self.process.wait()}")
        answer: Round = json.loads(line)
        if "error" in answer:
            raise NotRun(f"{self.what}: {answer['error']}")
        return answer

    def round(self, calls: int) -> Round:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{calls}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise NotRun(f"{self.what} has ended") from None
        return self.answer()

    def calibrate(self, round_ns: int) -> int:
        """How many calls take about so long. What is first done only once is done after it."""
        calls, ns = 1, 0
        while True:
            # Whatever else happened once did not happen twice.
            ns = min(int(self.round(calls)["ns"]) for _ in range(2))
            if ns >= round_ns // 4 or calls >= MOST_CALLS:
                break
            calls = min(calls * 4, MOST_CALLS)
        return max(1, min(MOST_CALLS, calls * round_ns // max(ns, 1)))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def python_side(
    what: str, target: str, *, python: str | Path = sys.executable, **options: Any
) -> Side:
    """`target` is MODULE.CLASS; the options are its arguments."""
    command = [python, HERE / "worker.py", target, json.dumps(options, default=str)]
    return Side(what, command)


@contextlib.contextmanager
def opened(*sides: Callable[[], Side]) -> Iterator[list[Side]]:
    with contextlib.ExitStack() as stack:
        made = []
        for side in sides:
            one = side()
            stack.callback(one.close)
            made.append(one)
        yield made


# ---- Rounds ------------------------------------------------------------------------------------


class Answers(Protocol):
    """What can be measured: a Side, or what stands in for one."""

    def round(self, calls: int) -> Round: ...


def alternate(sides: Sequence[Answers], calls: Sequence[int], rounds: int) -> list[list[Round]]:
    """For each side its rounds. Every other time around the last goes first."""
    results: list[list[Round]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for number in range(rounds):
        for index in order if number % 2 == 0 else reversed(order):
            results[index].append(sides[index].round(calls[index]))
    return results


def ns_per_call(one: Round) -> float:
    return float(one["ns"]) / float(one["calls"])


def figure(name: str) -> Callable[[Round], float]:
    """What a round says under a name, such as a percentile."""
    return lambda one: float(one[name])


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, method="inclusive")
    return low, high


def tally(
    what: str,
    rounds: Sequence[Round],
    metric: Callable[[Round], float] = ns_per_call,
    figure_unit: str = "ns",
    details: Sequence[str] = (),
) -> Tally:
    unsynced = [one["unsynced"] for one in rounds if one.get("unsynced") is not None]
    return Tally(
        what=what,
        figure=statistics.median(metric(one) for one in rounds),
        figure_unit=figure_unit,
        calls=sum(one["calls"] for one in rounds),
        allowed=sum(one["allowed"] for one in rounds),
        denied=sum(one["denied"] for one in rounds),
        unsynced=max(unsynced, default=None),
        details={name: statistics.median(one[name] for one in rounds) for name in details},
    )


def outcome(ratios: Sequence[float], sides: list[Tally], note: str = "") -> Outcome:
    return Outcome(statistics.median(ratios), quartiles(ratios), len(ratios), sides, note)


def faster(
    ours: Sequence[Round],
    theirs: Sequence[Round],
    names: tuple[str, str],
    metric: Callable[[Round], float] = ns_per_call,
    details: Sequence[str] = (),
    note: str = "",
) -> Outcome:
    """How many times as fast ours are, from neighbouring rounds."""
    ratios = [metric(their) / metric(our) for our, their in zip(ours, theirs, strict=True)]
    both = [
        tally(name, rounds, metric, details=details)
        for name, rounds in zip(names, (ours, theirs), strict=True)
    ]
    return outcome(ratios, both, note)


def slower(
    ours: Sequence[Round],
    theirs: Sequence[Round],
    names: tuple[str, str],
    metric: Callable[[Round], float] = ns_per_call,
    details: Sequence[str] = (),
    note: str = "",
) -> Outcome:
    """How many times as long ours take, from neighbouring rounds."""
    ratios = [metric(our) / metric(their) for our, their in zip(ours, theirs, strict=True)]
    return outcome(ratios, faster(ours, theirs, names, metric, details).sides, note)


def compare(
    bench: Bench,
    ours: Callable[[], Side],
    theirs: Callable[[], Side],
    metric: Callable[[Round], float] = ns_per_call,
    details: Sequence[str] = (),
    note: str = "",
) -> Outcome:
    """The usual case: two sides, rounds of about the same time."""
    with opened(ours, theirs) as sides:
        calls = [side.calibrate(bench.round_ns) for side in sides]
        our_rounds, their_rounds = alternate(sides, calls, bench.rounds)
        names = (sides[0].what, sides[1].what)
        return faster(our_rounds, their_rounds, names, metric, details, note)
