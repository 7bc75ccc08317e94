"""`flint top --watch`: looks again and again, and shows what it sees: on a terminal as a live view,
otherwise as a line of JSON for each look."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from flint._cli.failure import OK, CommandError, UsageError
from flint._cli.opening import reading
from flint._cli.sampler import Sampler
from flint._cli.view import View

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.sampler import Look

SHORTEST_S, LONGEST_S = 0.05, 3600


def watch(context: Context) -> int:
    args = context.args
    if not SHORTEST_S <= args.interval <= LONGEST_S:
        bounds = f"from {SHORTEST_S} to {LONGEST_S} seconds"
        raise UsageError(f"--interval must be {bounds}, not {args.interval:g}")
    if args.looks is not None and args.looks < 1:
        raise UsageError(f"--looks must be 1 or more, not {args.looks}")
    view = View(args.by, args.limit)
    with reading(context) as limiter:
        sampler = Sampler(limiter)
        if context.out.json:
            lines(context, sampler, view)
        elif not context.out.tables:
            raise CommandError("the live view is drawn by rich: pip install 'flint-limiter[cli]'")
        else:
            from flint._cli.live import live

            live(sampler, view, args.interval, args.looks)
    return OK


def lines(context: Context, sampler: Sampler, view: View) -> None:
    looks = context.args.looks
    while True:
        context.out.line(shape(sampler.look(time.monotonic()), view))
        looks = None if looks is None else looks - 1
        if looks == 0:
            return
        sys.stdout.flush()
        time.sleep(context.args.interval)


def shape(look: Look, view: View) -> dict[str, Any]:
    """A look as JSON."""
    return {
        "allowed_per_s": round(look.allowed_per_s, 3),
        "denied_per_s": round(look.denied_per_s, 3),
        "storage": look.storage._asdict(),
        "keys": [
            {
                "key": row.key,
                **({} if row.name is None else {"name": row.name}),
                "allowed_per_s": round(row.allowed_per_s, 3),
                "denied_per_s": round(row.denied_per_s, 3),
                "total_allowed": row.total_allowed,
                "total_denied": row.total_denied,
            }
            for row in view.chosen(look.rows)
        ],
    }
