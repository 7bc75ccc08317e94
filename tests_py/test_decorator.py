"""`Limiter.rate_limit`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flint
from flint import Limiter, RateLimitExceeded
from flint.testing import ManualClock


def test_functions(limiter: Limiter, clock: ManualClock) -> None:
    calls = []

    @limiter.rate_limit("add", rate=2, per="1m", algorithm="fixed_window_counter")
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        calls.append((a, b))
        return a + b

    assert (add(1), add(1, b=5)) == (2, 6)
    with pytest.raises(RateLimitExceeded, match=r"^rate limit exceeded for add: ") as caught:
        add(3)
    assert calls == [(1, 1), (1, 5)]
    error = caught.value
    assert isinstance(error, flint.FlintError)
    assert (error.key, error.cost, error.remaining) == ("add", 1, 0)
    assert error.algorithm == "fixed_window_counter"
    assert error.reset_at == "2023-11-14T22:14:20+00:00"
    assert error.retry_after == 60.0
    assert "retry after 60 s" in str(error)
    clock.advance(60)
    assert add(0) == 1


def test_the_function_keeps_its_face(limiter: Limiter) -> None:
    def add(a: int, b: int = 1, *rest: str, flag: bool = False, **more: Any) -> int:
        """Adds."""
        return a + b + len(rest) + flag + len(more)

    wrapped = limiter.rate_limit("add", rate=2, per="1m")(add)
    assert inspect.signature(wrapped) == inspect.signature(add)
    assert (wrapped.__name__, wrapped.__doc__) == ("add", "Adds.")
    assert wrapped.__wrapped__ is add  # type: ignore[attr-defined]


def test_a_str_key_is_literal_and_left_alone_only_where_asked(limiter: Limiter) -> None:
    limiter.limit("mine", rate=1, per="1m")
    limiter.rate_limit("mine", rate=50, per="1h", if_absent=True)
    limiter.rate_limit("star*", rate=3, per="1m", burst=4, if_absent=True)
    shown = [(entry["key"], entry["template"], entry["burst"]) for entry in limiter.list()]
    assert shown == [("mine", False, 1), ("star*", False, 4)]


def test_the_next_deployment_changes_the_limit(data_dir: Path, clock: ManualClock) -> None:
    """What was used counts on; that this is no first opening is nothing to warn of."""

    def deploy(rate: int) -> list[int]:
        with Limiter(data_dir, clock=clock) as limiter:

            @limiter.rate_limit("job", rate=rate, per="1h")
            def job() -> int:
                return limiter.peek("job").remaining

            left = []
            with contextlib.suppress(RateLimitExceeded):
                for _ in range(3):
                    left.append(job())
            return left

    assert deploy(5) == [4, 3, 2]
    assert deploy(10) == [6, 5, 4]
    assert deploy(7) == [0]


def test_the_next_deployment_changes_the_limit_of_each_caller(
    data_dir: Path, clock: ManualClock
) -> None:
    """Of limits that checks carry with them, too, and what was used counts on."""

    def deploy(rate: int) -> tuple[list[int], int]:
        with Limiter(data_dir, clock=clock) as limiter:

            @limiter.rate_limit(lambda user: f"user:{user}", rate=rate, per="1h")
            def job(user: str) -> int:
                return limiter.peek(f"user:{user}").remaining

            left = []
            with contextlib.suppress(RateLimitExceeded):
                for _ in range(3):
                    left.append(job("ada"))
            by_text = limiter.check("text", limit=f"{rate}/hour").remaining
            return left, by_text

    assert deploy(5) == ([4, 3, 2], 4)
    assert deploy(10) == ([6, 5, 4], 8)
    assert deploy(7) == ([0], 4)
    with Limiter(data_dir, clock=clock) as limiter:
        changes = [e["config"] for e in limiter.history() if e["type"] == "LIMIT_CONFIGURED"]
        assert [(c["key"], c["rate"], c["inline"]) for c in changes] == [
            ("user:ada", 10, True),
            ("text", 10, True),
            ("user:ada", 7, True),
            ("text", 7, True),
        ]


def test_places_that_disagree_are_warned_of(limiter: Limiter) -> None:
    limiter.limit("a", rate=1, per="1m")
    with pytest.warns(flint.FlintWarning, match="'a' to 50 per 3600 s .*; elsewhere .* 1 per 60 s"):
        limiter.rate_limit("a", rate=50, per="1h")
    with pytest.warns(flint.FlintWarning, match="'a' to 50 per 3600 s, burst 60"):
        limiter.rate_limit("a", rate=50, per="1h", burst=60)
    limiter.rate_limit("a", rate=50, per="60m", burst=60)
    limiter.rate_limit("a", rate=7, per="1h", if_absent=True)
    limiter.remove("a")
    limiter.rate_limit("a", rate=7, per="1h")
    limiter.limit("a", rate=8, per="1h")  # a change that the program makes while it runs
    status = limiter.status("a")
    assert status is not None
    assert status["rate"] == 8


def test_one_decorator_for_two_functions(limiter: Limiter) -> None:
    guard = limiter.rate_limit("both", rate=2, per="1m")
    first, second = guard(lambda: 1), guard(lambda: 2)
    assert (first(), second()) == (1, 2)
    for function in (first, second):
        with pytest.raises(RateLimitExceeded):
            function()


def test_cost(limiter: Limiter) -> None:
    @limiter.rate_limit("heavy", rate=5, per="1m", cost=3)
    def heavy() -> None: ...

    heavy()
    with pytest.raises(RateLimitExceeded) as caught:
        heavy()
    assert (caught.value.cost, caught.value.remaining) == (3, 2)


def test_methods(limiter: Limiter) -> None:
    class Service:
        name = "service"

        @limiter.rate_limit("method", rate=1, per="1m")
        def method(self, x: int) -> tuple[str, int]:
            return self.name, x

        @classmethod
        @limiter.rate_limit("class", rate=1, per="1m")
        def of_class(cls) -> str:
            return cls.name

        @staticmethod
        @limiter.rate_limit("static", rate=1, per="1m")
        def static(x: int) -> int:
            return x

        @limiter.rate_limit(lambda self, x: f"{self.name}:{x}", rate=1, per="1m")
        def keyed(self, x: int) -> int:
            return x

        @limiter.rate_limit("above static", rate=1, per="1m")
        @staticmethod
        def above_static(x: int) -> int:
            return x

        @limiter.rate_limit(lambda cls, x: f"{cls.name}:{x}:above", rate=1, per="1m")
        @classmethod
        def above_class(cls, x: int) -> tuple[str, int]:
            return cls.name, x

    service = Service()
    assert (service.above_static(1), Service.above_class(2)) == (1, ("service", 2))
    assert service.method(1) == ("service", 1)
    assert Service.of_class() == "service"
    assert Service.static(7) == 7
    assert (service.keyed(1), service.keyed(x=2)) == (1, 2)
    for call in (
        lambda: service.method(2),
        lambda: service.of_class(),
        lambda: service.static(1),
        lambda: service.keyed(1),
        lambda: Service.above_static(1),
        lambda: service.above_class(2),
    ):
        with pytest.raises(RateLimitExceeded):
            call()


def test_callable_keys_are_literal_and_forgotten(limiter: Limiter, clock: ManualClock) -> None:
    @limiter.rate_limit(lambda user, **_: f"user:{user}", rate=1, per="1m", burst=2)
    def greet(user: str, *, loud: bool = False) -> str:
        return user.upper() if loud else user

    assert limiter.list() == []
    assert [greet("a"), greet("a", loud=True), greet("*")] == ["a", "A", "*"]
    with pytest.raises(RateLimitExceeded) as caught:
        greet("a")
    assert caught.value.key == "user:a"
    assert [entry["template"] for entry in limiter.list()] == [False, False]
    clock.advance(3_600)
    for number in range(100):
        greet(str(number))
    assert limiter.status("user:a") is None


def test_a_callable_key_must_return_a_key(limiter: Limiter) -> None:
    @limiter.rate_limit(lambda: 5, rate=1, per="1m")  # type: ignore[arg-type,return-value]
    def function() -> None: ...

    with pytest.raises(TypeError, match="key must be a str, not 5"):
        function()


def test_generator_functions_are_checked_when_called(limiter: Limiter) -> None:
    @limiter.rate_limit("generator", rate=1, per="1m")
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    numbers = count(3)
    assert limiter.peek("generator").remaining == 0
    assert list(numbers) == [0, 1, 2]
    with pytest.raises(RateLimitExceeded):
        count(3)


def test_coroutine_functions(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:

        @limiter.rate_limit(lambda name: f"user:{name}", rate=2, per="1h")
        async def greet(name: str) -> str:
            await asyncio.sleep(0)
            return name

        assert inspect.iscoroutinefunction(greet)

        async def main() -> list[Any]:
            calls = [greet("a") for _ in range(3)]
            assert limiter.list() == []  # not before they are awaited
            return await asyncio.gather(*calls, greet("b"), return_exceptions=True)

        answers = asyncio.run(main())
    assert answers.count("a") == 2
    assert answers.count("b") == 1
    assert [type(answer) for answer in answers].count(RateLimitExceeded) == 1


def test_callable_objects_and_partials(limiter: Limiter) -> None:
    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

    assert limiter.rate_limit("object", rate=1, per="1m")(Adder())(1) == 2
    assert limiter.rate_limit("partial", rate=1, per="1m")(functools.partial(max, 3))(2) == 3


def test_what_cannot_be_decorated(limiter: Limiter) -> None:
    guard = limiter.rate_limit("key", rate=1, per="1m")

    with pytest.raises(TypeError, match="rate_limit decorates functions"):
        guard(5)  # type: ignore[arg-type]


def test_the_exception_travels(limiter: Limiter) -> None:
    function = limiter.rate_limit("key", rate=1, per="1m")(lambda: None)
    function()
    with pytest.raises(RateLimitExceeded) as caught:
        function()
    assert vars(pickle.loads(pickle.dumps(caught.value))) == vars(caught.value)


def test_a_closed_limiter_lets_nothing_through(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        function = limiter.rate_limit("key", rate=9, per="1m")(lambda: 1)
        assert function() == 1
    with pytest.raises(flint.ClosedError):
        function()
