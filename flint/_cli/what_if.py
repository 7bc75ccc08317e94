"""`flint what-if`: what other limits would have allowed and denied, by the recorded history."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flint._cli.failure import OK, UsageError
from flint._cli.opening import reading_files
from flint._cli.progress import waiting
from flint._cli.text import shown

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._surface.rate import Rate

SPARK_CELLS = 30
KEYS_SHOWN = 5


def add_to(verbs: Verbs) -> None:
    parser = verbs.add(
        "what-if",
        what_if,
        "replay the recorded history against other limits",
        "flint what-if 'user:*' 100/minute '100/minute burst 200'",
        "flint what-if 'ip:*' 30/day --target-denied 1%",
    )
    parser.add_argument(
        "pattern", metavar="PATTERN", help="a key; with * at its end, all keys that begin so"
    )
    parser.add_argument(
        "rates",
        nargs="+",
        metavar="RATE",
        help='a limit in words, or several: "5/minute; 100/h"; or the name of one in [rates]',
    )
    parser.add_argument(
        "--target-denied",
        metavar="SHARE",
        help="add the smallest rate that denies no more than this: 1%% or 0.01",
    )
    parser.add_argument(
        "--keys",
        type=int,
        metavar="N",
        help=f"keys of each limit, worst first (default: {KEYS_SHOWN} in a table, all in JSON)",
    )
    parser.add_argument(
        "--buckets", type=int, default=60, metavar="N", help="parts of the time (default: 60)"
    )


def share(text: str | None) -> float | None:
    """What --target-denied says, from 0 to 1."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError(f"--target-denied must be a share such as 1% or 0.01, not {text!r}")
    return value


def named_rates(texts: list[str]) -> dict[str, tuple[Rate, ...]]:
    """The rates of the configuration file, which is read if one of the texts may be a name."""
    from flint import config

    if all(text[:1].isdigit() for text in texts) or config.find() is None:
        return {}
    return config.load().rates


def what_if(context: Context) -> int:
    from flint import _what_if

    args = context.args
    if args.keys is not None and args.keys < 0:
        raise UsageError(f"--keys must be 0 or more, not {args.keys}")
    if not 1 <= args.buckets <= _what_if.MAX_BUCKETS:
        raise UsageError(
            f"--buckets must be from 1 to {_what_if.MAX_BUCKETS:,}, not {args.buckets}"
        )
    target = share(args.target_denied)
    named = named_rates(args.rates)
    with reading_files(context) as limiter, waiting("replaying the history"):
        limiter._rates = named
        answer = _what_if.what_if(
            limiter, args.pattern, *args.rates, target_denied=target, buckets=args.buckets
        )
    if args.keys is not None:
        for one in answer["candidates"]:
            del one["keys"][args.keys :]
    context.out.value(answer, lambda: show(answer, KEYS_SHOWN if args.keys is None else args.keys))
    return OK


def show(answer: dict[str, Any], keys: int) -> None:
    print(f"{answer['events']:,} decisions about {shown(answer['pattern'])}")
    for note in answer["notes"]:
        print(f"note: {shown(note)}")
    if not answer["events"]:
        return
    show_candidates(answer["candidates"])
    for one in answer["candidates"]:
        if keys:
            show_keys(one, keys)


def show_candidates(candidates: list[dict[str, Any]]) -> None:
    """What was and what would have been, a line for each."""
    from flint._cli.sampler import sparkline
    from flint._cli.tables import Column, print_table

    columns = (
        Column("allowed", numbers=True, style="green"),
        Column("denied", numbers=True, style="red"),
        Column("share", numbers=True),
        Column("unknown", numbers=True, style="yellow"),
        Column("denied over time", style="cyan", gives_way=True),
        Column("limit", style="bold"),
    )
    first = candidates[0]
    total = first["was_allowed"] + first["was_denied"]
    was = parts(first, "was_denied")
    would = [parts(one, "denied") for one in candidates]
    most = max(max(values) for values in (was, *would))
    rows = [
        (
            f"{first['was_allowed']:,}",
            f"{first['was_denied']:,}",
            f"{first['was_denied'] / total:.2%}",
            "",
            sparkline(was, SPARK_CELLS, most),
            "as it was",
        )
    ]
    for one, values in zip(candidates, would, strict=True):
        over_time = sparkline(values, SPARK_CELLS, most)
        unknown = f"{one['unknown']:,}" if one["unknown"] else ""
        numbers = (f"{one['allowed']:,}", f"{one['denied']:,}", f"{one['denied_share']:.2%}")
        rows.append((*numbers, unknown, over_time, one["rate"]))
    print_table(columns, rows)


def parts(one: dict[str, Any], name: str) -> list[float]:
    """A number for each cell of a sparkline: the parts of the time, joined where they are many."""
    buckets = one["buckets"]
    cells = min(len(buckets), SPARK_CELLS)
    values: list[float] = [0] * cells
    for place, bucket in enumerate(buckets):
        values[place * cells // len(buckets)] += bucket[name]
    return values


def show_keys(one: dict[str, Any], most: int) -> None:
    """The keys that a limit denies most, beside what they were."""
    from flint._cli.tables import Column, print_table

    print(f"\nmost denied under {one['rate']}")
    columns = (
        Column("denied", numbers=True, style="red"),
        Column("was denied", numbers=True, style="dim"),
        Column("allowed", numbers=True, style="green"),
        Column("was allowed", numbers=True, style="dim"),
        Column("unknown", numbers=True, style="yellow", gives_way=True),
        Column("key", style="bold"),
    )
    names = ("denied", "was_denied", "allowed", "was_allowed", "unknown")
    rows = ((*(f"{key[name]:,}" for name in names), key["key"]) for key in one["keys"][:most])
    print_table(columns, rows)
