"""The command as a process: beside others, interrupted, and at the end of a pipe."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from command import SETTINGS, Run, environment, in_process, start

import flint

READING = [
    *("limit list", "limit status a", "limit history a", "limit explain a", "limit top"),
    *("top", "log dump", "log verify", "log stat", "doctor", "top --watch --looks 1"),
    "what-if a 1/day",
]
WRITING = [
    *("limit add b --rate 1 --per 1m", "limit remove a", "limit reset a", "limit check a"),
    *("limit check-all a", "log compact"),
]


@pytest.fixture
def owned(tmp_path: Path) -> flint.Limiter:
    """A directory that is in use."""
    limiter = flint.Limiter(tmp_path / ".flint", sync="batch")
    limiter.limit("a", rate=2, per="1d")
    limiter.check("a")
    limiter.flush()
    return limiter


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return in_process(capsys)


@pytest.mark.parametrize("line", READING)
def test_looking_beside_the_owner(run: Run, owned: flint.Limiter, line: str) -> None:
    code, out, err = run(*line.split())
    assert (code, err) == (0, "")
    assert "a" in out
    owned.close()


@pytest.mark.parametrize("line", WRITING)
def test_changing_beside_the_owner(run: Run, owned: flint.Limiter, line: str) -> None:
    code, out, err = run(*line.split())
    assert (code, out) == (4, "")
    assert "is already locked by another limiter" in err
    assert "Verbs that only look work beside it" in err
    assert "let it share the directory" in err
    status = owned.status("a")
    assert status is not None
    assert status["total_allowed"] == 1
    owned.close()


@pytest.mark.parametrize("sync", ["always", "batch"])
@pytest.mark.parametrize("line", WRITING)
def test_changing_beside_workers_that_share(
    run: Run, tmp_path: Path, line: str, sync: Literal["always", "batch"]
) -> None:
    with flint.Limiter(tmp_path / ".flint", shared=True, sync=sync) as worker:
        worker.limit("a", rate=2, per="1d")
        worker.check("a")
        worker.flush()
        before = (worker.list(), worker.info()["compactions"])
        code, _, err = run(*line.split())
        assert (code, err) == (0, "")
        assert (worker.list(), worker.info()["compactions"]) != before
        assert worker.info()["role"] == "owner"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("limit list", ["opening the log"]),
        ("limit check a", ["opening the log"]),
        ("doctor", ["verifying the log"]),
        ("log verify", ["verifying the log"]),
        ("log compact", ["opening the log", "compacting the log"]),
        ("log dump", ["opening the log", "writing the log"]),
        ("log dump --portable", ["opening the log", "writing the log"]),
        ("what-if a 1/day", ["opening the log", "replaying the history"]),
    ],
)
def test_what_may_take_long_shows_that_it_goes_on(
    run: Run, owned: flint.Limiter, monkeypatch: pytest.MonkeyPatch, line: str, said: list[str]
) -> None:
    owned.close()
    shown: list[str] = []

    @contextlib.contextmanager
    def waiting(what: str, *_: Any) -> Iterator[None]:
        shown.append(what)
        yield

    for name in ("doctor", "dump", "log", "opening", "what_if"):
        monkeypatch.setattr(f"flint._cli.{name}.waiting", waiting)
    assert run(*line.split())[0] == 0
    assert shown == said


def test_old_directories(run: Run, tmp_path: Path) -> None:
    old = Path(__file__).parent.parent / "tests_c" / "golden" / "v0.2"
    [source] = [path.parent for path in old.rglob("flint.aof")][:1]
    shutil.copytree(source, tmp_path / ".flint")
    code, out, err = run("limit", "list")
    assert (code, out) == (1, "")
    assert "a verb that writes, such as `flint log compact`, converts a directory" in err
    assert run("log", "compact")[:2] == (0, "compacted\n")
    assert json.loads(run("limit", "list")[1])


def test_following_what_is_written(owned: flint.Limiter, tmp_path: Path) -> None:
    process = start("log", "dump", "--follow", cwd=tmp_path)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["type"] == "LIMIT_CONFIGURED"
    assert json.loads(process.stdout.readline())["type"] == "ALLOW"
    owned.check("a", 1)
    owned.check("a", 1)
    owned.flush()
    assert json.loads(process.stdout.readline())["type"] == "ALLOW"
    assert json.loads(process.stdout.readline())["type"] == "DENY"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    owned.close()


@pytest.mark.parametrize("line", ["log dump --follow", "top --watch --interval 0.05"])
def test_a_closed_pipe_is_no_error(owned: flint.Limiter, tmp_path: Path, line: str) -> None:
    process = start(*line.split(), cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    while process.poll() is None and line.startswith("log"):
        owned.check("a")
        owned.flush()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    owned.close()


def test_a_reader_that_takes_one_line(owned: flint.Limiter, tmp_path: Path) -> None:
    for number in range(5000):
        owned.limit(f"key:{number}", rate=1, per="1m")
    owned.close()
    command = f"'{sys.executable}' -m flint limit list | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[\n0\n", "")


@pytest.mark.parametrize("words", [("version",), ("--version",), ("version", "--verbose")])
def test_version(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = start(*words, cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{flint.__version__}\n")


def test_version_loads_neither_the_engine_nor_a_parser(tmp_path: Path) -> None:
    script = (
        "import sys; before = set(sys.modules); from flint._cli.main import main; "
        "main(['version']); print(sorted(set(sys.modules) - before - {'__future__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), cwd=tmp_path, capture_output=True
    )
    loaded = "['flint', 'flint._cli', 'flint._cli.main', 'flint._cli.version']"
    assert done.stdout.decode() == f"{flint.__version__}\n{loaded}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, tmp_path: Path, shell: str) -> None:
    code, script, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert "check-all" in script
    assert "fail-on-deny" in script
    program = shutil.which(shell)
    if program is not None:
        path = tmp_path / "script"
        path.write_text(script, "utf-8")
        subprocess.run([program, "-n", path], check=True)
