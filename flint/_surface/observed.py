"""A limiter whose own checks are observed."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

from flint._surface.arguments import refusal
from flint._surface.decisions import SomeLimiter, observe, result_of
from flint._surface.surface import Surface
from flint.errors import FlintError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from flint._surface.protocol import AnyLimiter


def observed(limiter: SomeLimiter, policy: str) -> SomeLimiter:
    """The same limiter, but what is checked through the returned one is counted, with how long it
    took, under the name `policy`.

    Counted are `check`, `allow`, `check_all`, `allow_all`, their coroutines, and the functions that
    `rate_limit` decorates: one decision for each call, "allowed" or "denied", "error_allowed" or
    "error_denied" where the limiter's `on_error` has answered, and "error_raised". So are `acquire`
    and `aacquire`, but not how long they waited. Skins of web frameworks count by themselves, under
    their policies' names: give them the limiter itself. Any thread may use what is returned.

    Raises TypeError for a policy that is no str, and ValueError for one that is not 1 to 255
    characters that can be printed.
    """
    if not isinstance(policy, str):
        raise TypeError(refusal("policy", "a str", policy))
    if not policy or not policy.isprintable() or len(policy) > 255:
        raise ValueError(refusal("policy", "1 to 255 characters that can be printed", policy))
    return cast("SomeLimiter", _Observed(limiter, policy))


class _Observed:
    def __init__(self, limiter: AnyLimiter, policy: str) -> None:
        self._limiter = limiter
        self._policy = policy
        self._numbers = observe(limiter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._limiter, name)

    def __reduce__(self) -> Any:
        return self._limiter.__reduce__()  # which says why not

    def __repr__(self) -> str:
        return f"<{self._limiter!r} observed as {self._policy!r}>"

    def __enter__(self) -> Self:
        self._limiter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        cast("Any", self._limiter).__exit__(*error)

    async def __aenter__(self) -> Self:
        await self._limiter.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await cast("Any", self._limiter).__aexit__(*error)

    def check(self, *args: Any, **options: Any) -> Any:
        return self._call(self._limiter.check, args, options)

    def allow(self, *args: Any, **options: Any) -> Any:
        return self.check(*args, **options).allowed

    def check_all(self, *args: Any, **options: Any) -> Any:
        return self._call(self._limiter.check_all, args, options)

    def allow_all(self, *args: Any, **options: Any) -> Any:
        return self.check_all(*args, **options)["allowed"]

    async def acheck(self, *args: Any, **options: Any) -> Any:
        return await self._await(self._limiter.acheck, args, options)

    async def aallow(self, *args: Any, **options: Any) -> Any:
        return (await self.acheck(*args, **options)).allowed

    async def acheck_all(self, *args: Any, **options: Any) -> Any:
        return await self._await(self._limiter.acheck_all, args, options)

    async def aallow_all(self, *args: Any, **options: Any) -> Any:
        return (await self.acheck_all(*args, **options))["allowed"]

    def acquire(self, *args: Any, **options: Any) -> Any:
        return self._call(self._limiter.acquire, args, options, timed=False)

    async def aacquire(self, *args: Any, **options: Any) -> Any:
        return await self._await(self._limiter.aacquire, args, options, timed=False)

    def rate_limit(self, *args: Any, **options: Any) -> Any:
        return Surface.rate_limit(cast("Any", self), *args, **options)

    def _call(self, call: Callable[..., Any], args: Any, options: Any, timed: bool = True) -> Any:
        begun_ns = perf_counter_ns() if timed else None
        try:
            answer = call(*args, **options)
        except FlintError:
            self._count("error_raised", begun_ns)
            raise
        self._count(_result(answer), begun_ns)
        return answer

    async def _await(
        self, call: Callable[..., Awaitable[Any]], args: Any, options: Any, timed: bool = True
    ) -> Any:
        begun_ns = perf_counter_ns() if timed else None
        try:
            answer = await call(*args, **options)
        except FlintError:
            self._count("error_raised", begun_ns)
            raise
        self._count(_result(answer), begun_ns)
        return answer

    def _count(self, result: str, begun_ns: int | None) -> None:
        took_ns = None if begun_ns is None else perf_counter_ns() - begun_ns
        self._numbers.add(self._policy, result, took_ns)


def _result(answer: Any) -> str:
    if isinstance(answer, dict):  # of check_all, which raises what it cannot decide
        return result_of(answer["allowed"], False)
    return result_of(answer.allowed, answer.undecided)
