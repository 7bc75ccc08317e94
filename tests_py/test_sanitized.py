"""The list of the tests that `./dev test` runs under the address sanitizer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
DEV = HERE.parent / "dev"
# Files that import the extension itself, and are left out for this reason.
LEFT_OUT = {
    "test_leaks.py": "the sanitizer keeps what is freed",
    "web/test_gate.py": "it names a type, and calls what others do",
}


@pytest.fixture
def listed() -> list[str]:
    if not DEV.exists():
        pytest.skip("not part of a source distribution")
    found = re.search(r"^PYTEST_ASAN=\((.*?)\)$", DEV.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].split()


def imports_the_extension(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{one.name}" for one in node.names]
        else:
            continue
        if any(f"{name}.".startswith("flint._native.") for name in names):
            return True
    return False


def test_each_name_is_a_file_or_folder_of_tests(listed: list[str]) -> None:
    assert len(listed) == len(set(listed))
    for name in listed:
        path = HERE / name
        assert path.is_file() or any(path.glob("test_*.py")), name


def test_who_imports_the_extension_is_listed_or_left_out_for_a_reason(listed: list[str]) -> None:
    importing = {
        str(path.relative_to(HERE))
        for path in HERE.rglob("test_*.py")
        if imports_the_extension(path)
    }
    assert importing
    covered = {name for name in importing if {name, name.partition("/")[0]} & set(listed)}
    assert importing - covered == set(LEFT_OUT)
