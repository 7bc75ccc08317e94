"""What `doctor` tells people."""

from __future__ import annotations

from typing import Any

WORLD_WRITABLE = 0o002


def findings(report: dict[str, Any], directory: str) -> list[str]:
    """Sentences about a report, which has its damage as a dict or None. `directory` is how the
    directory is called."""
    found: list[str] = []
    if report["damage"] is not None:
        found.append(report["damage"]["message"])
    if report["torn_bytes"]:
        found.append(
            f"{report['torn_bytes']} bytes at the end of the log were torn by a power loss; the "
            "next opening cuts them and keeps them aside"
        )
    if report["directory_mode"] & WORLD_WRITABLE:
        found.append(f"everybody may write in {directory}: chmod o-w")
    return found
