"""Real traffic, limited across a crash.

Replays four days of a public web server's access log, each request at its own time, with one limit
for every client address. The process that decides is killed (SIGKILL) half-way; a second one opens
the directory that the first has left and goes on. Then every decision is compared with that of a
run that was not interrupted.
"""

from __future__ import annotations

import argparse
import fcntl
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_args

from access_log import requests as read_requests

import flint
from flint.testing import ManualClock

LOG = Path(__file__).parent / "data" / "access.log.gz"
TEMPLATE = "ip:*"  # every key that begins with "ip:" has a counter of its own
TOP = 10

Requests = list[tuple[int, str]]  # seconds since 1970, client address


# ---- The processes that decide -----------------------------------------------------------------


def decide(
    options: argparse.Namespace,
    directory: Path,
    requests: Requests,
    reported: list[bool],
    report: Connection,
) -> None:
    """Opens the directory and decides the requests behind those that have been `reported`."""
    rest = requests[len(reported) :]
    clock = ManualClock(rest[0][0])
    with flint.Limiter(directory, sync=options.sync, clock=clock) as limiter:
        limiter.limit(TEMPLATE, **options.limit)  # the second time this changes nothing
        report.send(limiter.info())
        admitted = unreported_admissions(limiter, reported)
        for number, (time_s, address) in enumerate(rest):
            clock.set(time_s)
            report.send(number < admitted or limiter.allow(f"ip:{address}"))


def unreported_admissions(limiter: flint.Limiter, reported: list[bool]) -> int:
    """How many requests behind the reported ones have been admitted already: 0 or 1.

    A kill can come after a decision was recorded and before it was reported. To ask again would
    count that request twice. The totals tell: an admission is recorded before it is answered, and
    requests come one after another, so if one more is recorded than was reported, it is that of the
    next request. A denial needs no such care: it used nothing up and will be the same again.
    """
    status = limiter.status(TEMPLATE)
    assert status is not None
    admitted = status["total_allowed"] - sum(reported)
    if admitted not in (0, 1):
        raise SystemExit(f"{sum(reported)} admissions reported, {status['total_allowed']} recorded")
    return admitted


# ---- The process that watches ------------------------------------------------------------------


def run_process(
    options: argparse.Namespace,
    directory: Path,
    requests: Requests,
    decisions: list[bool],
    kill_at: int | None = None,
) -> dict[str, Any]:
    """Adds to `decisions` what a process decides, until it ends or is killed; returns what the
    process found when it opened the directory."""
    context = multiprocessing.get_context("spawn")
    incoming, report = context.Pipe(duplex=False)
    # As small as a pipe can be, so that the process is never far ahead of what is known of it.
    fcntl.fcntl(report.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    arguments = (options, directory, requests, decisions, report)
    process = context.Process(target=decide, args=arguments, daemon=True)
    process.start()
    report.close()
    found = {}
    try:
        found = incoming.recv()
        while True:
            decisions.append(incoming.recv())
            if len(decisions) == kill_at:
                process.kill()
            show_progress(decisions, len(requests))
    except EOFError:  # the process has ended, and everything it said has been read
        process.join()
    if process.exitcode != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f"the process ended with status {process.exitcode}")
    return found


def show_progress(decisions: list[bool], total: int) -> None:
    done = len(decisions)
    if sys.stderr.isatty() and (done % 50 == 0 or done == total):
        line = f"{done:,} of {total:,} requests, {sum(decisions):,} allowed"
        print(f"\r{line}", end="\r\033[K" if done == total else "", file=sys.stderr, flush=True)


def decide_uninterrupted(options: argparse.Namespace, requests: Requests) -> list[bool]:
    clock = ManualClock(requests[0][0])
    limiter = flint.Limiter(":memory:", clock=clock)
    limiter.limit(TEMPLATE, **options.limit)
    decisions = []
    for time_s, address in requests:
        clock.set(time_s)
        decisions.append(limiter.allow(f"ip:{address}"))
    return decisions


def table(
    requests: Requests, decisions: list[bool], killed_at: int, found: dict[str, Any], seconds: float
) -> list[tuple[str, int | str, str]]:
    denied = Counter(
        address for (_, address), allowed in zip(requests, decisions, strict=True) if not allowed
    )
    reached = datetime.fromtimestamp(requests[killed_at - 1][0], UTC)
    return [
        ("requests", len(requests), ""),
        ("addresses", len({address for _, address in requests}), ""),
        ("allowed", sum(decisions), ""),
        ("denied", denied.total(), ""),
        ("killed after request", killed_at, f"of {reached:%d %B %Y %H:%M:%S}"),
        ("records recovered", found["recovered_records"], "the log's own bookkeeping included"),
        ("  only in the ring", found["recovered_ring_records"], "not in the log file yet"),
        ("seconds", f"{seconds:.2f}", "both processes, from start to end"),
        ("requests per second", int(len(requests) / seconds), ""),
        ("most denied", "", ""),
        *((f"  {address}", count, "") for address, count in denied.most_common(TOP)),
    ]


def demo(options: argparse.Namespace, directory: Path) -> bool:
    """Whether the interrupted run decided as the uninterrupted one."""
    requests = read_requests(LOG)
    limit = ", ".join(f"{name}={value!r}" for name, value in options.limit.items())
    print("The requests that a public web server got in four days, each at its own time.")
    print(f"limit({TEMPLATE!r}, {limit}), sync={options.sync!r}\n", flush=True)
    decisions: list[bool] = []
    started = time.perf_counter()
    run_process(options, directory, requests, decisions, kill_at=len(requests) // 2)
    killed_at = len(decisions)
    found = run_process(options, directory, requests, decisions)
    seconds = time.perf_counter() - started
    for name, value, note in table(requests, decisions, killed_at, found, seconds):
        shown = f"{value:,}" if isinstance(value, int) else value
        print(f"{name:<22}{shown:>8}  {note}".rstrip())
    expected = decide_uninterrupted(options, requests)
    identical = sum(a == b for a, b in zip(decisions, expected, strict=True))
    print("\nCompared with a run that was not interrupted:")
    print(f"identical decisions: {identical:,} of {len(requests):,}")
    return identical == len(requests)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sync", choices=["always", "batch"], default="always")
    parser.add_argument("--algorithm", choices=get_args(flint.Algorithm), default="token_bucket")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--per", default="1d")
    parser.add_argument("--burst", type=int)
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    options = parser.parse_args()
    names = ["rate", "per", "algorithm"] + ["burst"] * (options.burst is not None)
    options.limit = {name: getattr(options, name) for name in names}
    return options


def main() -> int:
    options = parse_arguments()
    directory = Path(tempfile.mkdtemp(prefix="flint-demo-"))
    try:
        return 0 if demo(options, directory) else 1
    finally:
        if options.keep:
            print(f"data directory: {directory}")
        else:
            shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
