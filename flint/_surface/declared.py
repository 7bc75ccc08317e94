"""What a program has said of its limits, so that two places of it that disagree are noticed."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import SupportsIndex

    from flint._surface.types import Algorithm

# Beyond these nothing is noticed: programs with more limits make them from data, not in code.
_MOST = 4096


class Declaration(NamedTuple):
    """The values of a limit."""

    rate: int
    per_ns: int
    burst: int
    algorithm: Algorithm

    def __str__(self) -> str:
        burst = "" if self.burst == self.rate else f", burst {self.burst}"
        return f"{self.rate} per {self.per_ns / 1_000_000_000:.9g} s{burst} ({self.algorithm})"


class Declared:
    """By key, the values that the program gave a limit last since the limiter was opened."""

    def __init__(self) -> None:
        self._by_key: dict[str, Declaration] = {}

    def note(
        self,
        key: str,
        rate: SupportsIndex,
        per_ns: SupportsIndex,
        burst: SupportsIndex | None,
        algorithm: Algorithm,
    ) -> None:
        if key in self._by_key or len(self._by_key) < _MOST:
            whole = operator.index(rate)
            most = whole if burst is None else operator.index(burst)
            self._by_key[key] = Declaration(whole, operator.index(per_ns), most, algorithm)

    def forget(self, key: str) -> None:
        self._by_key.pop(key, None)

    def get(self, key: object) -> Declaration | None:
        return self._by_key.get(key) if isinstance(key, str) else None
