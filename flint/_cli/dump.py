"""`flint log dump`: the events of the log, one to a line."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from flint._cli.failure import OK, UsageError
from flint._cli.history import STYLES, since_option, since_s, subject
from flint._cli.opening import reading_files
from flint._cli.progress import waiting
from flint._cli.text import clock, shown
from flint._local.history import Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._surface.types import HistoryDict

FOLLOW_EVERY_S = 0.25


def add_to(group: Verbs) -> None:
    parser = group.add(
        "dump",
        dump,
        "write the events of the log, one to a line",
        "flint log dump --since 1h",
        "flint log dump --follow --json",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is written later")
    since_option(parser)
    parser.add_argument(
        "--portable",
        action="store_true",
        help="lines of Flint 0.2, with which a directory begins anew when they are its flint.aof",
    )


def dump(context: Context) -> int:
    args = context.args
    if args.portable and (args.follow or args.since):
        raise UsageError(
            "--portable writes all there is: it goes with neither --follow nor --since"
        )
    since = since_s(args.since)
    with reading_files(context) as limiter:
        if args.portable:
            with waiting("writing the log"):
                limiter.dump(sys.stdout)
            return OK
        write = writer(context)
        tail = Tail(limiter, since)
        while True:
            # On a terminal the lines themselves show that it goes on.
            with contextlib.nullcontext() if context.out.terminal else waiting("writing the log"):
                for event in tail.more():
                    write(event)
            if not args.follow:
                return OK
            sys.stdout.flush()
            time.sleep(FOLLOW_EVERY_S)
            limiter.refresh()


def writer(context: Context) -> Callable[[HistoryDict], None]:
    """What writes one event: JSON for programs, a line in columns for people."""
    if context.out.json:
        return context.out.line
    if not context.out.tables:
        return lambda event: print(line(event))
    from flint._cli.tables import console

    to = console()
    return lambda event: to.print(
        line(event), style=STYLES.get(event["type"], "cyan"), soft_wrap=True
    )


def line(event: HistoryDict) -> str:
    at = clock(event["at"]) if "at" in event else "-"
    cost = f"{event['cost']:,}" if "cost" in event else ""
    count = f" x{event['count']:,}" if "count" in event else ""
    return f"{at:<19}  {event['type']:<16}  {cost:>6}{count}  {shown(subject(event))}"
