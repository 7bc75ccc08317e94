"""Verifying a data directory that need not be open."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from flint import _native
from flint._local.options import absolute_path

if TYPE_CHECKING:
    import os

    from flint._surface.types import DoctorDict, InfoDict

WORLD_WRITABLE = 0o002


def failing_compactions(info: InfoDict) -> list[str]:
    """What a limiter that is open can add to the findings of `doctor`."""
    if not info["compaction_failure"]:
        return []
    again = datetime.fromtimestamp(info["compaction_retry_at_ns"] / 1e9).astimezone()
    return [
        "the last compaction failed, so the log grows; it is tried again at "
        f"{again.isoformat(timespec='seconds')}. compact() tries it now, and raises what is in the "
        "way"
    ]


def doctor(data_dir: str | os.PathLike[str]) -> DoctorDict:
    """Verify a data directory, which may be in use, without a lock and without writing: every
    record against the chain of checksums, every seal's SHA-256, the snapshot, that no segment is
    missing, and that the records make sense.

    The answer's `ok` says whether there is no damage; `damage` tells of the first one with segment,
    offset in the file and record number; `findings` are sentences for people, also about what is no
    damage. Takes time in proportion to the files. Raises FlintOSError, FlintPermissionError or
    UnsupportedError when the directory cannot be read.
    """
    path = absolute_path(data_dir)
    found: Any = _native.examine(path)
    findings: list[str] = []
    damage: Any = None
    if found["damage"] is not None:
        names = ("message", "segment", "offset", "sequence")
        damage = dict(zip(names, found["damage"], strict=True))
        findings.append(damage["message"])
    if found["torn_bytes"]:
        findings.append(
            f"{found['torn_bytes']} bytes at the end of the log were torn by a power loss; the "
            "next opening cuts them and keeps them aside"
        )
    if found.pop("directory_mode") & WORLD_WRITABLE:
        findings.append(f"everybody may write in {path!r}: chmod o-w")
    found["aof_bytes"] = found.pop("log_bytes")
    found.update(ok=damage is None, findings=findings, damage=damage)
    answer: DoctorDict = found
    return answer
