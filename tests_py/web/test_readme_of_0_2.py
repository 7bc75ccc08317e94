"""What the README of Flint 0.2 shows of its decorator, middleware and metrics runs unchanged.

The blocks are quoted from it; Flint 0.2 is BSD-3-Clause.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_calls import call, run, statuses

import flint
from flint.testing import ManualClock

DECORATOR = """
@limiter.rate_limit("email:send", rate=10, per="1m", cost=1)
def send_email():
    ...
"""

STATIC = """
from fastapi import FastAPI
import flint
from flint.fastapi import FlintRateLimitMiddleware

limiter = flint.Limiter(data_dir=".flint")
limiter.limit("route:/api", rate=100, per="1m")

app = FastAPI()
app.add_middleware(
    FlintRateLimitMiddleware,
    limiter=limiter,
    key="route:/api",
)
"""

DYNAMIC = """
app.add_middleware(
    FlintRateLimitMiddleware,
    limiter=limiter,
    key_func=lambda request: f"ip:{request.client.host}",
    rate=100,
    per="1m",
    exempt_paths={"/health", "/docs", "/openapi.json"},
)
"""

METRICS = """
import flint

limiter = flint.Limiter(data_dir=".flint")

metrics_text = flint.prometheus_metrics(limiter)
"""

ROUTE = """
from fastapi import FastAPI
import flint

limiter = flint.Limiter(data_dir=".flint")
app = FastAPI()

flint.add_prometheus_route(app, limiter, path="/metrics")
"""

WITHOUT_KEYS = """
metrics_text = flint.prometheus_metrics(
    limiter,
    include_key_label=False,
)

flint.add_prometheus_route(
    app,
    limiter,
    path="/metrics",
    include_key_label=False,
)
"""


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the blocks define."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"__name__": "readme"}
    yield found
    found["limiter"].close()


def test_the_decorator(names: dict[str, Any]) -> None:
    names["limiter"] = flint.Limiter(data_dir=".flint", clock=ManualClock(1_700_000_000))
    exec(DECORATOR, names)
    assert [names["send_email"]() for _ in range(10)] == [None] * 10
    with pytest.raises(flint.RateLimitExceeded):
        names["send_email"]()


def test_the_middleware(names: dict[str, Any]) -> None:
    exec(STATIC, names)
    exec(DYNAMIC, names)
    app, limiter = names["app"], names["limiter"]
    app.get("/health")(lambda: "ok")
    assert run(statuses(app, 2)) == [404] * 2
    # Of two middlewares the inner one's headers are left.
    assert run(call(app)).header("X-RateLimit-Remaining") == "97"
    assert run(statuses(app, 2, "/health")) == [200] * 2
    assert limiter.status("ip:203.0.113.7")["total_allowed"] == 3
    assert limiter.status("route:/api")["total_allowed"] == 5
    limiter.limit("route:/api", rate=1, per="1d")
    assert run(statuses(app, 2))[-1] == 429
    denied = run(call(app))
    assert denied.json == {"detail": "rate limit exceeded"}
    for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"):
        assert (denied.header(name) or "").isdigit()
    assert int(denied.header("Retry-After") or 0) > 0


def test_the_metrics(names: dict[str, Any]) -> None:
    exec(METRICS, names)
    assert "# TYPE flint_limit_info gauge" in names["metrics_text"]
    names["limiter"].close()
    exec(ROUTE, names)
    names["limiter"].limit("user:ann", rate=5, per="1m")
    page = run(call(names["app"], "/metrics"))
    assert page.header("content-type") == flint.CONTENT_TYPE
    line = b'flint_limit_rate{key="user:ann",algorithm="token_bucket"} 5\n'
    assert line in page.body
    names["app"].router.routes.pop()
    exec(WITHOUT_KEYS, names)
    assert (
        b'flint_limit_rate{algorithm="token_bucket"} 5\n'
        in run(call(names["app"], "/metrics")).body
    )
