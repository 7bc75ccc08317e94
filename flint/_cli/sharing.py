"""`flint sharing`: which processes share the data directory?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flint._cli.failure import ERROR, OK
from flint._cli.opening import directory, missing
from flint._cli.output import complain
from flint._local.sharing import describe

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._local.sharing import SharingDict


def add_to(verbs: Verbs) -> None:
    parser = verbs.add(
        "sharing",
        sharing,
        "who owns a data directory that processes share, and who asks it",
        "flint sharing data/limits",
        "flint sharing --json",
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="instead of --data-dir")


def sharing(context: Context) -> int:
    path = context.args.directory or directory(context)
    if not Path(path).is_dir():
        raise missing(path)
    found = describe(path)
    if found is None:
        complain(f"nobody shares {path!r} now")
        return ERROR
    context.out.value(shape(found), lambda: show(found))
    return OK


def when(ns: int) -> str:
    at = datetime.fromtimestamp(ns // 10**9, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def shape(found: SharingDict) -> dict[str, Any]:
    owner = {"pid": found["pid"], "version": found["version"], "since": when(found["since_ns"])}
    return {
        "owner": owner | {"sync": found["sync"], "takeover_ms": found["takeover_ns"] / 1e6},
        "clients": [
            {"pid": one["pid"], "since": when(one["since_ns"]), "requests": one["requests"]}
            for one in found["clients"]
        ],
        "waiting": [
            {"pid": one["pid"], "since": when(one["since_ns"]), "callers": one["callers"]}
            for one in found["waiting"]
            if one["callers"]
        ],
    }


def show(found: SharingDict) -> None:
    from flint._cli.tables import Column, print_pairs, print_table

    took_ms = found["takeover_ns"] / 1e6
    print_pairs(
        [
            ("owner", f"process {found['pid']}, Flint {found['version']}"),
            ("sync", found["sync"]),
            ("since", when(found["since_ns"])),
            ("took over", f"in {took_ms:,.1f} ms" if took_ms else "from nobody: it was opened"),
            ("clients", f"{len(found['clients']):,}"),
            ("in line", f"{sum(one['callers'] for one in found['waiting']):,}"),
        ]
    )
    if not found["clients"]:
        return
    columns = [Column("process", numbers=True), Column("requests", numbers=True), Column("since")]
    print_table(
        columns,
        [
            (str(one["pid"]), f"{one['requests']:,}", when(one["since_ns"]))
            for one in found["clients"]
        ],
    )
