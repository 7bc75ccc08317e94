"""What Redis runs: Lua, of which each script is put together."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

CLOCK = "clock"
_PARTS = ("numbers", "algorithms")
_WITH_TEMPLATES = ("template", "end_template")
# What decides most checks, by algorithm.
_BUCKET, _WINDOW = ("bucket", "store", "answer"), ("window", "store", "answer")
_COUNTER, _LOG = ("counter", "store", "answer"), ("log", "store", "entries", "answer")
QUICK = dict(enumerate((_BUCKET, _BUCKET, _BUCKET, _WINDOW, _LOG, _COUNTER), 1))
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
    parts = {name: _read(name) for name in (*_PARTS, "counters", "templates", *NAMES)}
    parts[CLOCK] = _read(CLOCK) if clock is None else clock
    shared = "".join(parts[name] for name in (CLOCK, *_PARTS, "counters"))
    scripts = {}
    for name in NAMES:
        templates = parts["templates"] if name in _WITH_TEMPLATES else ""
        scripts[name] = script((shared + templates + parts[name]).encode())
    for algorithm, names in QUICK.items():
        text = "".join(_read(f"quick_{name}") for name in ("begin", *names))
        scripts[quick_name(algorithm)] = script((parts[CLOCK] + text).encode())
    return scripts


def quick_name(algorithm: int) -> str:
    """The script that decides most checks."""
    return f"quick {algorithm}"
