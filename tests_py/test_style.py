"""Rules of style that no other tool here checks."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70  # clang-tidy holds C and C++ to the same
MADE = {"build", "dist", "bin", "lib", "include", "__pycache__"}
SUFFIXES = {
    *(".c", ".cc", ".h", ".map", ".py", ".pyi", ".sh", ".js", ".rs", ".sql", ".lua"),
    *(".toml", ".in", ".md", ".txt", ""),
}


def texts() -> Iterator[tuple[Path, str]]:
    """Every text that somebody has written: neither data nor what a build or a tool has made."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in MADE and name != "golden"]
        folders[:] = [name for name in folders if name == ".ci" or not name.startswith(".")]
        folders[:] = [name for name in folders if not name.endswith(".egg-info")]
        for name in files:
            path = Path(folder, name)
            if path.suffix in SUFFIXES and name != "PKG-INFO":
                yield path, path.read_text("utf-8")


def test_lines() -> None:
    wrong = []
    for path, text in texts():
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > MAX_COLUMNS and path.suffix != ".md":
                wrong.append(f"{path}:{number}: {len(line)} columns")
            if line != line.rstrip():
                wrong.append(f"{path}:{number}: white space at the end")
            if "\t" in line:
                wrong.append(f"{path}:{number}: a tab")
    assert not wrong, "\n".join(wrong)


def test_files_end_with_one_newline() -> None:
    wrong = [path for path, text in texts() if text and not text.endswith("\n")]
    wrong += [path for path, text in texts() if text.endswith("\n\n")]
    assert not wrong


def test_python_functions_are_short() -> None:
    wrong = []
    for path, text in texts():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_cmake_builds_every_source() -> None:
    listed = re.findall(r"[\w./]+", (ROOT / "CMakeLists.txt").read_text("utf-8"))
    parts = ("cpp_core/*/*.cc", "capi/*.cc", "server/*.cc")
    for path in sorted(path for part in parts for path in ROOT.glob(part)):
        assert path.relative_to(ROOT).as_posix() in listed
    for path in sorted(ROOT.glob("tests_c/*_test.cc")):
        assert path.name.removesuffix("_test.cc") in listed


def test_every_lock_of_the_core_says_what_it_guards() -> None:
    """In words that clang-tidy checks; it knows nothing of the standard library's locks."""
    unknown = re.compile(
        r"std::(?:mutex|shared_mutex|lock_guard|unique_lock|scoped_lock|condition_variable)"
    )
    lock = re.compile(r"^ *(?:alignas\(\d+\) )?(?:System)?Mutex (\w+);", re.MULTILINE)
    found = 0
    for path, text in texts():
        of_core = path.relative_to(ROOT).parts[0] in {"cpp_core", "capi"}
        if not of_core or path.suffix not in {".cc", ".h"}:
            continue
        assert path.name == "mutex.h" or not unknown.search(text), path
        for name in lock.findall(text):
            found += 1
            assert f"FLINT_GUARDED_BY({name})" in text, f"{path}: {name} guards nothing"
    assert found > 0


def test_the_texts_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path, _ in texts()}
    assert {"dev", ".ci/run", "capi/flint_limiter.h", "flint/__init__.py"} <= names
