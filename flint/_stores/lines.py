"""Waiting in line for a limit that other processes and machines wait for too."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from flint._surface.line import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_SPREAD_NS = 20_000_000


class StoreLines(Lines):
    """Lines whose first ask again a little later than they might, each by another time: those of
    all processes would otherwise ask the store in the same moment, of whom one is admitted.

    `draw` gives a number from 0 and below another one."""

    def __init__(self, draw: Callable[[int], int] = random.randrange) -> None:
        super().__init__(None)
        self._draw = draw

    def _sleep_ns(self, retry_after_ns: int, left_ns: int | None) -> int:
        spread_ns = min(retry_after_ns // 10, _MOST_SPREAD_NS)
        if left_ns is not None:
            spread_ns = min(spread_ns, left_ns - retry_after_ns)
        return retry_after_ns + self._draw(spread_ns + 1)
