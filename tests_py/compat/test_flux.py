"""flux's surface on Flint."""

from __future__ import annotations

import asyncio
import doctest
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django_settings  # noqa: F401
import pytest
from django.http import HttpRequest
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import flint
import flint.compat.flux as flux
from flint.compat.flux import (
    FluxConfig,
    RateLimitDefaults,
    RateLimiter,
    RateLimitExceeded,
    RateLimitPolicy,
    RateLimitResult,
)
from flint.compat.flux import _analytics as analytics
from flint.compat.flux import _command as command
from flint.compat.flux import _config as module_of_config
from flint.compat.flux import _limiter as module_of_limiter
from flint.testing import ManualClock

HOUR_S = 3600


@pytest.fixture(autouse=True)
def of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory and a configuration that no other test has."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLUX_CONFIG", "FLINT_URL", "FLINT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module_of_config, "_config", None)
    monkeypatch.setattr(analytics, "stats", flux.StatsProvider())
    yield
    monkeypatch.setattr(module_of_config, "_config", None)


def in_memory(**fields: Any) -> FluxConfig:
    """A configuration whose limiters count in memory, by a clock that stands still."""
    options = {"clock": ManualClock(1_700_000_000)}
    return FluxConfig(url=":memory:", **{"fail_silently": False, "options": options, **fields})


def use(config: FluxConfig) -> None:
    module_of_config._config = config


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(flux).failed == 0


def test_every_name_is_there() -> None:
    assert all(hasattr(flux, name) for name in flux.__all__)
    assert flux.RedisClient is None


# ---- Limiters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "reset_after", "retry_after"),
    [
        ("gcra", [4, 7, 10], 4.0),
        ("token_bucket", [4, 7, 10], 4.0),
        ("leaky_bucket", [4, 7, 10], 4.0),
        ("fixed_window", [10, 10, 10], 10.0),
    ],
)
def test_what_a_hit_answers(policy: str, reset_after: list[int], retry_after: float) -> None:
    clock = ManualClock(1_700_000_000)
    limiter = RateLimiter(3, 10, policy=policy, config=in_memory(options={"clock": clock}))
    found = [limiter.hit("alice") for _ in range(5)]
    assert [one.allowed for one in found] == [True, True, True, False, False]
    assert [one.remaining for one in found] == [2, 1, 0, 0, 0]
    assert [one.usage for one in found] == [1, 2, 3, 3, 3]
    assert [one.reset_after for one in found] == [*reset_after, 10, 10]
    assert [one.retry_after for one in found] == [0, 0, 0, retry_after, retry_after]
    assert {one.limit for one in found} == {3}
    assert limiter.hit("bob").allowed
    clock.advance(retry_after)
    assert limiter.hit("alice").allowed


def test_a_burst() -> None:
    limiter = RateLimiter(2, HOUR_S, burst=5, config=in_memory())
    assert [limiter.hit("alice").remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    fixed = RateLimiter(2, HOUR_S, burst=5, policy="fixed_window", config=in_memory())
    assert [fixed.hit("alice").allowed for _ in range(3)] == [True, True, False]


def test_more_than_a_thousand_a_second_are_limited() -> None:
    clock = ManualClock(1_700_000_000)
    limiter = RateLimiter(5000, 1, config=in_memory(options={"clock": clock}))
    assert sum(limiter.hit("alice").allowed for _ in range(6000)) == 5000
    clock.advance(0.1)
    assert sum(limiter.hit("alice").allowed for _ in range(600)) == 500


def test_the_numbers_that_are_not_given_are_the_configurations() -> None:
    config = in_memory(
        policy=RateLimitPolicy.LEAKY_BUCKET, rate_limit_defaults=RateLimitDefaults(7, 30)
    )
    plain = RateLimiter(config=config)
    assert repr(plain) == "RateLimiter(requests=7, period=30, burst=7, policy='leaky_bucket')"
    given = RateLimiter(9, config=config, policy="Fixed_Window")
    assert (given.requests, given.burst, given.policy) == (9, 9, RateLimitPolicy.FIXED_WINDOW)
    assert (RateLimiter(0, 0, config=config).requests, RateLimitDefaults().burst) == (7, 100)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="Invalid policy name: nothing"):
        RateLimiter(1, 1, policy="nothing", config=in_memory())
    with pytest.raises(ValueError, match="rate must be"):
        RateLimiter(-1, 1, config=in_memory())
    with pytest.raises(TypeError, match="period must be a number of seconds"):
        RateLimiter(1, "minute", config=in_memory())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'other' not found. Available: \['api'\]"):
        RateLimiter.from_config("other", in_memory(rate_limits={"api": {}}))


def test_a_limiter_by_its_name() -> None:
    said = {"api": {"requests": 2, "period": HOUR_S, "burst": 4, "policy": "token_bucket"}}
    use(in_memory(rate_limits=said))
    limiter = flux.create_limiter("api")
    assert [limiter.hit("alice").remaining for _ in range(2)] == [3, 2]
    assert flux.create_limiter(requests=5, period=1).requests == 5


def test_each_limit_counts_for_itself_and_equal_ones_together(tmp_path: Path) -> None:
    config = FluxConfig(url=str(tmp_path / "limits"), fail_silently=False)
    one, same = (RateLimiter(2, HOUR_S, config=config) for _ in range(2))
    other = RateLimiter(2, HOUR_S, policy="fixed_window", config=config)
    assert (one.hit("alice").remaining, same.hit("alice").remaining) == (1, 0)
    assert other.hit("alice").remaining == 1
    assert one.client is other.client


def test_what_is_counted_outlives_the_limiter_and_is_shared(
    tmp_path: Path, run_python: Callable[..., str]
) -> None:
    config = FluxConfig(url=str(tmp_path / "limits"), fail_silently=False)
    RateLimiter(2, HOUR_S, config=config).require("alice")
    script = (
        "from flint.compat.flux import FluxConfig, RateLimiter;"
        f"limiter = RateLimiter(2, {HOUR_S}, config=FluxConfig(url={config.url!r}));"
        "print([limiter.is_allowed('alice') for _ in range(2)])"
    )
    with flint.Limiter(config.url or "", shared=True):  # somebody has it open
        assert run_python(script) == "[True, False]\n"


def test_checks_and_requirements() -> None:
    limiter = RateLimiter(2, HOUR_S, config=in_memory())
    assert limiter.check("alice").allowed
    assert limiter.require("alice").allowed
    assert not limiter.is_allowed("alice")
    with pytest.raises(RateLimitExceeded, match=r"exceeded for 'alice'. Retry after 1800.0s") as no:
        limiter.require("alice")
    assert no.value.to_headers() == {"Retry-After": "1800", "X-RateLimit-Remaining": "0"}
    assert str(RateLimitExceeded("k")) == "Rate limit exceeded for 'k'"


def test_headers() -> None:
    allowed = RateLimitResult(True, 4, 30, 0.0, 5)
    assert allowed.to_headers() == {
        "X-RateLimit-Limit": "5",
        "X-RateLimit-Remaining": "4",
        "X-RateLimit-Reset": "30",
    }
    denied = RateLimitResult(False, -1, None, 1.25, 5)
    assert denied.to_headers() == {
        "X-RateLimit-Limit": "5",
        "X-RateLimit-Remaining": "0",
        "Retry-After": "2",
    }


def test_jitter_is_added_to_denials_alone() -> None:
    config = in_memory(jitter_enabled=True, jitter_max_ms=5000)
    limiter = RateLimiter(1, HOUR_S, config=config)
    first = limiter.hit("alice")
    assert (first.remaining, first.retry_after) == (0, 0.0)
    waits = {limiter.hit("alice").retry_after for _ in range(20)}
    assert len(waits) > 1
    assert all(wait is not None and HOUR_S <= wait <= HOUR_S + 5 for wait in waits)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_place_that_cannot_be_used(
    is_async: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no directory", "utf-8")

    def hit(config: FluxConfig) -> RateLimitResult:
        limiter = RateLimiter(5, 60, config=config)
        return asyncio.run(limiter.ahit("alice")) if is_async else limiter.hit("alice")

    url = str(tmp_path / "file")
    assert hit(FluxConfig(url=url)) == RateLimitResult(True, 1, None, 0, 5)
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(flux.ConnectionError, match=r"Rate limit check failed: .*cannot be opened"):
        hit(FluxConfig(url=url, fail_silently=False))
    with pytest.raises(flux.ConnectionError, match="cannot be opened"):
        flux.preload_scripts(FluxConfig(url=url))
    assert flux.preload_scripts(in_memory()) == 4


# ---- Configuration -----------------------------------------------------------------------------

EVERYTHING = """
[flint]
url = "data"
sync = "batch"
[redis]
host = "cache"
port = 1
pool_size = 2
timeout_ms = 3
[flux]
key_prefix = "mine:"
fail_silently = false
console_logging = true
log_file = "log"
[analytics]
enabled = true
port = 5
stream = "s"
retention = 6
sample_rate = 0.5
jitter_enabled = true
jitter_max_ms = 7
[rate_limit]
policy = "token_bucket"
requests = 8
period = 9
[rate_limits.api]
requests = 10
"""


def test_every_entry_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    path = tmp_path / "config" / "flux.toml"
    path.write_text(EVERYTHING, "utf-8")
    wanted = FluxConfig(
        *("cache", 1, 2, 3, "mine:", "log", False, True, RateLimitPolicy.TOKEN_BUCKET),
        *(RateLimitDefaults(8, 9, 8), {"api": {"requests": 10}}, True, 7),
        *(True, 5, "s", 6, 0.5, "data", {"sync": "batch"}),
    )
    assert flux.load_config() == wanted
    monkeypatch.setenv("FLUX_CONFIG", str(path))
    assert flux.load_config() == wanted
    assert flux.get_config() is flux.get_config()
    path.write_text("[flux]\njitter_max_ms = 9\n", "utf-8")
    assert flux.get_config().jitter_max_ms == 7
    assert flux.reload_config().jitter_max_ms == 9


def test_without_a_file_there_are_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert flux.load_config() == FluxConfig()
    assert capsys.readouterr().err == (
        "[flux] [warning] Configuration file 'flux.toml' not found. Using defaults.\n"
    )
    assert flux.load_config("other.toml") == FluxConfig()
    assert "'other.toml' not found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[flux", "flux.toml"),
        ("[flux]\nfail_silently = 1", r"\[flux\] fail_silently must be of type bool"),
        ("[redis]\nport = true", r"\[redis\] port must be of type int"),
        ('[rate_limit]\npolicy = "x"', "Invalid policy name: x"),
        ('[rate_limits.api]\npolicy = "x"', "Invalid policy name: x"),
        ("[rate_limits]\napi = 1", "api must be a table"),
    ],
)
def test_a_file_that_cannot_be_read(text: str, word: str) -> None:
    Path("flux.toml").write_text(text, "utf-8")
    with pytest.raises(flux.FluxError, match=word):
        flux.load_config()


def test_where_it_counts_without_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RateLimiter(5, 60, config=FluxConfig(fail_silently=False)).hit("alice")
    assert (tmp_path / ".flint" / "flint.aof").is_file()
    monkeypatch.setenv("FLINT_URL", str(tmp_path / "named"))
    RateLimiter(5, 60, config=FluxConfig(fail_silently=False)).hit("alice")
    assert (tmp_path / "named" / "flint.aof").is_file()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ('[redis]\nhost = "cache"', "redis://cache:6379"),
        ("[redis]\nport = 6380", "redis://127.0.0.1:6380"),
        ('[redis]\nhost = "::1"', "redis://[::1]:6379"),
        ('[redis]\nhost = "cache"\n[flint]\nurl = "data"', "data"),
        ("[redis]\npool_size = 9", ".flint"),
    ],
)
def test_a_redis_that_the_file_names_is_the_place(text: str, url: str) -> None:
    Path("flux.toml").write_text(text, "utf-8")
    assert module_of_limiter.place_of(flux.load_config()) == (url, {})


def test_a_redis_that_a_limiter_names_is_its_place() -> None:
    config = FluxConfig(url="data", options={"sync": "batch"})
    place = module_of_limiter.place_of
    assert place(RateLimiter(redis_host="cache", config=config)._config)[0] == "redis://cache:6379"
    assert place(RateLimiter(redis_port=1, config=config)._config) == ("redis://127.0.0.1:1", {})
    assert place(RateLimiter(config=config)._config)[0] == "data"


# ---- The decorator -----------------------------------------------------------------------------


def test_a_plain_function() -> None:
    use(in_memory())

    @flux.rate_limit(requests=2, period=HOUR_S, key="everybody")
    def work(number: int) -> int:
        """Works."""
        return number

    assert (work.__name__, work.__doc__) == ("work", "Works.")
    assert (work(1), work(2)) == (1, 2)
    with pytest.raises(RateLimitExceeded) as caught:
        work(3)
    assert caught.value.key.endswith(".work:everybody")

    @flux.rate_limit(requests=1, period=HOUR_S, key=lambda: "me")
    async def later() -> str:
        return "done"

    assert asyncio.run(later()) == "done"
    with pytest.raises(RateLimitExceeded):
        asyncio.run(later())


def test_functions_of_one_name_are_limited_each_for_itself(tmp_path: Path) -> None:
    use(FluxConfig(url=str(tmp_path / "limits"), fail_silently=False))

    class One:
        @flux.rate_limit(requests=1, period=HOUR_S)
        def work(self) -> bool:
            return True

    class Other:
        @flux.rate_limit(requests=1, period=HOUR_S)
        def work(self) -> bool:
            return True

    assert One().work()
    assert Other().work()
    with pytest.raises(RateLimitExceeded):
        One().work()


def test_a_name_and_what_is_given_beside_it() -> None:
    said = {"api": {"requests": 5, "period": HOUR_S, "policy": "token_bucket"}}
    use(in_memory(rate_limits=said))
    calls = flux.rate_limit("api", requests=2)(lambda: True)
    assert (calls(), calls()) == (True, True)
    with pytest.raises(RateLimitExceeded, match=r"'api:ip:0\.0\.0\.0'"):
        calls()
    with pytest.raises(ValueError, match="not found"):
        flux.rate_limit("other")(lambda: True)()


def test_starlette() -> None:
    import httpx

    use(in_memory())

    @flux.rate_limit(requests=1, period=HOUR_S)
    async def home(request: Request) -> Response:
        return PlainTextResponse(str(request.url))

    app = Starlette(routes=[Route("/", home)])

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            forged = {"X-Forwarded-For": "1.2.3.4"}
            return [await client.get("/"), await client.get("/", headers=forged)]

    first, second = asyncio.run(ask())
    assert (first.status_code, second.status_code) == (200, 429)
    assert "X-RateLimit-Limit" not in first.headers
    assert second.headers["Retry-After"] == second.headers["X-RateLimit-Reset"] == "3600"
    assert second.json() == {
        "error": "Too Many Requests",
        "retry_after": 3600,
        "detail": "Rate limit exceeded. Try again in 3600 seconds.",
    }


def test_flask() -> None:
    use(in_memory())
    app = Flask("app")

    @app.get("/")
    @flux.rate_limit(requests=1, period=HOUR_S)
    def home() -> str:
        return "hello"

    client = app.test_client()
    answers = [client.get("/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json["error"] == "Too Many Requests"
    assert answers[1].headers["Retry-After"] == "3600"


def test_django() -> None:
    use(in_memory())

    @flux.rate_limit(requests=1, period=HOUR_S)
    def home(request: HttpRequest) -> str:
        return request.META["REMOTE_ADDR"]

    request = HttpRequest()
    request.META = {"REMOTE_ADDR": "203.0.113.7", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}
    assert home(request) == "203.0.113.7"
    request.META["HTTP_X_FORWARDED_FOR"] = "5.6.7.8"
    denied: Any = home(request)
    assert (denied.status_code, denied.headers["X-RateLimit-Remaining"]) == (429, "0")
    assert json.loads(denied.content)["retry_after"] == 3600


def test_whose_a_call_is() -> None:
    request = SimpleNamespace(client=SimpleNamespace(host="198.51.100.1"), headers={})
    assert flux.generate_identity(request) == "ip:198.51.100.1"
    assert flux.get_ip(SimpleNamespace(remote_addr="198.51.100.2")) == "198.51.100.2"
    assert flux.get_ip(SimpleNamespace(META={"REMOTE_ADDR": "198.51.100.3"})) == "198.51.100.3"
    assert flux.get_ip(None) == "0.0.0.0"
    assert flux.generate_identity(request, lambda asked: asked.client.host) == "198.51.100.1"
    assert flux.generate_identity(request, lambda: "me") == "me"
    assert flux.generate_identity(request, 7) == "7"

    def broken(asked: Any) -> str:
        return "user:" + asked.headers.get("user")

    with pytest.raises(TypeError, match="can only concatenate"):
        flux.generate_identity(request, broken)


# ---- Analytics and commands --------------------------------------------------------------------


def test_what_is_counted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics, "_started_by", os.getpid())
    limiter = RateLimiter(2, 60, config=in_memory(analytics_enabled=True))
    for _ in range(3):
        limiter.hit("alice", "search")
    limiter.hit("bob")
    server = flux.AnalyticsServer(0)
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            told = json.load(answer)
            assert answer.headers["Content-Type"] == "application/json"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/other", timeout=30)
        assert (caught.value.code, json.load(caught.value)) == (404, {"error": "Not Found"})
        caught.value.close()
        page = command._page(server.port, command.Rates())
    finally:
        server.stop()
    assert [one["endpoint"] for one in told] == ["default", "search"]
    search = told[1]
    assert (search["allowed"], search["blocked"], search["total"]) == (2, 1, 3)
    assert (search["block_rate"], search["utilization_raw"]) == (33.33, 2)
    assert search["limit_info"] == {"requests": 2, "period": 60, "burst": 2, "policy": "gcra"}
    assert search["avg_latency"] >= 0
    assert abs(search["last_updated"] / 1000 - time.time()) < HOUR_S
    assert "| search [GCRA]" in page
    assert "| Limit: 2/60s | Burst: 2" in page
    assert f"| [{'#' * 40}] 100%" in page
    assert "| Allowed: 2 Blocked: 1 | 2.0 used" in page
    assert "does not answer" in command._page(server.port, command.Rates())


def test_endpoints_are_bounded() -> None:
    stats = flux.StatsProvider()
    for number in range(1100):
        stats.record(f"endpoint {number}", RateLimitResult(True), 1.0, {})
    told = stats.get_stats()
    assert len(told) == 1001
    assert [one["total"] for one in told if one["endpoint"] == "(others)"] == [100]


def test_a_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(analytics, "_started_by", None)
    server = flux.AnalyticsServer(0)
    server.start()
    try:
        config = in_memory(analytics_enabled=True, analytics_port=server.port)
        RateLimiter(2, 60, config=config)
        RateLimiter(2, 60, config=config)
    finally:
        server.stop()
    assert capsys.readouterr().err.count(f"no analytics on port {server.port}") == 1


def test_rates_and_peaks() -> None:
    rates = command.Rates()
    assert rates.of({"endpoint": "a", "total": 10}, 100.0) == (0.0, 0.0)
    assert rates.of({"endpoint": "a", "total": 30}, 102.0) == (10.0, 10.0)
    assert rates.of({"endpoint": "a", "total": 31}, 103.0) == (1.0, 10.0)


def test_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["init"]) == 0
    path = tmp_path / "flux.toml"
    assert capsys.readouterr().out == f"Generated configuration file at: {path}\n"
    assert "jitter_enabled = false" in path.read_text("utf-8")
    config = flux.load_config()
    assert config.url == "data/limits"
    assert set(config.rate_limits) == {"default", "strict", "high_throughput"}
    for name in config.rate_limits:
        RateLimiter.from_config(name, config)
    path.write_text("mine", "utf-8")
    assert command.main(["init", "flux.toml"]) == 1
    said = "Error: 'flux.toml' already exists. Use --force to overwrite.\n"
    assert (capsys.readouterr().err, path.read_text("utf-8")) == (said, "mine")
    assert command.main(["init", "flux.toml", "--force"]) == 0
    assert path.read_text("utf-8") == module_of_config.TEMPLATE


def test_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flux.toml"
    path.write_text('[flint]\nurl = "limits"\n[flux]\nfail_silently = false\n', "utf-8")
    limiter = RateLimiter(1, HOUR_S, config=flux.load_config())
    assert command.main(["clear"]) == 0
    assert "No keys found." in capsys.readouterr().out
    for name in ("alice", "bob"):
        limiter.require(name)
    limiter.client.check("other", rate=1, per=HOUR_S)
    assert command.main(["clear", "--config", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Connecting to limits...",
        "Scanning for keys matching 'flux:*'...",
        "Found 2 keys. Deleting...",
        "Done! Rate limit state cleared.",
    ]
    assert limiter.is_allowed("alice")
    assert not limiter.client.allow("other", rate=1, per=HOUR_S)
    path.write_text('[flint]\nurl = "flux.toml"\n', "utf-8")
    assert command.main(["clear"]) == 1
    assert "cannot be opened" in capsys.readouterr().err


def test_a_password_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flux.toml"
    path.write_text('[flint]\nurl = "redis://:s3cret@127.0.0.1:1/0"\n', "utf-8")
    assert command.main(["clear", "--config", str(path)]) == 1
    url = "redis://:s3cret@127.0.0.1:1/1"
    flux.RateLimiter(1, HOUR_S, config=FluxConfig(url=url)).hit("key")
    said = capsys.readouterr()
    assert "127.0.0.1" in said.out
    assert "s3cret" not in said.out + said.err


def test_without_a_command(run_python: Callable[..., str]) -> None:
    said = run_python("import runpy; runpy.run_module('flint.compat.flux', run_name='__main__')")
    assert all(verb in said for verb in ("init", "clear", "monitor"))
