"""fluxlimit's algorithms: each makes one call of a back end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from flint.compat.fluxlimit._backends import BaseBackend


@dataclass(frozen=True)
class LimitResult:
    """A decision. Times are seconds from now."""

    allowed: bool
    remaining: int
    reset_after: float
    retry_after: float = 0.0


@dataclass(frozen=True)
class AlgorithmConfig:
    """What all configurations have: the name of what is limited."""

    key: str


@dataclass(frozen=True)
class TokenBucketConfig(AlgorithmConfig):
    """`rate` tokens a second flow into a bucket of `burst`."""

    rate: float = 10.0
    burst: int = 20


@dataclass(frozen=True)
class LeakyBucketConfig(AlgorithmConfig):
    """`rate` units a second leak out of a bucket of `capacity`."""

    rate: float = 10.0
    capacity: int = 100


@dataclass(frozen=True)
class FixedWindowConfig(AlgorithmConfig):
    """`max_requests` in each window, which begin at multiples of `window_seconds`."""

    max_requests: int = 100
    window_seconds: int = 60


@dataclass(frozen=True)
class SlidingWindowConfig(AlgorithmConfig):
    """`max_requests` in any `window_seconds`."""

    max_requests: int = 100
    window_seconds: int = 60


class BaseAlgorithm(ABC):
    """How a limit decides; `key_prefix` stands before each key that it counts under."""

    def __init__(self, key_prefix: str = "fluxlimit") -> None:
        self.key_prefix = key_prefix

    @abstractmethod
    async def check(
        self, backend: BaseBackend, identifier: str, config: AlgorithmConfig, cost: int = 1
    ) -> LimitResult:
        """Decide, and take `cost` units if they are there."""

    @abstractmethod
    def get_config_class(self) -> type[AlgorithmConfig]:
        """The class of its configurations."""

    def _make_key(self, identifier: str, config: AlgorithmConfig) -> str:
        return f"{self.key_prefix}:{config.key}:{identifier}"


def _result(answer: dict[str, Any]) -> LimitResult:
    return LimitResult(
        answer["allowed"],
        answer["remaining"],
        answer["reset_after"],
        answer.get("retry_after", 0.0),
    )


class TokenBucket(BaseAlgorithm):
    """A bucket that starts full."""

    def __init__(self, key_prefix: str = "fluxlimit:token_bucket") -> None:
        super().__init__(key_prefix)

    async def check(
        self, backend: BaseBackend, identifier: str, config: AlgorithmConfig, cost: int = 1
    ) -> LimitResult:
        numbers = cast("TokenBucketConfig", config)
        key = self._make_key(identifier, config)
        return _result(
            await backend.token_bucket_consume(
                key, numbers.rate, numbers.burst, cost, now=time.time()
            )
        )

    def get_config_class(self) -> type[AlgorithmConfig]:
        return TokenBucketConfig


class LeakyBucket(BaseAlgorithm):
    """A bucket that starts empty."""

    def __init__(self, key_prefix: str = "fluxlimit:leaky_bucket") -> None:
        super().__init__(key_prefix)

    async def check(
        self, backend: BaseBackend, identifier: str, config: AlgorithmConfig, cost: int = 1
    ) -> LimitResult:
        numbers = cast("LeakyBucketConfig", config)
        key = self._make_key(identifier, config)
        return _result(
            await backend.leaky_bucket_request(
                key, numbers.rate, numbers.capacity, cost, now=time.time()
            )
        )

    def get_config_class(self) -> type[AlgorithmConfig]:
        return LeakyBucketConfig


class FixedWindow(BaseAlgorithm):
    """A counter for each window."""

    def __init__(self, key_prefix: str = "fluxlimit:fixed_window") -> None:
        super().__init__(key_prefix)

    async def check(
        self, backend: BaseBackend, identifier: str, config: AlgorithmConfig, cost: int = 1
    ) -> LimitResult:
        numbers = cast("FixedWindowConfig", config)
        now = time.time()
        start = int(now // numbers.window_seconds) * numbers.window_seconds
        key = f"{self._make_key(identifier, config)}:{start}"
        return _result(
            await backend.fixed_window_increment(
                key, numbers.max_requests, numbers.window_seconds, cost, now=now
            )
        )

    def get_config_class(self) -> type[AlgorithmConfig]:
        return FixedWindowConfig


class SlidingWindow(BaseAlgorithm):
    """The time of each unit."""

    def __init__(self, key_prefix: str = "fluxlimit:sliding_window") -> None:
        super().__init__(key_prefix)

    async def check(
        self, backend: BaseBackend, identifier: str, config: AlgorithmConfig, cost: int = 1
    ) -> LimitResult:
        numbers = cast("SlidingWindowConfig", config)
        key = self._make_key(identifier, config)
        return _result(
            await backend.sliding_window_check(
                key, numbers.max_requests, numbers.window_seconds, cost, now=time.time()
            )
        )

    def get_config_class(self) -> type[AlgorithmConfig]:
        return SlidingWindowConfig
