"""The tests of other limiters pass on Flint, but for those that are named here with the reason.

Their source distributions are downloaded, so this runs only with FLINT_LONG=1. The result is in
tests_py/results/peers.txt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT
from peer_suites import environment, results, source

pytestmark = pytest.mark.skipif("FLINT_LONG" not in os.environ, reason="set FLINT_LONG=1")

HERE = Path(__file__).resolve().parent
SHIM = ROOT / "tests_py" / "compat" / "shim"

# The storage's class is asked for by the name it has in limits.
LIMITS_CLASS = {"tests/aio/test_storage.py::TestConcreteStorages::test_storage_string[in-memory]"}
# They ask when one unit of the window before comes free; Flint tells when its own window ends.
LIMITS_RESET = {
    "tests/test_strategy.py::TestSlidingWindow::"
    "test_sliding_window_counter_previous_window[in-memory]",
    "tests/aio/test_strategy.py::TestAsyncSlidingWindow::"
    "test_sliding_window_counter_previous_window[in-memory]",
}


@pytest.mark.parametrize("where", ["memory", "directory"])
def test_limits(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "directory":
        (tmp_path / "data").mkdir()
        monkeypatch.setenv("FLINT_PEER_DIRECTORY", str(tmp_path / "data"))
    tools = ["pytest", "pytest-asyncio", "pytest-lazy-fixtures", "pytest-mock", "flaky"]
    clients = ["redis", "pymemcache", "pymongo", "valkey", "coredis", "motor", "memcachio"]
    python = environment(tmp_path, *tools, *clients, "limits==5.8.0")
    folder = source(tmp_path, python, "limits==5.8.0")
    tests = ["tests/test_strategy.py", "tests/aio/test_strategy.py", "tests/test_storage.py"]
    tests += ["tests/aio/test_storage.py", "tests/integration"]
    options = ("-o", "addopts=", "-o", "asyncio_default_fixture_loop_scope=function")
    passed, failed = results(
        python, folder, [HERE], "-p", "limits_on_flint", "-m", "memory", *options, *tests
    )
    assert failed == LIMITS_CLASS | LIMITS_RESET
    assert passed >= 49


def test_fluxlimit(tmp_path: Path) -> None:
    frameworks = ["fastapi", "flask", "httpx", "starlette"]
    python = environment(tmp_path, "pytest", "pytest-asyncio", *frameworks)
    folder = source(tmp_path, python, "fluxlimit==0.1.1")
    # Without the sources beside them, which have the same name.
    tests = (folder / "tests").rename(tmp_path / "tests")
    options = ("-c", "/dev/null", "--rootdir", tmp_path, "-o", "asyncio_mode=auto")
    passed, failed = results(python, tmp_path, [SHIM], *map(str, options), str(tests))
    assert (passed, failed) == (25, set())
