"""The C library's examples, in C and through ctypes, do the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flint

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PACKAGE_ROOT = Path(flint.__file__).parent.parent
MOST_LINES = 100

EXPECTED = """\
user:42: allowed, 4 remaining, retry after 0 ms
user:42: allowed, 3 remaining, retry after 0 ms
user:42: allowed, 2 remaining, retry after 0 ms
user:42: allowed, 1 remaining, retry after 0 ms
user:42: allowed, 0 remaining, retry after 0 ms
user:42: denied, 0 remaining, retry after SOME ms
user:42: denied, 0 remaining, retry after SOME ms
everything is on disk
user:*: 5 every 60000 ms, 5 allowed, 2 denied
user:42: 5 every 60000 ms, 5 allowed, 2 denied
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[list[str | Path]]:
    """The commands that run the C and the ctypes program."""
    program = tmp_path_factory.mktemp("examples") / "limiter"
    library = flint.get_library_dir()
    compiler = ["cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    places = ["-I", flint.get_include(), "-L", library, f"-Wl,-rpath,{library}"]
    done = run(*compiler, *places, EXAMPLES / "limiter.c", "-lflint_limiter", "-o", program)
    assert done.returncode == 0, done.stderr
    return [[program], [sys.executable, "-W", "error", EXAMPLES / "limiter_ctypes.py"]]


def output(command: list[str | Path], directory: Path) -> str:
    done = run(*command, directory)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_both_print_the_same(programs: list[list[str | Path]], tmp_path: Path) -> None:
    for number, command in enumerate(programs):
        printed = output(command, tmp_path / str(number))
        times_ms = [int(time_ms) for time_ms in re.findall(r"retry after ([1-9]\d*) ms", printed)]
        assert len(times_ms) == 2
        assert all(time_ms <= 12_000 for time_ms in times_ms)
        assert re.sub(r"after [1-9]\d* ms", "after SOME ms", printed) == EXPECTED


def test_each_remembers_what_the_other_did(
    programs: list[list[str | Path]], tmp_path: Path
) -> None:
    for number, (first, second) in enumerate([programs, programs[::-1]]):
        directory = tmp_path / str(number)
        output(first, directory)
        allowed, denied = re.findall(r"\d+(?= allowed|(?= denied))", output(second, directory))[:2]
        assert int(allowed) >= 5
        assert int(allowed) + int(denied) == 14


def test_failure_is_said(programs: list[list[str | Path]], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    told = []
    for command in programs:
        done = run(*command, file)
        assert (done.returncode, done.stdout) == (1, "")
        told.append(done.stderr)
        assert run(*command).returncode != 0
        assert "usage:" in run(*command).stderr
    assert told == [f"open: {file} is not a directory\n"] * 2


@pytest.mark.parametrize("name", ["limiter.c", "limiter_ctypes.py"])
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < MOST_LINES
