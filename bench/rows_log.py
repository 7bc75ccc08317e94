"""What costs more the more events or limits there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import peers
from harness import (
    Bench,
    Case,
    Outcome,
    Round,
    Side,
    Spec,
    alternate,
    at_least,
    at_most,
    case,
    faster,
    no_worse,
    ns_per_call,
    opened,
    outcome,
    python_side,
    tally,
)
from rows_latency import while_compacting

EVENTS, FEW_EVENTS, LIMITS, KEYS = 1_000_000, 1000, 10_000, 1_000_000
OLD = "flint-limiter 0.2.1"
EARLIER = f"Flint at commit {peers.BEFORE}"


def both(bench: Bench, target: str, **options: Any) -> list[Callable[[], Side]]:
    """Flint and Flint 0.2.1 with the same work."""
    python, target = peers.flint_02(), f"targets_log.{target}"
    ours, theirs = bench.place("flint"), bench.place("flint-0.2")
    return [
        lambda: python_side("Flint", target, directory=ours, **options),
        lambda: python_side(OLD, target, python=python, directory=theirs, **options),
    ]


def allow_all(bench: Bench) -> Sequence[Outcome]:
    def side(what: str, events: int, together: bool, fresh: bool) -> Callable[[], Side]:
        options: dict[str, Any] = {"events": events, "together": together, "fresh": fresh}
        place = bench.place("allow-all")
        return lambda: python_side(what, "targets_log.AllowAll", directory=place, **options)

    many = bench.size(EVENTS)
    names = (f"allow_all, {many:,} events", "allow", f"allow_all, {FEW_EVENTS:,} events")
    with opened(
        side(names[0], many, True, False),
        side(names[1], many, False, False),
        side(names[2], FEW_EVENTS, True, True),
    ) as (together, one, few):
        calls = [each.calibrate(bench.round_ns) for each in (together, one)]
        ours, single = alternate([together, one], calls, bench.rounds)
        # So few calls that the few events stay few.
        late, early = alternate([together, few], [FEW_EVENTS] * 2, 2 * bench.rounds)
    return [
        faster(ours, single, (names[0], names[1])),
        faster(late, early, (names[0], names[2])),
    ]


def reopening(replay: bool) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        work = both(bench, "Reopen", events=bench.size(EVENTS), replay=replay)
        with opened(*work) as sides:
            ours, theirs = alternate(sides, [1, 1], bench.long_rounds)
        return faster(ours, theirs, ("Flint", OLD))

    return run


def compact(bench: Bench) -> Outcome:
    with opened(*both(bench, "Compact", events=bench.size(EVENTS))) as sides:
        ours, theirs = alternate(sides, [1, 1], bench.longest_rounds)
    return faster(ours, theirs, ("Flint", OLD))


def beside_before(
    target: str, many_keys: bool = False, **options: Any
) -> Callable[[Bench], Outcome]:
    """Flint and Flint as it was before, with the same work."""

    def run(bench: Bench) -> Outcome:
        python, work = peers.flint_before(), f"targets_log.{target}"
        given = {"events": bench.size(EVENTS), **options}
        if many_keys:
            given["keys"] = bench.size(KEYS)
        now, then = bench.place("flint"), bench.place("flint-before")
        names = ("Flint", EARLIER)
        with opened(
            lambda: python_side(names[0], work, directory=now, **given),
            lambda: python_side(
                names[1], work, python=python, directory=then, before=True, **given
            ),
        ) as sides:
            ours, theirs = alternate(sides, [1, 1], bench.long_rounds)
        return faster(ours, theirs, names)

    return run


def what_if(bench: Bench) -> Sequence[Outcome]:
    events, place = bench.size(EVENTS), bench.place("what-if")
    name = f"what_if, {events:,} events"
    with opened(
        lambda: python_side(name, "targets_log.WhatIf", directory=place, events=events)
    ) as (one,):
        rounds = [one.round(1) for _ in range(bench.long_rounds)]
    seconds = [ns_per_call(each) / 1e9 for each in rounds]
    return [outcome(seconds, [tally(name, rounds)])]


def bytes_of_an_event(bench: Bench) -> Sequence[Outcome]:
    keys, place = bench.size(KEYS), bench.place("many-keys")
    name = f"{keys:,} keys, {keys:,} checks"
    with opened(lambda: python_side(name, "targets_log.ManyKeys", directory=place, keys=keys)) as (
        one,
    ):
        rounds = [one.round(keys)]

    def bytes_each(measured: Round) -> float:
        return float(measured["bytes"]) / float(measured["calls"])

    return [outcome([bytes_each(each) for each in rounds], [tally(name, rounds, bytes_each, "B")])]


def limits(bench: Bench) -> Sequence[Outcome]:
    count = bench.size(LIMITS)
    place = bench.place("limit")
    one_by_one, old = both(bench, "Limits", many=False)
    with opened(
        lambda: python_side("limit_many", "targets_log.Limits", directory=place, many=True),
        one_by_one,
        old,
    ) as sides:
        many, single, theirs = alternate(sides, [count] * 3, bench.long_rounds)
    return [
        faster(many, theirs, ("limit_many", OLD)),
        faster(single, theirs, ("limit, one by one", OLD)),
    ]


CASES = [
    Case(
        (
            Spec(
                "allow-all",
                "`allow_all` of 3 keys, batch mode, after 1,000,000 events",
                "`allow` of one",
                at_least(0.4),
            ),
            Spec("allow-all-late", "the same", "the same after 1,000 events", no_worse()),
        ),
        allow_all,
    ),
    case(
        "reopen",
        "reopening after 1,000,000 events in batch mode, compacted as they came",
        "flint-limiter 0.2.1",
        at_least(50),
        reopening(replay=False),
    ),
    case(
        "replay",
        "reopening a log of 1,000,000 events, none of them compacted",
        "flint-limiter 0.2.1",
        at_least(50),
        reopening(replay=True),
    ),
    case("compact", "compaction of 1,000,000 events", "flint-limiter 0.2.1", at_least(50), compact),
    case(
        "reopen-before",
        "reopening after 1,000,000 events of 1,000,000 keys in batch mode",
        EARLIER,
        at_least(1.5),
        beside_before("Reopen", many_keys=True),
    ),
    case(
        "replay-before",
        "reopening a log of 1,000,000 events, none of them compacted",
        EARLIER,
        at_least(1.5),
        beside_before("Reopen", replay=True),
    ),
    case(
        "compact-before",
        "compaction of 1,000,000 events",
        EARLIER,
        at_least(1.5),
        beside_before("Compact"),
    ),
    case(
        "compact-keys-before",
        "compaction of 1,000,000 events of 1,000,000 keys",
        EARLIER,
        at_least(1.5),
        beside_before("Compact", many_keys=True),
    ),
    Case(
        (
            Spec(
                "compact-latency",
                "a check from C meanwhile: p99.9",
                "the same without a compaction",
                at_most(2, "x"),
            ),
        ),
        while_compacting,
    ),
    Case(
        (
            Spec(
                "what-if",
                "`what_if` of 1,000,000 recorded decisions and one limit",
                "",
                at_most(5, "s"),
                "s",
            ),
        ),
        what_if,
    ),
    Case(
        (
            Spec(
                "log-bytes",
                "bytes of log an event, batch mode, 1,000,000 keys of 16 bytes drawn uniformly",
                "",
                at_most(70, "B"),
                "B",
            ),
        ),
        bytes_of_an_event,
    ),
    Case(
        (
            Spec(
                "limit-many",
                "`limit_many` of 10,000 limits, always mode",
                "flint-limiter 0.2.1, one by one",
                at_least(200),
            ),
            Spec("limit", "`limit` one by one, always mode", "the same", at_least(1.5)),
        ),
        limits,
    ),
]
