"""The tests of another limiter, out of its source distribution, in an environment of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import flint

PACKAGE_PARENT = Path(flint.__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def environment(place: Path, *requirements: str) -> Path:
    """The Python of a new environment that has what is required."""
    done = run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    assert done.returncode == 0, done.stderr
    python = place / "venv" / "bin" / "python"
    done = run(python, "-m", "pip", "install", "-q", *requirements, cwd=place)
    assert done.returncode == 0, done.stderr
    return python


def source(place: Path, python: Path, requirement: str) -> Path:
    """The unpacked source distribution."""
    words = ("-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", requirement)
    done = run(python, *words, cwd=place)
    assert done.returncode == 0, done.stderr
    [archive] = place.glob("*.tar.gz")
    done = run("tar", "-xzf", archive, cwd=place)
    assert done.returncode == 0, done.stderr
    [folder] = [path for path in place.iterdir() if (path / "PKG-INFO").is_file()]
    return folder


def results(python: Path, folder: Path, paths: list[Path], *words: str) -> tuple[int, set[str]]:
    """How many tests passed, and the names of those that did not."""
    done = run(
        *(python, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *words),
        cwd=folder,
        PYTHONPATH=os.pathsep.join(map(str, [*paths, PACKAGE_PARENT])),
        PYTHONWARNINGS="default",
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout + done.stderr
    failed = set(
        re.findall(r"^(?:FAILED|ERROR) (\S+?(?:\[.*?\])?)(?: - .*)?$", done.stdout, re.MULTILINE)
    )
    return int(passed[1]), failed
