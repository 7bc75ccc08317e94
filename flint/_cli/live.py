"""The live view on a terminal, drawn by rich."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from flint._cli.sampler import sparkline
from flint._cli.tables import Column, bar, console, table
from flint._cli.text import length, shown, size
from flint._cli.view import HELP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from flint._cli.sampler import Look, Row, Sampler
    from flint._cli.view import View

SPARK_CELLS = 12
SPECIAL_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]")  # arrows and the like mean nothing
HEAD_LINES = 6  # all but the rows of the table

COLUMNS = (
    Column("denied/s", numbers=True, style="red"),
    Column("allowed/s", numbers=True, style="green"),
    Column("", gives_way=True, style="cyan"),
    Column("denied", numbers=True, gives_way=True),
    Column("allowed", numbers=True, gives_way=True),
    Column("left", gives_way=True),
    Column("key", style="bold"),
)


def live(sampler: Sampler, view: View, interval_s: float, looks: int | None) -> None:
    """Until q, or until as many looks as are wanted."""
    to = console()
    look = sampler.look(time.monotonic())
    screen = not to.is_dumb_terminal
    with keyboard() as keys, Live(console=to, screen=screen, auto_refresh=False) as shown_live:
        while True:
            shown_live.update(drawn(look, view, to), refresh=True)
            looks = None if looks is None else looks - 1
            if looks == 0:
                return
            until_s = time.monotonic() + interval_s
            while (left_s := until_s - time.monotonic()) > 0:
                if not pressed(keys, left_s, view):
                    continue
                if view.ended:
                    return
                shown_live.update(drawn(look, view, to), refresh=True)
            if not view.paused:
                look = sampler.look(time.monotonic())


@contextlib.contextmanager
def keyboard() -> Iterator[int | None]:
    """Standard input, character by character, if it is a terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def pressed(keys: int | None, wait_s: float, view: View) -> bool:
    """Waits for keys and lets the view do what they say; whether there were any."""
    if keys is None:
        time.sleep(wait_s)
        return False
    ready, _, _ = select.select([keys], [], [], wait_s)
    if not ready:
        return False
    typed = os.read(keys, 256).decode("utf-8", "ignore")
    for key in SPECIAL_KEY.sub("", typed):
        view.press(key)
    return True


def drawn(look: Look, view: View, to: Console) -> RenderableType:
    rows = view.chosen(look.rows)[: max(to.height - HEAD_LINES, 1)]
    return Group(
        headline(look),
        storage(look),
        Text(),
        table(COLUMNS, (cells(row) for row in rows), to.width),
        foot(view),
    )


def headline(look: Look) -> Text:
    text = Text("allowed ", no_wrap=True, overflow="ellipsis")
    text.append(f"{look.allowed_per_s:,.1f}/s", "green").append("  denied ")
    text.append(f"{look.denied_per_s:,.1f}/s", "red")
    return text


def storage(look: Look) -> Text:
    kept = look.storage
    ago = kept.written_s_ago
    written = "" if ago is None else f"{kept.unsynced:,} unsynced, written {length(ago)} ago, "
    return Text(
        f"log {size(kept.log_bytes)} in {kept.segments:,} segments, {written}"
        f"{kept.records:,} records",
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )


def cells(row: Row) -> tuple[str | Text, ...]:
    return (
        f"{row.denied_per_s:,.1f}",
        f"{row.allowed_per_s:,.1f}",
        sparkline(list(row.earlier), SPARK_CELLS).rjust(SPARK_CELLS),
        f"{row.total_denied:,}",
        f"{row.total_allowed:,}",
        bar(row.remaining, row.burst),
        row.shown_key,
    )


def foot(view: View) -> Text:
    parts = [f"by {view.order}"]
    if view.filter or view.typing:
        parts.append(f"filter: {shown(view.filter)}{'_' if view.typing else ''}")
    if view.paused:
        parts.append("PAUSED")
    return Text(f"{HELP}   {'  '.join(parts)}", style="reverse", no_wrap=True, overflow="ellipsis")
