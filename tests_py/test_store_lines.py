"""Waiting in line for limits in PostgreSQL and Redis, which other processes wait for too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_redis import redis_server
from postgres import database

import flint
from flint._stores.lines import StoreLines
from flint._surface.line import Pause
from flint.postgres import PostgresLimiter

S = 10**9


class Asleep:
    def wake(self) -> bool:
        return True


def denial(retry_after_ns: int) -> flint.Result:
    return flint.Result("a", False, 1, 1, 0, 0, 0, retry_after_ns, "gcra")


def slept_s(
    retry_after_s: float, draw: Callable[[int], int], timeout_s: float | None = None
) -> float:
    lines = StoreLines(draw)
    asked = denial(int(retry_after_s * S))
    waiter = lines.stand(asked, timeout_s, None, Asleep())
    move = lines.move(waiter, asked)
    assert isinstance(move, Pause)
    assert move.seconds is not None
    return move.seconds


def least(_: int) -> int:
    return 0


def most(end: int) -> int:
    return end - 1


@pytest.mark.parametrize(
    ("retry_after_s", "latest_s"),
    [(1e-9, 1e-9), (0.01, 0.011), (0.1, 0.11), (0.2, 0.22), (1, 1.02), (9, 9.02), (60, 10)],
)
def test_who_waits_asks_again_a_little_later_and_never_earlier(
    retry_after_s: float, latest_s: float
) -> None:
    assert slept_s(retry_after_s, least) == min(retry_after_s, 10)
    assert slept_s(retry_after_s, most) == pytest.approx(latest_s)


def test_nobody_sleeps_longer_than_it_has_left() -> None:
    # A moment of the second is over when it is asked how much is left.
    assert 1 <= slept_s(1, most, timeout_s=1.01) <= 1.01
    assert slept_s(1, most, timeout_s=5) == pytest.approx(1.02)


def test_by_default_each_draws_another_time() -> None:
    lines = StoreLines()
    asked = denial(S)
    waiter = lines.stand(asked, None, None, Asleep())
    seen = {lines.move(waiter, asked) for _ in range(20)}
    assert len(seen) > 10


@contextlib.contextmanager
def in_postgres() -> Iterator[Any]:
    base = database.database()
    with PostgresLimiter(base.dsn, schema=base.new_schema(), timeout=60) as limiter:
        yield limiter


@contextlib.contextmanager
def in_redis() -> Iterator[Any]:
    namespace = redis_server.new_namespace()
    with redis_server.limiter_of(redis_server.server(), namespace=namespace) as limiter:
        yield limiter


@pytest.mark.parametrize("place", [in_postgres, in_redis])
@pytest.mark.parametrize("is_plain", [True, False])
def test_who_waits_does_not_poll(
    place: Callable[[], contextlib.AbstractContextManager[Any]],
    is_plain: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with place() as limiter:
        assert isinstance(limiter._lines, StoreLines)
        limiter.limit("a", 1, per="700ms")
        assert limiter.allow("a")
        asked = []
        for name in ("_exchange", "_exchange_in_loop"):
            send = getattr(limiter, name)
            monkeypatch.setattr(
                limiter, name, lambda one, send=send: asked.append(one) or send(one)
            )
        if is_plain:
            assert limiter.acquire("a", timeout=60)
        else:
            assert asyncio.run(limiter.aacquire("a", timeout=60))
        # A look to stand in line, one to see for how long to sleep, and one behind that; the check.
        assert len(asked) <= 4
