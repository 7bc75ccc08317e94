"""The wrapper that `Limiter.rate_limit` puts around a function."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from flint._surface.rate import is_rate_like
from flint.errors import FlintWarning, RateLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, SupportsIndex, TypeVar

    from flint._native import Result
    from flint._surface.aio import AsyncSurface
    from flint._surface.arguments import Duration
    from flint._surface.rate import RateLike
    from flint._surface.types import Algorithm

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")

# Covered by no template but "*" and its like, which would cover every other key as well.
_PROBE = "\0rate_limit"


class RateLimit:
    """The limit of one decorator: the key, and how to check it."""

    def __init__(
        self,
        limiter: AsyncSurface,
        key: str | Callable[..., str],
        rate: SupportsIndex | RateLike,
        per: Duration | None,
        algorithm: Algorithm,
        cost: SupportsIndex,
        burst: SupportsIndex | None,
        if_absent: bool,
    ) -> None:
        self._limiter = limiter
        self._key = key
        self._cost = cost
        values: dict[str, Any] = {"rate": rate, "per": per, "burst": burst, "algorithm": algorithm}
        if is_rate_like(rate) and per is None:
            values = {"limit": limiter._read_words(rate, algorithm, burst)}
        # A bad value, of the cost too, is found before anything changes, and not at a first call.
        limiter.peek(_PROBE, cost, **values)
        # Keys that are made at each call may be without number: their limits go with the checks
        # and are forgotten when fresh.
        self._config = values if callable(key) else {}
        if not callable(key):
            before = limiter._declared.get(key)
            limiter.limit(
                key,
                rate,
                per=per,
                algorithm=algorithm,
                burst=burst,
                template=False,
                if_absent=if_absent,
            )
            limiter.peek(key, cost)  # what if_absent left may have another burst
            now = limiter._declared.get(key)
            if before != now and before is not None:
                warnings.warn(
                    f"rate_limit has set the limit of {key!r} to {now}; elsewhere this program "
                    f"had set it to {before}. What was set last holds",
                    FlintWarning,
                    stacklevel=3,
                )

    def _key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The key of one call of the function."""
        return self._key(*args, **kwargs) if callable(self._key) else self._key

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise RateLimitExceeded unless the call is admitted."""
        require(self._limiter.check(self._key_of(args, kwargs), self._cost, **self._config))

    async def acheck(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The same, without blocking the event loop."""
        key = self._key_of(args, kwargs)
        require(await self._limiter.acheck(key, self._cost, **self._config))


def require(result: Result) -> None:
    """Raise RateLimitExceeded for a denial."""
    if not result:
        raise RateLimitExceeded(
            result.key,
            result.cost,
            result.remaining,
            result.reset_at,
            result.algorithm,
            result.retry_after,
        )


class Limit(Protocol):
    """What stands before a call: it raises what keeps the function from being called."""

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...
    async def acheck(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...


def decorate(
    limit: Limit, function: Callable[Parameters, Returned]
) -> Callable[Parameters, Returned]:
    """The function behind its limit."""
    import inspect  # slow to load, and needed only here

    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(decorate(limit, function.__func__))
    if not callable(function):
        raise TypeError(f"rate_limit decorates functions and other callables, not {function!r}")
    if inspect.isasyncgenfunction(function):
        return _decorate_async_generator_function(limit, function)
    if inspect.iscoroutinefunction(function):
        return _decorate_coroutine_function(limit, function)

    @functools.wraps(function)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        limit.check(args, kwargs)
        return function(*args, **kwargs)

    return wrapper


def _decorate_coroutine_function(
    limit: Limit, function: Callable[Parameters, Any]
) -> Callable[Parameters, Any]:
    @functools.wraps(function)
    async def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        await limit.acheck(args, kwargs)
        return await function(*args, **kwargs)

    return wrapper


def _decorate_async_generator_function(
    limit: Limit, function: Callable[Parameters, Any]
) -> Callable[Parameters, Any]:
    @functools.wraps(function)
    async def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        await limit.acheck(args, kwargs)
        generator = function(*args, **kwargs)
        try:
            item = await anext(generator)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:
                    item = await generator.athrow(error)
                else:
                    item = await generator.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await generator.aclose()

    return wrapper
