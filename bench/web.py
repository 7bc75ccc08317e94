"""Measures what limiters cost a web application that says hello, called in process.

    ./dev bench web [--quick] [--only NAME]... [--directory DIR]

Rounds of all sides alternate. A side's share is its rate of requests by that of the bare
application in the neighbouring round; what it adds is the difference of the times of one request.
The peers set no headers, as their documentation has them, so Flint is measured without headers
too. Who stands "by hand" is called by the view itself, for a key that the view gives; the view may
also set the three headers that Flint sets. Of the demands one is between those that set headers,
and one between those that do not.
Results go to bench/results/web/, unless --quick or --only is given.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import alone
import peers
import report
from harness import Bench, NotRun, Side, alternate, opened, python_side, quartiles

PLACES = ("memory", "batch", "always")
BARE_PLACE = "batch, no headers"
ALLOWED, DENIED = 10**9, 10
WORK = {ALLOWED: "all let in", DENIED: "all but 10 denied"}
HELD_CALLS = 1_000
BY_HAND = "throttled-py by hand, memory"


class Kind(NamedTuple):
    """A framework: its target, how Flint stands in it, and its peers."""

    name: str
    target: str
    ours: tuple[str, ...]
    theirs: tuple[tuple[str, str], ...]


KINDS = (
    Kind(
        "FastAPI",
        "targets_web.Fast",
        ("dependency", "middleware"),
        (
            ("slowapi, memory", "slowapi"),
            ("fastapi-limiter, memory", "fastapi_limiter"),
            (f"{BY_HAND}, no headers", "throttled"),
            (f"{BY_HAND}, headers", "throttled_with_headers"),
        ),
    ),
    Kind(
        "Flask",
        "targets_web.OfFlask",
        ("decorator",),
        (
            ("flask-limiter, memory", "flask_limiter"),
            (f"{BY_HAND}, no headers", "throttled"),
            (f"{BY_HAND}, headers", "throttled_with_headers"),
        ),
    ),
    Kind(
        "Django",
        "targets_web.OfDjango",
        ("decorator",),
        (("django-ratelimit, locmem", "django_ratelimit"),),
    ),
)


def maker(
    bench: Bench, what: str, target: str, side: str, rate: int, place: str | None = None
) -> Callable[[], Side]:
    options: dict[str, Any] = {"side": side, "rate": rate}
    if place is not None:
        options |= {"place": place, "directory": bench.place("flint") / "data"}
    return lambda: python_side(what, target, python=peers.python_peers(), **options)


def sides_of(bench: Bench, kind: Kind, rate: int) -> list[Callable[[], Side]]:
    found = [maker(bench, "bare", kind.target, "bare", rate)]
    for stands in kind.ours:
        for place in PLACES:
            what = f"Flint, {stands}, {place}"
            found.append(maker(bench, what, kind.target, stands, rate, place))
        what, side = f"Flint, {stands}, {BARE_PLACE}", f"{stands}_without_headers"
        found.append(maker(bench, what, kind.target, side, rate, "batch"))
    found += [maker(bench, what, kind.target, side, rate) for what, side in kind.theirs]
    return found


def measure(bench: Bench, kind: Kind, rate: int) -> dict[str, Any]:
    about = {"framework": kind.name, "work": WORK[rate]}
    with opened(*sides_of(bench, kind, rate)) as sides:
        calls = [side.calibrate(bench.round_ns) for side in sides]
        rounds = alternate(sides, calls, bench.rounds)
    times_ns = [[one["ns"] / one["calls"] for one in of_side] for of_side in rounds]
    shown = []
    for side, of_side, ns in zip(sides, rounds, times_ns, strict=True):
        shares = [bare / own for bare, own in zip(times_ns[0], ns, strict=True)]
        added = [own - bare for bare, own in zip(times_ns[0], ns, strict=True)]
        shown.append(
            {
                "what": side.what,
                "request_ns": report.rounded(statistics.median(ns)),
                "share": report.rounded(statistics.median(shares)),
                "share_quartiles": [report.rounded(value) for value in quartiles(shares)],
                "added_ns": report.rounded(statistics.median(added)),
                "allowed": sum(one["allowed"] for one in of_side),
                "denied": sum(one["denied"] for one in of_side),
            }
        )
    return {**about, "rounds": bench.rounds, "sides": shown}


def held(bench: Bench) -> dict[str, Any]:
    """The longest step of the event loop, of 50 requests at a time."""
    target = "targets_web.Held"
    makers = [
        maker(bench, "bare", target, "bare", ALLOWED),
        maker(bench, "Flint, dependency, always", target, "dependency", ALLOWED, "always"),
    ]
    calls = HELD_CALLS // 20 if bench.quick else HELD_CALLS
    with opened(*makers) as sides:
        rounds = alternate(sides, [calls] * len(sides), bench.rounds)
    shown = [
        {
            "what": side.what,
            "held_ns": report.rounded(statistics.median(one["held_ns"] for one in of_side)),
            "longest_held_ns": report.rounded(max(one["held_ns"] for one in of_side)),
            "allowed": sum(one["allowed"] for one in of_side),
        }
        for side, of_side in zip(sides, rounds, strict=True)
    ]
    return {"work": "50 requests at a time", "rounds": bench.rounds, "sides": shown}


# ---- For people --------------------------------------------------------------------------------


def show(found: dict[str, Any]) -> None:
    machine = found["machine"]
    print(
        f"{machine['system']}, {machine['processors']} x {machine['processor']}, "
        f"{machine['file_system']}, load before {machine['load_before']}"
    )
    print(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    print(f"commit {found['commit']}, {found['date']}{', quick' if found['quick'] else ''}")
    for row in found["rows"]:
        print(f"\n{row['framework']}, hello world, {row['work']}")
        if "not_run" in row:
            print(f"  not run: {row['not_run']}")
            continue
        for side in row["sides"]:
            low, high = side["share_quartiles"]
            print(
                f"  {side['what']:<41}{report.duration(side['request_ns']):>9} a request, "
                f"{side['share']:.0%} of bare ({low:.0%} to {high:.0%}), "
                f"adds {added(side['added_ns'])}; "
                f"{side['allowed']:,} let in, {side['denied']:,} denied"
            )
        for said in row["verdicts"]:
            print(f"  {said}")
    print("\nthe longest that one step held the event loop, 50 requests at a time")
    if "not_run" in found["held"]:
        print(f"  not run: {found['held']['not_run']}")
        return
    for side in found["held"]["sides"]:
        print(
            f"  {side['what']:<41}{report.duration(side['held_ns']):>9} (median of the rounds), "
            f"{report.duration(side['longest_held_ns'])} at most; {side['allowed']:,} requests"
        )


def added(ns: float) -> str:
    return report.duration(ns) if ns > 0 else "nothing"


def verdicts(row: dict[str, Any]) -> list[str]:
    """What Flint set out to: in batch mode it adds at most half of what the fastest peer adds, with
    headers beside those that set them (beside all, where none does), and without beside the
    others."""
    sides = row.get("sides", ())
    theirs = [side for side in sides[1:] if not side["what"].startswith("Flint")]
    with_headers = [side for side in theirs if side["what"].endswith(", headers")]
    without = [side for side in theirs if side not in with_headers]
    said = []
    for ending, beside in ((", batch", with_headers or without), (f", {BARE_PLACE}", without)):
        ours = [side for side in sides if side["what"].endswith(ending)]
        if ours and beside:
            said.append(verdict(*(min(some, key=added_ns) for some in (ours, beside))))
    return said


def added_ns(side: dict[str, Any]) -> float:
    return float(side["added_ns"])


def verdict(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    if added_ns(theirs) <= 0:
        return f"{theirs['what']} adds nothing that could be measured"
    part = added_ns(ours) / added_ns(theirs)
    met = "met" if part <= 0.5 else "missed"
    return (
        f"{ours['what']} adds {part:.2f} of what {theirs['what']} adds; "
        f"at most half was demanded: {met}"
    )


def run(bench: Bench, only: Sequence[str]) -> dict[str, Any]:
    rows = []
    for kind in KINDS:
        if only and kind.name not in only:
            continue
        for rate in (ALLOWED, DENIED):
            try:
                row = measure(bench, kind, rate)
            except NotRun as reason:
                row = {"framework": kind.name, "work": WORK[rate], "not_run": str(reason)}
            row["verdicts"] = verdicts(row)
            rows.append(row)
    try:
        of_loop = held(bench)
    except NotRun as reason:
        of_loop = {"not_run": str(reason)}
    return {"rows": rows, "held": of_loop}


if __name__ == "__main__":
    names = [kind.name for kind in KINDS]
    alone.command("web", "Measures what limiters cost a web application.", names, run, show)
