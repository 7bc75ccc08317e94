"""Builds the package: first the one CMake build, then the extension against its library.

The CMake build goes to build/, or to the directory that FLINT_CMAKE_BUILD_DIR names. CMAKE_ARGS are
options for it (-DFLINT_PORTABLE=ON, for example). If the directory has been configured before, its
other settings stay as they are. FLINT_WERROR=1 makes warnings about the extension errors. The
server, flint/bin/flint-server, is built where FLINT_LLHTTP_DIR names the sources of llhttp and
libuv is there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("FLINT_CMAKE_BUILD_DIR", ROOT / "build")).resolve()
LIBRARY = "libflint_limiter.so.1"
LINKER_NAME = "libflint_limiter.so"
HEADER = "flint_limiter.h"
PC_FILE = "flint_limiter.pc"
SERVER = "flint-server"

WARNINGS = ["-Wall", "-Wextra", "-Wshadow"]
if os.environ.get("FLINT_WERROR"):
    WARNINGS.append("-Werror")

# The stable ABI has no free-threaded form: such an interpreter gets an extension of its own.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")


def require_tools() -> None:
    """Stops with the Debian packages to install when something to build with is missing."""
    compiler = os.environ.get("CXX", "c++").split()[0]
    python_header = Path(sysconfig.get_path("include"), "Python.h")
    needs = [
        (shutil.which("cmake"), "cmake", "cmake"),
        (shutil.which("ninja") or shutil.which("make"), "ninja", "ninja-build"),
        (shutil.which(compiler), f"a C++ compiler ({compiler})", "g++"),
        (python_header.is_file(), str(python_header), "python3-dev"),
    ]
    missing = [(what, package) for found, what, package in needs if not found]
    if missing:
        names = ", ".join(what for what, _ in missing)
        packages = " ".join(package for _, package in missing)
        sys.exit(f"flint-limiter: missing: {names}. On Debian: apt-get install {packages}")


def run(*command: str | Path) -> None:
    """Runs a command; when it fails, what it said is the last thing that is shown."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        sys.exit(f"flint-limiter: failed: {' '.join(map(str, command))}")


def build_library() -> None:
    """Configures (the first time as a plain build without tests) and builds the library."""
    require_tools()
    configure: list[str | Path] = ["cmake", "-S", ROOT, "-B", BUILD]
    if not (BUILD / "CMakeCache.txt").exists():
        configure.append("-DBUILD_TESTING=OFF")
        if shutil.which("ninja"):
            configure.append("-GNinja")
    if llhttp := os.environ.get("FLINT_LLHTTP_DIR"):
        configure.append(f"-DFLINT_LLHTTP_DIR={Path(llhttp).resolve()}")
    run(*configure, *shlex.split(os.environ.get("CMAKE_ARGS", "")))
    targets = ["flint_limiter", *([SERVER] if builds_server() else [])]
    run("cmake", "--build", BUILD, "--parallel", "--target", *targets)


def builds_server() -> bool:
    return "FLINT_SERVER:INTERNAL=ON" in (BUILD / "CMakeCache.txt").read_text("utf-8")


def link(target: Path, source: Path) -> None:
    """Makes `target` a symbolic link to `source`, whatever it was before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(os.path.relpath(source, target.parent))


class BuildExtension(build_ext):
    """Builds the library before the extension and puts it, and its header, into the package."""

    def run(self) -> None:
        build_library()
        super().run()
        if self.inplace:
            # Links, so that what the next build makes is what is loaded.
            package = ROOT / "flint"
            link(package / "lib" / LIBRARY, BUILD / LIBRARY)
            link(package / "lib" / LINKER_NAME, BUILD / LIBRARY)
            link(package / "lib" / "pkgconfig" / PC_FILE, BUILD / PC_FILE)
            link(package / "include" / HEADER, ROOT / "capi" / HEADER)
            if builds_server():
                link(package / "bin" / SERVER, BUILD / SERVER)
        else:
            prefix = Path(self.build_lib, "flint").resolve()
            run("cmake", "--install", BUILD, "--strip", "--prefix", prefix)
            # A wheel has no links, and a second copy could be loaded beside the first.
            linker_name = prefix / "lib" / LINKER_NAME
            linker_name.unlink()
            linker_name.write_text(f"INPUT({LIBRARY})\n", "utf-8")


native = Extension(
    "flint._native",
    sources=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("flint/_ext/*.c")),
    depends=[
        "setup.py",
        "capi/flint_limiter.h",
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("flint/_ext/*.h")),
    ],
    include_dirs=["capi"],
    library_dirs=[str(BUILD)],
    libraries=["flint_limiter"],
    runtime_library_dirs=["$ORIGIN/lib"],
    define_macros=[("Py_LIMITED_API", "0x030b0000")] if STABLE_ABI else [],
    py_limited_api=STABLE_ABI,
    extra_compile_args=["-std=c11", "-fvisibility=hidden", *WARNINGS],
)

options: dict[str, dict[str, str]] = {"build": {"build_base": str(BUILD / "python")}}
if STABLE_ABI:
    options["bdist_wheel"] = {"py_limited_api": "cp311"}

setup(ext_modules=[native], cmdclass={"build_ext": BuildExtension}, options=options)
