"""A plug-in of pytest for the tests of throttled-py: what they store in memory, Flint stores. In a
directory where FLINT_PEER_DIRECTORY says so."""

import os
import tempfile

import throttled
import throttled.asyncio

import flint.plugins.throttled


def new_place() -> str:
    directory = os.environ.get("FLINT_PEER_DIRECTORY")
    return ":memory:" if directory is None else tempfile.mkdtemp(dir=directory)


class Store(flint.plugins.throttled.FlintStore):
    def __init__(self) -> None:
        super().__init__(new_place())


class AsyncStore(flint.plugins.throttled.AsyncFlintStore):
    def __init__(self) -> None:
        super().__init__(new_place())


throttled.MemoryStore = Store
throttled.asyncio.MemoryStore = AsyncStore
