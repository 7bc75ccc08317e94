"""fluxlimit's back ends: all of them are Flint."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from flint._places import connect, shared_options
from flint._surface.fraction import meant
from flint._surface.rate import Rate
from flint.compat.fluxlimit._errors import BackendError, ConfigurationError
from flint.errors import FlintError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._surface.protocol import AnyLimiter
    from flint._surface.types import Algorithm

_NS = 1_000_000_000


class BaseBackend(ABC):
    """What a back end offers; one of a program's own derives from it. Each of the last four takes
    `cost` units if they are there and returns `allowed`, `remaining`, `reset_after` and
    `retry_after`, in seconds."""

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def health_check(self) -> bool: ...

    @abstractmethod
    async def token_bucket_consume(
        self, key: str, rate: float, burst: int, cost: int, now: float
    ) -> dict[str, Any]: ...

    @abstractmethod
    async def leaky_bucket_request(
        self, key: str, rate: float, capacity: int, cost: int, now: float
    ) -> dict[str, Any]: ...

    @abstractmethod
    async def fixed_window_increment(
        self, key: str, max_requests: int, window_seconds: int, cost: int, now: float
    ) -> dict[str, Any]: ...

    @abstractmethod
    async def sliding_window_check(
        self, key: str, max_requests: int, window_seconds: int, cost: int, now: float
    ) -> dict[str, Any]: ...


def _per_second(rate: float, burst: int, algorithm: Algorithm) -> Rate:
    """A rate of so many a second."""
    simple = meant(rate)
    if simple <= 0:
        raise ConfigurationError(f"rate must be at least 1e-9 a second, and is {rate}")
    return _limit(simple.numerator, simple.denominator * _NS, burst, algorithm)


def _limit(rate: int, per_ns: int, burst: int | None, algorithm: Algorithm) -> Rate:
    try:
        return Rate(rate, per_ns, burst, algorithm)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


class FlintBackend(BaseBackend):
    """Counts in a limiter: an open one, or the one that `flint.connect` opens at a URL or path,
    with options, when it is connected; that one is closed again by `disconnect`. A directory is
    shared by the processes of the machine, unless the options say otherwise. The clock is the
    limiter's, whatever `now` says."""

    def __init__(self, limiter: AnyLimiter | str = ":memory:", **options: Any) -> None:
        given = limiter if not isinstance(limiter, str) else None
        self._given: AnyLimiter | None = given
        self._limiter: AnyLimiter | None = given
        self._open: Callable[[], AnyLimiter] = lambda: connect(
            str(limiter), **shared_options(str(limiter), **options)
        )

    async def connect(self) -> None:
        if self._limiter is None:
            try:
                self._limiter = self._open()
            except FlintError as error:
                raise BackendError(str(error)) from error

    async def disconnect(self) -> None:
        if self._given is None and self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            await limiter.aclose()

    async def health_check(self) -> bool:
        try:
            await self._connected().astatus("fluxlimit")
        except (BackendError, FlintError, OSError):
            return False
        return True

    async def token_bucket_consume(
        self, key: str, rate: float, burst: int, cost: int, now: float
    ) -> dict[str, Any]:
        del now
        return await self._decide(key, _per_second(rate, burst, "token_bucket"), cost)

    async def leaky_bucket_request(
        self, key: str, rate: float, capacity: int, cost: int, now: float
    ) -> dict[str, Any]:
        del now
        return await self._decide(key, _per_second(rate, capacity, "leaky_bucket"), cost)

    async def fixed_window_increment(
        self, key: str, max_requests: int, window_seconds: int, cost: int, now: float
    ) -> dict[str, Any]:
        """The key names the window, so its end is that of the clock and not of the counter."""
        limit = _limit(max_requests, window_seconds * _NS, None, "fixed_window_counter")
        answer = await self._decide(key, limit, cost)
        answer["reset_after"] = window_seconds - now % window_seconds
        if 0 < answer["retry_after"] < math.inf:
            answer["retry_after"] = answer["reset_after"]
        return answer

    async def sliding_window_check(
        self, key: str, max_requests: int, window_seconds: int, cost: int, now: float
    ) -> dict[str, Any]:
        del now
        limit = _limit(max_requests, window_seconds * _NS, None, "sliding_window_log")
        return await self._decide(key, limit, cost)

    def _connected(self) -> AnyLimiter:
        if self._limiter is None:
            raise BackendError("the back end is not connected: call connect() first")
        return self._limiter

    async def _decide(self, key: str, limit: Rate, cost: int) -> dict[str, Any]:
        if cost < 0:
            raise ValueError(f"cost must not be negative, and is {cost}")
        limiter, burst = self._connected(), limit.burst or limit.rate
        counted = 1 <= cost <= burst
        try:
            ask = limiter.acheck if counted else limiter.apeek
            found = await ask(key, cost if counted else 1, limit=limit)
        except FlintError as error:
            raise BackendError(str(error)) from error
        allowed = found.allowed if counted else cost == 0
        retry_after = found.retry_after_ns / _NS if counted else math.inf
        return {
            "allowed": allowed,
            "remaining": found.remaining if allowed else 0,
            "reset_after": found.reset_after_ns / _NS,
            "retry_after": 0.0 if allowed else retry_after,
        }


class MemoryBackend(FlintBackend):
    """Counts in memory, from the first use until it is disconnected."""

    def __init__(self) -> None:
        super().__init__(":memory:")

    def _connected(self) -> AnyLimiter:
        if self._limiter is None:  # fluxlimit's need not be connected
            self._limiter = self._open()
        return self._limiter


class RedisBackend(FlintBackend):
    """Counts in Redis, under the namespace `flint`."""

    def __init__(self, redis_url: str = "redis://localhost:6379", redis_client: Any = None) -> None:
        if redis_client is not None:
            raise BackendError("redis_client is not taken here: give flint.RedisLimiter(client)")
        super().__init__(redis_url)


class PostgresBackend(FlintBackend):
    """Counts in PostgreSQL, in the schema that `flint pg install` makes."""

    def __init__(self, dsn: str = "postgresql://localhost/fluxlimit", pool: Any = None) -> None:
        if pool is not None:
            raise BackendError("pool is not taken here: give flint.PostgresLimiter(pool) instead")
        super().__init__(dsn)
