"""Tables for a terminal, drawn by rich. Keys stand in the last column: whatever width a terminal
gives them, what stands before stays aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flint._cli.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BAR_CELLS = 10
GAP = 2  # cells between columns
LAST_CELLS = 24  # as many as the last column gets before others give way


class Column(NamedTuple):
    """A column: its title, whether it holds numbers, and a style. One that `gives_way` is left out
    where the window is too narrow for all."""

    title: str
    numbers: bool = False
    style: str = ""
    gives_way: bool = False


def console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], width: int) -> Table:
    """A table of at most `width` cells. What does not fit of its last column is cut."""
    cells = [[as_text(cell) for cell in row] for row in rows]
    widths = [widest(columns, cells, place) for place in range(len(columns))]
    kept = fitting(columns, widths, width)
    last = kept[-1]
    taken = sum(widths[place] + GAP for place in kept[:-1])
    widths[last] = min(widths[last], max(width - taken, 1))
    drawn = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for place in kept:
        column = columns[place]
        drawn.add_column(
            Text(column.title, "underline"),
            justify="right" if column.numbers else "left",
            style=column.style,
            no_wrap=True,
            overflow="ellipsis",
            width=widths[place],
        )
    for row in cells:
        drawn.add_row(*(row[place] for place in kept))
    return drawn


def fitting(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """The columns that there is room for. The last one needs no more than some cells: it is cut."""
    kept = list(range(len(columns)))
    needed = [*(one + GAP for one in widths[:-1]), min(widths[-1], LAST_CELLS)]
    for place in reversed(kept[:]):
        if sum(needed[one] for one in kept) <= width:
            break
        if columns[place].gives_way:
            kept.remove(place)
    return kept


def widest(columns: Sequence[Column], cells: list[list[Text]], place: int) -> int:
    return max(len(columns[place].title), *(row[place].cell_len for row in cells), 0)


def as_text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(shown(cell))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
    to = console()
    to.print(table(columns, rows, to.width))


def print_pairs(pairs: Sequence[tuple[str, str | Text]]) -> None:
    """Names and values, one pair to a line."""
    to = console()
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        to.print(
            Text().append(name.ljust(width + GAP), "bold").append(as_text(value)), soft_wrap=True
        )


def bar(left: int, of: int) -> Text:
    """What remains of a limit: green, yellow when it runs low, red when there is nothing."""
    filled = left * BAR_CELLS // of if of else 0
    if left and not filled:
        filled = 1
    style = "red" if not left else "yellow" if left * 5 <= of else "green"
    return Text().append("█" * filled, style).append("░" * (BAR_CELLS - filled), "dim")
