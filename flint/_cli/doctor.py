"""`flint doctor`: is everything in the data directory as it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flint._cli.failure import ERROR, OK
from flint._cli.opening import directory, missing, server
from flint._cli.output import complain
from flint._cli.progress import waiting
from flint._cli.shapes import doctor_shape
from flint._cli.text import shown, size
from flint.limiter import doctor as examine

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._surface.types import DoctorDict


def add_to(verbs: Verbs) -> None:
    verbs.add(
        "doctor",
        doctor,
        "verify every byte of the data directory, also while a program uses it",
        "flint doctor",
        "flint doctor --data-dir /var/lib/app/limits --json",
    )


def examined(context: Context) -> DoctorDict:
    shared = server(context)
    if shared is not None:
        with shared, waiting("the server verifies its log"):
            return shared.doctor()
    path = directory(context)
    if not Path(path).is_dir():
        raise missing(path)
    with waiting("verifying the log"):
        return examine(path)


def verdict(found: DoctorDict) -> int:
    """The exit code, and a word on standard error of what is damaged."""
    if found["damage"] is None:
        return OK
    complain(found["damage"]["message"])
    return ERROR


def doctor(context: Context) -> int:
    found = examined(context)
    context.out.value(doctor_shape(found), lambda: show(found))
    return verdict(found)


def show(found: DoctorDict) -> None:
    from flint._cli.tables import console, print_pairs

    style, word = ("green", "no damage") if found["ok"] else ("bold red", "DAMAGED")
    console().print(word, style=style)
    print_pairs(
        [
            ("limits", f"{found['limits']:,}"),
            ("counters", f"{found['counters']:,}"),
            ("events", f"{found['history_events']:,}"),
            ("log", f"{size(found['aof_bytes'])} in {found['segments']:,} segments"),
            ("snapshot", size(found["snapshot_bytes"]) if found["snapshot_exists"] else "none"),
            ("digests", f"{found['seals']:,} compared"),
        ]
    )
    for finding in found["findings"]:
        print(f"- {shown(finding)}")
