"""PyrateLimiter on Flint: `from flint.compat.pyrate_limiter import Duration, Limiter, Rate`.

>>> from flint.compat.pyrate_limiter import Duration, Limiter, Rate
>>> limiter = Limiter(Rate(2, Duration.MINUTE), limiter=":memory:")
>>> [limiter.try_acquire("alice", blocking=False) for _ in range(3)]
[True, True, False]

All names are PyrateLimiter's own but for `Limiter`, which has a Rate, or a list of them, counted by
a `flint.plugins.pyrate_limiter.FlintBucket`: in `limiter`, an open one or where `flint.connect`
opens one; without it, that is FLINT_URL or FLINT_DATA_DIR, else the directory .flint. `key` names
what is limited: Limiters with the same rates and the same key share what they count, so each that
is to count by itself needs its own. As PyrateLimiter has it, the names of items share one bucket. A
bucket or a factory is taken as it is. The docstring of `flint.plugins.pyrate_limiter` says what
differs from PyrateLimiter's buckets.

The extra `flint-limiter[pyrate-limiter]` brings PyrateLimiter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import pyrate_limiter
    from pyrate_limiter import *  # noqa: F403
    from pyrate_limiter import Rate
except ImportError:
    raise ImportError(
        "flint.compat.pyrate_limiter needs PyrateLimiter: "
        'pip install "flint-limiter[pyrate-limiter]"'
    ) from None

from flint.compat._place import Place
from flint.plugins.pyrate_limiter import FlintBucket

if TYPE_CHECKING:
    from flint.compat._place import Where

__all__ = [*pyrate_limiter.__all__]


class Limiter(pyrate_limiter.Limiter):  # type: ignore[no-redef]
    """PyrateLimiter's, whose rates Flint counts. `options` are those of `flint.connect`, where
    `limiter` is a path or URL."""

    def __init__(
        self,
        argument: Any,
        buffer_ms: int = 50,
        *,
        limiter: Where | None = None,
        key: str = "pyrate",
        **options: Any,
    ) -> None:
        rates = [argument] if isinstance(argument, Rate) else argument
        if isinstance(rates, list):
            argument = FlintBucket(rates, Place(limiter, **options).limiter(), key)
        elif limiter is not None or options:
            raise TypeError("a bucket or a factory counts where it is; give rates with limiter=")
        super().__init__(argument, buffer_ms)
