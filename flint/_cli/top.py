"""`flint top` and `flint limit top`: the keys that are denied or allowed most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._cli.failure import OK, UsageError
from flint._cli.opening import reading
from flint._cli.shapes import top_shape
from flint._cli.text import ago

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._cli.opening import Opened
    from flint._surface.types import StatusDict, Total


def add_to(verbs: Verbs) -> None:
    parser = verbs.add(
        "top",
        top,
        "show the keys that are denied most, once or live",
        "flint top --watch",
        "flint top --by allowed --limit 5",
    )
    parser.add_argument("--by", choices=("denied", "allowed"), default="denied")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="keys (default: 20)")
    parser.add_argument("--watch", action="store_true", help="rates per second, live; q quits")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds from look to look"
    )
    parser.add_argument(
        "--looks", type=int, metavar="N", help="end after N looks (default: go on until q)"
    )


def top(context: Context) -> int:
    args = context.args
    if args.limit < 0:
        raise UsageError(f"--limit must be 0 or more, not {args.limit}")
    if args.watch:
        from flint._cli.watch import watch

        return watch(context)
    with reading(context) as limiter:
        found = ranked(limiter, args.by, args.limit)
        now_s = limiter.info()["engine_time_ns"] / 1e9
    context.out.value([top_shape(one) for one in found], lambda: show(found, now_s))
    return OK


def ranked(limiter: Opened, by: str, most: int) -> list[StatusDict]:
    """The keys with the largest totals; where they are few, as in Flint 0.2 also those of which
    this total is 0."""
    total: Total = "allowed" if by == "allowed" else "denied"
    found = limiter.top(total, most)
    if len(found) < most:
        other: Total = "denied" if total == "allowed" else "allowed"
        limits = (one for one in limiter.list() if not one["template"])
        known = {(one["key"], one["name"]) for one in found}
        for one in (*limiter.top(other, most), *limits):
            if (one["key"], one["name"]) not in known:
                known.add((one["key"], one["name"]))
                found.append(one)
    return found[:most]


def show(found: list[StatusDict], now_s: float) -> None:
    from flint._cli.tables import Column, bar, print_table

    columns = (
        Column("denied", numbers=True, style="red"),
        Column("allowed", numbers=True, style="green"),
        Column("left", numbers=True),
        Column("", gives_way=True),
        Column("last denied", gives_way=True),
        Column("key", style="bold"),
    )
    rows = (
        (
            f"{one['total_denied']:,}",
            f"{one['total_allowed']:,}",
            f"{one['remaining']:,}",
            bar(one["remaining"], one["burst"]),
            ago(one["last_denied_at"], now_s),
            one["key"] if one["name"] is None else f"{one['key']}  {one['name']}",
        )
        for one in found
    )
    print_table(columns, rows)
