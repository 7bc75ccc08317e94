"""A sandbox may forbid a clock: opening says which, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PACKAGE_ROOT

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
  const char *forbidden = getenv("FORBIDDEN_CLOCK");
  if (forbidden != NULL && clock == atoi(forbidden)) {
    errno = EPERM;
    return -1;
  }
  return real(clock, now);
}
"""

OPEN = """
import os, sys
from flint import Limiter, UnsupportedError
os.environ["FORBIDDEN_CLOCK"] = sys.argv[2]
try:
    Limiter(sys.argv[1])
except UnsupportedError as error:
    os.write(1, str(error).encode())
os._exit(0)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shim")
    source = directory / "shim.c"
    source.write_text(SHIM)
    library = directory / "shim.so"
    compiler = ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(compiler, check=True)
    return library


@pytest.mark.parametrize(("number", "name"), [(7, "CLOCK_BOOTTIME"), (0, "CLOCK_REALTIME")])
@pytest.mark.parametrize("place", ["data", ":memory:"])
def test_opening_names_the_clock(
    tmp_path: Path, shim: Path, number: int, name: str, place: str
) -> None:
    preload = f"{os.environ.get('LD_PRELOAD', '')} {shim}".strip()
    done = subprocess.run(
        [sys.executable, "-P", "-c", OPEN, place, str(number)],
        env={
            **os.environ,
            "PYTHONPATH": str(PACKAGE_ROOT),
            "LD_PRELOAD": preload,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert f"cannot read {name}" in done.stdout
    assert "a sandbox around this process has to allow clock_gettime" in done.stdout
    assert list(tmp_path.iterdir()) == []
