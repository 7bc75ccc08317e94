"""What several test files need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flint
from flint import Limiter
from flint.testing import ManualClock

PACKAGE_ROOT = Path(flint.__file__).parent.parent


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture
def limiter(clock: ManualClock) -> Iterator[Limiter]:
    """In memory, with a clock that stands."""
    with Limiter(":memory:", clock=clock) as limiter:
        yield limiter


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Runs a script in a new interpreter that finds this flint; returns what it prints."""

    def run(script: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run
