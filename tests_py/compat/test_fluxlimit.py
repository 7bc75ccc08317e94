"""fluxlimit's surface on Flint, beside what its own tests look at."""

from __future__ import annotations

import asyncio
import doctest
import math
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from in_redis.redis_server import PATIENCE_S, server
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import flint.compat.fluxlimit as fluxlimit
from flint.compat.fluxlimit import (
    BackendError,
    ConfigurationError,
    FixedWindow,
    FixedWindowConfig,
    FlintBackend,
    LeakyBucket,
    LeakyBucketConfig,
    LimitRule,
    MemoryBackend,
    RateLimiter,
    RateLimitExceeded,
    SlidingWindow,
    SlidingWindowConfig,
    TokenBucket,
    TokenBucketConfig,
)
from flint.redis import RedisLimiter

DAY_S = 86_400
RULES = {
    "token": LimitRule("token", TokenBucket(), TokenBucketConfig("token", 3 / DAY_S, 3)),
    "leaky": LimitRule("leaky", LeakyBucket(), LeakyBucketConfig("leaky", 3 / DAY_S, 3)),
    "fixed": LimitRule("fixed", FixedWindow(), FixedWindowConfig("fixed", 3, 365 * DAY_S)),
    "sliding": LimitRule("sliding", SlidingWindow(), SlidingWindowConfig("sliding", 3, DAY_S)),
}


def limiter_of(backend: Any = None, default: str | None = None) -> RateLimiter:
    limiter = RateLimiter(backend, RULES[default] if default else None)
    for name, rule in RULES.items():
        limiter.add_rule(name, rule)
    return limiter


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(fluxlimit).failed == 0


@pytest.mark.parametrize("name", RULES)
def test_every_algorithm(name: str) -> None:
    async def use() -> None:
        async with limiter_of() as limiter:
            first = await limiter.check("alice", name, 2)
            assert (first.allowed, first.remaining, first.retry_after) == (True, 1, 0.0)
            assert first.reset_after > 0
            denied = await limiter.check("alice", name, 2)
            assert (denied.allowed, denied.remaining) == (False, 0)
            assert 0 < denied.retry_after <= 366 * DAY_S
            nothing = await limiter.check("alice", name, 0)
            assert (nothing.allowed, nothing.remaining) == (True, 1)
            never = await limiter.check("alice", name, 4)
            assert (never.allowed, never.retry_after) == (False, math.inf)
            assert (await limiter.check("alice", name)).allowed
            assert (await limiter.check("bob", name, 3)).allowed

    run(use())


def test_a_fixed_window_ends_with_the_clock() -> None:
    async def use() -> None:
        backend = MemoryBackend()
        answer = await backend.fixed_window_increment("key", 1, 60, 1, now=1_000_000_030.5)
        assert answer["reset_after"] == 60 - 1_000_000_030.5 % 60
        denied = await backend.fixed_window_increment("key", 1, 60, 1, now=1_000_000_031.5)
        assert denied["retry_after"] == denied["reset_after"] == 60 - 1_000_000_031.5 % 60

    run(use())


def test_a_directory_outlives_the_limiter(tmp_path: Path) -> None:
    async def take(cost: int) -> bool:
        async with limiter_of(FlintBackend(str(tmp_path))) as limiter:
            assert await limiter.backend.health_check()
            return (await limiter.check("alice", "token", cost)).allowed

    assert run(take(3))
    assert not run(take(1))


def test_what_cannot_be() -> None:
    async def use() -> None:
        limiter = limiter_of()
        with pytest.raises(ConfigurationError, match="RateLimiter not connected"):
            await limiter.check("alice", "token")
        await limiter.connect()
        with pytest.raises(ConfigurationError, match="Rule 'other' not found"):
            await limiter.check("alice", "other")
        with pytest.raises(ConfigurationError, match="No rate limit rule configured"):
            await limiter.check("alice")
        with pytest.raises(ValueError, match="cost must not be negative"):
            await limiter.check("alice", "token", -1)
        for wrong in (TokenBucketConfig("k", 0, 1), TokenBucketConfig("k", 1.0, 0)):
            limiter.add_rule("wrong", LimitRule("wrong", TokenBucket(), wrong))
            with pytest.raises(ConfigurationError):
                await limiter.check("alice", "wrong")
        assert await limiter.check_multiple("alice", ["wrong", "token"]) == {
            "wrong": None,
            "token": fluxlimit.LimitResult(True, 2, pytest.approx(DAY_S / 3, abs=1)),
        }
        backend = FlintBackend(":memory:")
        assert not await backend.health_check()
        with pytest.raises(BackendError, match="not connected"):
            await backend.sliding_window_check("k", 1, 1, 1, 0.0)

    run(use())


def test_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RedisLimiter.__init__.__kwdefaults__, "timeout", PATIENCE_S)

    async def take(cost: int) -> bool:
        backend = fluxlimit.RedisBackend(server().url)
        async with limiter_of(backend) as limiter:
            return (await limiter.check("alice", "token", cost)).allowed

    assert run(take(3))
    assert not run(take(1))


def test_a_place_that_there_is_not() -> None:
    with pytest.raises(BackendError, match="no limiter for memcached"):
        run(FlintBackend("memcached://somewhere").connect())
    with pytest.raises(BackendError, match="redis_client is not taken here"):
        fluxlimit.RedisBackend(redis_client=object())
    with pytest.raises(BackendError, match="pool is not taken here"):
        fluxlimit.PostgresBackend(pool=object())


def test_a_denial_is_raised_with_its_rule() -> None:
    async def use() -> None:
        async with limiter_of(default="token") as limiter:
            await limiter.check_or_raise("alice", cost=3)
            with pytest.raises(RateLimitExceeded) as caught:
                await limiter.check_or_raise("alice")
            assert (caught.value.key, caught.value.limit) == ("alice", "token")
            assert str(caught.value).startswith(
                "Rate limit exceeded for key 'alice' (limit: token). Retry after 28"
            )

    run(use())


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        fluxlimit.Other  # noqa: B018
    assert all(hasattr(fluxlimit, name) for name in fluxlimit.__all__)


def test_asgi() -> None:
    import httpx

    limiter = limiter_of(default="token")

    @fluxlimit.rate_limit(limiter, "sliding", cost=3)
    async def strict(request: Request) -> Response:
        return PlainTextResponse(request.url.path)

    app: Any = Starlette(routes=[Route("/strict", strict), Route("/plain", strict)])
    app.add_middleware(
        fluxlimit.RateLimitMiddleware, limiter=limiter, skip_paths=["/strict"], auto_connect=True
    )

    async def use() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            plain = await client.get("/plain")
            assert (plain.status_code, plain.headers["X-RateLimit-Limit"]) == (200, "3")
            assert plain.headers["X-RateLimit-Remaining"] == "2"
            strict = await client.get("/strict")
            assert strict.status_code == 429
            assert strict.json()["limit"] == "sliding"
            assert 1 <= int(strict.headers["Retry-After"]) <= DAY_S + 1
            assert "X-RateLimit-Limit" not in strict.headers

    run(use())


def test_the_decorator_needs_a_request() -> None:
    @fluxlimit.rate_limit(limiter_of(default="token"))
    async def endpoint() -> None: ...

    with pytest.raises(RuntimeError, match="Could not find Request object"):
        run(endpoint())


def test_flask() -> None:
    with pytest.raises(RuntimeError, match="RateLimiter instance is required"):
        fluxlimit.Fluxlimit(Flask("without"))
    app = Flask("app")
    extension = fluxlimit.init_fluxlimit(app, limiter_of(default="token"))
    assert app.extensions["fluxlimit"] is extension

    @app.get("/")
    def home() -> str:
        return "hello"

    @app.get("/all")
    @extension.limit("fixed", cost=4, key_func=lambda: "everybody")
    def everything() -> str:
        return "never"

    client = app.test_client()
    answers = [client.get("/") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers.get("X-RateLimit-Remaining") for answer in answers][:3] == [
        *("2", "1", "0"),
    ]
    assert "Retry-After" in answers[3].headers
    never = client.get("/all")
    assert (never.status_code, never.json["retry_after"]) == (429, None)
    assert "Retry-After" not in never.headers


def test_metrics() -> None:
    registry = CollectorRegistry()
    metrics = fluxlimit.RateLimitMetrics("mine", registry)
    metrics.record_check("api", "alice", True, 0.001, remaining=7)
    metrics.record_check("api", "bob", False, 0.001)
    page = generate_latest(registry).decode()
    assert 'mine_requests_total{result="allowed",rule="api"} 1.0' in page
    assert 'mine_requests_total{result="denied",rule="api"} 1.0' in page
    assert 'mine_remaining{rule="api"} 7.0' in page
    assert "alice" not in page


@pytest.mark.parametrize(
    ("rate", "units", "per_s"),
    [(3 / 86_400, 1, 28_800), (0.1, 1, 10), (2 / 3, 2, 3), (100, 100, 1), (1e-9, 1, 10**9)],
)
def test_a_rate_is_the_fraction_that_was_meant(rate: float, units: int, per_s: int) -> None:
    from flint.compat.fluxlimit._backends import _per_second
    from flint.rates import Rate

    assert _per_second(rate, 1, "token_bucket") == Rate(units, per_s * 10**9, 1)
