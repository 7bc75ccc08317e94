"""A first look at speed: Flint beside the least that could do the same.

batch   allow() with sync="batch", beside a Python method that counts in a dict and forgets
        everything at exit.
always  allow() with sync="always", beside a loop of pwrite and fdatasync of 64 bytes into a file
        that was allocated and written with zeros before, in the same directory.

Rounds of the two alternate, so that what else the machine does touches both; shown are medians, of
the times per call and of the ratios of neighbouring rounds.

    python bench/first_look.py [--json] [--short] [--directory DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flint

# So large that everything is allowed, and refilled so slowly that no counter is forgotten.
RATE, PER = 10**9, "365d"
KEYS = [f"user:{number}" for number in range(1000)]
RECORD = bytes(range(64))
FILE_BYTES = 8 << 20


class DictLimiter:
    """Counts in a dict."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.used: dict[str, int] = {}

    def allow(self, key: str, cost: int = 1) -> bool:
        used = self.used.get(key, 0) + cost
        if used > self.rate:
            return False
        self.used[key] = used
        return True


class PlainFile:
    """A file prepared as the segments of a log are: allocated, zeroed, synced."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(self.descriptor, 0, FILE_BYTES)
        os.pwrite(self.descriptor, bytes(FILE_BYTES), 0)
        os.fsync(self.descriptor)
        self.offset = 0

    def allow(self, _key: str) -> bool:
        os.pwrite(self.descriptor, RECORD, self.offset)
        os.fdatasync(self.descriptor)
        self.offset = (self.offset + len(RECORD)) % FILE_BYTES
        return True

    def close(self) -> None:
        os.close(self.descriptor)


def timed(allow: Callable[[str], bool], calls: int) -> tuple[float, int]:
    """Nanoseconds per call, and how many of the calls were allowed."""
    keys = KEYS * (calls // len(KEYS)) + KEYS[: calls % len(KEYS)]
    allowed = 0
    started = time.perf_counter_ns()
    for key in keys:
        if allow(key):
            allowed += 1
    return (time.perf_counter_ns() - started) / calls, allowed


def compare(
    ours: Callable[[str], bool], theirs: Callable[[str], bool], rounds: int, calls: int
) -> dict[str, Any]:
    our_ns, their_ns, allowed = [], [], 0
    timed(ours, calls)  # the first round of each makes the counters
    timed(theirs, calls)
    for _ in range(rounds):
        ns, admitted = timed(ours, calls)
        our_ns.append(ns)
        their_ns.append(timed(theirs, calls)[0])
        allowed += admitted
    ratios = [our / their for our, their in zip(our_ns, their_ns, strict=True)]
    return {
        "rounds": rounds,
        "calls_per_round": calls,
        "calls": rounds * calls,
        "allowed": allowed,
        "flint_ns": round(statistics.median(our_ns), 1),
        "floor_ns": round(statistics.median(their_ns), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_quartiles": [round(ratio, 2) for ratio in statistics.quantiles(ratios)[::2]],
    }


def batch(directory: Path, rounds: int, calls: int) -> dict[str, Any]:
    with flint.Limiter(directory / "batch", sync="batch") as limiter:
        limiter.limit("user:*", rate=RATE, per=PER)
        return compare(limiter.allow, DictLimiter(RATE).allow, rounds, calls)


def always(directory: Path, rounds: int, calls: int) -> dict[str, Any]:
    with flint.Limiter(directory / "always", sync="always") as limiter:
        limiter.limit("user:*", rate=RATE, per=PER)
        with contextlib.closing(PlainFile(directory / "plain")) as plain:
            return compare(limiter.allow, plain.allow, rounds, calls)


def machine() -> dict[str, Any]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "flint": flint.__version__,
    }


def show(report: dict[str, Any]) -> None:
    about = report["machine"]
    print(f"{about['system']}, {about['processors']} x {about['processor']}, load {about['load']}")
    print(f"Python {about['python']}, Flint {about['flint']}\n")
    print(
        "mode    beside                     Flint           floor  ratio  (quartiles)     allowed"
    )
    for mode, floor in [("batch", "counting in a dict"), ("always", "pwrite + fdatasync")]:
        found = report[mode]
        low, high = found["ratio_quartiles"]
        print(
            f"{mode:<8}{floor:<19}{found['flint_ns']:>10,.0f} ns{found['floor_ns']:>13,.0f} ns"
            f"{found['ratio']:>7.2f}  ({low:.2f} to {high:.2f})"
            f"  {found['allowed']:,} of {found['calls']:,}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="also when standard output is a tty")
    parser.add_argument("--short", action="store_true", help="a few calls, to see that it runs")
    parser.add_argument("--directory", help="where to make the files (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flint-bench-", dir=options.directory) as name:
        directory = Path(name)
        report = {
            "machine": machine(),
            "batch": batch(directory, *((3, 1000) if options.short else (25, 100_000))),
            "always": always(directory, *((3, 20) if options.short else (25, 100))),
        }
    if options.json or not sys.stdout.isatty():
        print(json.dumps(report, indent=2))
    else:
        show(report)


if __name__ == "__main__":
    main()
