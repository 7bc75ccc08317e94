"""The ASGI middleware, called in process: HTTP, WebSockets, lifespan, `when`."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_calls import call, run, scope_of, statuses, talk
from ways import shortest_way  # noqa: F401

import flint
from flint.asgi import Policy, RateLimitMiddleware
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


def replying(status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for part in (b"one ", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": part != b"two"})

    return app


def test_requests_are_limited_by_address(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "2/minute")
    assert run(statuses(app, 3)) == [200, 200, 429]
    assert run(statuses(app, 1, client=("203.0.113.8", 1))) == [200]
    denied = run(call(app))
    assert denied.json == {"detail": "rate limit exceeded"}
    assert denied.header("Retry-After") == "30"
    assert denied.header("X-RateLimit-Remaining") == "0"


def test_a_unix_socket(limiter: flint.Limiter) -> None:
    """Servers say then that there is no client."""
    alone = RateLimitMiddleware(replying(), limiter, "1/minute", scope="alone")
    assert run(statuses(alone, 2, client=None)) == [200, 429]
    app = RateLimitMiddleware(replying(), limiter, "1/minute", trusted_proxies=["127.0.0.1/32"])
    for client in ("203.0.113.7", "203.0.113.8"):
        sent = {"X-Forwarded-For": client}
        assert run(statuses(app, 2, client=None, headers=sent)) == [200, 429]


def test_a_response_passes_as_it_is_sent(limiter: flint.Limiter) -> None:
    seen: list[bytes] = []

    async def send(message: Any) -> None:
        seen.append(message.get("body", b"start"))

    app = RateLimitMiddleware(replying(), limiter, "2/minute")
    run(app(scope_of(), None, send))  # type: ignore[arg-type]
    assert seen == [b"start", b"one ", b"two"]


def test_headers_are_added_once(limiter: flint.Limiter) -> None:
    own = ((b"X-RateLimit-Limit", b"7"), (b"content-type", b"text/plain"))
    inner = RateLimitMiddleware(replying(headers=own), limiter, "5/minute", scope="inner")
    app = RateLimitMiddleware(inner, limiter, "9/minute", headers="both")
    answer = run(call(app))
    assert answer.header("X-RateLimit-Limit") == "7"  # the application's own
    assert answer.header("X-RateLimit-Remaining") == "4"  # the nearest
    assert answer.header("RateLimit") == '"all";r=8;t=7'


def test_without_headers(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "1/minute", headers="none")
    answer, denied = run(call(app)), run(call(app))
    assert (answer.status, answer.headers, answer.body) == (200, [], b"one two")
    assert (denied.status, denied.header("X-RateLimit-Limit")) == (429, None)
    assert denied.header("Retry-After") == "60"


def test_context_variables_are_the_applications(limiter: flint.Limiter) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        variable.set("set inside")
        await replying()(scope, receive, send)

    async def outside() -> str:
        await call(RateLimitMiddleware(app, limiter, "5/minute"))
        return variable.get()

    assert run(outside()) == "set inside"


def test_not_one_too_many_at_once(tmp_path: Path) -> None:
    async def at_once(app: Any) -> list[int]:
        return [answer.status for answer in await asyncio.gather(*(call(app) for _ in range(50)))]

    with flint.Limiter(tmp_path) as limiter:  # each admission waits for the disk
        app = RateLimitMiddleware(replying(), limiter, "20/hour")
        assert sorted(run(at_once(app))) == [200] * 20 + [429] * 30


# ---- When the response is known ----


def test_only_failures_are_counted(limiter: flint.Limiter) -> None:
    good = RateLimitMiddleware(replying(200), limiter, "2/minute", when="failed")
    bad = RateLimitMiddleware(replying(401), limiter, "2/minute", when="failed")
    assert run(statuses(good, 5)) == [200] * 5
    assert run(statuses(bad, 3)) == [401, 401, 429]
    assert run(statuses(good, 1)) == [429]


def test_an_exception_is_a_failure(limiter: flint.Limiter) -> None:
    async def broken(*_: Any) -> None:
        raise LookupError("broken")

    app = RateLimitMiddleware(broken, limiter, "1/minute", when="5xx")
    with pytest.raises(LookupError, match="broken"):
        run(call(app))
    assert run(call(app)).status == 429


# ---- WebSockets ----


def kinds(sent: list[Any]) -> list[str]:
    return [message["type"].removeprefix("websocket.") for message in sent]


def test_a_handshake_too_many(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "1/minute")
    assert kinds(run(talk(app, ["a"]))) == ["accept", "send"]
    assert run(talk(app, ["a"])) == [{"type": "websocket.close", "code": 1013}]
    extended = run(talk(app, ["a"], extensions={"websocket.http.response": {}}))
    assert kinds(extended) == ["http.response.start", "http.response.body"]
    assert extended[0]["status"] == 429
    assert extended[1]["body"] == b'{"detail":"rate limit exceeded"}'


def test_a_message_too_many(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "5/minute", messages="2/minute")
    sent = run(talk(app, ["a", "b", "c", "d"]))
    assert kinds(sent) == ["accept", "send", "send", "close"]
    assert sent[-1] == {
        "type": "websocket.close",
        "code": 1013,
        "reason": "rate limit exceeded",
    }


def test_what_is_sent_after_the_close_goes_nowhere(limiter: flint.Limiter) -> None:
    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await send({"type": "websocket.send", "text": "good-bye"})

    limited = RateLimitMiddleware(app, limiter, "5/minute", messages="1/minute")
    assert kinds(run(talk(limited, ["a", "b"]))) == ["accept", "close"]


def test_a_handshake_that_the_application_refuses_is_a_failure(limiter: flint.Limiter) -> None:
    async def refusing(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    good = RateLimitMiddleware(replying(), limiter, "1/minute", when="failed")
    bad = RateLimitMiddleware(refusing, limiter, "1/minute", when="failed")
    assert kinds(run(talk(good, ["a"]))) == ["accept", "send"]
    assert [run(talk(bad, []))[0]["code"] for _ in range(2)] == [1008, 1013]


# ---- The rest ----


def test_what_was_opened_here_is_closed_with_the_application(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await replying()(scope, receive, send)
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def live() -> list[Any]:
        middleware = RateLimitMiddleware(app, tmp_path / "data", "5/minute")
        assert (await call(middleware)).status == 200
        received = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[Any] = []

        async def receive() -> Any:
            return received.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await middleware({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        return sent

    assert run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    flint.Limiter(tmp_path / "data").close()  # nobody has it any more


def test_another_answer(limiter: flint.Limiter) -> None:
    def denied(_: Any, verdict: Any) -> Any:
        assert verdict.reason == "denied"
        return replying(503)

    app = RateLimitMiddleware(replying(), limiter, "1/minute", on_denied=denied)
    assert run(statuses(app, 2)) == [200, 503]


def test_head_has_no_body(limiter: flint.Limiter) -> None:
    app = RateLimitMiddleware(replying(), limiter, "1/minute")
    run(call(app, method="HEAD"))
    denied = run(call(app, method="HEAD"))
    assert (denied.status, denied.body) == (429, b"")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "route"}, "cannot be 'route' in a middleware"),
        ({"key": ("ip", "route")}, "cannot be 'route' in a middleware"),
        ({"cost": 0}, "cost"),
        ({"messages": "1/fortnight"}, "limits"),
        ({"messages": "1/s", "cost": len}, "cost must be a number beside messages"),
        ({"headers": "x"}, "headers"),
    ],
)
def test_what_is_refused(limiter: flint.Limiter, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateLimitMiddleware(replying(), limiter, "1/s", **options)


def test_a_policy_and_options(limiter: flint.Limiter) -> None:
    with pytest.raises(TypeError, match="policy takes the place"):
        RateLimitMiddleware(replying(), limiter, "1/s", policy=Policy("1/s"))
    limiter.close()
    with pytest.raises(flint.ClosedError, match="closed"):
        RateLimitMiddleware(replying(), limiter, "1/s")
