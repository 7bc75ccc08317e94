"""The limiters that plug-ins of one process share."""

from __future__ import annotations

import gc
from pathlib import Path

import flint
from flint.plugins._opened import opened
from flint.testing import ManualClock

START_S = 1_700_000_000


def test_equal_options_are_one_limiter(tmp_path: Path) -> None:
    clock = ManualClock(START_S)
    limiter = opened(str(tmp_path), clock=clock, sync="batch")
    assert opened(f"file://{tmp_path}", sync="batch", clock=clock) is limiter
    limiter.close()
    assert opened(str(tmp_path), clock=clock, sync="batch") is not limiter


def test_two_clocks_of_one_time_are_two_limiters(tmp_path: Path) -> None:
    one, other = ManualClock(START_S), ManualClock(START_S)
    assert repr(one) == repr(other)
    with (
        opened(str(tmp_path), shared=True, clock=one) as first,
        opened(str(tmp_path), shared=True, clock=other) as second,
    ):
        assert first is not second


def test_what_nobody_holds_is_closed(tmp_path: Path) -> None:
    limiter = opened(str(tmp_path))
    assert not limiter.closed
    del limiter
    gc.collect()
    with flint.Limiter(tmp_path) as again:  # which raises LockedError while it is open
        assert not again.closed


def test_those_in_memory_are_never_one() -> None:
    with opened(":memory:") as first, opened(":memory:") as second:
        assert first is not second
