"""The limiter that an object of flint.compat counts in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flint
from flint.compat import _place
from flint.compat._place import Place

THREADS = 8


def test_threads_open_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened = _place.opened, []

    def slow(url: str, **options: Any) -> Any:
        opened.append(url)
        time.sleep(0.05)  # in which the others would open it as well
        return real(url, **options)

    monkeypatch.setattr(_place, "opened", slow)
    place, together = Place(":memory:"), threading.Barrier(THREADS)

    def use() -> Any:
        together.wait()
        return place.limiter()

    with ThreadPoolExecutor(THREADS) as threads:
        found = [use.result() for use in [threads.submit(use) for _ in range(THREADS)]]
    assert opened == [":memory:"]
    assert len({id(one) for one in found}) == 1


def test_one_that_was_closed_is_opened_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "limits")
    place.limiter().limit("key", rate=1, per="1h")
    place.limiter().close()
    assert place.limiter().allow("key")


def test_a_forked_child_has_its_own(run_python: Callable[..., str]) -> None:
    script = """
import os
from flint.compat._place import Place

place = Place(":memory:")
assert place.limiter().allow("key", rate=1, per=3600)
child = os.fork()
if child == 0:
    found = [place.limiter().allow("key", rate=1, per=3600) for _ in range(2)]
    os._exit(0 if found == [True, False] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(script) == "0\n"


def test_options_are_for_what_is_opened_here() -> None:
    with flint.Limiter(":memory:") as limiter:
        assert Place(limiter).limiter() is limiter
        with pytest.raises(TypeError, match="opened here: sync"):
            Place(limiter, sync="batch")


def test_all_modules_and_all_processes_share_the_default_directory(
    run_python: Callable[..., str], tmp_path: Path
) -> None:
    program = """
import asyncio
import subprocess
import sys

import flint
from flint.compat import flux, fluxlimit
from flint.compat.aiolimiter import AsyncLimiter
from flint.compat.ratelimit import limits


@limits(2, 3600, key="calls")
def call():
    return "called"


@flux.rate_limit(requests=2, period=3600, key="everybody")
def search():
    return "found"


@flint.rate_limit("2/hour", scope="mails")
def send():
    return "sent"


async def waited():
    await AsyncLimiter(2, 3600, key="jobs").acquire()
    rule = fluxlimit.LimitRule(
        "api", fluxlimit.TokenBucket(), fluxlimit.TokenBucketConfig("api", rate=0.001, burst=2)
    )
    backend = fluxlimit.FlintBackend(".flint")
    async with fluxlimit.RateLimiter(backend=backend, default_rule=rule) as limiter:
        return (await limiter.check("alice")).remaining


print(call(), search(), send(), asyncio.run(waited()))
if len(sys.argv) < 2:  # another process, while this one has the directory open
    again = [sys.executable, "program.py", "again"]
    print(subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True).stdout, end="")
    try:
        search()
    except flux.RateLimitExceeded:
        print("all used")
"""
    (tmp_path / "flux.toml").touch()  # without it flux says on stderr that there is none
    (tmp_path / "program.py").write_text(program, "utf-8")
    said = run_python("import runpy; runpy.run_path('program.py', run_name='__main__')")
    assert said == "called found sent 1\ncalled found sent 0\nall used\n"


def test_a_directory_is_shared_unless_the_options_say_otherwise(tmp_path: Path) -> None:
    place = Place(tmp_path / "shared")
    with place.limiter() as limiter, flint.Limiter(tmp_path / "shared", shared=True) as other:
        limiter.limit("key", rate=1, per="1h")
        assert (other.allow("key"), limiter.allow("key")) == (True, False)
    alone = Place(tmp_path / "alone", shared=False)
    with alone.limiter(), pytest.raises(flint.LockedError):
        flint.Limiter(tmp_path / "alone", shared=True, lock_timeout=0.1)
