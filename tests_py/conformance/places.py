"""The places under test. A factory is given an empty directory and a clock, and opens a limiter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flint
from flint.testing import ManualClock

Factory = Callable[[Path, ManualClock], flint.AnyLimiter]


def directory(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    return flint.connect(path / "limits", clock=clock)


def directory_in_batch_mode(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    return flint.connect((path / "limits").as_uri(), sync="batch", clock=clock)


def memory(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    assert path.is_dir()
    return flint.connect(":memory:", clock=clock)


PLACES: dict[str, Factory] = {
    "always": directory,
    "batch": directory_in_batch_mode,
    "memory": memory,
}
