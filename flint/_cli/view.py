"""What the live view shows of all that there is, and what its keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._cli.sampler import Row

ORDERS: dict[str, Callable[[Row], tuple[float, float]]] = {
    "denied": lambda row: (row.denied_per_s, row.total_denied),
    "allowed": lambda row: (row.allowed_per_s, row.total_allowed),
    "all denied": lambda row: (row.total_denied, row.denied_per_s),
    "all allowed": lambda row: (row.total_allowed, row.allowed_per_s),
}
HELP = "s sort  / filter  p pause  q quit"
ENTER, ESCAPE, BACKSPACES = "\r\n", "\x1b", "\x7f\x08"
MOST_FILTER = 60


class View:
    """The order, the filter, and whether it stands still."""

    def __init__(self, order: str, most: int) -> None:
        self.order = order
        self.most = most
        self.filter = ""
        self.typing = False
        self.paused = False
        self.ended = False

    def press(self, key: str) -> None:
        """What one typed character does."""
        if self.typing:
            self._type(key)
        elif key in ("q", "Q"):
            self.ended = True
        elif key in ("p", " "):
            self.paused = not self.paused
        elif key == "s":
            names = list(ORDERS)
            self.order = names[(names.index(self.order) + 1) % len(names)]
        elif key == "/":
            self.filter = ""
            self.typing = True
        elif key == ESCAPE:
            self.filter = ""

    def _type(self, key: str) -> None:
        if key in ENTER:
            self.typing = False
        elif key == ESCAPE:
            self.filter = ""
            self.typing = False
        elif key in BACKSPACES:
            self.filter = self.filter[:-1]
        elif key.isprintable() and len(self.filter) < MOST_FILTER:
            self.filter += key

    def chosen(self, rows: list[Row]) -> list[Row]:
        """The rows to show, in their order."""
        fitting = [row for row in rows if self.filter in row.shown_key]
        fitting.sort(key=lambda row: row.shown_key)
        fitting.sort(key=ORDERS[self.order], reverse=True)
        return fitting[: self.most]
