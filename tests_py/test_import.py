"""What `import flint` says where it cannot work as it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import flint

PACKAGE = Path(flint.__file__).parent


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The Python files of the package, and nothing that was built."""
    copy = tmp_path / "flint"
    built = shutil.ignore_patterns("*.so", "lib", "include", "_ext", "__pycache__")
    shutil.copytree(PACKAGE, copy, ignore=built)
    return copy


def import_in(directory: Path) -> subprocess.CompletedProcess[str]:
    # Without site packages: an installed Flint would lend its extension to this copy.
    return subprocess.run(
        [sys.executable, "-S", "-c", "import flint; print(flint.__version__)"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_checkout_without_the_extension(copied: Path) -> None:
    done = import_in(copied.parent)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: Flint's extension is not built in '{copied}'. ")
    assert "`python setup.py build_ext --inplace` builds it" in last
    assert "During handling" not in done.stderr


def test_python_flint_in_the_same_place(copied: Path) -> None:
    [extension] = PACKAGE.glob("_native*.so")
    (copied / extension.name).symlink_to(extension.resolve())
    (copied / "lib").symlink_to(PACKAGE / "lib")
    done = import_in(copied.parent)
    assert (done.stdout, done.stderr) == (f"{flint.__version__}\n", "")
    (copied / "flint_base").mkdir()
    done = import_in(copied.parent)
    assert done.stdout == f"{flint.__version__}\n"
    assert f"FlintWarning: python-flint is installed in '{copied}' too" in done.stderr


def test_nothing_is_loaded_that_is_not_asked_for(
    run_python: Callable[..., str],
) -> None:
    script = """
import sys
from collections.abc import Callable
before = set(sys.modules)
import flint
print(sorted(set(sys.modules) - before - {"__future__"}))
flint.__version__
print({"asyncio", "argparse", "json", "rich"} & set(sys.modules))
"""
    assert run_python(script).splitlines() == ["['flint']", "set()"]


def test_every_public_name_is_there(run_python: Callable[..., str]) -> None:
    script = """
import flint
assert set(flint.__all__) <= set(dir(flint))
for name in flint.__all__:
    getattr(flint, name)
print(flint.errors.FlintError is flint.FlintError, hasattr(flint, "nothing"))
from flint import *
print(Limiter)
"""
    assert run_python(script) == "True False\n<class 'flint.limiter.Limiter'>\n"
