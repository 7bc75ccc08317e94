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
