"""Limits as the scripts read and write them: numbers are pairs of halves of 31 bits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from flint._remote.standing import Config, Standing, State
from flint._stores.claims import Claim, Totals
from flint._stores.templates import Template, Templates

if TYPE_CHECKING:
    from flint._stores.denials import Denied

_LOW = 2**31 - 1
_NO_KIND = 255
_TOLD = struct.Struct(">BBB10I")
_RECORD = struct.Struct(">BBBBI8sI14I")
_TOTALS = struct.Struct(">14I")
_TEMPLATE = struct.Struct(">8sBB7IB")


def halves(number: int) -> bytes:
    """A number for the scripts."""
    return struct.pack(">II", number >> 31, number & _LOW)


def whole(high: int, low: int) -> int:
    """One of theirs."""
    return (high << 31) + low


def _wholes(numbers: tuple[int, ...]) -> list[int]:
    return [whole(*numbers[at : at + 2]) for at in range(0, len(numbers), 2)]


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
        config = Config(algorithm, *_wholes(tuple(numbers)))
        number = int.from_bytes(template_id, "big")
        found.append(Template(number, prefix, packed[_TEMPLATE.size :], config, bool(stack)))
    return Templates(epoch, found)


def sums(fields: dict[bytes, bytes]) -> dict[int, Totals]:
    """What has been counted under each template, of the hash that holds it."""
    return {int.from_bytes(one, "big"): _totals(packed) for one, packed in fields.items()}


def _totals(packed: bytes, at: int = 0) -> Totals:
    return Totals(*_wholes(_TOTALS.unpack_from(packed, at)))


def claim(told: bytes, keys: list[bytes]) -> Claim:
    """A limit as a script tells of it; `keys` are those that were asked about."""
    status, item, allows, *rest = _TOLD.unpack_from(told)
    now_ns, units, entries, oldest_ns, leaves_ns = _wholes(tuple(rest))
    kind, algorithm, stack, has_totals, _, template_id, _, *numbers = _RECORD.unpack_from(
        told, _TOLD.size
    )
    rate, per_ns, burst, first, second, third, last_ns = _wholes(tuple(numbers))
    if algorithm <= 3:
        state = State(at_ns=first, fraction=second)
    elif algorithm == 4:
        state = State(at_ns=first, used=second)
    elif algorithm == 5:
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
