"""What PostgreSQL tells of limits, read from its rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flint._postgres.wire import binary, integer
from flint._remote.standing import Config, Standing, State
from flint._stores.claims import Claim, Totals
from flint._stores.templates import Template, Templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint._postgres.wire import Row

# Columns of flint.claim: what is told of a decision, and of a status. Fewer are read faster.
DECIDED = (
    *("id", "name", "kind", "template_id", "status", "item", "stack", "allows"),
    *("algorithm", "rate", "per_ns", "burst", "state1", "state2", "state3"),
    *("now_ns", "last_ns", "log_units", "log_entries", "oldest_ns", "leaves_ns"),
)
ALL = (
    *DECIDED,
    *("long_key", "allowed", "denied", "allowed_cost", "denied_cost"),
    *("last_allowed_ns", "last_denied_ns", "last_reset_ns"),
)
_LONGEST_ID = 255


def identity(key: bytes) -> tuple[bytes, bytes | None]:
    """What stands for a key in an index, and the key itself where that is not the same."""
    if len(key) <= _LONGEST_ID:
        return key, None
    return b"\xff" + hashlib.sha256(key).digest(), key


def totals(values: Sequence[bytes | None]) -> Totals:
    """From seven columns."""
    return Totals(*map(integer, values))


def claim(row: Row) -> Claim:
    """A row of the type flint.claim, of the columns `DECIDED` or all of `ALL`. Of one that decided
    the key is its id."""
    identity, name = binary(row[0]), binary(row[1])
    number, status, item = map(integer, row[3:6])
    algorithm, rate, per_ns, burst, *state = map(integer, row[8:15])
    now_ns, last_ns, units, entries, oldest_ns, leaves_ns = map(integer, row[15:21])
    first, second, third = state
    if algorithm == 5 and first == 0:  # one entry that is nowhere else
        units = second if last_ns > now_ns - per_ns else 0
        entries, oldest_ns = min(units, 1), last_ns
    now_ns = max(now_ns, last_ns)
    if algorithm <= 3:
        kept = State(at_ns=first, fraction=second)
    elif algorithm == 4:
        kept = State(at_ns=first, used=second)
    elif algorithm == 5:
        # Every entry is of one unit at least, so that the oldest has to leave for one.
        leaving = (entries, oldest_ns, leaves_ns or oldest_ns)
        kept = State(last_ns, 0, 0, units, 0, *leaving)
    else:
        kept = State(window=first, used=third, previous=second)
    standing = Standing(Config(algorithm, rate, per_ns, burst), kept, now_ns)
    is_whole = len(row) > len(DECIDED)
    return Claim(
        binary(row[21]) if is_whole and row[21] is not None else identity,
        name,
        None if row[2] is None else int(row[2]),
        number,
        row[6] == b"t",
        totals(row[22:29]) if is_whole else Totals(),
        status,
        item,
        row[7] == b"t",
        standing,
        (identity, name),
    )


def templates(rows: list[Row]) -> Templates:
    """All there are, behind the epoch that they are of."""
    found = []
    for _, number, prefix, name, algorithm, stack, *numbers in rows:
        if number is None:
            continue  # there are none
        config = Config(integer(algorithm), *map(integer, numbers))
        found.append(Template(int(number), binary(prefix), binary(name), config, stack == b"t"))
    return Templates(rows[0][0] or b"", found)
