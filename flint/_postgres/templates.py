"""The templates of a database as a client knows them, and which of them apply to a key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from flint._postgres.wire import binary, integer
from flint._remote.standing import Config

if TYPE_CHECKING:
    from flint._postgres.wire import Row

_LONGEST_ID = 255


def identity(key: bytes) -> tuple[bytes, bytes | None]:
    """What stands for a key in an index, and the key itself where that is not the same."""
    if len(key) <= _LONGEST_ID:
        return key, None
    return b"\xff" + hashlib.sha256(key).digest(), key


class Template(NamedTuple):
    """A limit for every key under a prefix."""

    template_id: int
    prefix: bytes
    name: bytes
    config: Config
    stack: bool


class Templates:
    """All there were at an epoch."""

    def __init__(self, rows: list[Row]) -> None:
        self.epoch = integer(rows[0][0])
        self._of: dict[bytes, list[Template]] = {}
        for _, number, prefix, name, algorithm, stack, *numbers in rows:
            if number is None:
                continue  # there are none
            config = Config(integer(algorithm), *map(integer, numbers))
            one = Template(int(number), binary(prefix), binary(name), config, stack == b"t")
            self._of.setdefault(one.prefix, []).append(one)
        self._lengths = sorted({len(prefix) for prefix in self._of}, reverse=True)

    def all(self) -> list[Template]:
        """In order of prefix, then name."""
        return [one for prefix in sorted(self._of) for one in self._of[prefix]]

    def of(self, prefix: bytes) -> list[Template]:
        """Those of one prefix, in order of name."""
        return self._of.get(prefix, [])

    def applying(self, key: bytes) -> list[Template]:
        """Those that apply to a key without limits of its own: of the longest prefix, and where one
        stacks, also of the next shorter one, but for names that a longer prefix has."""
        found: dict[bytes, Template] = {}
        for length in self._lengths:
            group = self._of.get(key[:length], []) if length <= len(key) else []
            for one in group:
                found.setdefault(one.name, one)
            if group and not any(one.stack for one in group):
                break
        return list(found.values())
