"""The C library's example does the same in every language, with nothing but an installed wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, succeed

EXAMPLES = ROOT / "examples"
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

Command = list[str | Path]
Variables = dict[str, str]


def need(tool: str) -> str:
    """Where a tool is; skips the test when it is not there, or is there in name only."""
    path = shutil.which(tool)
    ask = "version" if tool == "go" else "--version"
    if path is None or subprocess.run([path, ask], capture_output=True).returncode != 0:
        pytest.skip(f"there is no {tool} here")
    return path


def config(variables: Variables, *questions: str) -> list[str]:
    return succeed("flint-config", *questions, env=variables).split()


def build_c(folder: Path, variables: Variables) -> Command:
    warnings = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    places = config(variables, "--cflags", "--libs")
    succeed("cc", *warnings, EXAMPLES / "limiter.c", *places, "-o", folder / "limiter")
    return [folder / "limiter"]


def build_ctypes(_folder: Path, _variables: Variables) -> Command:
    return ["python", "-W", "error", EXAMPLES / "limiter_ctypes.py"]


def build_cffi(_folder: Path, variables: Variables) -> Command:
    cffi = pytest.importorskip("cffi", reason="cffi comes with the extra `test`")
    # Beside it there is another flint only if that is the same wheel.
    variables["PYTHONPATH"] = str(Path(cffi.__file__).parent.parent)
    return ["python", "-W", "error", EXAMPLES / "limiter_cffi.py"]


def build_rust(folder: Path, variables: Variables) -> Command:
    link = " ".join(config(variables, "--libs"))
    compiler = [need("rustc"), "--edition", "2021", "-D", "warnings", "-C", f"link-args={link}"]
    succeed(*compiler, EXAMPLES / "limiter.rs", "-o", folder / "limiter")
    return [folder / "limiter"]


def build_go(folder: Path, variables: Variables) -> Command:
    flags = {
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": " ".join(["-Wall", "-Werror", *config(variables, "--cflags")]),
        "CGO_LDFLAGS": " ".join(config(variables, "--libs")),
        "GOTOOLCHAIN": "local",
    }
    go = [need("go"), "build", "-o", folder / "limiter", EXAMPLES / "limiter.go"]
    succeed(*go, env={**variables, **flags}, cwd=folder)
    return [folder / "limiter"]


def build_node(folder: Path, variables: Variables) -> Command:
    npm = [need("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts", "koffi@3"]
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install koffi: {done.stderr[-300:]}")
    variables["NODE_PATH"] = str(folder / "node_modules")
    return [need("node"), EXAMPLES / "limiter.js"]


BUILD: dict[str, Callable[[Path, Variables], Command]] = {
    "limiter.c": build_c,
    "limiter_ctypes.py": build_ctypes,
    "limiter_cffi.py": build_cffi,
    "limiter.rs": build_rust,
    "limiter.go": build_go,
    "limiter.js": build_node,
}

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def program(name: str, installed: Path, folder: Path) -> Program:
    """Builds an example against the installed wheel; returns what runs it."""
    variables = {**os.environ, "PATH": f"{installed}:{os.environ['PATH']}"}
    command = BUILD[name](folder, variables)

    def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=variables, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture(scope="module", params=BUILD)
def example(
    request: pytest.FixtureRequest, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    return program(request.param, installed, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def c_example(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return program("limiter.c", installed, tmp_path_factory.mktemp("c_example"))


def output(run: Program, directory: Path) -> str:
    done = run(directory)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_all_print_the_same(example: Program, tmp_path: Path) -> None:
    printed = output(example, tmp_path / "data")
    times_ms = [int(time_ms) for time_ms in re.findall(r"retry after ([1-9]\d*) ms", printed)]
    assert len(times_ms) == 2
    assert all(time_ms <= 12_000 for time_ms in times_ms)
    assert re.sub(r"after [1-9]\d* ms", "after SOME ms", printed) == EXPECTED


def test_each_remembers_what_another_did(
    example: Program, c_example: Program, tmp_path: Path
) -> None:
    for runs, run in enumerate([example, c_example, example], 1):
        printed = output(run, tmp_path / "data")
        [(allowed, denied)] = re.findall(r"user:42: .* (\d+) allowed, (\d+) denied", printed)
        assert int(allowed) >= 5
        assert int(allowed) + int(denied) == 7 * runs


def test_failure_is_said(example: Program, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = example(file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"open: cannot open {file}: Not a directory\n"
    done = example()
    assert done.returncode != 0
    assert "usage: " in done.stderr


@pytest.mark.parametrize("name", BUILD)
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < MOST_LINES


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("limiter*.*")} == set(BUILD)


PAGE = (ROOT / "docs" / "c-api.md").read_text("utf-8")


def test_the_page_leads_to_a_running_program(wheel: Path, installed: Path, tmp_path: Path) -> None:
    """Every program of docs/c-api.md is written and every command typed, as a reader would."""
    (tmp_path / "dist").mkdir()
    shutil.copy(wheel, tmp_path / "dist")
    variables = {**os.environ, "PATH": f"{installed}:{os.environ['PATH']}"}
    [(name, source)] = re.findall(r"`(\w+\.c)`:\n\n```c\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / name).write_text(source, "utf-8")
    commands = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S))
    printed = succeed("sh", "-e", "-c", commands, cwd=tmp_path, env=variables)
    [expected] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)
    assert printed.endswith(expected)


def test_the_page_shows_only_what_is_run() -> None:
    assert PAGE.count("```") == 2 * len(re.findall(r"^```(?:c|sh|text)$", PAGE, re.M))


def test_the_page_names_every_example() -> None:
    assert all(f"../examples/{name}" in PAGE for name in BUILD)
