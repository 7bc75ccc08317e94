"""Measures what other limiters take on Flint, beside the same ones on their own storages.

    ./dev bench switch [--quick] [--only NAME]... [--directory DIR]

Each peer does the same work on its own memory storage, on its own Redis storage (a server on this
machine) and on Flint, in a directory in batch mode, which survives the death of the process.
Rounds alternate. Demanded is that on Flint it takes at most 1.2 times what it takes on its memory,
and less than on its Redis. Results go to bench/results/switch/, unless --quick or --only is given.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import alone
import peers
import report
import servers
from harness import (
    Bench,
    NotRun,
    Side,
    alternate,
    ns_per_call,
    opened,
    python_side,
    quartiles,
)

MOST_OF_MEMORY = 1.2
STORES = ("memory", "Redis", "Flint")


class Kind(NamedTuple):
    """A peer, its target, and what the target is told."""

    name: str
    target: str
    options: dict[str, Any]


def direct(name: str, peer: str) -> Kind:
    return Kind(name, "targets_switch.Direct", {"peer": peer})


KINDS = (
    direct("limits, fixed window", "limits_fixed"),
    direct("limits, moving window", "limits_moving"),
    direct("PyrateLimiter", "pyrate"),
    direct("throttled-py, token bucket", "throttled_token_bucket"),
    direct("throttled-py, GCRA", "throttled_gcra"),
    Kind("slowapi in FastAPI", "targets_switch.SlowApi", {}),
    Kind("Flask-Limiter in Flask", "targets_switch.FlaskLimiter", {}),
    Kind("django-ratelimit in Django", "targets_switch.InDjango", {"side": "ratelimit"}),
    Kind("throttle in Django REST framework", "targets_switch.InDjango", {"side": "throttle"}),
)


def maker(bench: Bench, kind: Kind, store: str, url: str) -> Callable[[], Side]:
    options = {**kind.options, "store": url if store == "Redis" else store.lower()}
    if store == "Flint":
        options["directory"] = bench.place("flint") / "data"
    what = f"{kind.name}, {store}"
    return lambda: python_side(what, kind.target, python=peers.python_peers(), **options)


def measure(bench: Bench, kind: Kind, url: str) -> dict[str, Any]:
    with opened(*(maker(bench, kind, store, url) for store in STORES)) as sides:
        calls = [side.calibrate(bench.round_ns) for side in sides]
        rounds = alternate(sides, calls, bench.rounds)
    times_ns = [[ns_per_call(one) for one in of_side] for of_side in rounds]
    shown: dict[str, Any] = {"peer": kind.name, "rounds": bench.rounds, "sides": []}
    for store, of_side, ns in zip(STORES, rounds, times_ns, strict=True):
        shares = [ours / theirs for ours, theirs in zip(times_ns[-1], ns, strict=True)]
        shown["sides"].append(
            {
                "store": store,
                "call_ns": report.rounded(statistics.median(ns)),
                "flint_takes": report.rounded(statistics.median(shares)),
                "quartiles": [report.rounded(value) for value in quartiles(shares)],
                "allowed": sum(one["allowed"] for one in of_side),
                "denied": sum(one["denied"] for one in of_side),
            }
        )
    return shown


def verdicts(row: dict[str, Any]) -> list[str]:
    """What was demanded, and whether it is so."""
    if "not_run" in row:
        return []
    memory, redis = (side["flint_takes"] for side in row["sides"][:2])
    return [
        f"on Flint {memory:.2f} x its memory's time; at most {MOST_OF_MEMORY} x was demanded: "
        + ("met" if memory <= MOST_OF_MEMORY else "missed"),
        f"on Flint {redis:.2f} x its Redis's time; less than it was demanded: "
        + ("met" if redis < 1 else "missed"),
    ]


def run(bench: Bench, only: Sequence[str]) -> dict[str, Any]:
    rows = []
    with servers.redis_server(bench.place("redis")) as port:
        for number, kind in enumerate(KINDS):
            if only and kind.name not in only:
                continue
            try:
                row = measure(bench, kind, f"redis://127.0.0.1:{port}/{number}")
            except NotRun as reason:
                row = {"peer": kind.name, "not_run": str(reason)}
            row["verdicts"] = verdicts(row)
            rows.append(row)
    return {"rows": rows}


def show(found: dict[str, Any]) -> None:
    machine = found["machine"]
    print(
        f"{machine['system']}, {machine['processors']} x {machine['processor']}, "
        f"{machine['file_system']}, load before {machine['load_before']}"
    )
    print(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    print(f"commit {found['commit']}, {found['date']}{', quick' if found['quick'] else ''}")
    for row in found["rows"]:
        print(f"\n{row['peer']}")
        if "not_run" in row:
            print(f"  not run: {row['not_run']}")
            continue
        for side in row["sides"]:
            low, high = side["quartiles"]
            print(
                f"  {side['store']:<8}{report.duration(side['call_ns']):>9} a call; Flint takes "
                f"{side['flint_takes']:.2f} of it ({low:.2f} to {high:.2f}); "
                f"{side['allowed']:,} let in, {side['denied']:,} denied"
            )
        for said in row["verdicts"]:
            print(f"  {said}")


if __name__ == "__main__":
    names = [kind.name for kind in KINDS]
    alone.command("switch", "Measures other limiters on Flint.", names, run, show)
