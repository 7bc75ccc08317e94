"""Ctrl-C while a call waits for a slow disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PACKAGE_ROOT, succeed

DEADLINE_S = 60

# A disk on which a sync takes as long as there is a certain file, and which says that it has begun.
SLOW_DISK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int wait_and_call(const char* name, int file) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  const char* held = getenv("HELD");
  while (access(held, F_OK) == 0) {
    close(open(getenv("BEGUN"), O_CREAT | O_WRONLY, 0600));
    usleep(1000);
  }
  return real(file);
}
int fdatasync(int file) { return wait_and_call("fdatasync", file); }
int fsync(int file) { return wait_and_call("fsync", file); }
"""

PROGRAM = """
import os, sys
from pathlib import Path
import flint

held = Path(os.environ["HELD"])
limiter = flint.Limiter("data", sync=os.environ["SYNC"], flush_every_ms=3_600_000)
limiter.limit("api", rate=5, per="1h")
limiter.flush()
if sys.argv[1] in ("flush", "close"):
    limiter.allow("api")
calls = {
    "allow": lambda: limiter.allow("api"),
    "check": lambda: limiter.check("api"),
    "check_all": lambda: limiter.check_all(["api"]),
    "limit": lambda: limiter.limit("api", rate=4, per="1h"),
    "limit_many": lambda: limiter.limit_many([("api", 4, "1h")]),
    "reset": lambda: limiter.reset("api"),
    "remove": lambda: limiter.remove("api"),
    "flush": lambda: limiter.flush(),
    "compact": lambda: limiter.compact(),
    "close": lambda: limiter.close(),
    "open": lambda: flint.Limiter("other"),
}
held.touch()
try:
    calls[sys.argv[1]]()
except KeyboardInterrupt:
    print("interrupted")
held.unlink()
limiter.close()
with flint.Limiter("data", lock_timeout=60) as limiter:
    print(*(entry["remaining"] for entry in limiter.list()))
    print(limiter.history()[-1]["type"])
"""

SHOWN = {
    "allow": "4\nALLOW\n",
    "check": "4\nALLOW\n",
    "check_all": "4\nALLOW_ALL\n",
    "limit": "4\nLIMIT_CONFIGURED\n",
    "limit_many": "4\nLIMIT_CONFIGURED\n",
    "reset": "5\nRESET\n",
    "remove": "\nLIMIT_REMOVED\n",
    "flush": "4\nALLOW\n",
    "compact": "5\nLIMIT_CONFIGURED\n",
    "close": "4\nALLOW\n",
    "open": "5\nLIMIT_CONFIGURED\n",
}


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slow_disk")
    source, library = folder / "slow_disk.c", folder / "slow_disk.so"
    source.write_text(SLOW_DISK)
    succeed("cc", "-shared", "-fPIC", "-o", library, source, "-ldl")
    return library


@pytest.mark.parametrize("call", SHOWN)
def test_the_wait_ends_and_the_change_stands(tmp_path: Path, slow_disk: Path, call: str) -> None:
    begun = tmp_path / "begun"
    preloaded = [os.environ.get("LD_PRELOAD", ""), str(slow_disk)]
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, call],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(PACKAGE_ROOT),
            "LD_PRELOAD": " ".join(filter(None, preloaded)),
            "HELD": str(tmp_path / "held"),
            "BEGUN": str(begun),
            "SYNC": "batch" if call in ("flush", "close") else "always",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not begun.exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=DEADLINE_S)
    finally:
        child.kill()
        child.wait()
    assert (output, errors) == (f"interrupted\n{SHOWN[call]}", "")
