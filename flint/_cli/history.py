"""`flint limit history`: what has been recorded of a key."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flint._cli.failure import OK, UsageError
from flint._cli.opening import reading
from flint._cli.progress import waiting
from flint._cli.text import ago, clock, period
from flint._surface.arguments import duration_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flint._cli.context import Context
    from flint._cli.grammar import Parser, Verbs
    from flint._surface.types import HistoryDict

STYLES = {"ALLOW": "green", "ALLOW_ALL": "green", "DENY": "red"}


def add_to(group: Verbs) -> None:
    parser = group.add(
        "history",
        history,
        "show what has been recorded of a key, oldest first",
        "flint limit history user:42",
        "flint limit history login --since 1h --limit 20",
    )
    parser.add_argument("key", metavar="KEY", help="the key; one that ends with * is a template")
    parser.add_argument("--limit", type=int, metavar="N", help="the newest N events alone")
    since_option(parser)


def since_option(parser: Parser) -> None:
    parser.add_argument(
        "--since", metavar="WHEN", help="a length of time (10m, 1d) before now, or an RFC 3339 time"
    )


def since_s(text: str | None) -> float | None:
    """What --since says, in seconds since 1970."""
    if text is None:
        return None
    try:
        return max(time.time() - duration_ns("--since", text) / 1e9, 0)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(
            f"--since must be a length of time such as 10m, or a time with its zone such as "
            f"2026-01-31T12:00:00Z, not {text!r}"
        )
    return max(moment.timestamp(), 0)


def history(context: Context) -> int:
    args = context.args
    since = since_s(args.since)
    with reading(context) as limiter, waiting("reading the log"):
        newest = args.limit is not None
        found = limiter.history(args.key, since=since, newest_first=newest, limit=args.limit)
    if newest:
        found.reverse()
    context.out.value(found, lambda: show(found))
    return OK


def show(events: Iterable[HistoryDict]) -> None:
    from flint._cli.tables import Column, print_table

    now_s = time.time()
    columns = (
        Column("time (UTC)"),
        Column("ago", gives_way=True),
        Column("event"),
        Column("cost", numbers=True),
        Column("count", numbers=True, gives_way=True),
        Column("key", style="bold"),
    )
    print_table(columns, (row(event, now_s) for event in events))


def row(event: HistoryDict, now_s: float) -> tuple[Any, ...]:
    from rich.text import Text

    at = event.get("at")
    return (
        clock(at) if at else "-",
        ago(at, now_s) if at else "-",
        Text(event["type"], STYLES.get(event["type"], "cyan")),
        f"{event['cost']:,}" if "cost" in event else "",
        f"{event['count']:,}" if "count" in event else "",
        subject(event),
    )


def subject(event: HistoryDict) -> str:
    """What an event is about."""
    if "config" in event:
        config = event["config"]
        per_ns = config.get("per_ns", config["per_millis"] * 1_000_000)
        values = f"{config['rate']:,} per {period(per_ns)} ({config['algorithm']})"
        return "  ".join((config["key"], *_name(config), values))
    if "items" in event:
        return ", ".join(
            " ".join((item["key"], *(f"({name})" for name in _name(item)), str(item["cost"])))
            for item in event["items"]
        )
    return "  ".join((event["key"], *_name(event)))


def _name(limit: Mapping[str, Any]) -> tuple[str, ...]:
    """The name of a limit, if it has one."""
    return (limit["name"],) if "name" in limit else ()
