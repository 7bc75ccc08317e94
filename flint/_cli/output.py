"""Where answers go: tables on a terminal, otherwise JSON as Flint 0.2 wrote it."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from flint._cli.text import as_json, safe_json, shown_lines

if TYPE_CHECKING:
    from collections.abc import Callable


def have_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


class Output:
    """Standard output, and what it can show."""

    def __init__(self, json: bool) -> None:
        self.terminal = sys.stdout.isatty()
        self.json = json or not self.terminal
        self.tables = not self.json and have_rich()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                if stream.isatty():
                    stream.reconfigure(errors="backslashreplace")
                else:  # for other programs, which read JSON as UTF-8
                    stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    def value(self, value: object, table: Callable[[], None] | None = None) -> None:
        """An answer, as JSON; or by `table` where people look at it."""
        if self.tables and table is not None:
            table()
        else:
            self._print(as_json(value))

    def line(self, value: object) -> None:
        """One of many answers, as a line of JSON."""
        self._print(as_json(value, indent=None))

    def words(self, text: str) -> None:
        """A sentence, which is the same wherever it goes."""
        print(shown_lines(text), flush=True)

    def _print(self, text: str) -> None:
        print(safe_json(text) if self.terminal else text)


def complain(text: str) -> None:
    """Say on standard error what is wrong."""
    print(f"flint: {shown_lines(text)}", file=sys.stderr)
