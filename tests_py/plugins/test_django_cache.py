"""Django's cache that counts in Flint."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import django_settings  # noqa: F401
import pytest

from flint.plugins.django_cache import CounterCache
from flint.testing import ManualClock

GREATEST = 2**39 - 1
START_S = 1_700_000_000


def cache_of(location: object = ":memory:", **options: Any) -> CounterCache:
    """A cache with a limiter that no other test has."""
    options.setdefault("clock", ManualClock(START_S))
    return CounterCache(str(location), {"OPTIONS": options, "TIMEOUT": 100})


def clock_of(cache: CounterCache) -> ManualClock:
    clock = cache._options["clock"]
    assert isinstance(clock, ManualClock)
    return clock


def test_add_and_incr() -> None:
    cache = cache_of()
    assert cache.add("key", 5)
    assert not cache.add("key", 7)
    assert cache.get("key") == 5
    assert (cache.incr("key"), cache.incr("key", 10), cache.incr("key", 0)) == (6, 16, 16)
    assert cache.get_many(["key", "other"]) == {"key": 16}
    assert "key" in cache
    assert "other" not in cache
    assert cache.get("other", 9) == 9
    assert cache.add("key", 1, version=2)
    assert cache.get("key") == 16


def test_nothing_is_a_value_and_not_the_absence_of_one() -> None:
    cache = cache_of()
    assert cache.add("key", 0)
    assert not cache.add("key", 0)
    assert (cache.get("key"), cache.has_key("key"), cache.incr("key")) == (0, True, 1)
    with pytest.raises(ValueError, match="'other' not found"):
        cache.incr("other")
    with pytest.raises(ValueError, match="'other' not found"):
        asyncio.run(cache.aincr("other"))
    assert not cache.has_key("other")


def test_coroutines() -> None:
    async def run() -> None:
        cache = cache_of()
        assert await cache.aadd("key", 1)
        assert not await cache.aadd("key", 1)
        assert [await cache.aincr("key"), await cache.aincr("key", 0)] == [2, 2]
        assert await cache.aget("key") == 2
        assert await cache.adecr("key", -1) == 3

    asyncio.run(run())


def test_a_key_times_out_whole() -> None:
    cache = cache_of()
    clock = clock_of(cache)
    cache.add("key", 1, 10)
    cache.add("default", 1)
    cache.add("never", 1, None)
    clock.advance(9.5)
    assert cache.incr("key") == 2
    clock.advance(0.5)
    assert (cache.get("key"), cache.get("default"), cache.get("never")) == (None, 1, 1)
    assert cache.add("key", 7, 10)
    assert cache.get("key") == 7
    clock.advance(90)
    assert (cache.get("default"), cache.get("never")) == (None, 1)
    clock.advance(86_400 * 365 * 50)
    assert cache.get("never") == 1


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_a_timeout_that_is_over(timeout: float) -> None:
    cache = cache_of()
    assert cache.add("key", 1, timeout)
    assert cache.get("key") is None
    cache.add("key", 1)
    cache.set("key", 2, timeout)
    assert cache.get("key") is None


def test_set_delete_and_clear() -> None:
    cache = cache_of()
    cache.set("key", 5)
    cache.set("key", 3)
    assert cache.get("key") == 3
    assert cache.delete("key")
    assert not cache.delete("key")
    assert not cache.delete("never-there")
    assert cache.add("key", 1)
    cache.set_many({"one": 1, "two": 2})
    cache.limiter.check("other", rate=1, per=100)
    cache.clear()
    assert cache.get_many(["key", "one", "two"]) == {}
    assert not cache.limiter.allow("other", rate=1, per=100)


def test_clear_leaves_other_caches_alone() -> None:
    options = {"clock": ManualClock(START_S)}
    one, other = (
        CounterCache(":memory:", {"OPTIONS": options, "KEY_PREFIX": prefix})
        for prefix in ("one", "other")
    )
    assert one.limiter is other.limiter
    one.add("key", 1)
    other.add("key", 2)
    one.clear()
    assert (one.get("key"), other.get("key")) == (None, 2)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *((value, TypeError) for value in ("1", 1.0, True, None, [])),
        *((value, ValueError) for value in (-1, GREATEST + 1)),
    ],
)
def test_what_is_not_kept(value: Any, error: type[Exception]) -> None:
    cache = cache_of()
    for store in (cache.add, cache.set):
        with pytest.raises(error, match="a value of a CounterCache must be"):
            store("key", value)
    assert not cache.has_key("key")


def test_the_greatest_value() -> None:
    cache = cache_of()
    assert cache.add("key", GREATEST - 1)
    assert cache.incr("key") == GREATEST
    assert not cache.add("key", 0)
    with pytest.raises(ValueError, match="would be greater than"):
        cache.incr("key")
    assert cache.get("key") == GREATEST


def test_counters_only_grow() -> None:
    cache = cache_of()
    cache.add("key", 5)
    for shrink in (lambda: cache.decr("key"), lambda: cache.incr("key", -1)):
        with pytest.raises(NotImplementedError, match="only grows"):
            shrink()
    with pytest.raises(NotImplementedError, match="timeout"):
        cache.touch("key", 10)
    assert cache.decr("key", -1) == 6


def test_one_of_many_adds_a_key_and_every_increment_counts(tmp_path: Path) -> None:
    added: list[int] = []
    sums: list[int] = []
    options = {"sync": "batch"}

    def count() -> None:
        cache = CounterCache(str(tmp_path), {"OPTIONS": options})
        for number in range(20):
            added.extend([number] if cache.add(f"key{number}", 1) else [])
            sums.append(cache.incr("total"))

    CounterCache(str(tmp_path), {"OPTIONS": options}).add("total", 0)
    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == list(range(20))
    assert sorted(sums) == list(range(1, 161))


SCRIPT = """
import sys
from django.conf import settings
options = {"BACKEND": "flint.plugins.django_cache.CounterCache", "LOCATION": sys.argv[1]}
settings.configure(CACHES={"default": {**options, "OPTIONS": {"shared": True}}})
from django.core.cache import cache
for number in range(25):
    added = cache.add("key", 1)
    print("added" if added else cache.incr("key"), flush=True)
"""


def test_processes_count_together_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    def run() -> list[str]:
        words = [sys.executable, "-c", SCRIPT, str(tmp_path / "counters")]
        several = [
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        said = [one.communicate(timeout=120) for one in several]
        assert [error for _, error in said] == ["", "", ""]
        return [line for lines, _ in said for line in lines.split()]

    first, second = run(), run()
    assert first.count("added") == 1
    numbers = [int(line) for line in [*first, *second] if line != "added"]
    assert sorted(numbers) == list(range(2, 151))


@pytest.mark.parametrize("how", ["incr", "aincr"])
def test_an_increment_that_comes_too_late_counts_nowhere(how: str) -> None:
    cache = cache_of()
    cache.add("key", 1, 10)
    clock_of(cache).advance(10)
    with pytest.raises(ValueError, match="'key' not found"):
        cache.incr("key") if how == "incr" else asyncio.run(cache.aincr("key"))
    assert cache.get("key") is None
    assert cache.add("key", 1, 20)
    assert (cache.incr("key"), cache.get("key")) == (2, 2)


def test_an_increment_keeps_the_timeout() -> None:
    cache = cache_of()
    cache.add("key", 1, 10)
    clock_of(cache).advance(9)
    assert cache.incr("key") == 2
    clock_of(cache).advance(1)
    assert cache.get("key") is None


def test_a_place_must_be_named() -> None:
    with pytest.raises(ValueError, match="LOCATION must say where"):
        CounterCache("", {})
    with pytest.raises(TypeError, match="timeout must be a number"):
        cache_of().add("key", 1, "soon")
