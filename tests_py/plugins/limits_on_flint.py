"""A plug-in of pytest for the tests of limits: what they store in memory, Flint stores. In a
directory where FLINT_PEER_DIRECTORY says so."""

import os
import tempfile
from typing import Any

from limits import _storage_scheme

import flint.plugins.limits


def new_place() -> str:
    directory = os.environ.get("FLINT_PEER_DIRECTORY")
    return "flint+memory://" if directory is None else f"flint://{tempfile.mkdtemp(dir=directory)}"


def stored(kind: Any) -> Any:
    class Stored(kind):  # type: ignore[misc]
        def __init__(self, _: str, **options: Any) -> None:
            super().__init__(new_place(), **options)

    return Stored


_storage_scheme.SCHEMES["memory"] = stored(flint.plugins.limits.FlintStorage)
_storage_scheme.SCHEMES["async+memory"] = stored(flint.plugins.limits.AsyncFlintStorage)
