"""The C ABI is the committed one, tests_c/abi/flint_limiter.abi, for 64-bit machines: for each
structure of the header its size and its fields with their offsets and sizes, for each constant its
value, and the symbols of the library with their version nodes. The lists of versions that have been
released lie in a directory each. What they have listed stays: structures grow at their end,
constants and symbols are added.

When something has been added, `python tests_py/test_abi.py` prints the new list for the package
that it imports.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import flint

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests_c" / "abi" / "flint_limiter.abi"
# Macros that are not values.
GUARDS = {"FLINT_LIMITER_H", "FLINT_LIMITER_BUILD", "FLINT_LIMITER_API"}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def header() -> str:
    """The text of the header that is installed, without comments."""
    text = Path(flint.get_include(), "flint_limiter.h").read_text("utf-8")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def structures() -> dict[str, list[str]]:
    """The names of the structures' fields."""
    found = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", header(), re.DOTALL):
        declarations = [declaration.strip() for declaration in body.split(";")[:-1]]
        found[name] = [re.sub(r"\[\d+\]$", "", text).split()[-1] for text in declarations]
    return found


def constants() -> list[str]:
    names = re.findall(r"^#define (\w+)", header(), re.MULTILINE)
    return [name for name in dict.fromkeys(names) if name not in GUARDS]


def functions() -> list[str]:
    return re.findall(r"^FLINT_LIMITER_API [^;(]*?(\w+)\(", header(), re.MULTILINE)


def listing_program() -> str:
    """A C program that prints what a compiler makes of the header."""
    lines = []
    for name, fields in structures().items():
        lines.append(f'printf("struct {name} %zu\\n", sizeof({name}));')
        for field in fields:
            size = f"sizeof((({name}*)0)->{field})"
            lines.append(f'printf("  {field} %zu %zu\\n", offsetof({name}, {field}), {size});')
    for name in constants():
        lines.append(f'printf("constant {name} %lld\\n", (long long)({name}));')
    includes = '#include <stddef.h>\n#include <stdio.h>\n#include "flint_limiter.h"\n'
    return includes + "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"


def symbols() -> list[str]:
    """The type and the versioned name of each symbol that the library gives to others."""
    library = Path(flint.get_library_dir(), "libflint_limiter.so.1")
    lines = run("nm", "--dynamic", "--defined-only", library).splitlines()
    return sorted(" ".join(line.split()[1:]) for line in lines)


def actual_list() -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, "list.c"), Path(directory, "list")
        source.write_text(listing_program(), "utf-8")
        run("cc", "-std=c99", "-Werror", "-I", flint.get_include(), "-o", program, source)
        return run(program).splitlines() + [f"symbol {symbol}" for symbol in symbols()]


def test_the_abi_is_the_committed_one() -> None:
    assert actual_list() == LIST.read_text("utf-8").splitlines()


def parse(lines: list[str]) -> tuple[dict[str, list[str]], dict[str, int], set[str]]:
    """The structures' fields, the structures' sizes, and everything else of a list."""
    fields: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    others: set[str] = set()
    for line in lines:
        if line.startswith("  "):
            fields[next(reversed(fields))].append(line)
        elif line.startswith("struct "):
            _, name, size = line.split()
            fields[name], sizes[name] = [], int(size)
        else:
            others.add(line)
    return fields, sizes, others


@pytest.mark.parametrize(
    "released", sorted(LIST.parent.glob("*/*.abi")), ids=lambda p: p.parent.name
)
def test_what_was_released_stays(released: Path) -> None:
    fields, sizes, others = parse(released.read_text("utf-8").splitlines())
    fields_now, sizes_now, others_now = parse(actual_list())
    assert others <= others_now
    for name, its in fields.items():
        assert fields_now[name][: len(its)] == its
        assert sizes_now[name] >= sizes[name]


def test_the_first_sizes_are_those_of_the_first_version() -> None:
    """What the library refuses as too small, against the list of the version that came first."""
    text = (ROOT / "capi" / "convert.h").read_text("utf-8")
    first = dict(re.findall(r"^FLINT_FIRST_SIZE\((\w+), \w+, (\d+)\);", text, re.MULTILINE))
    listed: dict[str, int] = {}
    for released in sorted(LIST.parent.glob("*/*.abi"), reverse=True):
        listed |= parse(released.read_text("utf-8").splitlines())[1]
    del listed["flint_limiter_error"]  # of any size
    assert {name: int(size) for name, size in first.items() if name in listed} == listed


def test_nothing_of_the_header_is_overlooked() -> None:
    text = header()
    assert len(structures()) == text.count("uint32_t struct_size;") > 0
    assert len(structures()) == len(re.findall(r"\bstruct\b[^;{]*\{", text))
    assert sum(map(len, structures().values())) == sum(
        body.count(";") for body in re.findall(r"\{([^{}]*)\}", text)
    )
    assert len(functions()) == len(set(functions())) == text.count("\nFLINT_LIMITER_API ") > 0
    assert all(name.startswith("FLINT_LIMITER_") for name in constants())
    assert not re.search(r"\b(enum|union)\b", text)


def test_every_function_is_exported_and_nothing_else() -> None:
    exported = {symbol.split("@")[0] for symbol in symbols()}
    nodes = {"A FLINT_LIMITER_1.0", "A FLINT_LIMITER_1.1"}
    assert exported == {f"T {name}" for name in functions()} | nodes
    assert all(name.startswith("flint_limiter_") for name in functions())


def test_each_symbol_is_listed_with_its_version() -> None:
    text = (ROOT / "capi" / "flint_limiter.map").read_text("utf-8")
    listed = re.findall(r"^    (\w+);$", text, re.MULTILINE)
    assert sorted(listed) == sorted(functions())
    assert re.findall(r"^ +.*\*.*$", text, re.MULTILINE) == ["    *;"]  # what is local


def test_the_installed_header_is_the_projects() -> None:
    installed = Path(flint.get_include(), "flint_limiter.h").read_bytes()
    assert installed == (ROOT / "capi" / "flint_limiter.h").read_bytes()


def test_the_status_codes_are_the_engines() -> None:
    engine = (ROOT / "cpp_core" / "base" / "status_codes.h").read_text("utf-8")
    codes = re.findall(r"X\(k\w+, (\w+), (\d+),", engine)
    text = (ROOT / "capi" / "flint_limiter.h").read_text("utf-8")
    section = text[text.index("---- Status codes") : text.index("---- Other constants")]
    assert re.findall(r"^#define FLINT_LIMITER_(\w+) (\d+)", section, re.MULTILINE) == codes
    assert [int(value) for _, value in codes] == list(range(len(codes)))


@pytest.mark.parametrize("command", ["cc -xc -std=c99", "c++ -xc++ -std=c++11"])
def test_the_header_compiles_alone(command: str) -> None:
    path = Path(flint.get_include(), "flint_limiter.h")
    run(*command.split(), "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", path)


if __name__ == "__main__":
    sys.stdout.write("\n".join(actual_list()) + "\n")
