"""bench/growth.py runs, and what it measures stays within bounds at a small size too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GROWTH = Path(__file__).resolve().parent.parent / "bench" / "growth.py"


def test_memory_and_files_stay_within_bounds(tmp_path: Path) -> None:
    arguments = ["--events", "1500000", "--history-mib", "1"]
    done = subprocess.run(
        [sys.executable, GROWTH, *arguments, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [
        [float(text.replace(",", "")) for text in line.split()]
        for line in done.stdout.splitlines()[1:]
    ]
    events, _, disk_mib, history_mib, _, segments, compactions, *_ = rows[-1]
    assert events >= 1_500_000
    assert compactions >= 1
    assert history_mib <= 1
    assert segments <= 3
    assert disk_mib < 3 * 64  # segments of 64 MiB: the newest, and the one that is prepared
