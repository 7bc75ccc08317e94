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

# Columns of flint.claim that are told of a status.
COLUMNS = (
    *("id", "name", "status", "item", "kind", "template_id", "stack", "allows"),
    *("algorithm", "rate", "per_ns", "burst", "state1", "state2", "state3"),
    *("now_ns", "last_ns", "log_units", "log_entries", "oldest_ns", "leaves_ns"),
    *("long_key", "allowed", "denied", "allowed_cost", "denied_cost"),
    *("last_allowed_ns", "last_denied_ns", "last_reset_ns"),
)
_LONGEST_ID = 255
_NOTHING = Totals()


def identity(key: bytes) -> tuple[bytes, bytes | None]:
    """What stands for a key in an index, and the key itself where that is not the same."""
    if len(key) <= _LONGEST_ID:
        return key, None
    return b"\xff" + hashlib.sha256(key).digest(), key


def totals(values: Sequence[bytes | None]) -> Totals:
    """From seven columns."""
    return Totals(*map(integer, values))


def claim(row: Row) -> Claim:
    """A counter, of `COLUMNS`."""
    key_id, name = binary(row[0]), binary(row[1])
    kind = -1 if row[4] is None else int(row[4])
    flags = (row[6] == b"t", row[7] == b"t")
    numbers = (*map(integer, row[2:4]), kind, integer(row[5]), *flags, *map(integer, row[8:21]))
    key = key_id if row[21] is None else binary(row[21])
    return _claim(key, (key_id, name), numbers, totals(row[22:29]))


def decided(told: bytes | None, ids: Sequence[bytes]) -> list[Claim]:
    """What v1_check tells, of items whose ids these are. Of a counter the key is its id."""
    found = []
    for line in (told or b"").splitlines():
        *words, name = line.split(b" ")
        numbers = tuple(map(int, words))
        key_id = ids[numbers[1]]
        position = key_id, bytes.fromhex(name[1:].decode())
        found.append(_claim(key_id, position, numbers, _NOTHING))
    return found


def _claim(
    key: bytes, position: tuple[bytes, bytes], numbers: tuple[int, ...], totals: Totals
) -> Claim:
    """A counter of the numbers of `COLUMNS` from status to leaves_ns."""
    status, item, kind, template_id, stack, allows = numbers[:6]
    algorithm, rate, per_ns, burst, first, second, third = numbers[6:13]
    now_ns, last_ns, units, entries, oldest_ns, leaves_ns = numbers[13:19]
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
    return Claim(
        key,
        position[1],
        None if kind < 0 else kind,
        template_id,
        bool(stack),
        totals,
        status,
        item,
        bool(allows),
        Standing(Config(algorithm, rate, per_ns, burst), kept, now_ns),
        position,
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
