"""`flint version`, which loads nothing: neither the engine nor what reads a command line."""

from __future__ import annotations

import os.path
import sys

TYPE_CHECKING = False  # typing itself would have to be loaded
if TYPE_CHECKING:
    from flint._cli.context import Context


def version() -> str:
    """The version of the C library of this package, as its .pc file says it."""
    package = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to load
    path = f"{package}/lib/pkgconfig/flint_limiter.pc"
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("Version: "):
                return line[len("Version: ") :].strip()
    raise OSError(f"{path} names no version")


def show_version(context: Context) -> int:
    """With options or on a terminal: also what it runs on."""
    python = ".".join(map(str, sys.version_info[:3]))
    context.note(f"{package_path()}, Python {python}")
    print(version())
    return 0


def package_path() -> str:
    return os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
