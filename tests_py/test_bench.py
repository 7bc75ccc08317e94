"""The benchmark runs and counts what it does, and the README shows what it found. How fast anything
is, is not for a test to say."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flint

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"


def run(*arguments: str | Path) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-W", "error", BENCH / "run.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports one of the benchmark's modules."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.mark.parametrize(
    "name",
    [
        "batch-dict",
        "always-floor",
        pytest.param(
            "c-floor",
            marks=pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
        ),
    ],
)
def test_a_row_that_needs_no_installation(name: str, tmp_path: Path) -> None:
    path, place = tmp_path / "results.json", tmp_path / "place"
    shown = run("--quick", "--only", name, "--json", path, "--directory", place)
    found = json.loads(path.read_text("utf-8"))
    assert {"date", "commit", "machine", "versions", "rows"} <= set(found)
    assert found["quick"]
    (row,) = found["rows"]
    assert name == row["name"]
    assert name in shown
    assert row["rounds"] > 1
    low, high = row["quartiles"]
    assert 0 < low <= row["measured"] <= high
    for side in row["sides"]:
        assert side["allowed"] == side["calls"] > 0
        assert side["denied"] == 0
        assert side["largest_unsynced"] in ([0] if name == "always-floor" else range(1 << 40))
    assert list(place.iterdir()) == []


def test_the_rows_have_names_of_their_own() -> None:
    names = run("--list").split()
    assert len(names) == len(set(names)) > 20


@pytest.mark.parametrize(
    ("target", "options"),
    [("Reopen", {"replay": False}), ("Reopen", {"replay": True}), ("Compact", {})],
)
def test_a_log_is_read_from_its_first_event_if_wanted(
    bench: Any, target: str, options: dict[str, bool], tmp_path: Path
) -> None:
    events = 2000
    side = getattr(bench("targets_log"), target)(str(tmp_path), events=events, **options)
    with flint.Limiter(str(side.written)) as limiter:
        limiter.compact()
    with flint.Limiter.open_readonly(str(side.written)) as limiter:
        assert limiter.info()["recovered_records"] < events
    for _ in range(2):
        seen = side.run(1)
        assert seen["ns"] > 0
        assert seen["allowed"] == events
        assert not side.copy.exists()


def test_a_peer_that_is_not_there_is_not_run(bench: Any) -> None:
    harness, report = bench("harness"), bench("report")
    spec = harness.Spec("row", "work", "a peer", harness.at_least(2))
    row = report.row(spec, harness.NotRun("no compiler"))
    assert "measured" not in row
    assert report.measured(row) == "not run: no compiler"
    assert "not run: no compiler" in report.readme_row(row)


def test_ratios_are_of_neighbouring_rounds(bench: Any) -> None:
    harness, report = bench("harness"), bench("report")

    def rounds(*times_ns: int) -> list[dict[str, int]]:
        return [
            {"ns": ns, "calls": 10, "allowed": 8, "denied": 2, "unsynced": ns} for ns in times_ns
        ]

    # The machine was three times as slow in the last round, for both.
    seen = harness.faster(rounds(10, 10, 30), rounds(20, 40, 60), ("ours", "theirs"))
    assert (seen.value, seen.rounds) == (2, 3)
    assert seen.quartiles == (2, 3)
    assert [(side.figure, side.allowed, side.denied) for side in seen.sides] == [
        (1, 24, 6),
        (4, 24, 6),
    ]
    assert [side.unsynced for side in seen.sides] == [30, 60]
    for demanded, met in ((2, True), (2.1, False)):
        spec = harness.Spec("row", "work", "a peer", harness.at_least(demanded))
        assert report.row(spec, seen)["met"] is met


@pytest.mark.parametrize(("seen", "passes"), [(104.9, True), (105.1, False), (50.0, True)])
def test_a_rise_of_instructions_is_refused(bench: Any, seen: float, passes: bool) -> None:
    compared = bench("instructions").compared
    assert compared({"memory": seen, "directory": 10.0}, {"memory": 100, "directory": 10}) is passes


def test_the_readme_shows_the_newest_results(bench: Any) -> None:
    report = bench("report")
    if not report.RESULTS.exists():
        pytest.skip("what was measured is not part of a source distribution")
    newest = report.newest()
    readme = (ROOT / "README.md").read_text("utf-8")
    assert report.readme_with(readme, report.readme_table(newest)) == readme
