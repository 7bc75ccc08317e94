"""`flint log`: the log on disk: compact, verify, count, and write it out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from flint._cli import dump
from flint._cli.doctor import examined, verdict
from flint._cli.failure import OK
from flint._cli.opening import reading, writing
from flint._cli.progress import waiting
from flint._cli.text import length, size

if TYPE_CHECKING:
    from typing import Any

    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint._cli.opening import Opened

_VERIFIED = (
    "ok",
    "records",
    "ring_records",
    "history_events",
    "segments",
    "history_segments",
    "aof_bytes",
    "snapshot_bytes",
    "seals",
    "torn_bytes",
    "findings",
    "damage",
)
_COUNTED = (
    "limits",
    "counters",
    "sequence",
    "segments",
    "log_bytes",
    "history_bytes",
    "snapshot_bytes",
    "recovered_records",
    "recovered_ring_records",
    "damaged_history",
)


def add_to(verbs: Verbs) -> None:
    group = verbs.group(
        "log",
        "the log on disk: compact, verify, count, write out",
        "flint log dump --since 1h",
        "flint log verify",
    )
    group.add(
        "compact",
        compact,
        "replace the log by a snapshot of what it says",
        "flint log compact",
        "flint log compact --data-dir /var/lib/app/limits",
    )
    group.add(
        "verify",
        verify,
        "verify every record and every digest; exit code 1 when something is damaged",
        "flint log verify",
        "flint log verify --json",
    )
    group.add(
        "stat",
        stat,
        "count records, segments and bytes",
        "flint log stat",
        "flint log stat --json",
    )
    dump.add_to(group)


def compact(context: Context) -> int:
    with (
        writing(context, lambda one: one.info()) as limiter,
        waiting("compacting the log", lambda: compaction_progress(limiter)),
    ):
        limiter.compact()
    context.out.words("compacted")
    return OK


def compaction_progress(limiter: Opened) -> tuple[int, int]:
    info = limiter.info()
    return info["compaction_done_bytes"], info["compaction_total_bytes"]


def verify(context: Context) -> int:
    found = examined(context)
    fields: dict[str, Any] = dict(found)
    context.out.value({name: fields[name] for name in _VERIFIED}, lambda: show_verified(fields))
    return verdict(found)


def show_verified(found: dict[str, Any]) -> None:
    from flint._cli.tables import console
    from flint._cli.text import shown

    style, word = ("green", "verified") if found["ok"] else ("bold red", "DAMAGED")
    console().print(
        f"{word}: {found['history_events']:,} events, {found['seals']:,} digests, "
        f"{size(found['aof_bytes'])} in {found['segments']:,} segments",
        style=style,
    )
    for finding in found["findings"]:
        print(f"- {shown(finding)}")


def stat(context: Context) -> int:
    with reading(context) as limiter:
        fields: dict[str, Any] = dict(limiter.info())
    counted = {name: fields[name] for name in _COUNTED}
    counted["newest_write_at_s"] = newest_write_s(limiter)
    context.out.value(counted, lambda: show_stat(counted))
    return OK


def newest_write_s(limiter: Opened) -> float | None:
    """When a segment of the log was written last, in seconds since 1970; None where the log is a
    server's."""
    path = getattr(limiter, "data_dir", None)
    if path is None:
        return None
    times = [one.stat().st_mtime for one in Path(path).glob("flint.aof*") if one.is_file()]
    return max(times, default=0.0)


def show_stat(counted: dict[str, Any]) -> None:
    from flint._cli.tables import print_pairs

    written_at_s = counted["newest_write_at_s"]
    ago = "-" if written_at_s is None else f"{length(max(time.time() - written_at_s, 0))} ago"
    print_pairs(
        [
            ("limits", f"{counted['limits']:,}, and {counted['counters']:,} counters"),
            ("records", f"{counted['sequence']:,} since the directory was made"),
            ("to replay", f"{counted['recovered_records']:,} records at an opening"),
            ("log", f"{size(counted['log_bytes'])} in {counted['segments']:,} segments"),
            ("history", f"{size(counted['history_bytes'])} behind the last compaction"),
            ("snapshot", size(counted["snapshot_bytes"]) if counted["snapshot_bytes"] else "none"),
            ("in the ring", f"{counted['recovered_ring_records']:,} records alone"),
            ("written", ago),
        ]
    )
