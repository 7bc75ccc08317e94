"""`flint limit explain`: why a key is allowed or denied now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint._cli.failure import OK
from flint._cli.opening import reading
from flint._cli.shapes import zulu
from flint._cli.text import ago, ahead, length, rate, shown

if TYPE_CHECKING:
    from rich.text import Text

    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._cli.opening import Opened
    from flint._native import Result
    from flint._surface.types import HistoryDict, StatusDict

LAST_DENIALS = 5


def add_to(group: Verbs) -> None:
    parser = group.add(
        "explain",
        explain,
        "say which limit covers a key, what is used, and when units are due",
        "flint limit explain user:42",
        "flint limit explain login --json",
    )
    parser.add_argument("key", metavar="KEY", help="the key, taken as it is")


def explain(context: Context) -> int:
    key = context.args.key
    with reading(context) as limiter:
        limits = covering(limiter, key)
        denials = last_denials(limiter, key)
        now_s = limiter.info()["engine_time_ns"] / 1e9
    value = {"key": key, "limits": limits, "last_denials": denials}
    context.out.value(value, lambda: show(key, limits, denials, now_s))
    return OK


def covering(limiter: Opened, key: str) -> list[dict[str, Any]]:
    """The limits that decide about a key, each with what covers it and when units are due. Raises
    NotConfiguredError if there are none."""
    decision = limiter.peek(key)
    everything = limiter.list()
    return [explained(limiter, key, one, everything) for one in decision.results or (decision,)]


def explained(
    limiter: Opened, key: str, decided: Result, everything: list[StatusDict]
) -> dict[str, Any]:
    limit = limit_of(key, decided.name, everything) or limiter.status(key, False, name=decided.name)
    own = limiter.status(key, False, name=decided.name) or limit
    assert limit is not None, "what has decided has a status"
    assert own is not None
    return {
        "covered_by": limit["key"],
        "template": limit["template"],
        "name": decided.name,
        "rate": limit["rate"],
        "per_ns": limit["per_ns"],
        "burst": limit["burst"],
        "algorithm": decided.algorithm,
        "used": limit["burst"] - decided.remaining,
        "remaining": decided.remaining,
        "next_unit_after_s": next_unit_s(limiter, key, decided, limit),
        "full_at": zulu(decided.reset_at),
        "total_allowed": own["total_allowed"],
        "total_denied": own["total_denied"],
    }


def limit_of(key: str, name: str | None, everything: list[StatusDict]) -> StatusDict | None:
    """The key's own limit of this name, else that of the longest template which has it."""
    best = None
    for one in everything:
        if one["name"] != name:
            continue
        if not one["template"] and one["key"] == key:
            return one
        fits = one["template"] and key.startswith(one["key"][:-1])
        if fits and (best is None or len(one["key"]) > len(best["key"])):
            best = one
    return best


def next_unit_s(limiter: Opened, key: str, decided: Result, limit: StatusDict) -> float | None:
    """When one unit more will be there than now; None when nothing is used."""
    if decided.remaining >= limit["burst"]:
        return None
    try:
        decision = limiter.peek(key, decided.remaining + 1)
    except ValueError:  # above the burst of another limit of the key
        return before_the_last_s(decided, limit)
    for one in decision.results or (decision,):
        if one.name == decided.name:
            return one.retry_after
    return None


def before_the_last_s(decided: Result, limit: StatusDict) -> float | None:
    """When the next unit is due, by when the last one is; None for windows that slide, of which
    that says nothing."""
    if "sliding" in decided.algorithm:
        return None
    waits_ns = 0
    if decided.algorithm != "fixed_window_counter":  # of which all units come at once
        missing = limit["burst"] - decided.remaining
        waits_ns = (missing - 1) * limit["per_ns"] // limit["rate"]
    return (decided.reset_after_ns - waits_ns) / 1e9


def last_denials(limiter: Opened, key: str) -> list[HistoryDict]:
    found: list[HistoryDict] = []
    for event in limiter.history(key, newest_first=True, template=False, limit=1000):
        if event["type"] == "DENY":
            found.append(event)
            if len(found) == LAST_DENIALS:
                break
    return found


def show(key: str, limits: list[dict[str, Any]], denials: list[HistoryDict], now_s: float) -> None:
    from flint._cli.tables import bar, print_pairs

    print(shown(key))
    for one in limits:
        what = "the template" if one["template"] else "a limit of"
        named = f", named {one['name']}" if one["name"] else ""
        rule = rate(one["rate"], one["per_ns"], one["burst"])
        left = bar(one["remaining"], one["burst"])
        left.append(f" {one['remaining']:,} of {one['burst']:,}")
        due = one["next_unit_after_s"]
        print_pairs(
            [
                ("  covered by", f"{what} {one['covered_by']}{named}"),
                ("  limit", f"{rule} ({one['algorithm']})"),
                ("  left", left),
                ("  next unit", "-" if due is None else f"in {length(due)}"),
                ("  all of it", ahead(one["full_at"], now_s)),
                ("  so far", f"{one['total_allowed']:,} allowed, {one['total_denied']:,} denied"),
            ]
        )
    if not denials:
        print("  no denials that the history still holds")
    for event in denials:
        count = event.get("count", 1)
        more = f", {count:,} since {ago(event['first_at'], now_s)}" if count > 1 else ""
        print(f"  denied {ago(event['at'], now_s)}, cost {event['cost']:,}{more}")


def pairs(one: StatusDict, now_s: float) -> list[tuple[str, str | Text]]:
    """A status, for people."""
    from flint._cli.tables import bar

    left = bar(one["remaining"], one["burst"])
    left.append(f" {one['remaining']:,} of {one['burst']:,}")
    named: list[tuple[str, str | Text]] = [("name", one["name"])] if one["name"] else []
    return [
        ("key", one["key"]),
        *named,
        ("limit", f"{rate(one['rate'], one['per_ns'], one['burst'])} ({one['algorithm']})"),
        ("left", left),
        ("full", ahead(one["reset_at"], now_s)),
        ("allowed", f"{one['total_allowed']:,}, the last {ago(one['last_allowed_at'], now_s)}"),
        ("denied", f"{one['total_denied']:,}, the last {ago(one['last_denied_at'], now_s)}"),
        ("reset", ago(one["last_reset_at"], now_s)),
    ]
