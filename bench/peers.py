"""What is measured beside Flint: environments and programs, made when first needed.

They live under build/bench and are made anew when what they were made from has changed. What cannot
be made raises NotRun with the reason.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import HERE, ROOT, NotRun

import flint

BUILD = ROOT / "build" / "bench"
# Flint itself, as it was when its opening and compaction were measured last.
BEFORE = "819b75d39e"
INSTALL_TIMEOUT_S = 900


def run(command: Sequence[str | Path], what: str, cwd: Path | None = None) -> None:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{Path.home() / '.cargo' / 'bin'}"}
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise NotRun(f"{what}: there is no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise NotRun(f"{what}: not done after {INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        (BUILD / "failed.log").write_text(done.stdout, "utf-8")
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        wrong = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        raise NotRun(f"{what}: {' '.join(wrong[:1]) or 'failed'} (build/bench/failed.log)")


def have(program: str) -> bool:
    return bool(shutil.which(program) or shutil.which(Path.home() / ".cargo" / "bin" / program))


def made_from(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def up_to_date(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text("utf-8") == wanted


# ---- Python environments -----------------------------------------------------------------------


def environment(name: str, requirements: Path) -> Path:
    """The interpreter of an environment with what a requirements file asks for."""
    directory = BUILD / name
    python = directory / "bin" / "python"
    wanted = made_from(requirements.read_bytes(), sys.version, str(directory))
    stamp = directory / "made-from"
    if not up_to_date(stamp, wanted):
        BUILD.mkdir(parents=True, exist_ok=True)
        what = f"cannot install {requirements.name}"
        run([sys.executable, "-m", "venv", "--clear", directory], what)
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--quiet",
        ]
        run([*pip, "--requirement", requirements], what)
        stamp.write_text(wanted, "utf-8")
    return python


@functools.cache
def python_peers() -> Path:
    return environment("peers", HERE / "requirements.txt")


@functools.cache
def places_peers() -> Path:
    return environment("places-peers", HERE / "requirements-places.txt")


@functools.cache
def flint_02() -> Path:
    if not have("cargo"):
        raise NotRun("flint-limiter 0.2.1 is built from its source by cargo, which is not here")
    return environment("flint-0.2", HERE / "requirements-flint-0.2.txt")


@functools.cache
def flint_before() -> Path:
    source, requirements = BUILD / BEFORE, BUILD / f"requirements-{BEFORE}.txt"
    if not (source / "setup.py").exists():
        archive = BUILD / f"{BEFORE}.tar"
        BUILD.mkdir(parents=True, exist_ok=True)
        run(["git", "archive", "-o", archive, BEFORE], f"there is no commit {BEFORE}", ROOT)
        source.mkdir(exist_ok=True)
        run(["tar", "-xf", archive, "-C", source], f"cannot unpack {BEFORE}")
    requirements.write_text(f"{source}\n", "utf-8")
    return environment(f"flint-{BEFORE}", requirements)


# ---- Programs ----------------------------------------------------------------------------------


def library_build() -> Path:
    """Where the library that the extension uses was built."""
    return Path(flint.get_library_dir(), "libflint_limiter.so.1").resolve().parent


@functools.cache
def c_program(name: str) -> Path:
    """bench/<name>.c, linked with the library that the extension uses."""
    library = Path(flint.get_library_dir())
    program = BUILD / name
    sources = [HERE / f"{name}.c", HERE / "side.h"]
    command: list[str] = [
        *("cc", "-std=c99", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"),
        *("-I", str(flint.get_include()), "-o", str(program), str(sources[0])),
        *(f"-L{library}", f"-Wl,-rpath,{library}", "-Wl,-z,now", "-lflint_limiter", "-lpthread"),
    ]
    wanted = made_from(*(path.read_bytes() for path in sources), " ".join(command))
    stamp = BUILD / f"{name}.made-from"
    if not (program.exists() and up_to_date(stamp, wanted)):
        BUILD.mkdir(parents=True, exist_ok=True)
        run(command, f"cannot compile {name}.c")
        stamp.write_text(wanted, "utf-8")
    return program


@functools.cache
def governor() -> Path:
    if not have("cargo"):
        raise NotRun("governor is a Rust crate, and cargo is not here")
    cargo = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir"]
    run([*cargo, BUILD / "governor"], "cannot build bench/governor", HERE / "governor")
    return BUILD / "governor" / "release" / "beside-governor"
