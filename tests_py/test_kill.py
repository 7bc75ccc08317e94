"""kill -9 at random moments: nothing that was answered is lost, nothing is counted twice.

A child process (kill_child.py) makes calls from several threads and says before each what it is
about to do, and after each that it has returned. It is killed at some moment. The next child opens
the same directory and writes down what it finds, which must be what was answered, with or without
each of the calls that were in flight. Then it goes on, until it is killed too.

    python tests_py/test_kill.py --kills 200 --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

import flint

CHILD = Path(__file__).with_name("kill_child.py")
DEADLINE_S = 120
SMALLEST_BYTES = 256 * 1024
TEMPLATES = ["slow:", "fast:", "burst:", "pair:", "deny:"]
MOMENTS = ["opening", "running", "rotating", "compacting", "closing"]

Sync = Literal["always", "batch"]


# ---- One child ---------------------------------------------------------------------------------


class Child:
    """A child process and what it has said so far."""

    def __init__(self, directory: Path, **options: Any) -> None:
        options["directory"] = str(directory)
        self.complaints = directory / "stderr.txt"
        with self.complaints.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, CHILD, json.dumps(options)],
                env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        assert self.process.stdout is not None
        self.pipe = self.process.stdout.fileno()
        self.said = bytearray()
        self.ended = False

    def listen(self, until_s: float) -> None:
        """Reads for a while; longer than until the given time only to take what is there."""
        left_s = max(0.0, until_s - time.monotonic())
        if select.select([self.pipe], [], [], left_s)[0]:
            chunk = os.read(self.pipe, 1 << 20)
            self.said += chunk
            self.ended = not chunk

    def wait_for(self, line: str) -> None:
        until_s = time.monotonic() + DEADLINE_S
        while f"{line}\n".encode() not in self.said and not self.ended:
            assert time.monotonic() < until_s, f"waiting for {line!r}"
            self.listen(until_s)

    def listen_for(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not self.ended:
            self.listen(until_s)

    def kill(self) -> list[list[str]]:
        """Kills the child; returns the words of every line that it has said."""
        self.process.kill()
        while not self.ended:
            self.listen(time.monotonic() + DEADLINE_S)
        status = self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        complaints = self.complaints.read_text("utf-8", "replace")
        assert (status, complaints) == (-9, ""), f"the child ended with {status}: {complaints}"
        assert not self.said or self.said.endswith(b"\n")
        return [line.split() for line in self.said.decode().splitlines()]


# ---- What must be found ------------------------------------------------------------------------


@dataclass
class Tally:
    """The totals of a key or of a template with all its counters."""

    allowed: int = 0
    cost: int = 0
    denied: int = 0


@dataclass
class Own:
    """A limit that one thread uses alone, so that its state is known exactly."""

    rate: int
    used: int = 0
    allowed: int = 0
    cost: int = 0


@dataclass
class Call:
    what: str  # check, burst, pair, limit, reset, remove
    key: str
    value: int  # cost (of a burst in all) or rate

    @property
    def admissions(self) -> int:
        return self.value if self.what == "burst" else 1

    def checked_keys(self) -> list[str]:
        if self.what == "pair":
            return [f"pair:{side}:{self.key}" for side in "ab"]
        return [self.key] if self.what in ("check", "burst") else []


@dataclass
class Counts:
    """What is shown of the kills at one moment."""

    kills: int = 0
    answered: int = 0
    in_flight: int = 0
    recorded: int = 0
    from_ring: int = 0
    denials: int = 0
    denials_lost: int = 0


def template_of(key: str) -> str | None:
    prefix = key.partition(":")[0] + ":"
    return prefix if prefix in TEMPLATES else None


class Expected:
    """What the directory must hold, by what was said."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = defaultdict(Tally)  # templates by their prefix
        self.own: dict[str, Own | None] = defaultdict(lambda: None)
        self.in_flight: list[Call] = []

    def take(self, lines: list[list[str]], counts: Counts) -> None:
        calls: dict[str, Call] = {}
        for words in lines:
            if len(words) == 5:
                thread, _, what, key, value = words
                calls[thread] = Call(what, key, int(value))
            elif len(words) == 3:
                thread, _, answer = words
                call = calls.pop(thread)
                self.answered(call, answer)
                counts.answered += call.admissions * (answer == "allowed")
                counts.denials += answer == "denied"
        self.in_flight += calls.values()
        counts.in_flight += len(calls)

    def answered(self, call: Call, answer: str) -> None:
        for tally in self.tallies_of(call):
            tally.allowed += call.admissions * (answer == "allowed")
            tally.cost += call.value * (answer == "allowed")
            tally.denied += answer == "denied"
        if call.key.startswith("own:"):
            before = self.own[call.key]
            self.own[call.key] = after = self.apply(call, before)
            if call.what == "check":
                assert (answer == "allowed") == (after != before), (call, answer, before)

    def tallies_of(self, call: Call) -> Iterator[Tally]:
        for key in call.checked_keys():
            prefix = template_of(key)
            if prefix is not None:
                yield self.tallies[prefix]
            # A removed limit's totals begin anew; those of forgotten counters go to the template.
            if prefix != "fast:" and not key.startswith("own:"):
                yield self.tallies[key]

    @staticmethod
    def apply(call: Call, own: Own | None) -> Own | None:
        if call.what == "limit":
            if own is None:
                return Own(call.value)
            return Own(call.value, min(own.used, call.value), own.allowed, own.cost)
        assert own is not None
        if call.what == "remove":
            return None
        if call.what == "reset":
            return Own(own.rate, 0, own.allowed, own.cost)
        if own.used + call.value > own.rate:
            return own
        return Own(own.rate, own.used + call.value, own.allowed + 1, own.cost + call.value)

    def check(self, found: dict[str, Any], counts: Counts) -> None:
        """Compares with what was found, and from now on expects exactly that."""
        limits = {status["key"]: status for status in found["limits"]}
        counts.from_ring += found["info"]["recovered_ring_records"]
        assert found["info"]["torn_bytes"] == 0
        self.check_own(limits, counts)
        self.check_pairs(limits)
        self.check_tallies(limits, counts)
        self.in_flight.clear()

    def check_own(self, limits: dict[str, Any], counts: Counts) -> None:
        for key in self.own:
            before = self.own[key]
            possible = [before]
            possible += [self.apply(call, before) for call in self.in_flight if call.key == key]
            status = limits.get(key)
            if status is None:
                own = None
            else:
                own = Own(
                    status["rate"],
                    status["rate"] - status["remaining"],
                    status["total_allowed"],
                    status["total_allowed_cost"],
                )
            assert own in possible, (key, own, possible)
            counts.recorded += own != before
            self.own[key] = own

    def check_pairs(self, limits: dict[str, Any]) -> None:
        for key, status in limits.items():
            if key.startswith("pair:a:"):
                other = limits[key.replace(":a:", ":b:")]
                for name in ("total_allowed", "total_allowed_cost", "remaining"):
                    assert status[name] == other[name], (status, other)

    def check_tallies(self, limits: dict[str, Any], counts: Counts) -> None:
        most: dict[int, Tally] = defaultdict(Tally)
        for call in self.in_flight:
            for tally in self.tallies_of(call):
                most[id(tally)].allowed += call.admissions
                most[id(tally)].cost += call.value
                most[id(tally)].denied += 1
        for key, tally in self.tallies.items():
            status = limits.get(key if not key.endswith(":") else f"{key}*")
            recorded = Tally()
            if status is not None:
                recorded = Tally(
                    status["total_allowed"], status["total_allowed_cost"], status["total_denied"]
                )
            extra = most[id(tally)]
            shown = (key, tally, recorded, extra)
            assert 0 <= recorded.allowed - tally.allowed <= extra.allowed, shown
            assert 0 <= recorded.cost - tally.cost <= extra.cost, shown
            assert recorded.denied - tally.denied <= extra.denied, shown
            if status is not None and not status["template"]:
                assert status["remaining"] == status["rate"] - recorded.cost, shown
            if key == "fast:" or (template_of(key) != key and not key.startswith("pair:b:")):
                counts.recorded += recorded.allowed - tally.allowed
                counts.denials_lost += max(0, tally.denied - recorded.denied)
            self.tallies[key] = recorded


# ---- Many kills --------------------------------------------------------------------------------


class Campaign:
    """Kills one child after the other, all on one directory."""

    def __init__(self, directory: Path, sync: Sync, seed: int) -> None:
        self.directory = directory
        self.sync = sync
        self.random = random.Random(f"{sync} {seed}")
        self.expected = Expected()
        self.counts = {moment: Counts() for moment in MOMENTS}
        self.last_counts = self.counts[MOMENTS[0]]
        self.opening_s = 0.03

    def kill_one(self, moment: str) -> None:
        small = SMALLEST_BYTES if moment == "rotating" else None
        run_s = self.random.uniform(0, 1 if moment == "rotating" else 0.4)
        child = Child(
            self.directory,
            sync=self.sync,
            seed=self.random.randrange(2**32),
            sizes={"segment_bytes": small, "ring_bytes": small},
            compact=moment == "compacting",
            close_after_s=run_s if moment == "closing" else None,
        )
        try:
            self.await_moment(child, moment, run_s)
        finally:
            lines = child.kill()
        if ["ready"] in lines:
            found = json.loads((self.directory / "found.json").read_text("utf-8"))
            # What is found is the doing of the kill before.
            self.expected.check(found, self.last_counts)
        counts = self.counts[moment]
        counts.kills += 1
        self.expected.take(lines, counts)
        if ["ready"] in lines:
            self.last_counts = counts

    def await_moment(self, child: Child, moment: str, run_s: float) -> None:
        child.wait_for("opening")
        started_s = time.monotonic()
        if moment == "opening":  # anywhere in it, if it takes about as long as the last time
            child.listen_for(self.random.uniform(0, 1.2 * self.opening_s))
            return
        child.wait_for("ready")
        self.opening_s = time.monotonic() - started_s
        if moment == "closing":
            child.wait_for("closing")
            run_s = self.random.uniform(0, 0.03)
        child.listen_for(run_s)

    def run(self, kills: int) -> None:
        moments = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
        self.random.shuffle(moments)
        for moment in moments:
            self.kill_one(moment)

    def finish(self) -> None:
        """Opens the directory here: after the last kill, and after a clean close."""
        for _ in range(2):
            with flint.Limiter(self.directory / "data", sync=self.sync) as limiter:
                found: Any = {"info": limiter.info(), "limits": limiter.list(counters=True)}
                self.expected.check(found, self.last_counts)
        assert found["info"]["recovered_ring_records"] == 0


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_kill(tmp_path: Path, sync: Sync) -> None:
    campaign = Campaign(tmp_path, sync, seed=1)
    campaign.run(100 if os.environ.get("FLINT_LONG") else 10)
    campaign.finish()
    assert all(counts.kills for counts in campaign.counts.values())
    assert sum(counts.answered for counts in campaign.counts.values()) > 100


# ---- By hand -----------------------------------------------------------------------------------


def machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    system = platform.uname()
    return f"{system.system} {system.release} {system.machine}, {os.cpu_count()} x {model}"


def row(sync: str, moment: str, counts: Counts) -> str:
    return (
        f"{sync:<7} {moment:<11}{counts.kills:>6}{counts.answered:>12,}{counts.in_flight:>11,}"
        f"{counts.recorded:>12,}{counts.from_ring:>11,}{counts.denials:>12,}"
        f"{counts.denials_lost:>14,}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"python tests_py/test_kill.py --kills {options.kills} --seed {options.seed}")
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, Python {sys.version.split()[0]}")
    print(
        "\nadmissions answered: the calls that had returned; in flight: those that had not when "
        "the kill\ncame, recorded: of these, the admissions that were found later\n"
    )
    print(
        "sync    killed        kills  admissions  in flight    recorded  from ring"
        "     denials  denials lost"
    )
    total = Counts()
    syncs: tuple[Sync, ...] = ("always", "batch")
    for sync in syncs:
        directory = tempfile.mkdtemp(prefix="flint-kill-")  # stays when there is an error to study
        campaign = Campaign(Path(directory), sync, options.seed)
        campaign.run(options.kills // len(syncs))
        campaign.finish()
        shutil.rmtree(directory)
        for moment, counts in campaign.counts.items():
            print(row(sync, moment, counts), flush=True)
            total.kills += counts.kills
            total.answered += counts.answered
    print(
        f"\n{total.kills} kills, {total.answered:,} admissions answered, none lost and none "
        "counted twice"
    )


if __name__ == "__main__":
    main()
