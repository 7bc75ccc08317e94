"""The stubs say what the extension does, and everything is typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import flint

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_ROOT = Path(flint.__file__).parent.parent
# mypy looks here first, but refuses to be in a directory of installed packages.
FROM = ROOT if PACKAGE_ROOT == ROOT else ROOT / "tests_py"

PROGRAM = """
from datetime import timedelta
from pathlib import Path

import flint
from flint.testing import ManualClock

with flint.Limiter(Path("data"), sync="batch", clock=ManualClock(0)) as limiter:
    reveal_type(limiter)
    limiter.limit("api:*", rate=5, per=timedelta(minutes=1), burst=7, algorithm="gcra")
    limiter.limit_many([{"key": "a", "rate": 1, "per": "1m"}, ("b", 1, 0.5)], if_absent=True)
    reveal_type(limiter.allow("api:1"))
    reveal_type(limiter.check("api:1", 2, rate=1, per="1m").retry_after)
    reveal_type(limiter.check_all(["a", ("b", 1), ["c", 2], {"key": "d", "cost": 3}])["results"])
    reveal_type(limiter.status("a"))
    reveal_type(limiter.list()[0]["per_ns"])

    @limiter.rate_limit(lambda x: f"{x}", rate=1, per="1m")
    def function(x: int) -> str:
        return str(x)

    reveal_type(function)
    limiter.limit("api", rate=1, per=1, algorithm="bucket")
    limiter.top("cost")
    limiter.allow(b"api")
    limiter.check("api").allowed = False
"""

REVEALED = [
    "flint.limiter.Limiter",
    "bool",
    "float",
    "flint._surface.types.ItemResultDict",
    "flint._surface.types.StatusDict",
    "int",
    "def (x: int) -> str",
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=FROM,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_stubs_match_the_extension() -> None:
    done = run("mypy.stubtest", "flint._native")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_strictly_typed() -> None:
    done = run("mypy", "--strict", "--package", "flint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_programs_are_checked(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run("mypy", "--strict", str(program))
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(revealed) == len(REVEALED), done.stdout
    for shown, expected in zip(revealed, REVEALED, strict=True):
        assert expected in shown.replace("builtins.", ""), done.stdout
    errors = re.findall(r"program\.py:\d+: error: .*\[([a-z-]+)\]", done.stdout)
    assert errors == ["arg-type", "arg-type", "arg-type", "misc"], done.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(flint.__file__).parent / "py.typed").exists()
