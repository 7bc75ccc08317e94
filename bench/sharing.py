"""Measures what it costs to ask the owner of a shared directory, and what it costs the owner.

    ./dev bench sharing [--quick] [--only NAME]... [--directory DIR]

Rounds of the sides that are compared alternate. Clients, owners and servers run where the system
puts them, as they do in use. Results go to bench/results/sharing/, unless --quick or --only is
given.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import alone
import instructions
import peers
import servers
from harness import (
    SHOWN,
    Bench,
    Case,
    Demand,
    NotRun,
    Outcome,
    Round,
    Side,
    Spec,
    Tally,
    alternate,
    at_most,
    case,
    compare,
    faster,
    figure,
    opened,
    outcome,
    python_side,
    slower,
)

# Of a check of one key without a name, and of its reply.
REQUEST_BYTES, REPLY_BYTES = 51, 96
WORKERS = (1, 2, 4, 8)
CHECKS, PACE_CALLS = 10_000, 100_000
AT_A_TIME = 16


# ---- Who is asked ------------------------------------------------------------------------------


@contextlib.contextmanager
def owner(bench: Bench) -> Iterator[Path]:
    """A process in C that owns a directory and does nothing but serve it."""
    directory = bench.place("shared") / "data"
    with opened(lambda: Side("owner", [peers.c_program("sharing"), directory, "owner"])):
        yield directory


@contextlib.contextmanager
def echo(bench: Bench, how: str = "serve") -> Iterator[tuple[Path, Callable[[], Side]]]:
    """The path of its socket, and a side that asks it from C."""
    path = bench.place("echo") / "sock"
    sizes = [str(REQUEST_BYTES), str(REPLY_BYTES)]
    program = peers.c_program("echo")
    with opened(lambda: Side("echo server", [program, path, how, *sizes])):
        yield path, lambda: Side("echo", [program, path, "ask", *sizes])


def times_as_long(
    bench: Bench, ours: Callable[[], Side], theirs: Callable[[], Side], note: str = ""
) -> Outcome:
    with opened(ours, theirs) as sides:
        calls = [side.calibrate(bench.round_ns) for side in sides]
        our_rounds, their_rounds = alternate(sides, calls, bench.rounds)
        return slower(our_rounds, their_rounds, (sides[0].what, sides[1].what), note=note)


def client_in_c(directory: Path) -> Callable[[], Side]:
    return lambda: Side("client", [peers.c_program("sharing"), directory, "client"])


def from_c(how: str) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        with owner(bench) as directory, echo(bench, how) as (_, asking):
            return times_as_long(bench, client_in_c(directory), asking)

    return run


def from_python(bench: Bench) -> Outcome:
    with owner(bench) as directory, echo(bench) as (path, _):
        sizes: dict[str, Any] = {"request_bytes": REQUEST_BYTES, "reply_bytes": REPLY_BYTES}
        return times_as_long(
            bench,
            lambda: python_side("client", "targets_sharing.Client", directory=directory),
            lambda: python_side("echo", "targets_sharing.Echo", path=path, **sizes),
        )


def from_asyncio(bench: Bench) -> Outcome:
    with owner(bench) as directory:
        target = "targets_sharing.Awaited"
        return compare(
            bench,
            lambda: python_side("16 deep", target, directory=directory, at_a_time=AT_A_TIME),
            lambda: python_side("one by one", target, directory=directory, at_a_time=1),
        )


# ---- Several workers ---------------------------------------------------------------------------


class Crowd:
    """Processes that make their part of the calls at the same time."""

    def __init__(self, what: str, sides: Sequence[Side]) -> None:
        self.what = what
        self.sides = sides

    def round(self, calls: int) -> Round:
        started = time.perf_counter_ns()
        for side in self.sides:
            assert side.process.stdin is not None
            side.process.stdin.write(f"{max(calls // len(self.sides), 1)}\n")
            side.process.stdin.flush()
        found = [side.answer() for side in self.sides]
        ns = time.perf_counter_ns() - started
        summed = {name: sum(one[name] for one in found) for name in ("calls", "allowed", "denied")}
        return {"ns": ns, **summed, "unsynced": None}


def by_redis(bench: Bench, target: str, name: str, workers: int) -> Outcome:
    python = peers.python_peers()
    place = bench.place("redis")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(owner(bench))
        stack.enter_context(servers.redis_server(place, pin=False))
        path = place / "redis.sock"
        makers = [
            lambda: python_side("client", "targets_sharing.Client", directory=directory),
            lambda: python_side(name, f"targets_sharing.{target}", python=python, path=path),
        ]
        ours, theirs = (stack.enter_context(opened(*[maker] * workers)) for maker in makers)
        crowds = [Crowd(f"{workers} x client", ours), Crowd(f"{workers} x {name}", theirs)]
        calls = [
            workers * side.calibrate(bench.round_ns) // (2 if workers > 1 else 1)
            for side in (ours[0], theirs[0])
        ]
        our_rounds, their_rounds = alternate(crowds, calls, bench.rounds)
        return faster(our_rounds, their_rounds, (crowds[0].what, crowds[1].what))


def crowd_case(workers: int, target: str, name: str) -> Case:
    def run(bench: Bench) -> Outcome:
        return by_redis(bench, target, name, workers)

    work = f"`allow()` from {workers} worker{'s' if workers > 1 else ''} in Python, batch mode"
    against = f"the same from {name} on redis-server, over a unix socket"
    return case(f"{target.lower()}-{workers}", work, against, SHOWN, run)


# ---- What it costs the owner -------------------------------------------------------------------


@contextlib.contextmanager
def loaded(directory: Path, clients: int) -> Iterator[None]:
    """So many clients ask all the time."""
    with opened(*[client_in_c(directory)] * clients) as sides:
        for side in sides:
            assert side.process.stdin is not None
            side.process.stdin.write("1000000000\n")
            side.process.stdin.flush()
        yield
        for side in sides:
            side.process.kill()


def own_p99(clients: int) -> Callable[[Bench], Outcome]:
    """Of a check of the owner's own every 2 us, by that of a directory that is not shared."""

    def run(bench: Bench) -> Outcome:
        program, checks = peers.c_program("latency"), PACE_CALLS // (10 if bench.quick else 1)
        shared, alone = bench.place("owner") / "data", bench.place("alone") / "data"
        seen: list[list[Round]] = [[], []]
        with opened(
            lambda: Side("shared", [program, shared, "owner", "1"]),
            lambda: Side("not shared", [program, alone, "quiet", "1"]),
        ) as (ours, theirs):
            for _ in range(2 * bench.long_rounds):
                with loaded(shared, clients):
                    seen[0].append(ours.round(checks))
                seen[1].append(theirs.round(checks))
        names = ("shared", "not shared")
        return slower(seen[0], seen[1], names, figure("p99_ns"), ["p50_ns", "p999_ns", "max_ns"])

    return run


def counted(bench: Bench, role: str, clients: int) -> float:
    if shutil.which("valgrind") is None:
        raise NotRun("valgrind is not installed; on Debian: apt-get install valgrind")
    directory, out = bench.place("counted") / "data", bench.place("callgrind") / "out"
    command: list[str | Path] = [*instructions.callgrind("own_check", out)]
    command += [peers.c_program("sharing"), directory, role]
    with opened(lambda: Side(role, command)) as (side,), loaded(directory, clients):
        side.round(CHECKS)
    found = re.search(r"^(?:totals|summary): (\d+)", out.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise NotRun("callgrind has counted nothing")
    return int(found[1]) / CHECKS


def own_instructions(clients: int) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        shared, alone = counted(bench, "owner", clients), counted(bench, "alone", 0)
        sides = [
            Tally(what, found, "instructions", CHECKS, CHECKS, 0, None)
            for what, found in (("shared", shared), ("not shared", alone))
        ]
        return outcome([shared / alone], sides)

    return run


# ---- All of them -------------------------------------------------------------------------------

ECHO = "a message there and one back over a unix socket, {}, which nobody looks at"


def owner_case(name: str, clients: int, listening: str) -> Sequence[Case]:
    work = f"of the owner's own checks from C, {listening}"
    against = "a directory that is not shared"
    p99 = Spec(f"owner-{name}-p99", f"p99 {work}", against, SHOWN, "x as long")
    count = Spec(f"owner-{name}-instructions", f"instructions {work}", against, SHOWN, "x as many")
    return (
        Case((p99,), lambda bench: [own_p99(clients)(bench)]),
        Case((count,), lambda bench: [own_instructions(clients)(bench)]),
    )


def asked_case(
    name: str, work: str, against: str, demand: Demand, run: Callable[[Bench], Outcome]
) -> Case:
    return Case((Spec(name, work, against, demand, "x as long"),), lambda bench: [run(bench)])


CASES: tuple[Case, ...] = (
    asked_case(
        "client-c",
        "a check from a client in C, batch mode",
        ECHO.format("from C"),
        at_most(1.3, "x as long"),
        from_c("serve"),
    ),
    asked_case(
        "client-c-epoll",
        "the same",
        "the same, from a server that waits by epoll, as one of many connections does",
        SHOWN,
        from_c("epoll"),
    ),
    asked_case(
        "client-python",
        "`allow()` from a client in Python, batch mode",
        ECHO.format("from Python"),
        at_most(1.3, "x as long"),
        from_python,
    ),
    case(
        "client-asyncio",
        "`acheck()` from a client, 16 at a time",
        "one after the other",
        SHOWN,
        from_asyncio,
    ),
    *(crowd_case(count, "RedisPy", "redis-py") for count in WORKERS),
    *(crowd_case(count, "Limits", "limits") for count in WORKERS),
    *owner_case("idle", 0, "nobody asking"),
    *owner_case("busy", 1, "a client asking all the time"),
)


if __name__ == "__main__":
    alone.main("sharing", "Measures shared directories.", CASES)
