"""Dependencies point one way only: each part may include what stands below it, and nothing else.

tests, examples, bench -> flint/*.py -> flint/_ext -> capi/flint_limiter.h -> remote -> engine ->
storage -> model -> algorithms -> base
server -> capi/flint_limiter.h
capi -> cpp_core/sharing -> capi/flint_limiter.h

Within flint/: limiter -> _local and shared -> _remote (places) -> _surface (what every place has in
common) -> errors -> flint/_ext.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# For each directory of C or C++, where the files that it includes in quotes may come from.
MODEL = ["cpp_core/model", "cpp_core/algorithms", "cpp_core/base"]
ENGINE = ["cpp_core/engine", "cpp_core/storage", *MODEL]
MAY_INCLUDE = {
    "cpp_core/base": ["cpp_core/base"],
    "cpp_core/algorithms": ["cpp_core/algorithms", "cpp_core/base"],
    "cpp_core/model": MODEL,
    "cpp_core/storage": ["cpp_core/storage", *MODEL],
    "cpp_core/engine": ENGINE,
    "cpp_core/sharing": ["cpp_core/sharing", "cpp_core/base", "capi"],
    "cpp_core/remote": ["cpp_core/remote", *ENGINE],
    "capi": ["capi", "cpp_core/sharing", "cpp_core/remote", *ENGINE],
    "flint/_ext": ["flint/_ext", "capi"],
    "server": ["server", "capi"],
    "tests_c": ["tests_c", "capi", "server", "cpp_core/remote", *ENGINE],
    "tests_c/fuzz": ["tests_c", "server", "cpp_core/remote", "cpp_core/sharing", "capi"],
    "tests_c/contract": ["tests_c/contract", "capi"],
    "tests_c/abi/1.0.0": ["tests_c/abi/1.0.0"],
    "examples": ["capi"],
    "bench": ["bench", "capi"],
}

PYTHON_HEADERS = re.compile(r"Python\.h|pyconfig\.h|structmember\.h")
# What opens, reads or writes a file; of ours, what makes an Env of them.
FILE_HEADERS = re.compile(r"(fcntl|dirent|unistd)\.h|sys/.*|fstream|filesystem|base/posix_.*")
# A wait may be timed by std::chrono::steady_clock; what is decided and recorded may not.
READS_A_CLOCK = re.compile(r"system_clock|\b(clock_gettime|gettimeofday|timespec_get|time)\(")


# For each part of the Python package, which other parts it may import. `flint` is its __init__.
SURFACE = {"_native", "errors", "_surface"}
MAY_IMPORT = {
    "errors": {"_native"},
    "_surface": SURFACE,
    "_local": {*SURFACE, "_local"},
    "_remote": {*SURFACE, "_remote"},
    "limiter": {*SURFACE, "_local"},
    "shared": {*SURFACE, "_remote"},
    "_stores": {*SURFACE, "_remote", "_stores", "limiter"},
    "_postgres": {*SURFACE, "_remote", "_stores", "_postgres"},
    "postgres": {*SURFACE, "_remote", "_postgres"},
    "_redis": {*SURFACE, "_remote", "_stores", "_redis"},
    "redis": {*SURFACE, "_redis"},
    "testing": SURFACE,
    "rates": SURFACE,
    "_metrics": SURFACE,
    "prometheus": {*SURFACE, "_metrics"},
    "opentelemetry": {*SURFACE, "_metrics"},
    "_places": {*SURFACE, "limiter"},
    "_what_if": {*SURFACE, "_local", "limiter", "testing"},
    "config": {*SURFACE, "limiter", "_places"},
    "_web": {*SURFACE, "_places", "_web"},
    "events": {*SURFACE, "_local", "_web", "limiter"},
    "asgi": {*SURFACE, "_web"},
    "starlette": {*SURFACE, "_web", "asgi"},
    "fastapi": {*SURFACE, "_web", "asgi", "starlette"},
    "wsgi": {*SURFACE, "_web"},
    "flask": {*SURFACE, "_web", "wsgi"},
    "aiohttp": {*SURFACE, "_web", "wsgi"},
    "django": {*SURFACE, "_web", "wsgi"},
    "django_rest": {*SURFACE, "_web", "django"},
    "_rate_limit": {*SURFACE, "_places", "_web"},
    "plugins": {*SURFACE, "_places", "plugins", "rates"},
    "compat": {*SURFACE, "_places", "_rate_limit", "_web", "compat", "plugins"},
    "_public": {
        *(*SURFACE, "limiter", "_places", "config", "_what_if", "_rate_limit", "prometheus"),
        *("shared", "postgres", "redis"),
    },
    "flint": {"_public", "errors"},
    "_config": {"flint"},
    "_cli": {
        *(*SURFACE, "_local", "limiter", "shared", "postgres", "_places", "config", "_what_if"),
        "_cli",
    },
    "__main__": {"_cli"},
}
# For each part, what an extra of the distribution brings for it.
EXTRAS = {
    "_postgres": {"psycopg"},
    "postgres": {"psycopg"},
    "_redis": {"redis"},
    "redis": {"redis"},
    "_cli": {"rich", "shtab"},
    "prometheus": {"prometheus_client", "starlette"},
    "opentelemetry": {"opentelemetry"},
    "starlette": {"starlette"},
    "fastapi": {"fastapi", "starlette"},
    "flask": {"click", "flask", "werkzeug"},
    "aiohttp": {"aiohttp"},
    "django": {"asgiref", "django"},
    "django_rest": {"rest_framework"},
    "plugins": {"django", "limits", "pyrate_limiter", "throttled"},
    "compat": {
        *("django", "fastapi", "flask", "flask_limiter", "prometheus_client", "pyrate_limiter"),
        "starlette",
    },
}
# What imports a module from C.
IMPORTS_IN_C = re.compile(r"\bPyImport_\w+|\bPy_?Run_?\w+")


def sources(directory: str) -> list[Path]:
    folder = ROOT / directory
    return sorted(path for suffix in ("h", "c", "cc") for path in folder.glob(f"*.{suffix}"))


def includes(path: Path) -> list[tuple[str, str]]:
    """(bracket, name) of each #include of a file."""
    return INCLUDE.findall(path.read_text("utf-8"))


def home(including: Path, name: str) -> str:
    """The directory of the project in which the compiler finds a quoted name."""
    places = ("cpp_core", "capi", "server", "tests_c")
    for folder in (including.parent, *(ROOT / place for place in places)):
        if (folder / name).is_file():
            return (folder / name).parent.relative_to(ROOT).as_posix()
    raise AssertionError(f"{including} includes {name}, which is nowhere")


def forbidden(including: Path, directory: str) -> list[str]:
    """What a file of a directory includes in quotes although its rule does not allow it."""
    names = [name for bracket, name in includes(including) if bracket == '"']
    return [name for name in names if home(including, name) not in MAY_INCLUDE[directory]]


def circle(needs: dict[str, set[str]]) -> set[str]:
    """What includes itself, by way of others or not, and what needs it; of nothing else."""
    left = {name: needed & needs.keys() for name, needed in needs.items()}
    while ready := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in ready:
            del left[name]
    return set(left)


def included_files(root: Path) -> dict[str, set[str]]:
    """For each file below a directory what it includes in quotes, by its path from there."""
    files = sorted(path for suffix in ("h", "cc") for path in root.rglob(f"*.{suffix}"))
    return {
        path.relative_to(root).as_posix(): {name for mark, name in includes(path) if mark == '"'}
        for path in files
    }


def imported(path: Path) -> set[str]:
    """The modules that a Python file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def module_name(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / "flint").rglob("*.py"))}


def part_of(module: str) -> str:
    """The part of the package to which a module belongs."""
    return module.split(".")[1] if "." in module else module


def imported_modules(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of the package that one of its files imports, at its top, inside functions or for
    type checkers alone."""
    known = {*modules, "flint._native"}
    names = imported(path)
    submodules = {name for name in names & known if "." in name}
    # `from flint import limiter` names the package too, and means the module alone.
    means_package = "flint" in names and not any(name.count(".") == 1 for name in submodules)
    return submodules | ({"flint"} if means_package else set())


def test_every_directory_has_a_rule() -> None:
    files = (path for suffix in ("h", "c", "cc") for path in ROOT.glob(f"*/**/*.{suffix}"))
    folders = {path.parent.relative_to(ROOT).as_posix() for path in files}
    made = {
        folder
        for folder in folders
        if folder.startswith(("build", ".")) or folder == "flint/include"
    }
    assert folders - made <= set(MAY_INCLUDE)


@pytest.mark.parametrize("directory", MAY_INCLUDE)
def test_includes_point_down(directory: str) -> None:
    for path in sources(directory):
        assert forbidden(path, directory) == [], path


def test_the_keyspace_knows_nothing_of_files() -> None:
    needs = included_files(ROOT / "cpp_core")
    below: set[str] = set()
    left = {"engine/keyspace.h", "engine/keyspace.cc"}
    while left:
        below |= left
        left = {name for file in left for name in needs[file]} - below
    assert not [name for name in below if name.startswith("storage/")]
    assert {"engine/counter.h", "engine/template_set.h", "model/saved_limit.h"} <= below


def test_an_include_that_points_up_is_found(tmp_path: Path) -> None:
    path = tmp_path / "upward.h"
    path.write_text('#include "base/env.h"\n#include <map>\n#  include "storage/log.h"\n')
    assert forbidden(path, "cpp_core/storage") == []
    assert forbidden(path, "cpp_core/base") == ["storage/log.h"]


def test_no_header_includes_itself_through_others() -> None:
    needs = included_files(ROOT / "cpp_core")
    assert "base/mutex.h" in needs["engine/keyspace.h"]
    assert circle(needs) == set()


def test_a_circle_of_includes_is_found(tmp_path: Path) -> None:
    made = {
        "base/one.h": '#include "base/two.h"\n',
        "base/two.h": '#include <map>\n#include "engine/three.h"\n',
        "engine/three.h": '#include "base/one.h"\n',
        "engine/three.cc": '#include "base/plain.h"\n',
        "base/plain.h": "",
    }
    for name, text in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    assert circle(included_files(tmp_path)) == {"base/one.h", "base/two.h", "engine/three.h"}


def test_a_header_that_includes_itself_is_a_circle() -> None:
    assert circle({"one.h": {"one.h"}, "two.h": set()}) == {"one.h"}


def test_the_public_header_stands_alone() -> None:
    assert includes(ROOT / "capi" / "flint_limiter.h") == [("<", "stdint.h")]


def test_the_contract_test_knows_the_public_header_alone() -> None:
    parts = ROOT / "tests_c" / "contract"
    names = {
        name for part in parts.glob("*.[ch]") for bracket, name in includes(part) if bracket == '"'
    }
    assert names == {"flint_limiter.h", "server.h", "support.h"}


def test_only_the_extension_knows_python() -> None:
    for directory in MAY_INCLUDE:
        using = [p for p in sources(directory) for _, n in includes(p) if PYTHON_HEADERS.match(n)]
        assert bool(using) == (directory == "flint/_ext"), f"{directory}: {using}"


@pytest.mark.parametrize(
    "directory",
    ["cpp_core/engine", "cpp_core/storage", "cpp_core/model", "cpp_core/algorithms"],
)
def test_base_is_the_only_door_to_files_and_time(directory: str) -> None:
    for path in sources(directory):
        for _, name in includes(path):
            assert not FILE_HEADERS.fullmatch(name), f"{path} includes {name}"
        assert not READS_A_CLOCK.search(path.read_text("utf-8")), f"{path} reads a clock"


def test_the_extension_imports_no_python() -> None:
    for path in sources("flint/_ext"):
        found = IMPORTS_IN_C.findall(path.read_text("utf-8"))
        assert not found, f"{path}: {found}"


def test_imports_point_down() -> None:
    modules = package_modules()
    assert {part_of(module) for module in modules} == set(MAY_IMPORT)
    for module, path in modules.items():
        parts = {part_of(name) for name in imported_modules(path, modules)}
        assert parts <= MAY_IMPORT[part_of(module)], path


def test_no_module_imports_itself_through_others() -> None:
    modules = package_modules()
    needs = {name: imported_modules(path, modules) for name, path in modules.items()}
    assert circle(needs) == set(), "these import each other"


def test_the_package_needs_only_the_standard_library() -> None:
    for path in sorted((ROOT / "flint").rglob("*.py")):
        roots = {name.split(".")[0] for name in imported(path)}
        extras = EXTRAS.get(part_of(module_name(path)), set())
        assert roots <= {"flint", *extras, *sys.stdlib_module_names}, path


@pytest.mark.parametrize("directory", ["examples", "bench"])
def test_examples_use_the_public_package(directory: str) -> None:
    for path in sorted((ROOT / directory).glob("*.py")):
        private = {name for name in imported(path) if re.search(r"flint.*\._", name)}
        assert not private, path
