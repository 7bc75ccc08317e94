"""Whether anything grows without bound: memory and files while 10,000,000 events are recorded.

Batch mode, one template, keys drawn from a set that moves on, so that some are forgotten all the
time; background compaction as it comes. Prints a line for each million events.

    python bench/growth.py [--events N] [--history-mib N] [DIRECTORY]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import flint

LIVE_KEYS = 50_000
STEPS = 10


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def files_mib(directory: str) -> float:
    """What the directory takes on the disk. Files come and go while they are counted."""
    blocks = 0
    for path in Path(directory).iterdir():
        try:
            blocks += path.stat().st_blocks
        except FileNotFoundError:
            continue
    return blocks * 512 / 2**20


def show(directory: str, limiter: flint.Limiter, done: int, seconds: float) -> None:
    info = limiter.info()
    print(
        f"{done:>12,}  {resident_mib():>9.1f}  {files_mib(directory):>9.1f}"
        f"  {info['history_bytes'] / 2**20:>9.1f}  {info['snapshot_bytes'] / 2**20:>9.1f}"
        f"  {info['segments']:>8}  {info['compactions']:>11}  {info['counters']:>9,}"
        f"  {seconds:>6.1f}",
        flush=True,
    )


def run(directory: str, events: int, history_mib: int) -> None:
    names = [f"ip:{number:07d}" for number in range(LIVE_KEYS * 4)]
    with flint.Limiter(
        directory, sync="batch", flush_every_events=10_000, history_max_bytes=history_mib << 20
    ) as limiter:
        limiter.limit("ip:*", rate=1_000_000, per="1s")
        print(
            f"{'events':>12}  {'RSS MiB':>9}  {'disk MiB':>9}  {'history':>9}  {'snapshot':>9}"
            f"  {'segments':>8}  {'compactions':>11}  {'counters':>9}  {'s':>6}"
        )
        started = time.perf_counter()
        for step in range(STEPS):
            first = step * LIVE_KEYS // 4 % len(names)
            live = [names[(first + number) % len(names)] for number in range(LIVE_KEYS)]
            for _ in range(events // STEPS // LIVE_KEYS):
                for name in live:
                    limiter.allow(name)
            show(directory, limiter, limiter.info()["sequence"], time.perf_counter() - started)
        limiter.compact()
        show(directory, limiter, limiter.info()["sequence"], time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--history-mib", type=int, default=64)
    options = parser.parse_args()
    if options.events < STEPS * LIVE_KEYS:
        sys.exit(f"--events must be at least {STEPS * LIVE_KEYS:,}")
    with tempfile.TemporaryDirectory() as temporary:
        run(options.directory or temporary, options.events, options.history_mib)


if __name__ == "__main__":
    main()
