"""An embedded limiter without limits: it reads arguments, and says what is wrong with them and what
is not configured, in its own words."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from flint._remote.standing import ALGORITHMS, Config
from flint.errors import NotConfiguredError
from flint.limiter import Limiter

if TYPE_CHECKING:
    from typing import NoReturn

_of_process: dict[int, Limiter] = {}


def _empty() -> Limiter:
    process = os.getpid()
    if process not in _of_process:
        _of_process.clear()
        _of_process[process] = Limiter(":memory:")
    return _of_process[process]


def refuse_bad(call: str, *args: Any, **kwargs: Any) -> None:
    """Raise what the embedded limiter raises for bad arguments of a call that changes nothing."""
    with contextlib.suppress(NotConfiguredError):
        getattr(_empty(), call)(*args, **kwargs)


def refuse_bad_limits(call: str, *args: Any) -> None:
    """The same for one that configures."""
    with Limiter(":memory:") as scratch:
        getattr(scratch, call)(*args)


def not_configured(call: str, *args: Any, **kwargs: Any) -> NoReturn:
    """Raise what it raises where there is no limit."""
    getattr(_empty(), call)(*args, **kwargs)
    raise AssertionError(call)


def wrong_cost(key: str, cost: int, name: str, config: Config) -> NoReturn:
    """Raise what it raises for a cost above the burst of a limit."""
    _, rate, per_ns, burst = config
    numbers = (rate, per_ns, burst, ALGORITHMS[config.algorithm - 1])
    with Limiter(":memory:") as scratch:
        scratch._limit(key, False, *numbers, False, name or None, False)
        scratch.peek(key, cost)
    raise AssertionError(cost)
