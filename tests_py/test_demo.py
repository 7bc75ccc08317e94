"""The demo and the first example, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import flint

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ALLOWED = {
    "token_bucket": 8681,
    "gcra": 8681,
    "leaky_bucket": 8681,
    "fixed_window_counter": 8515,
    "sliding_window_log": 8459,
    "sliding_window_counter": 8489,
}

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs an example, with this flint and an empty place for temporary files."""

    def run_example(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(flint.__file__).parent.parent),
                "TMPDIR": str(tmp_path),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run_example


def numbers(output: str) -> dict[str, int]:
    """The lines "name   1,234" of the demo's table."""
    found = re.findall(r"^ *(\S.*?) {2,}([\d,]+)(?:  .*)?$", output, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in found}


def check(output: str, allowed: int) -> None:
    found = numbers(output)
    assert (found["requests"], found["addresses"]) == (10_000, 1_753)
    assert (found["allowed"], found["denied"]) == (allowed, 10_000 - allowed)
    assert 5_000 <= found["killed after request"] < 10_000
    assert found["records recovered"] > found["killed after request"] // 2
    assert output.endswith("\nidentical decisions: 10,000 of 10,000\n")


def test_demo(run: Run, tmp_path: Path) -> None:
    output = run("demo.py")
    check(output, 8681)
    assert "sync='always'" in output
    top = numbers(output[output.index("most denied") :])
    assert list(top.items())[:3] == [
        ("66.249.73.135", 349),
        ("130.237.218.86", 301),
        ("46.105.14.53", 231),
    ]
    assert len(top) == 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("algorithm", ALLOWED)
def test_demo_of_every_algorithm(run: Run, algorithm: str) -> None:
    check(run("demo.py", "--sync", "batch", "--algorithm", algorithm), ALLOWED[algorithm])


def test_demo_with_another_limit(run: Run) -> None:
    output = run("demo.py", "--sync", "batch", "--rate", "10", "--per", "60s")
    check(output, 8987)
    output = run("demo.py", "--sync", "batch", "--burst", "60")
    check(output, 9027)


def test_demo_keeps_its_directory_on_request(run: Run) -> None:
    output = run("demo.py", "--sync", "batch", "--keep")
    directory = output.rpartition("data directory: ")[2].rstrip("\n")
    with flint.Limiter(directory) as limiter:
        status = limiter.status("ip:*")
        assert status is not None
        assert status["total_allowed"] == 8681


def test_quickstart_remembers(run: Run, tmp_path: Path) -> None:
    assert run("quickstart.py") == "go on, 99 left\n"
    # At 100 a minute the first unit may be back before a slow machine has started Python again.
    again = run("quickstart.py")
    assert again in ("go on, 98 left\n", "go on, 99 left\n")
    with flint.Limiter.open_readonly(tmp_path / "data" / "limits") as limiter:
        status = limiter.status("user:42")
    assert status is not None
    # Back, it was forgotten with its total, which is the template's now.
    assert status["total_allowed"] == (2 if again == "go on, 98 left\n" else 1)


def test_quickstart_is_the_first_example_of_the_readme() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    example = (EXAMPLES / "quickstart.py").read_text("utf-8").split('"""\n\n')[1]
    assert readme.split("```python\n")[1].split("```")[0] == example
