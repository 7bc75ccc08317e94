"""`allow()` from Python in batch mode."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import peers
from harness import (
    LOWER,
    Bench,
    Outcome,
    Side,
    alternate,
    at_least,
    case,
    compare,
    faster,
    figure,
    ns_per_call,
    opened,
    outcome,
    python_side,
    tally,
)

WORK = "`allow()` from Python, batch mode, one key, all allowed"
MEMORY_PEERS = [
    ("limits, fixed window", "Limits", {"strategy": "FixedWindowRateLimiter"}),
    ("limits, moving window", "Limits", {"strategy": "MovingWindowRateLimiter"}),
    ("throttled-py, fixed window", "Throttled", {"using": "fixed_window"}),
    ("throttled-py, token bucket", "Throttled", {"using": "token_bucket"}),
    ("throttled-py, GCRA", "Throttled", {"using": "gcra"}),
    ("PyrateLimiter, in memory", "Pyrate", {"bucket": "in_memory"}),
    ("PyrateLimiter, token bucket", "Pyrate", {"bucket": "token_bucket"}),
]


def ours(bench: Bench, target: str = "Flint", **options: Any) -> Callable[[], Side]:
    directory = bench.place("flint")
    return lambda: python_side("Flint", f"targets_flint.{target}", directory=directory, **options)


def beside_flint_02(bench: Bench) -> Outcome:
    python, directory = peers.flint_02(), bench.place("flint-0.2")
    return compare(
        bench,
        ours(bench),
        lambda: python_side(
            "flint-limiter 0.2.1", "targets_flint.Flint", python=python, directory=directory
        ),
    )


def beside_memory(bench: Bench) -> Outcome:
    python = peers.python_peers()

    def side(what: str, target: str, options: dict[str, str]) -> Callable[[], Side]:
        return lambda: python_side(what, f"targets_peers.{target}", python=python, **options)

    makers = [ours(bench), *(side(*peer) for peer in MEMORY_PEERS)]
    with opened(*makers) as sides:
        calls = [one.calibrate(bench.round_ns) for one in sides]
        our_rounds, *others = alternate(sides, calls, bench.rounds)
    found = [
        faster(our_rounds, rounds, ("Flint", what))
        for (what, _, _), rounds in zip(MEMORY_PEERS, others, strict=True)
    ]
    best = min(found, key=lambda one: one.value)
    slower = sorted((one for one in found if one is not best), key=lambda one: one.value)
    best.note = "the others: " + "; ".join(f"{o.sides[1].what} {o.value:.1f} x" for o in slower)
    return best


def beside_disk_peer(what: str, target: str) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        python, directory = peers.python_peers(), bench.place(target)
        return compare(
            bench,
            ours(bench),
            lambda: python_side(
                what, f"targets_peers.{target}", python=python, directory=directory
            ),
        )

    return run


def beside_dict(bench: Bench) -> Outcome:
    return compare(bench, ours(bench), lambda: python_side("dict", "targets_plain.Dict"))


def million_keys(bench: Bench) -> Outcome:
    keys = bench.size(1_000_000)
    names = ("Flint, one key", "Flint, many", "dict, one key", "dict, many")
    with opened(
        ours(bench),
        ours(bench, keys=keys, exact=False),
        lambda: python_side(names[2], "targets_plain.Dict"),
        lambda: python_side(names[3], "targets_plain.Dict", keys=keys),
    ) as sides:
        calls = [one.calibrate(bench.round_ns) for one in sides]
        all_rounds = alternate(sides, calls, bench.rounds)
    ratios = [
        (ns_per_call(flint_one) / ns_per_call(flint_many))
        / (ns_per_call(dict_one) / ns_per_call(dict_many))
        for flint_one, flint_many, dict_one, dict_many in zip(*all_rounds, strict=True)
    ]
    sides_seen = [tally(name, one) for name, one in zip(names, all_rounds, strict=True)]
    losses = [
        statistics.median(
            ns_per_call(b) / ns_per_call(a)
            for a, b in zip(all_rounds[first], all_rounds[first + 1], strict=True)
        )
        for first in (0, 2)
    ]
    note = f"{keys:,} keys cost Flint {losses[0]:.2f} times one key's time, a dict {losses[1]:.2f}"
    return outcome(ratios, sides_seen, note)


def busy_thread(bench: Bench) -> Outcome:
    return compare(
        bench,
        ours(bench, "Beside"),
        lambda: python_side(
            "released, by ctypes",
            "targets_flint.BesideReleased",
            directory=bench.place("released"),
        ),
        metric=figure("p99_ns"),
        details=("mean_ns", "p50_ns", "max_ns"),
    )


CASES = [
    case("batch-flint-0.2", WORK, "flint-limiter 0.2.1, batch", at_least(25), beside_flint_02),
    case(
        "batch-memory",
        "the same",
        "fastest in-memory Python peer (limits, throttled-py, PyrateLimiter)",
        at_least(8),
        beside_memory,
    ),
    case(
        "batch-pyrate-sqlite",
        "the same",
        "PyrateLimiter's SQLite bucket",
        at_least(100),
        beside_disk_peer("PyrateLimiter, SQLite", "PyrateSqlite"),
    ),
    case(
        "batch-diskcache",
        "the same",
        "diskcache's throttle",
        at_least(100),
        beside_disk_peer("diskcache", "Diskcache"),
    ),
    case(
        "batch-dict",
        "the same",
        "a Python method that counts in a dict",
        at_least(1),
        beside_dict,
    ),
    case(
        "batch-million-keys",
        "the same, 1,000,000 keys drawn uniformly, relative to one key",
        "a plain dict's own loss under the same draw",
        at_least(0.9),
        million_keys,
    ),
    case(
        "batch-busy-thread",
        "the same beside a busy Python thread: p99",
        "the same with the GIL released around each call",
        LOWER,
        busy_thread,
    ),
]
