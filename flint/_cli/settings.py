"""Where limits live: a flag, else the environment, else the configuration file, else `.flint`."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from flint._cli.failure import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

DEFAULT = ".flint"
# Of [storage], what the command decides itself: it says what has failed, and waits long.
_OF_PROGRAMS = ("on_error", "timeout")


class Place(NamedTuple):
    """A directory or a URL, what has named it, and the options of `connect` that came with it."""

    target: str
    source: str
    options: Mapping[str, Any] = MappingProxyType({})


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
            from flint._places import without_password

            target, source, options = self._place
            more = f", with its {', '.join(sorted(options))}" if options else ""
            self._note(f"limits in {without_password(target)!r}, from {source}{more}")
        return self._place

    def _find(self) -> Place:
        flags = {name: getattr(self._args, name, None) for name in ("url", "data_dir")}
        named = {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
        variables = {name: os.environ.get(name) or None for name in ("FLINT_URL", "FLINT_DATA_DIR")}
        return (
            chosen(named, "the flag {}")
            or chosen(variables, "the environment's {}")
            or configured(getattr(self._args, "file", None))
            or Place(DEFAULT, "the default")
        )


def chosen(named: dict[str, str | None], source: str) -> Place | None:
    """The one place that is named, if any is."""
    given = [(name, value) for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(name for name, _ in given)} are both given; one is enough")
    if not given:
        return None
    name, target = given[0]
    if name in ("--url", "FLINT_URL"):
        from flint._places import path_or_server

        target = path_or_server(target)
    return Place(target, source.format(name))


def configured(file: str | None) -> Place | None:
    """What the configuration file says, if there is one; `file` is one that is named."""
    from flint import config
    from flint._places import path_or_server

    path = config.find(file)
    if path is None:
        return None
    said = config.load(path)
    options = {name: said.options[name] for name in said.options if name not in _OF_PROGRAMS}
    return Place(path_or_server(said.place), f"the file {path}", options)
