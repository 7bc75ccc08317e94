"""What Redis runs: Lua, of which each script is put together."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

CLOCK = "clock"
_PARTS = ("numbers", CLOCK, "algorithms")
_WITH_TEMPLATES = ("template", "end_template")
NAMES = ("check", "denied", "limit", "template", "end", "end_template", "show", "load", "now")


class Script(NamedTuple):
    """A text, and the name by which a server that has seen it knows it."""

    text: bytes
    digest: bytes


def script(text: bytes) -> Script:
    """A text as a script."""
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return Script(text, digest.encode())


def _read(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text("utf-8")


def load(clock: str | None = None) -> dict[str, Script]:
    """All scripts by name; `clock` is the text of another clock, for tests."""
    parts = {name: _read(name) for name in (*_PARTS, "quick", "counters", "templates", *NAMES)}
    if clock is not None:
        parts[CLOCK] = clock
    shared = "".join(parts[name] for name in _PARTS)
    scripts = {}
    for name in NAMES:
        first = parts["quick"] if name == "check" else ""
        more = parts["templates"] if name in _WITH_TEMPLATES else ""
        scripts[name] = script((shared + first + parts["counters"] + more + parts[name]).encode())
    return scripts
