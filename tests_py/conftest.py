"""What several test files need."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flint
from flint import Limiter
from flint._local.options import optional_ns
from flint.testing import ManualClock

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_ROOT = Path(flint.__file__).parent.parent


def succeed(*command: str | Path, **options: Any) -> str:
    """Runs a command that must succeed; returns what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture(autouse=True)
def _owners_have_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that gets no processor for a second is not one that is stopped: limiters that share
    a directory wait longer here, unless they say how long."""

    def patient(name: str, value: Any) -> int | None:
        is_default = name == "answer_timeout" and value is None
        return optional_ns(name, "5m" if is_default else value)

    monkeypatch.setattr("flint.limiter.optional_ns", patient)


@pytest.fixture(autouse=True)
def _no_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a test run are no workers of one server."""
    name = f"\0flint.W004 of a test {uuid.uuid4()}"
    monkeypatch.setattr("flint._web.workers._name", lambda: name)


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


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that FLINT_WHEEL names; otherwise one made now of what has been built."""
    if "FLINT_WHEEL" in os.environ:
        return Path(os.environ["FLINT_WHEEL"])
    made = tmp_path_factory.mktemp("wheel")
    build = ["build", "--build-lib", made / "lib"]
    pack = ["bdist_wheel", "--bdist-dir", made / "packed", "--dist-dir", made]
    succeed(sys.executable, "setup.py", "--quiet", *build, *pack, cwd=ROOT)
    [path] = made.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which there is the wheel and nothing else."""
    environment = tmp_path_factory.mktemp("installed")
    succeed(sys.executable, "-m", "venv", "--without-pip", environment)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    succeed(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    return environment / "bin"
