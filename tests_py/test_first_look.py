"""The benchmark runs, and measures admissions. How fast they are is not for a test to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flint

SCRIPT = Path(__file__).resolve().parent.parent / "bench" / "first_look.py"


def run(stdout: int, *arguments: str | Path) -> str | None:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, "--short", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def check(found: dict[str, Any]) -> None:
    assert found["allowed"] == found["calls"] == found["rounds"] * found["calls_per_round"]
    assert min(found["flint_ns"], found["floor_ns"], found["ratio"]) > 0
    low, high = found["ratio_quartiles"]
    assert low <= found["ratio"] <= high


def test_report(tmp_path: Path) -> None:
    output = run(subprocess.PIPE, "--directory", tmp_path)
    assert output is not None
    report = json.loads(output)
    assert set(report) == {"machine", "batch", "always"}
    check(report["batch"])
    check(report["always"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_on_a_terminal(arguments: list[str]) -> None:
    terminal, its_other_end = os.openpty()
    try:
        run(its_other_end, *arguments)
        shown = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(its_other_end)
    assert ("pwrite + fdatasync" in shown) == (not arguments)
    assert ('"floor_ns"' in shown) == bool(arguments)
