"""The tests of other limiters pass on Flint, but for those that are named here with the reason.

Their source distributions are downloaded, so this runs only with FLINT_LONG=1. The result is in
tests_py/results/peers.txt."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import ROOT
from peer_suites import PACKAGE_PARENT, environment, results, run, source

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


# They need Redis, memcached or MongoDB in Docker, on its own memory storage too.
FLASK_LIMITER_SERVERS = re.compile(
    r"tests/test_(?:storage|regressions|error_handling|configuration|flask_ext|commands)\.py::.*"
)
# They look for the name of the storage's class.
FLASK_LIMITER_CLASS = {
    f"tests/test_commands.py::{name}"
    for name in ("test_config", "test_no_config", "test_limits_with_test_storage_down")
}


def test_flask_limiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLINT_PEER_CLOCK", "1")  # its tests move Python's
    tools = ["pytest", "pytest-mock", "hiro", "flask-restful", "asgiref", "rich<15"]
    clients = ["redis", "pymemcache", "pymongo"]
    python = environment(tmp_path, *tools, *clients, "limits==5.8.0", "flask-limiter==4.1.1")
    folder = source(tmp_path, python, "flask-limiter==4.1.1")
    options = ("-o", "addopts=", "tests")
    own = results(python, folder, [], *options)
    on_flint = results(python, folder, [HERE], "-p", "limits_on_flint", *options)
    assert all(FLASK_LIMITER_SERVERS.fullmatch(name) for name in own[1])
    assert (own[0], len(own[1])) == (112, 17)
    assert on_flint == (own[0] - len(FLASK_LIMITER_CLASS), own[1] | FLASK_LIMITER_CLASS)


# They keep values, which a FlintStore refuses, or tell of the memory store's own size.
THROTTLED_VALUES = re.compile(
    r"tests/(?:asyncio/)?store/test_(?:store\.py::TestStore::test_(?:exists|ttl|set|get|hset"
    r"|hgetall|ttl__not_ttl|hset__overwrite)\[.*|memory\.py::TestMemoryStore::test_set__overflow)"
)
# They look at what a limiter of windows has stored, denied requests and nothing at all included.
THROTTLED_WINDOWS = {
    f"tests/{where}rate_limiter/test_{kind}_window.py::"
    f"{kind.title()}WindowRateLimiter::test_limit[memory]".replace("::", "::Test", 1)
    for where in ("", "asyncio/")
    for kind in ("fixed", "sliding")
}

# They fail, on any store, where what they do takes a tenth of a second too long.
THROTTLED_TIME = re.compile(
    r"tests/(?:asyncio/)?rate_limiter/test_\w+\.py::\w+::test_(?:peek|limit__concurrent)\[memory.*"
)


@pytest.mark.parametrize("where", ["memory", "directory"])
def test_throttled(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "directory":
        (tmp_path / "data").mkdir()
        monkeypatch.setenv("FLINT_PEER_DIRECTORY", str(tmp_path / "data"))
    tools = ["pytest", "pytest-asyncio", "fakeredis[lua]", "fastapi", "httpx", "flask[async]"]
    tools += ["opentelemetry-api", "opentelemetry-sdk"]
    python = environment(tmp_path, *tools, "throttled-py==3.5.0")
    folder = source(tmp_path, python, "throttled-py==3.5.0")
    words = ("-k", "memory or Memory", "--ignore", "tests/benchmarks")
    words += ("--ignore", "tests/asyncio/benchmarks", "tests")
    passed, failed = results(python, folder, [HERE], "-p", "throttled_on_flint", *words)
    values = {name for name in failed if THROTTLED_VALUES.fullmatch(name)}
    late = {name for name in failed if THROTTLED_TIME.fullmatch(name)}
    assert failed - values - late == THROTTLED_WINDOWS
    assert (passed + len(late), len(values)) == (214, 53)


# They give items times of their own, look at the items, or choose another algorithm.
PYRATE_ITEMS = {
    *(
        f"tests/test_bucket_all.py::test_bucket_{name}[create_in_memory_bucket]"
        for name in ("02", "03", "waiting", "records_retry_after", "leak")
    ),
    "tests/test_fixed_window.py::test_backends_clear_a_denial_on_a_weightless_put[inmemory]",
    "tests/test_fixed_window.py::test_backends_agree_on_fixed_window[inmemory]",
    "tests/test_limiter.py::test_limiter_concurrency[create_in_memory_bucket]",
}

PYRATE_WAITING = "tests/test_bucket_all.py::test_bucket_waiting[create_in_memory_bucket]"


def test_pyrate_limiter(tmp_path: Path) -> None:
    tools = ["pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "filelock", "aiohttp"]
    tools += ["redis", "psycopg[binary,pool]"]
    python = environment(tmp_path, *tools, "pyrate-limiter==4.5.1")
    folder = source(tmp_path, python, "pyrate-limiter==4.5.1")
    words = ("-m", "inmemory", "-o", "addopts=", "--timeout", "30", "tests")
    passed, failed = results(python, folder, [HERE], "-p", "pyrate_on_flint", *words)
    # One of them sleeps by what is left, and passes when that is exact enough.
    assert PYRATE_ITEMS - failed <= {PYRATE_WAITING}
    assert failed <= PYRATE_ITEMS
    assert passed + len(failed) == 31


def test_django_ratelimit(tmp_path: Path) -> None:
    """All but its tests of caches that fail, whose caches its distribution leaves out."""
    python = environment(tmp_path, "django==5.2.19", "django-ratelimit==4.1.0")
    folder = source(tmp_path, python, "django-ratelimit==4.1.0")
    done = run(
        *(python, "-m", "django", "test", "django_ratelimit"),
        cwd=folder,
        PYTHONPATH=os.pathsep.join(map(str, [HERE, PACKAGE_PARENT])),
        DJANGO_SETTINGS_MODULE="django_on_flint",
    )
    failed = re.findall(
        r"^(?:ERROR|FAIL): \w+ \(django_ratelimit\.tests\.(\w+)\.", done.stderr, re.M
    )
    assert failed == ["CacheFailTests"] * 6
    assert "Ran 52 tests" in done.stderr


def test_fluxlimit(tmp_path: Path) -> None:
    frameworks = ["fastapi", "flask", "httpx", "starlette"]
    python = environment(tmp_path, "pytest", "pytest-asyncio", *frameworks)
    folder = source(tmp_path, python, "fluxlimit==0.1.1")
    # Without the sources beside them, which have the same name.
    tests = (folder / "tests").rename(tmp_path / "tests")
    options = ("-c", "/dev/null", "--rootdir", tmp_path, "-o", "asyncio_mode=auto")
    passed, failed = results(python, tmp_path, [SHIM], *map(str, options), str(tests))
    assert (passed, failed) == (25, set())
