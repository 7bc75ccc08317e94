"""What is given to users: the wheel, `flint-config`, the source distribution.

The wheel is the one that FLINT_WHEEL names. Without it one is made of what has been built here,
which needs this machine's libraries: what those are is not looked at.
"""

from __future__ import annotations

import configparser
import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from platform import machine

import pytest
from conftest import ROOT, succeed

LIBRARY = "flint/lib/libflint_limiter.so.1"
EXTENSION = "flint/_native.abi3.so"
SERVER = "flint/bin/flint-server"
# What every glibc system has: the wheel brings everything else along.
ALWAYS_THERE = r"lib(c|gcc_s|m)\.so\.\d|ld-linux-[\w-]+\.so\.\d"
BUNDLED = ["GCC", "OpenSSL", "libuv", "llhttp", "nlohmann-json", "tomlplusplus", "xxHash"]

SMOKE = """
import sys
from pathlib import Path
import flint
from flint.testing import ManualClock

assert Path(flint.__file__).is_relative_to(sys.prefix), flint.__file__
for left in (1, 0):
    with flint.Limiter("data", clock=ManualClock(1_700_000_000)) as limiter:
        limiter.limit("user:*", rate=2, per="1h")
        assert limiter.check("user:1").remaining == left
with flint.Limiter("data", clock=ManualClock(1_700_000_000)) as limiter:
    assert not limiter.allow("user:1")
"""


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def metadata(unpacked: Path) -> email.message.Message:
    [path] = unpacked.glob("*.dist-info/METADATA")
    return email.message_from_string(path.read_text("utf-8"))


def test_it_is_for_every_python_from_311(wheel: Path, unpacked: Path) -> None:
    assert re.fullmatch(rf"flint_limiter-[\d.]+-cp311-abi3-\w+_{machine()}\.whl", wheel.name)
    assert (unpacked / EXTENSION).is_file()


def test_it_holds_the_package_and_no_more(wheel: Path, unpacked: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert not [info.filename for info in archive.infolist() if info.external_attr >> 28 == 0xA]
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.*")}
    package = {name for name in files if not re.match(r"[\w.-]+\.dist-info", name)}
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("flint/**/*.py")}
    for kind in ("lua", "sql"):
        modules |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"flint/**/*.{kind}")}
    typed = {"flint/_native.pyi", "flint/py.typed"}
    library = {"include/flint_limiter.h", "lib/pkgconfig/flint_limiter.pc"}
    library |= {"lib/libflint_limiter.so", "lib/libflint_limiter.so.1"}
    built = {EXTENSION} | {f"flint/{name}" for name in library}
    assert package == modules | typed | built


def test_the_server_is_in_it(installed: Path, wheel: Path, unpacked: Path) -> None:
    server = unpacked / SERVER
    if not server.is_file() and "FLINT_LLHTTP_DIR" not in os.environ:
        pytest.skip("it was built without llhttp")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo(SERVER).external_attr >> 16 & 0o777 == 0o755
    script = "import flint, pathlib; print(pathlib.Path(flint.__file__).parent)"
    package = Path(succeed(installed / "python", "-I", "-c", script).strip())
    help_text = succeed(package / "bin" / "flint-server", "--help")
    assert help_text.startswith("usage: flint-server")


def test_the_name_for_linkers_leads_to_the_library(unpacked: Path) -> None:
    """It is text: links cannot be packed, and a copy could be loaded beside the library itself."""
    hint = unpacked / "flint/lib/libflint_limiter.so"
    assert hint.read_text("utf-8") == "INPUT(libflint_limiter.so.1)\n"


def test_nothing_else_is_exported(unpacked: Path) -> None:
    def exported(name: str) -> set[str]:
        lines = succeed("nm", "--dynamic", "--defined-only", unpacked / name).splitlines()
        return {line.split()[-1].split("@")[0] for line in lines}

    header = (unpacked / "flint/include/flint_limiter.h").read_text("utf-8")
    functions = set(re.findall(r"\b(flint_limiter_\w+)\(", header))
    assert exported(LIBRARY) == functions | {"FLINT_LIMITER_1.0", "FLINT_LIMITER_1.1"}
    assert exported(EXTENSION) == {"PyInit__native"}


def built(unpacked: Path) -> list[str]:
    return [name for name in (LIBRARY, EXTENSION, SERVER) if (unpacked / name).is_file()]


@pytest.fixture
def glibc(wheel: Path) -> tuple[int, ...]:
    """The glibc that the wheel says it is for."""
    tag = re.search(r"manylinux_(\d+)_(\d+)_", wheel.name)
    if tag is None:
        pytest.skip("this wheel was made for this machine only; ./dev wheel makes the other")
    return tuple(map(int, tag.groups()))


def test_it_needs_no_more_than_its_name_says(glibc: tuple[int, ...], unpacked: Path) -> None:
    for name in built(unpacked):
        dynamic = succeed("readelf", "--dynamic", "--wide", unpacked / name)
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) - {"libflint_limiter.so.1"}
        assert "libc.so.6" in needed
        assert not [library for library in needed if not re.fullmatch(ALWAYS_THERE, library)]
        versions = re.findall(r"\(([A-Z]\w*)_([\d.]+)\)", succeed("objdump", "-T", unpacked / name))
        newest: dict[str, tuple[int, ...]] = {}
        for kind, version in versions:
            numbers = tuple(map(int, version.split(".")))
            newest[kind] = max(newest.get(kind, numbers), numbers)
        assert newest.pop("GLIBC") <= glibc
        assert newest.pop("GCC", ()) <= (4, 3)  # since long before
        assert set(newest) <= {"FLINT_LIMITER"}


@pytest.mark.usefixtures("glibc")
def test_it_does_not_tell_where_it_was_built(unpacked: Path) -> None:
    for name in built(unpacked):
        assert b"/cpp_core/" not in (unpacked / name).read_bytes()


def test_licences_are_in_it(unpacked: Path, metadata: email.message.Message) -> None:
    licences = ["LICENSE", *(f"licenses/{name}.txt" for name in BUNDLED)]
    assert sorted(metadata.get_all("License-File", [])) == sorted(licences)
    for name in licences:
        [path] = unpacked.glob(f"*.dist-info/licenses/{name}")
        assert path.read_bytes() == (ROOT / name).read_bytes()


def test_it_depends_on_nothing(metadata: email.message.Message) -> None:
    assert all("extra ==" in needed for needed in metadata.get_all("Requires-Dist", []))


def test_it_works_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    python = [installed / "python", "-I", "-W", "error"]
    succeed(*python, "-c", SMOKE, cwd=tmp_path)
    found = "from importlib.metadata import distributions as d; print(*(x.name for x in d()))"
    assert succeed(*python, "-c", found).split() == ["flint-limiter"]


def test_the_command_is_in_it_and_runs(
    installed: Path, unpacked: Path, metadata: email.message.Message
) -> None:
    [entries] = unpacked.glob("*.dist-info/entry_points.txt")
    commands = configparser.ConfigParser()
    commands.read_string(entries.read_text("utf-8"))
    assert commands["console_scripts"]["flint"] == "flint._cli.main:main"
    assert succeed(installed / "flint", "version") == f"{metadata['Version']}\n"
    said = succeed(installed / "flint", "--help")
    assert "usage: flint" in said
    assert "what-if" in said


def test_flint_config(installed: Path, metadata: email.message.Message) -> None:
    def ask(*questions: str) -> str:
        return succeed(installed / "flint-config", *questions).removesuffix("\n")

    include, libraries = Path(ask("--includedir")), Path(ask("--libdir"))
    assert include.is_relative_to(installed.parent)
    assert (include / "flint_limiter.h").is_file()
    assert ask("--cflags") == f"-I{include}"
    assert ask("--libs") == f"-L{libraries} -Wl,-rpath,{libraries} -lflint_limiter"
    assert ask("--library") == str(libraries / "libflint_limiter.so.1")
    assert (libraries / "libflint_limiter.so.1").is_file()
    assert ask("--pcdir") == str(libraries / "pkgconfig")
    assert ask("--version", "--pcdir") == f"{metadata['Version']} {libraries / 'pkgconfig'}"


@pytest.mark.parametrize("arguments", [[], ["--lib"], ["libs"]])
def test_flint_config_says_what_can_be_asked(installed: Path, arguments: list[str]) -> None:
    done = subprocess.run([installed / "flint-config", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: flint-config" in done.stderr


def test_the_pc_file_finds_what_has_been_moved(unpacked: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(unpacked / "flint" / "lib", moved / "lib")
    shutil.copytree(unpacked / "flint" / "include", moved / "include")
    variables = {**os.environ, "PKG_CONFIG_PATH": str(moved / "lib" / "pkgconfig")}
    ask = ["pkg-config", "--cflags", "--libs", "flint_limiter"]
    flags = succeed(*ask, env=variables).split()
    program = ROOT / "examples" / "limiter.c"
    succeed("cc", program, *flags, "-o", tmp_path / "limiter")
    assert "everything is on disk" in succeed(tmp_path / "limiter", tmp_path / "data")
    found = re.findall(r"libflint_limiter\S+ => (\S+)", succeed("ldd", tmp_path / "limiter"))
    assert [Path(path).resolve() for path in found] == [moved / "lib" / "libflint_limiter.so.1"]


def test_versions_agree(installed: Path, unpacked: Path, metadata: email.message.Message) -> None:
    version = metadata["Version"]
    script = "import flint; print(flint.__version__)"
    assert succeed(installed / "python", "-I", "-c", script) == f"{version}\n"
    pc_file = (unpacked / "flint/lib/pkgconfig/flint_limiter.pc").read_text("utf-8")
    assert re.findall(r"^Version: (.*)$", pc_file, re.MULTILINE) == [version]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    made = tmp_path_factory.mktemp("source")
    base = ["egg_info", "--egg-base", made]
    succeed(sys.executable, "setup.py", "--quiet", *base, "sdist", "--dist-dir", made, cwd=ROOT)
    [path] = made.glob("*.tar.gz")
    succeed("tar", "-xzf", path, "-C", made)
    return made / path.name.removesuffix(".tar.gz")


def test_the_source_distribution_is_whole(source: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only git knows what the project's files are")
    listed = succeed("git", "-c", "safe.directory=*", "ls-files", cwd=ROOT).splitlines()
    tracked = {name for name in listed if not name.startswith("bench/results/")}
    files = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()}
    made = {name for name in files - tracked if ".egg-info/" in name}
    assert files - made == tracked | {"PKG-INFO", "setup.cfg"}


def build_message(source: Path, build: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        env={**os.environ, "FLINT_CMAKE_BUILD_DIR": str(build), **variables},
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    return done.stderr


def test_missing_tools_are_named(source: Path, tmp_path: Path) -> None:
    message = build_message(source, tmp_path / "build", PATH=str(tmp_path), CXX="c++")
    assert "missing: cmake, ninja, a C++ compiler (c++)." in message
    assert "apt-get install cmake ninja-build g++\n" in message


def test_missing_libraries_are_named(source: Path, tmp_path: Path) -> None:
    ignored = f"/usr/include;/usr/include/{succeed('cc', '-print-multiarch').strip()}"
    arguments = f"-DCMAKE_IGNORE_PATH='{ignored}'"
    message = build_message(source, tmp_path / "build", CMAKE_ARGS=arguments)
    assert "apt-get install libssl-dev libxxhash-dev nlohmann-json3-dev\n" in message
