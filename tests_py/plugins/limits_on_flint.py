"""A plug-in of pytest for the tests of limits and of what is built on it: what they store in
memory, Flint stores. In a directory where FLINT_PEER_DIRECTORY says so; by Python's clock, which
some of them move, where FLINT_PEER_CLOCK is set."""

import os
import tempfile
import time
from typing import Any

from limits import _storage_scheme

import flint.plugins.limits
from flint.testing import ManualClock


def new_place() -> str:
    directory = os.environ.get("FLINT_PEER_DIRECTORY")
    return "flint+memory://" if directory is None else f"flint://{tempfile.mkdtemp(dir=directory)}"


def stored(kind: Any) -> Any:
    class Stored(kind):  # type: ignore[misc]
        def __init__(self, _: str, **options: Any) -> None:
            self._clock = ManualClock(time.time()) if "FLINT_PEER_CLOCK" in os.environ else None
            clock = {} if self._clock is None else {"clock": self._clock}
            super().__init__(new_place(), **clock, **options)

        @property
        def limiter(self) -> Any:
            if self._clock is not None:
                self._clock.set(time.time())
            return self._limiter

        @limiter.setter
        def limiter(self, limiter: Any) -> None:
            self._limiter = limiter

    return Stored


_storage_scheme.SCHEMES["memory"] = stored(flint.plugins.limits.FlintStorage)
_storage_scheme.SCHEMES["async+memory"] = stored(flint.plugins.limits.AsyncFlintStorage)
