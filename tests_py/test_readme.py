"""Every Python example of the README and of docs/python.md runs as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command import on_terminal, start

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    for page, least in ((README, 3), (PYTHON, 7), (METRICS, 3)):
        assert least <= len(examples(page)) == page.count("```python")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{name}-{number}")
        for name, page in (("readme", README), ("python", PYTHON), ("metrics", METRICS))
        for number, example in enumerate(examples(page))
    ],
)
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
    first = examples(README)[0]
    example = first.replace('per="1m"', 'per="1d"')
    assert example != first
    for left in ("99", "98"):
        run = [sys.executable, "-c", example]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stdout == f"go on, {left} left\n"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_commands_run(tmp_path: Path, is_terminal: bool) -> None:
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^flint .*$", README, re.M)]
    assert len(lines) >= 7
    for _, *words in lines:
        if is_terminal:
            code, said = on_terminal(80, *words, cwd=tmp_path)
            assert (code, "Traceback" in said) == (0, False), said
        else:
            process = start(*words, cwd=tmp_path)
            assert process.communicate(timeout=60)[1] == ""
            assert process.returncode == 0, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"[docs/{page.name}](docs/{page.name})" in README
