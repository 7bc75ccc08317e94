"""Every Python example of the README runs as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == README.count("```python")
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(i) for i in range(len(EXAMPLES))])
def test_example_runs(example: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_first_example_remembers(tmp_path: Path) -> None:
    # At 100 a minute a unit is back before a slow machine has started Python again.
    example = EXAMPLES[0].replace('per="1m"', 'per="1d"')
    assert example != EXAMPLES[0]
    for left in ("99", "98"):
        run = [sys.executable, "-c", example]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stdout == f"go on, {left} left\n"


def run_commands(page: str, folder: Path) -> list[list[str]]:
    """Runs every line with the command `flint`, one after the other; returns their words."""
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^flint .*$", page, re.M)]
    for words in lines:
        run = [sys.executable, "-m", *words]
        done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), words
    return lines


def test_the_commands_run(tmp_path: Path) -> None:
    assert len(run_commands(README, tmp_path)) >= 8


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_commands_of_their_page_run(tmp_path: Path) -> None:
    lines = run_commands((ROOT / "docs" / "cli.md").read_text("utf-8"), tmp_path)
    assert len(lines) >= 20
    named = {" ".join(words[1:3]) for words in lines} | {words[1] for words in lines}
    listed = subprocess.run(
        [sys.executable, "-m", "flint", "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    for verb in re.findall(r"^    ([a-z-]+) ", listed.split("VERB\n")[-1], re.M):
        assert verb in named, verb
