"""Verifying a data directory that need not be open."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from flint import _native
from flint._local.options import absolute_path
from flint._surface.findings import findings

if TYPE_CHECKING:
    import os

    from flint._surface.types import DoctorDict, InfoDict


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
    if found["damage"] is not None:
        names = ("message", "segment", "offset", "sequence")
        found["damage"] = dict(zip(names, found["damage"], strict=True))
    told = findings(found, repr(path))
    del found["directory_mode"]
    found["aof_bytes"] = found.pop("log_bytes")
    found.update(ok=found["damage"] is None, findings=told)
    answer: DoctorDict = found
    return answer
