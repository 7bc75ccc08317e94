"""SharedLimiter and a server, or a network, that misbehaves: plain calls and coroutines alike."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import threading
import types
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from http_faulty import CHECKED, Connection, answer, faulty

import flint
from flint import FlintConnectionError, FlintServerError, SharedLimiter
from flint._remote import aio, breaker, http

UNKNOWN = "whether the call took effect is unknown"
Caller = Callable[..., Any]


def plainly(limiter: SharedLimiter, *calls: tuple[Any, ...]) -> list[Any]:
    """The answers, or the errors, of calls one after the other."""
    found: list[Any] = []
    for name, *args in calls:
        try:
            found.append(getattr(limiter, name)(*args))
        except flint.FlintError as error:
            found.append(error)
    return found


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def as_coroutines(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    limiter: SharedLimiter,
    *calls: tuple[Any, ...],
) -> list[Any]:
    """The same in one event loop, and without its threads."""

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        loop.run_in_executor = None  # type: ignore[assignment, method-assign]
        found: list[Any] = []
        for name, *args in calls:
            try:
                called: Coroutine[Any, Any, Any] = getattr(limiter, "a" + name)(*args)
                found.append(await called)
            except flint.FlintError as error:
                found.append(error)
        await limiter.aclose()
        return found

    loop = new_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


both = pytest.mark.parametrize(
    "caller",
    [plainly, *(functools.partial(as_coroutines, new_loop) for new_loop in LOOPS.values())],
    ids=["plain", *LOOPS],
)


def once(data: bytes) -> Callable[[Connection], None]:
    """Answers the first request of each connection, and goes on waiting."""

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(data)
        connection.until_closed()

    return behave


def error_of(found: Any) -> str:
    assert isinstance(found, FlintConnectionError), found
    text = str(found)
    assert text.startswith("could not reach Flint server: ")
    return text


@both
def test_one_connection_serves_all(caller: Caller) -> None:
    def behave(connection: Connection) -> None:
        while connection.request():
            connection.send(answer())

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        assert all(caller(limiter, *[("check", "a")] * 5))
        assert server.counts == [5]


@both
def test_the_server_ends_the_connection_instead_of_answering(caller: Caller) -> None:
    def behave(connection: Connection) -> None:
        connection.request()

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert error_of(checked).endswith(f"the server has ended the connection; {UNKNOWN}")
        assert server.counts == [1]  # it may have counted
    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        [peeked] = caller(limiter, ("peek", "a"))
        assert error_of(peeked).endswith("the server has ended the connection")
        assert server.counts == [1, 1]  # asking twice does no harm


@both
def test_a_peek_is_answered_by_the_second_connection(caller: Caller) -> None:
    first = [True]

    def behave(connection: Connection) -> None:
        connection.request()
        if first.pop() if first else False:
            connection.send(answer()[:-5])
        else:
            connection.send(answer())
            connection.until_closed()

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        [peeked] = caller(limiter, ("peek", "a"))
        assert peeked.remaining == 4
        assert server.counts == [1, 1]


def test_a_kept_connection_that_the_server_has_ended_is_not_used() -> None:
    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(answer())

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        for _ in range(3):
            assert limiter.check("a")
            server.wait_for_one_to_end()
        assert server.counts == [1, 1, 1]


def test_a_kept_connection_that_the_server_has_ended_is_not_used_in_a_loop() -> None:
    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(answer())

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:

        async def main() -> None:
            for _ in range(3):
                assert await limiter.acheck("a")
                await asyncio.to_thread(server.wait_for_one_to_end)
                await asyncio.sleep(0)

        asyncio.run(main())
        assert server.counts == [1, 1, 1]


@both
def test_what_comes_unasked_answers_nothing(caller: Caller) -> None:
    forged = answer({**CHECKED, "remaining": 3})

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(answer() + forged)
        connection.until_closed()

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        found = caller(limiter, ("check", "a"), ("check", "a"))
        assert [one.remaining for one in found] == [4, 4]
        assert server.counts == [1, 1]


@both
@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\n", answer()[:-1], answer(more="X: y\r\n")[:20]]
)
def test_a_server_that_does_not_finish(caller: Caller, begun: bytes) -> None:
    with faulty(once(begun)) as server, SharedLimiter(server.url, timeout=0.05) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert error_of(checked).endswith(f"there was no answer in time; {UNKNOWN}")
        assert server.counts == [1]


@both
def test_a_server_that_drips(caller: Caller) -> None:
    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n")
        connection.socket.settimeout(0.005)
        while True:
            connection.send(b"X: y\r\n")
            try:
                if not connection.socket.recv(1):
                    return
            except TimeoutError:
                continue

    with faulty(behave) as server, SharedLimiter(server.url, timeout=0.1) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert "no answer in time" in error_of(checked)


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no status": b"HTTP/1.1 banana\r\n\r\n",
    "no JSON": answer(b"<html>hello</html>"),
    "another JSON": answer([1, 2]),
    "a number": answer(7),
    "half": answer({"allowed": True}),
    "another key": answer({**CHECKED, "key": "b"}),
    "another cost": answer({**CHECKED, "cost": 2}),
    "a string": answer({**CHECKED, "allowed": "false"}),
    "a fraction": answer({**CHECKED, "remaining": 4.5}),
    "too large": answer({**CHECKED, "remaining": 2**70}),
    "no time": answer({**CHECKED, "reset_at": "soon"}),
    "no date": answer({**CHECKED, "reset_at": "2026-99-02T03:04:05Z"}),
    "no algorithm": answer({**CHECKED, "algorithm": "sorted"}),
    "deep": answer(b"[" * 100_000),
    "no text": answer(b"\xff\xfe"),
    "too short": answer()[:-2] + b"}}",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
}


@both
@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_garbage(caller: Caller, sent: bytes) -> None:
    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(sent)

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        error_of(checked)
        assert server.counts == [1]
    with faulty(behave) as server, SharedLimiter(server.url, on_error="allow") as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert checked.allowed
        assert checked.undecided


@both
def test_an_answer_in_chunks_and_one_that_the_end_ends(caller: Caller) -> None:
    body = answer().partition(b"\r\n\r\n")[2]
    half = len(body) // 2
    chunks = b"".join(b"%x;x=y\r\n%s\r\n" % (len(b), b) for b in (body[:half], body[half:]))
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    whole = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX: y\r\n\r\n"
    with faulty(once(whole)) as server, SharedLimiter(server.url) as limiter:
        assert caller(limiter, ("check", "a"))[0].remaining == 4

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(head + b"\r\n" + body)

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        found = caller(limiter, ("check", "a"), ("check", "a"))
        assert [one.remaining for one in found] == [4, 4]


ENDLESS = {
    "body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n" * 512),
    "line": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4096),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 512),
    "status": (b"HTTP/1.1 ", b"x" * 4096),
}


@both
@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_answer(
    caller: Caller, endless: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MOST_BODY_BYTES", 100_000)
    monkeypatch.setattr(aio, "MOST_BODY_BYTES", 100_000)
    sent = [0]

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(endless[0])
        while True:
            connection.send(endless[1])
            sent[0] += len(endless[1])

    with faulty(behave) as server, SharedLimiter(server.url, timeout=60) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        error_of(checked)
    # What is on the way in the buffers of both sockets is beside it.
    assert sent[0] < 50_000_000


@both
def test_a_redirect_is_not_followed(caller: Caller) -> None:
    with faulty(once(answer())) as elsewhere:
        moved = answer(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}/v1/check\r\n")
        with faulty(once(moved)) as server, SharedLimiter(server.url, token="t") as limiter:
            [checked] = caller(limiter, ("check", "a"))
            assert isinstance(checked, FlintServerError)
            assert checked.status == 307
            assert "does not follow" in str(checked)
        assert elsewhere.counts == []


REFUSALS = {
    "500 Oops": (answer({"error": "a reason"}, "500 Oops"), FlintServerError, "a reason"),
    "503 text": (answer(b"<h1>busy</h1>\r\n", "503 Busy"), FlintServerError, "<h1>busy</h1>"),
    "502 none": (answer(b"", "502 Bad Gateway"), FlintServerError, "no reason is given"),
    "404": (answer(b"", "404 No"), FlintServerError, "perhaps it is older than the client"),
    "401": (answer({"error": "unauthorized"}, "401 No"), FlintServerError, "unauthorized"),
    "500 full": (
        answer({"error": "no room"}, "500 Full", "Flint-Error: DISK_FULL\r\n"),
        flint.DiskFullError,
        "no room",
    ),
    "503 full": (
        answer({"error": "full"}, "503 Full", "Flint-Error: TABLE_FULL\r\n"),
        flint.TableFullError,
        "full",
    ),
    "400": (
        answer({"error": "limit is not configured: other words"}, "400 Bad"),
        flint.NotConfiguredError,
        "limit is not configured: a",
    ),
}


@both
@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_refusals(caller: Caller, case: tuple[bytes, type[Exception], str]) -> None:
    sent, kind, text = case
    with faulty(once(sent)) as server, SharedLimiter(server.url) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert type(checked) is kind
        assert str(checked).endswith(text)
        assert server.counts == [1]
    is_callers = kind is flint.NotConfiguredError or sent[9:12] in (b"401", b"404")
    with faulty(once(sent)) as server, SharedLimiter(server.url, on_error="deny") as limiter:
        [checked] = caller(limiter, ("check", "a"))
        if is_callers:
            assert type(checked) is kind
        else:
            assert not checked
            assert (checked.undecided, checked.retry_after) == (True, 1.0)


@both
def test_on_error_answers_checks_alone(caller: Caller) -> None:
    calls = [("check", "a"), ("allow", "a"), ("peek", "a"), ("check_all", ["a", "b"])]
    with SharedLimiter("http://127.0.0.1:1", on_error="allow") as limiter:
        checked, allowed, peeked, several, listed = caller(limiter, *calls, ("list",))
    assert checked.allowed
    assert checked.undecided
    assert peeked.allowed
    assert allowed is True
    assert several["allowed"]
    assert several["denied_key"] is None
    assert [one["key"] for one in several["results"]] == ["a", "b"]
    assert "Connection refused" in error_of(listed)
    with SharedLimiter("http://127.0.0.1:1", on_error="deny") as limiter:
        checked, allowed, peeked, several = caller(limiter, *calls)
    assert not checked.allowed
    assert checked.undecided
    assert not peeked.allowed
    assert allowed is False
    assert (several["allowed"], several["denied_key"], len(several["results"])) == (False, "a", 1)


@both
def test_a_server_that_fails_again_and_again_is_left_alone(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "time", types.SimpleNamespace(monotonic=lambda: 1000.0))

    def behave(connection: Connection) -> None:
        connection.request()

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        found = caller(limiter, *[("check", "a")] * 5)
        assert server.counts == [1, 1, 1]
    for one in found[:3]:
        assert error_of(one).endswith(UNKNOWN)
    for one in found[3:]:
        assert error_of(one).endswith("ended the connection; it is asked again each second")


@both
def test_a_refusal_is_an_answer_too(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(breaker, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    reasons = ["limit is not configured", "cost 9 is above the burst"]
    answers = iter([*(answer({"error": one}, "400 Bad") for one in reasons), answer()])

    def behave(connection: Connection) -> None:
        while connection.request():
            connection.send(next(answers))

    with faulty(behave) as server, SharedLimiter(server.url) as limiter:
        for wanted in (flint.NotConfiguredError, ValueError):
            limiter._breaker.failed("it was away", is_away=True)
            now[0] += 1
            with pytest.raises(wanted):
                limiter.check("a")
            limiter._breaker.enter()
            limiter._breaker.enter()
        assert caller(limiter, ("check", "a"))[0].remaining == 4


def test_the_breaker_lets_one_ask_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(breaker, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    one = breaker.Breaker()
    one.failed("gone", is_away=True)
    for _ in range(3):
        with pytest.raises(FlintConnectionError, match="gone; it is asked again each second"):
            one.enter()
        now[0] += 1.0
        one.enter()
        with pytest.raises(FlintConnectionError):
            one.enter()
    one.worked()
    one.enter()
    one.enter()
    for _ in range(3):
        one.enter()
        one.failed("slow", is_away=False)
    with pytest.raises(FlintConnectionError):
        one.enter()


def test_a_cancelled_call_ends_its_connection() -> None:
    with faulty(once(b"")) as server, SharedLimiter(server.url) as limiter:

        async def main() -> None:
            task = asyncio.create_task(limiter.acheck("a"))
            while server.counts != [1]:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(server.wait_for_one_to_end)

        asyncio.run(main())


def test_an_address_that_is_silent_leaves_time_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as silent,
        socket.create_connection(silent.getsockname()),
        faulty(once(answer())) as server,
    ):
        port = int(server.url.rpartition(":")[2])
        found = [silent.getsockname(), ("127.0.0.1", port)]
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        with SharedLimiter("http://limits.example", timeout=0.4) as limiter:
            assert limiter.check("a").remaining == 4


def test_a_signal_in_the_middle_of_an_answer() -> None:
    """Ctrl-C ends a call, and the rest of its answer is nobody's."""
    first = [True]

    def behave(connection: Connection) -> None:
        while connection.request():
            if first.pop() if first else False:
                connection.send(answer()[:40])
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                connection.until_closed()
                return
            connection.send(answer())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with faulty(behave) as server, SharedLimiter(server.url) as limiter:
            with pytest.raises(KeyboardInterrupt):
                limiter.check("a")
            assert limiter.check("a").remaining == 4
            assert server.counts == [1, 1]
    finally:
        signal.signal(signal.SIGUSR1, before)
