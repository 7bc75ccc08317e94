"""Limits as the scripts read and write them: numbers are pairs of halves of 31 bits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from flint._remote.standing import Config, Standing, State
from flint._stores.claims import COUNTER, EXACT, Claim, Totals
from flint._stores.templates import Template, Templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint._stores.denials import Denied

_LOW = 2**31 - 1
_NO_KIND = 255
_TOLD = struct.Struct(">BBB10I")
_RECORD = struct.Struct(">BBBBI8sI14I")
_TOTALS = struct.Struct(">14I")
_TEMPLATE = struct.Struct(">8sBB7IB")
_QUICK_BUCKET = struct.Struct(">44sB5d")
_QUICK_WINDOW = struct.Struct(">44sB3d")
_HEAD = struct.Struct(">BBBBI8sI6I")
# Below these what a quick script computes is exact.
_MOST = 2**52
_MOST_OF_LOG = 2**31
_BUCKETS, _LOG = 3, 5


def halves(number: int) -> bytes:
    """A number for the scripts."""
    return struct.pack(">II", number >> 31, number & _LOW)


def whole(high: int, low: int) -> int:
    """One of theirs."""
    return (high << 31) + low


def _wholes(numbers: Sequence[int]) -> list[int]:
    return [(high << 31) + low for high, low in zip(numbers[::2], numbers[1::2], strict=True)]


def flag(value: bool) -> bytes:
    """A yes or no for the scripts."""
    return b"1" if value else b"0"


def limit(config: Config) -> bytes:
    """A limit that a check carries, or that a key is given."""
    numbers = (halves(number) for number in config[1:])
    return bytes([config.algorithm]) + b"".join(numbers)


def template(one: Template) -> bytes:
    """A template."""
    config, name = one.config, one.name
    kind = bytes([config.algorithm, one.stack])
    numbers = b"".join(halves(number) for number in config[1:])
    length = struct.pack(">I", len(one.prefix))
    return _id_bytes(one.template_id) + kind + numbers + length + bytes([len(name)]) + name


def _id_bytes(template_id: int) -> bytes:
    return template_id.to_bytes(8, "big")


def head(one: Template, epoch: bytes) -> bytes:
    """What the record of a counter begins with that is under a template, as of an epoch."""
    config = one.config
    number = int(epoch.rpartition(b":")[2])
    numbers = (half for whole in config[1:] for half in (whole >> 31, whole & _LOW))
    template_id, prefix_bytes = _id_bytes(one.template_id), len(one.prefix)
    kind = (COUNTER, config.algorithm, one.stack, 0)
    return _HEAD.pack(*kind, number, template_id, prefix_bytes, *numbers)


def quick(begins: bytes, config: Config, cost: int, count: int) -> bytes | None:
    """What a script is told of a limit that decides most checks, and of what its record begins
    with; None where numbers are too large for it. `count`: 0 not, 1 yes, 2 and only the decision
    will be read."""
    algorithm, rate, per_ns, burst = config
    most = _MOST_OF_LOG if algorithm == _LOG else _MOST
    if cost > burst or per_ns >= _MOST or max(rate, burst) >= most:
        return None
    if algorithm > _BUCKETS:
        return _QUICK_WINDOW.pack(begins, count, rate - cost, cost, per_ns)
    ahead, takes = divmod((burst - cost) * per_ns, rate), divmod(cost * per_ns, rate)
    if ahead[0] >= _MOST or takes[0] >= _MOST:
        return None
    return _QUICK_BUCKET.pack(begins, count, *ahead, *takes, rate)


def item(cost: int, applying: list[Template]) -> bytes:
    """What is asked about a key: a cost, and the templates that apply."""
    return halves(cost) + b"".join(map(template, applying))


def denied(name: bytes, one: Denied) -> bytes:
    """Denials of a limit."""
    numbers = b"".join(halves(number) for number in one[1:])
    return numbers + _id_bytes(one.template_id) + bytes([len(name)]) + name


def templates(epoch: bytes, fields: list[bytes]) -> Templates:
    """All templates, of the hash that holds them."""
    found = []
    for field, packed in zip(fields[::2], fields[1::2], strict=True):
        template_id, algorithm, stack, *numbers, _ = _TEMPLATE.unpack_from(packed)
        prefix = field[4 : 4 + numbers.pop()]
        config = Config(algorithm, *_wholes(numbers))
        number = int.from_bytes(template_id, "big")
        found.append(Template(number, prefix, packed[_TEMPLATE.size :], config, bool(stack)))
    return Templates(epoch, found)


def sums(fields: dict[bytes, bytes]) -> dict[int, Totals]:
    """What has been counted under each template, of the hash that holds it."""
    return {int.from_bytes(one, "big"): _totals(packed) for one, packed in fields.items()}


def _totals(packed: bytes, at: int = 0) -> Totals:
    return Totals(*_wholes(_TOTALS.unpack_from(packed, at)))


def kind_alone(answer: list[bytes]) -> int | None:
    """The kind of a limit that has decided alone and has no name and no totals; None where others
    may decide with it."""
    if len(answer) != 1 or len(answer[0]) != _TOLD.size + _RECORD.size + 1:
        return None
    kind, _, stack = answer[0][_TOLD.size :][:3]
    return None if kind == EXACT and stack else kind


def own_limit(told: bytes) -> tuple[bytes, Config]:
    """What the record of a key's own limit begins with, and the limit."""
    begins = told[_TOLD.size :][: _HEAD.size]
    return begins, Config(begins[1], *_wholes(_HEAD.unpack(begins)[7:]))


def claim(told: bytes, keys: list[bytes]) -> Claim:
    """A limit as a script tells of it; `keys` are those that were asked about."""
    status, item, allows, *rest = _TOLD.unpack_from(told)
    now_ns, units, entries, oldest_ns, leaves_ns = _wholes(rest)
    kind, algorithm, stack, has_totals, _, template_id, _, *numbers = _RECORD.unpack_from(
        told, _TOLD.size
    )
    rate, per_ns, burst, first, second, third, last_ns = _wholes(numbers)
    if algorithm <= _BUCKETS:
        state = State(at_ns=first, fraction=second)
    elif algorithm == 4:
        state = State(at_ns=first, used=second)
    elif algorithm == _LOG:
        state = State(last_ns, 0, 0, units, 0, entries, oldest_ns, leaves_ns)
    else:
        state = State(window=first // per_ns, used=third, previous=second)
    at = _TOLD.size + _RECORD.size
    totals = _totals(told, at) if has_totals else Totals()
    name = told[at + (_TOTALS.size if has_totals else 0) + 1 :]
    return Claim(
        keys[item],
        name,
        None if kind == _NO_KIND else kind,
        int.from_bytes(template_id, "big"),
        bool(stack),
        totals,
        status,
        item,
        bool(allows),
        Standing(Config(algorithm, rate, per_ns, burst), state, now_ns),
        (keys[item], name),
    )
