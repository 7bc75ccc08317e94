"""Where limits live: a flag, else the environment, else flint.toml, else `.flint`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from flint._cli.failure import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DEFAULT = ".flint"


class Place(NamedTuple):
    """A directory or a URL, and what has named it."""

    target: str
    source: str


class Settings:
    """The settings of one command line, looked up when they are needed and told to --verbose."""

    def __init__(self, args: argparse.Namespace, note: Callable[[str], None]) -> None:
        self._args = args
        self._note = note
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        if self._place is None:
            self._place = self._find()
            self._note(f"limits in {self._place.target!r}, from {self._place.source}")
        return self._place

    def _find(self) -> Place:
        flags = {f"--{name}": getattr(self._args, name.replace("-", "_"), None) for name in NAMES}
        variables = {name: os.environ.get(name) or None for name in ("FLINT_URL", "FLINT_DATA_DIR")}
        return (
            chosen(flags, "the flag {}")
            or chosen(variables, "the environment's {}")
            or Place(DEFAULT, "the default")
        )


NAMES = ("url", "data-dir")


def chosen(named: dict[str, str | None], source: str) -> Place | None:
    """The one place that is named, if any is."""
    given = [(name, value) for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(name for name, _ in given)} are both given; one is enough")
    return Place(given[0][1], source.format(given[0][0])) if given else None
