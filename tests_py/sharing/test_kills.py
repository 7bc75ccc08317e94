"""Owners that are killed or stopped under load from eight processes: nothing that was answered is
lost, and nothing is admitted over a limit.

FLINT_LONG=1 kills 1,000 in each mode; the result is in tests_py/results/sharing.txt."""

from __future__ import annotations

import mmap
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

import flint
from sharing import raw

LONG = "FLINT_LONG" in os.environ
WORKERS = 8
KILLS = 1000 if LONG else 10
STOPS = 100 if LONG else 3
# Each key is used until it is denied, so limits are met all the time.
KEYS = 2000 if LONG else 400
LIMIT = 5000 if LONG else 100
SEED = 7
DEADLINE_S = 300

# Of each worker, in a file that outlives it: how many calls failed, its longest call since the
# number at the front of the file has changed, that number, how many calls have returned, which is
# written last, and what each key has admitted. Each number is one store of a view that knows its
# type: bytes that are written one by one are read torn.
WORDS = 4
ROW_BYTES = 8 * WORDS + 4 * KEYS
WORKER = f"""
import mmap, os, sys, time
import flint
parent = os.getppid()
path, sync, table, at, timeout = sys.argv[1:]
with open(table, "r+b") as file:
    shared = mmap.mmap(file.fileno(), 0)
at = int(at) // 8
row, counts = memoryview(shared).cast("Q")[at:], memoryview(shared).cast("I")[2 * (at + {WORDS}):]
limiter = None
while limiter is None:
    try:
        limiter = flint.Limiter(path, sync=sync, shared=True, answer_timeout=timeout)
    except flint.FlintConnectionError:
        pass
returned = failed = longest_ns = epoch = key = 0
while os.getppid() == parent:  # a test that is killed leaves nobody running
    begun_ns = time.perf_counter_ns()
    try:
        admitted = limiter.allow(f"k{{key}}")
    except flint.FlintConnectionError:
        failed += 1
        admitted = None
    taken_ns = time.perf_counter_ns() - begun_ns
    now = int.from_bytes(shared[:8], "little")
    longest_ns, epoch = max(longest_ns if now == epoch else 0, taken_ns), now
    if admitted:
        counts[key] += 1
    elif admitted is False:
        key = (key + 1) % {KEYS}
    returned += 1
    row[0], row[1], row[2], row[3] = failed, longest_ns, epoch, returned
"""


class Workers:
    """Eight processes that check, and what they have been told."""

    def __init__(self, top: Path, sync: str, replacements: int, answer_timeout: str) -> None:
        self.path = top / "limits"
        self.sync = sync
        self._answer_timeout = answer_timeout
        self._table = top / "table"
        self._started = 0
        self._running: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
        with self._table.open("w+b") as file:
            file.truncate(8 + (WORKERS + replacements) * ROW_BYTES)
            self._shared = mmap.mmap(file.fileno(), 0)
        with flint.Limiter(self.path, sync=sync, shared=True) as first:
            first.limit("k*", rate=LIMIT, per="365d", algorithm="fixed_window_counter")

    def __enter__(self) -> Self:
        for _ in range(WORKERS):
            self.start_one()
        self.wait_for_progress(dict.fromkeys(range(WORKERS), 1))
        return self

    def __exit__(self, *error: object) -> None:
        for process, _ in self._running.values():
            process.kill()
            process.wait()

    def start_one(self) -> None:
        at = 8 + self._started * ROW_BYTES
        words = [str(self.path), self.sync, str(self._table), str(at), self._answer_timeout]
        process = subprocess.Popen([sys.executable, "-c", WORKER, *words])
        self._running[process.pid] = process, self._started
        self._started += 1

    def rows(self) -> dict[int, tuple[int, int, int, int]]:
        """Those of the workers that run."""
        words = memoryview(self._shared).cast("Q")
        numbers = [number for _, number in self._running.values()]
        starts = {number: 1 + number * ROW_BYTES // 8 for number in numbers}
        return {
            number: (words[at], words[at + 1], words[at + 2], words[at + 3])
            for number, at in starts.items()
        }

    def wait_for_progress(self, wanted: dict[int, int]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while any(self.rows()[row][3] < calls for row, calls in wanted.items()):
            assert time.monotonic() < deadline, (wanted, self.rows())
            assert all(process.poll() is None for process, _ in self._running.values())
            time.sleep(0.001)

    def row_of(self, pid: int) -> int:
        return self._running[pid][1]

    def begin_epoch(self) -> int:
        epoch = int.from_bytes(self._shared[:8], "little") + 1
        self._shared[:8] = epoch.to_bytes(8, "little")
        return epoch

    def kill_owner(self) -> float:
        """Returns the longest call of all others meanwhile, in milliseconds. The newest of them may
        be opening the directory."""
        self.wait_for_progress(dict.fromkeys(sorted(self.rows())[:-1], 1))
        epoch = self.begin_epoch()
        process, _ = self._running.pop(raw.kill_owner(self.path))
        process.wait()
        others = {row: seen[3] for row, seen in self.rows().items() if seen[3] > 0}
        # Behind the call that was under way, another one.
        self.wait_for_progress({row: calls + 2 for row, calls in others.items()})
        seen = self.rows()
        assert all(seen[row][2] == epoch for row in others)
        return max(seen[row][1] for row in others) / 1e6

    def failures(self) -> int:
        return sum(seen[0] for seen in self.rows().values())

    def answered(self) -> list[int]:
        """How many admissions of each key somebody was told of."""
        total = [0] * KEYS
        counts = memoryview(self._shared).cast("I")
        for number in range(self._started):
            at = 2 * (1 + number * ROW_BYTES // 8 + WORDS)
            for key, count in enumerate(counts[at : at + KEYS]):
                total[key] += count
        return total

    def check_counts(self, under_way: int) -> int:
        """`under_way` is how many calls at most may have counted and told nobody."""
        answered = self.answered()
        with flint.Limiter(self.path, sync=self.sync) as last:
            counted = [LIMIT - last.peek(f"k{key}").remaining for key in range(KEYS)]
            assert last.doctor()["ok"]
        assert all(one <= LIMIT for one in answered)
        lost = [key for key in range(KEYS) if counted[key] < answered[key]]
        assert lost == []
        assert sum(counted) - sum(answered) <= under_way
        assert max(counted) == LIMIT
        return sum(answered)


@pytest.mark.parametrize("sync", ["batch", "always"])
def test_nothing_answered_is_lost_when_owners_are_killed(tmp_path: Path, sync: str) -> None:
    chance = random.Random(SEED)
    pauses_ms = []
    # An owner that has no processor for a while is not one that is stopped.
    with Workers(tmp_path, sync, KILLS, answer_timeout="5m") as workers:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0, 0.02))
            pauses_ms.append(workers.kill_owner())
            workers.start_one()
    # Each worker has at most one call under way when an owner dies, and at the end.
    answered = workers.check_counts((KILLS + 1) * WORKERS)
    print(
        f"{KILLS} kills of the owner, sync {sync}, seed {SEED}: {answered:,} admissions answered, "
        f"none lost, none over a limit; pause: median {statistics.median(pauses_ms):.1f} ms, "
        f"longest {max(pauses_ms):.1f} ms"
    )


def test_owners_that_are_stopped_under_load(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with Workers(tmp_path, "batch", 0, answer_timeout="50ms") as workers:
        owner = raw.owner_pid(workers.path)
        for _ in range(STOPS):
            time.sleep(chance.uniform(0, 0.02))
            os.kill(owner, signal.SIGSTOP)
            os.waitid(os.P_PID, owner, os.WSTOPPED | os.WNOWAIT)
            others = workers.rows()
            del others[workers.row_of(owner)]
            # All of the others are told, again and again, and nobody takes over.
            workers.wait_for_progress({row: seen[3] + 3 for row, seen in others.items()})
            after = workers.rows()
            assert all(after[row][0] > seen[0] for row, seen in others.items())
            os.kill(owner, signal.SIGCONT)
            settled = {row: seen[3] + 20 for row, seen in workers.rows().items()}
            workers.wait_for_progress(settled)
            assert raw.owner_pid(workers.path) == owner
        failures = workers.failures()
    answered = workers.check_counts(failures + WORKERS)
    print(
        f"{STOPS} stops of the owner, seed {SEED}: {answered:,} admissions answered, none lost, "
        f"none over a limit; {failures:,} calls failed at their deadline; nobody took over"
    )
