"""A plug-in of pytest for the tests of PyrateLimiter: what they count in memory, Flint counts."""

from typing import Any

import pyrate_limiter

import flint.plugins.pyrate_limiter


class Bucket(flint.plugins.pyrate_limiter.FlintBucket):
    def __init__(self, rates: list[Any]) -> None:
        super().__init__(rates, ":memory:")


pyrate_limiter.InMemoryBucket = Bucket
