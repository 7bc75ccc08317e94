"""The WSGI middleware, called in process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from ways import shortest_way  # noqa: F401

import flint
from flint.testing import ManualClock
from flint.wsgi import Policy, RateLimitMiddleware

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


def replying(status: str = "200 OK", *more: tuple[str, str]) -> Any:
    def app(_: Any, start_response: Any) -> list[bytes]:
        start_response(status, [("Content-Type", "text/plain"), *more])
        return [b"one ", b"two"]

    return app


def call(app: Any, peer: str = "203.0.113.7", **more: str) -> Answer:
    """One request, with what both sides do held against the standard."""
    environ: dict[str, Any] = {"REMOTE_ADDR": peer, "PATH_INFO": "/", **more}
    environ |= {"QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    said: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        said[:] = [int(status[:3]), headers]
        return lambda _: None

    body = validator(app)(environ, start_response)
    try:
        sent = b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]
    names = [name.lower() for name, _ in said[1]]
    assert len(names) == len(set(names))
    return said[0], dict(said[1]), sent


def statuses(app: Any, times: int, **more: str) -> list[int]:
    return [call(app, **more)[0] for _ in range(times)]


def test_requests_are_limited_by_address(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "2/minute")
    status, headers, body = call(app)
    assert (status, headers["X-RateLimit-Remaining"], body) == (200, "1", b"one two")
    assert statuses(app, 2) == [200, 429]
    assert statuses(app, 1, peer="203.0.113.8") == [200]
    status, headers, body = call(app)
    assert (status, headers["Retry-After"]) == (429, "30")
    assert body == b'{"detail":"rate limit exceeded"}'
    assert call(app, REQUEST_METHOD="HEAD")[2] == b""


def test_the_applications_own_headers_are_left(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying("200 OK", ("x-ratelimit-limit", "7")), limiter, "2/minute")
    headers = call(app)[1]
    assert headers["x-ratelimit-limit"] == "7"
    assert headers["X-RateLimit-Remaining"] == "1"


def test_without_headers(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "1/minute", headers="none")
    assert call(app) == (200, {"Content-Type": "text/plain"}, b"one two")
    status, headers, _ = call(app)
    assert (status, headers["Retry-After"], "X-RateLimit-Limit" in headers) == (429, "60", False)


def test_forwarded_headers_and_a_unix_socket(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "1/minute", trusted_proxies=["10.0.0.0/8"])
    for peer in ("", "10.0.0.1"):
        client = {"peer": peer, "HTTP_X_FORWARDED_FOR": f"1.1.1.1, 198.51.100.{len(peer)}"}
        assert statuses(app, 2, **client) == [200, 429]


def test_only_failures_are_counted(limiter: flint.Limiter) -> None:
    good = RateLimitMiddleware(replying(), limiter, "2/minute", when="failed")
    bad = RateLimitMiddleware(replying("401 Unauthorized"), limiter, "2/minute", when="failed")
    assert statuses(good, 5) == [200] * 5
    assert statuses(bad, 3) == [401, 401, 429]
    assert statuses(good, 1) == [429]


def broken_at_once(*_: Any) -> Iterable[bytes]:
    raise LookupError("broken")


def broken_while_read(*_: Any) -> Iterable[bytes]:
    if _:
        raise LookupError("broken")
    yield b""


@pytest.mark.parametrize("broken", [broken_at_once, broken_while_read])
def test_an_exception_is_a_failure(limiter: flint.Limiter, broken: Callable[..., Any]) -> None:
    app = RateLimitMiddleware(broken, limiter, "1/minute", when="5xx")
    with pytest.raises(LookupError, match="broken"):
        call(app)
    assert statuses(app, 1) == [429]


def test_a_response_that_starts_while_it_is_read(limiter: flint.Limiter) -> None:
    closed: list[bool] = []

    class Body:
        def __init__(self, start_response: Any) -> None:
            self.start_response = start_response

        def __iter__(self) -> Iterator[bytes]:
            self.start_response("500 No", [("Content-Type", "text/plain")])
            yield b"late"

        def close(self) -> None:
            closed.append(True)

    app = RateLimitMiddleware(lambda _, start: Body(start), limiter, "1/minute", when="5xx")
    assert call(app)[::2] == (500, b"late")
    assert closed == [True]
    assert statuses(app, 1) == [429]


def test_another_answer(limiter: flint.Limiter) -> None:
    denied = lambda *_: replying("503 Busy")  # noqa: E731
    app = RateLimitMiddleware(replying(), limiter, "1/minute", on_denied=denied)
    assert statuses(app, 2) == [200, 503]


def test_what_was_opened_here_is_closed_here(tmp_path: Path) -> None:
    app = RateLimitMiddleware(replying(), tmp_path / "data", "2/minute", exempt=["/health"])
    assert statuses(app, 1) == [200]
    assert "X-RateLimit-Limit" not in call(app, PATH_INFO="/health")[1]
    app.close()
    with flint.Limiter(tmp_path / "data") as limiter:
        RateLimitMiddleware(replying(), limiter, "2/minute").close()
        assert not limiter.closed


@pytest.mark.parametrize("options", [{"scope": "route"}, {"key": "route"}, {"cost": 0}])
def test_what_is_refused(limiter: flint.Limiter, options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RateLimitMiddleware(replying(), limiter, "1/s", **options)
    with pytest.raises(TypeError, match="policy takes the place"):
        RateLimitMiddleware(replying(), limiter, "1/s", policy=Policy("1/s"))
