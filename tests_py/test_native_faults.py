"""SharedLimiter by the Redis protocol, and a server, or a network, that misbehaves."""

from __future__ import annotations

import asyncio
import signal
import threading
import types
from typing import Any

import pytest
from http_faulty import answer
from resp_faulty import (
    CHECKED,
    HELLO,
    OK,
    NativeConnection,
    native,
    refusal,
    reply,
    url_of,
)
from test_shared_faults import UNKNOWN, Caller, both, error_of

import flint
from flint import FlintServerError, OnError, SharedLimiter
from flint._remote import breaker, resp
from flint._remote.http import GarbageError

DEADLINE_S = 60
REST = {key: value for key, value in CHECKED.items() if key != "key"}


def once(data: bytes) -> Any:
    """Answers the first request of each connection, and goes on waiting."""

    def behave(connection: NativeConnection) -> None:
        connection.request()
        connection.send(data)
        connection.until_closed()

    return behave


@both
def test_one_connection_serves_all(caller: Caller) -> None:
    def behave(connection: NativeConnection) -> None:
        while connection.request():
            connection.send(reply())

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        assert all(caller(limiter, *[("check", "a")] * 5))
        assert server.counts == [5]


@both
def test_the_server_ends_the_connection_instead_of_answering(caller: Caller) -> None:
    def behave(connection: NativeConnection) -> None:
        connection.request()

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert error_of(checked).endswith(f"the server has ended the connection; {UNKNOWN}")
        assert server.counts == [1]  # it may have counted
    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        [peeked] = caller(limiter, ("peek", "a"))
        assert error_of(peeked).endswith("the server has ended the connection")
        assert server.counts == [1, 1]  # asking twice does no harm


@both
def test_a_peek_is_answered_by_the_second_connection(caller: Caller) -> None:
    first = [True]

    def behave(connection: NativeConnection) -> None:
        connection.request()
        if first.pop() if first else False:
            connection.send(reply()[:-5])
        else:
            connection.send(reply())
            connection.until_closed()

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        [peeked] = caller(limiter, ("peek", "a"))
        assert peeked.remaining == 4
        assert server.counts == [1, 1]


def test_a_kept_connection_that_the_server_has_ended_is_not_used() -> None:
    def behave(connection: NativeConnection) -> None:
        connection.request()
        connection.send(reply())

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        for _ in range(3):
            assert limiter.check("a")
            server.wait_for_one_to_end()
        assert server.counts == [1, 1, 1]

        async def main() -> None:
            for _ in range(3):
                assert await limiter.acheck("a")
                await asyncio.to_thread(server.wait_for_one_to_end)
                await asyncio.sleep(0)

        asyncio.run(main())
        assert server.counts == [1] * 6


@both
def test_what_comes_unasked_answers_nothing(caller: Caller) -> None:
    forged = reply({**CHECKED, "remaining": 3})

    def behave(connection: NativeConnection) -> None:
        connection.request()
        connection.send(reply() + forged)
        connection.until_closed()

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        found = caller(limiter, ("check", "a"), ("check", "a"))
        assert [one.remaining for one in found] == [4, 4]
        assert server.counts == [1, 1]


def wait_at_most(limiter: SharedLimiter, timeout_s: float) -> None:
    limiter._connections._timeout_s = timeout_s
    if limiter._loop_connections is not None:
        limiter._loop_connections._timeout_s = timeout_s


@both
@pytest.mark.parametrize("begun", [b"", b"%", reply()[:-1]])
def test_a_server_that_does_not_finish(caller: Caller, begun: bytes) -> None:
    def behave(connection: NativeConnection) -> None:
        connection.request()
        wait_at_most(limiter, 0.2)  # now that it is connected
        connection.send(reply())
        connection.request()
        connection.send(begun)
        connection.until_closed()

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        _, checked = caller(limiter, ("check", "a"), ("check", "a"))
        assert error_of(checked).endswith(f"there was no answer in time; {UNKNOWN}")
        assert server.counts == [2]


@both
def test_a_server_that_does_not_greet(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "time", types.SimpleNamespace(monotonic=lambda: 1000.0))

    def behave(connection: NativeConnection) -> None:
        connection.until_closed()

    with native(behave) as server, SharedLimiter(url_of(server), timeout=0.05) as limiter:
        first, second = caller(limiter, ("check", "a"), ("check", "a"))
        assert error_of(first).endswith("there was no answer in time")
        assert error_of(second).endswith("it is asked again each second")
        assert server.counts == [0]


GREETINGS = {
    "none": b"",
    "half": reply(HELLO)[:-3],
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@both
@pytest.mark.parametrize("sent", GREETINGS.values(), ids=GREETINGS)
def test_what_greets_otherwise(caller: Caller, sent: bytes) -> None:
    def behave(connection: NativeConnection) -> None:
        connection.words()
        connection.send(sent)

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert UNKNOWN not in error_of(checked)  # it was not asked
    with native(behave) as server, SharedLimiter(url_of(server), on_error="allow") as limiter:
        assert caller(limiter, ("check", "a"))[0].undecided


@both
@pytest.mark.parametrize(
    "greeting", [reply({"server": "redis"}), refusal("ERR unknown command 'HELLO'"), OK]
)
def test_a_server_that_is_not_flints(caller: Caller, greeting: bytes) -> None:
    class Other(NativeConnection):
        hello = greeting

    def behave(connection: NativeConnection) -> None:
        connection.request()

    with (
        native(behave, Other) as server,
        SharedLimiter(url_of(server), on_error="allow") as limiter,
    ):
        [checked] = caller(limiter, ("check", "a"))
        assert type(checked) is flint.UnsupportedError
        assert "is no Flint server" in str(checked)
        assert server.counts == [0]


GARBAGE = {
    "no RESP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP": answer(),
    "version 2": b"$-1\r\n",
    "an array": reply([1, 2]),
    "a number": reply(7),
    "null": reply(None),
    "OK": OK,
    "half": reply({"allowed": True}),
    "another key": reply({**CHECKED, "key": "b"}),
    "another cost": reply({**CHECKED, "cost": 2}),
    "a string": reply({**CHECKED, "allowed": "false"}),
    "a text": reply({**CHECKED, "remaining": "4"}),
    "too large": reply({**CHECKED, "remaining": 2**64 - 1}),
    "negative": reply({**CHECKED, "remaining": -1}),
    "no algorithm": reply({**CHECKED, "algorithm": "sorted"}),
    "fewer limits": reply({**CHECKED, "limit_count": 1}),
    "another limit": reply({**CHECKED, "limits": [{**REST, "name": "n"}], "limit_count": 1})[:-1],
    "no such limit": reply(
        {**CHECKED, "limits": [{**REST, "name": "n"}], "limit_count": 1, "limit_index": 1}
    ),
    "deep": b"*1\r\n" * 100_000,
    "no text": b"$2\r\n\xff\xfe\r\n",
    "another end": b"$2\r\nabcd\r\n",
    "a length": b"$1000000000000\r\n",
    "many": b"*4000000\r\n",
    "a zero in front": b":07\r\n",
    "a plus": b":+7\r\n",
    "a fraction": b",1.5\r\n",
    "a push": b">1\r\n+a\r\n",
    "a bare end": b":7\n\r\n",
    "twice": b"%2\r\n+a\r\n:1\r\n+a\r\n:1\r\n",
    "numbered": b"%1\r\n:1\r\n:1\r\n",
}


@both
@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_garbage(caller: Caller, sent: bytes) -> None:
    def behave(connection: NativeConnection) -> None:
        connection.request()
        connection.send(sent)

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        error_of(checked)
        assert server.counts == [1]
    with native(behave) as server, SharedLimiter(url_of(server), on_error="allow") as limiter:
        [checked] = caller(limiter, ("check", "a"))
        assert checked.allowed
        assert checked.undecided


ENDLESS = {
    "line": (b"+", b"x" * 4096),
    "text": (b"$100000000\r\n", b"x" * 4096),
    "array": (b"*200000\r\n", reply("x" * 4096)),
    "values": (b"*200000\r\n", b"*1\r\n:1\r\n" * 512),
}


@both
@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_answer(
    caller: Caller, endless: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resp, "MOST_BYTES", 100_000)
    sent = [0]

    def behave(connection: NativeConnection) -> None:
        connection.request()
        connection.send(endless[0])
        while True:
            connection.send(endless[1])
            sent[0] += len(endless[1])

    with native(behave) as server, SharedLimiter(url_of(server), timeout=60) as limiter:
        [checked] = caller(limiter, ("check", "a"))
        error_of(checked)
    # What is on the way in the buffers of both sockets is beside it.
    assert sent[0] < 50_000_000


REFUSALS = {
    "INTERNAL a reason": (FlintServerError, 500, "a reason"),
    "CLOSED it leaves": (FlintServerError, 503, "it leaves"),
    "SURPRISE what is that": (FlintServerError, 500, "what is that"),
    "DISK_FULL no room": (flint.DiskFullError, 500, "no room"),
    "TABLE_FULL full": (flint.TableFullError, 500, "full"),
    "IO broken": (flint.FlintOSError, 500, "broken"),
    "ERR unknown command 'FLINT.CHECK'": (FlintServerError, 404, "older than the client"),
    "NOAUTH Authentication required.": (FlintServerError, 401, "Authentication required."),
    "NOPERM not yours": (FlintServerError, 403, "not yours"),
    "NOT_CONFIGURED in other words": (
        flint.NotConfiguredError,
        400,
        "limit is not configured: a",
    ),
}


@both
@pytest.mark.parametrize("said", REFUSALS)
def test_refusals(caller: Caller, said: str) -> None:
    kind, status, text = REFUSALS[said]
    with native(once(refusal(said))) as server:
        choices: tuple[OnError, ...] = ("raise", "deny")
        for on_error in choices:
            with SharedLimiter(url_of(server), on_error=on_error) as limiter:
                [checked] = caller(limiter, ("check", "a"))
            if on_error == "deny" and status >= 500:
                assert (checked.undecided, checked.retry_after) == (True, 1.0)
                continue
            assert type(checked) is kind
            assert str(checked).endswith(text)
            if kind is FlintServerError:
                assert checked.status == status


def test_what_is_wrong_with_the_call_is_a_value_error() -> None:
    with (
        native(once(refusal("ERR cost is above the burst"))) as server,
        SharedLimiter(url_of(server), on_error="deny") as limiter,
    ):
        with pytest.raises(ValueError, match=r"^cost is above the burst$"):
            limiter.check("a")
        with pytest.raises(ValueError, match=r"^cost is above the burst$"):
            asyncio.run(limiter.acheck("a"))


@both
def test_on_error_answers_checks_alone(caller: Caller) -> None:
    calls = [("check", "a"), ("allow", "a"), ("peek", "a"), ("check_all", ["a", "b"])]
    with SharedLimiter("flint://127.0.0.1:1", on_error="allow") as limiter:
        checked, allowed, peeked, several, listed = caller(limiter, *calls, ("list",))
    assert (checked.allowed, checked.undecided, allowed, peeked.allowed) == (True,) * 4
    assert several["allowed"]
    assert [one["key"] for one in several["results"]] == ["a", "b"]
    assert "Connection refused" in error_of(listed)


@both
def test_a_server_that_fails_again_and_again_is_left_alone(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "time", types.SimpleNamespace(monotonic=lambda: 1000.0))

    def behave(connection: NativeConnection) -> None:
        connection.request()

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
        found = caller(limiter, *[("check", "a")] * 5)
        assert server.counts == [1, 1, 1]
    for one in found[:3]:
        assert error_of(one).endswith(UNKNOWN)
    for one in found[3:]:
        assert error_of(one).endswith("ended the connection; it is asked again each second")


# ---- Many questions on one connection ----------------------------------------------------------


def named(key: bytes) -> bytes:
    return reply({**CHECKED, "key": key.decode()})


def test_questions_share_a_connection_and_get_their_own_answers() -> None:
    def patient(connection: NativeConnection) -> None:
        connection.words()
        connection.send(reply(HELLO))
        asked = [connection.words() for _ in range(10)]  # all are there before one is answered
        connection.send(b"".join(named(words[1]) for words in asked))
        connection.until_closed()

    with native(patient) as server, SharedLimiter(url_of(server)) as limiter:

        async def main() -> list[str]:
            checks = (limiter.acheck(f"key:{number}") for number in range(10))
            return [one.key for one in await asyncio.gather(*checks)]

        assert asyncio.run(main()) == [f"key:{number}" for number in range(10)]
        assert len(server.counts) == 1


def test_who_gives_up_leaves_the_answers_of_the_others_alone() -> None:
    go_on = threading.Event()

    def behave(connection: NativeConnection) -> None:
        asked = [connection.request(), connection.request()]
        go_on.wait(DEADLINE_S)
        for one in asked:
            connection.send(named((one or b"").split()[1]))
        while one := connection.request():
            connection.send(named(one.split()[1]))

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:

        async def main() -> None:
            first = asyncio.create_task(limiter.acheck("one"))
            while server.counts != [1]:
                await asyncio.sleep(0.001)
            second = asyncio.create_task(limiter.acheck("two"))
            while server.counts != [2]:
                await asyncio.sleep(0.001)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            go_on.set()
            assert (await second).key == "two"
            assert (await limiter.acheck("three")).key == "three"

        asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
        assert server.counts == [3]


def test_a_slow_question_holds_nobody_up() -> None:
    go_on = threading.Event()

    def behave(connection: NativeConnection) -> None:
        while request := connection.request():
            if request.startswith(b"FLINT.COMPACT"):
                connection.until_closed()  # it never ends
            elif b"held" in request.split():
                go_on.wait(DEADLINE_S)
                connection.send(named(b"held"))
            else:
                connection.send(reply())

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:

        async def main() -> None:
            assert await limiter.acheck("a")
            held = asyncio.create_task(limiter.acheck("held"))
            while sum(server.counts) < 2:
                await asyncio.sleep(0.001)
            compacting = [asyncio.create_task(limiter.acompact()) for _ in range(6)]
            while sum(server.counts) < 5:
                await asyncio.sleep(0.001)
            go_on.set()
            assert await held
            while sum(server.counts) < 6:  # the compaction behind it
                await asyncio.sleep(0.001)
            assert await limiter.acheck("a")
            for task in compacting:
                task.cancel()
            await asyncio.gather(*compacting, return_exceptions=True)
            assert await limiter.acheck("a")

        asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
        # Four at a time, and nothing behind any.
        assert sum(one[-1:] == [b"FLINT.COMPACT"] for one in server.requests) == 4


def test_more_questions_than_one_connection_is_read_ahead_of() -> None:
    go_on = threading.Event()

    def behave(connection: NativeConnection) -> None:
        while request := connection.request():
            go_on.wait(DEADLINE_S)
            connection.send(named(request.split()[1]))

    with native(behave) as server, SharedLimiter(url_of(server), timeout=60) as limiter:

        async def main() -> None:
            checks = [asyncio.create_task(limiter.acheck("a")) for _ in range(300)]
            while len(server.requests) < 8:
                await asyncio.sleep(0.001)
            go_on.set()
            assert all(await asyncio.gather(*checks))

        asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
        assert len(server.counts) == 8
        assert sum(server.counts) == 300


def test_a_connection_that_is_silent_is_left_for_another() -> None:
    first = [True]

    def behave(connection: NativeConnection) -> None:
        is_first = first.pop() if first else False
        connection.request()
        wait_at_most(limiter, 0.2 if is_first else 60)
        connection.send(reply())
        if is_first:
            connection.until_closed()
        while connection.request():
            connection.send(reply())

    with native(behave) as server, SharedLimiter(url_of(server)) as limiter:

        async def main() -> None:
            assert await limiter.acheck("a")
            with pytest.raises(flint.FlintConnectionError, match="no answer in time"):
                await limiter.acheck("a")
            await asyncio.to_thread(server.wait_for_one_to_end)  # nobody waits for it any longer
            wait_at_most(limiter, 60)
            assert await limiter.acheck("a")

        asyncio.run(main())
        assert server.counts == [1, 1]


def test_what_is_opened_while_the_limiter_is_closed_is_ended() -> None:
    greeted, go_on = threading.Event(), threading.Event()

    def behave(connection: NativeConnection) -> None:
        connection.words()
        greeted.set()
        go_on.wait(DEADLINE_S)
        connection.send(reply(HELLO))
        while connection.request():
            connection.send(reply())

    with native(behave) as server, SharedLimiter(url_of(server), timeout=60) as limiter:

        async def main() -> None:
            checks = [asyncio.create_task(limiter.acheck("a")) for _ in range(3)]
            assert await asyncio.to_thread(greeted.wait, DEADLINE_S)
            limiter.close()
            go_on.set()
            assert all(await asyncio.gather(*checks))
            await asyncio.to_thread(server.wait_for_one_to_end)  # before the loop does

        asyncio.run(main())
        assert server.counts == [3]


def test_loops_end_what_they_opened() -> None:
    def behave(connection: NativeConnection) -> None:
        while connection.request():
            connection.send(reply())

    with native(behave) as server, SharedLimiter(url_of(server)) as shared:
        for _ in range(3):
            assert asyncio.run(shared.acheck("a"))
            server.wait_for_one_to_end()
        assert server.counts == [1, 1, 1]


def test_a_signal_in_the_middle_of_an_answer() -> None:
    """Ctrl-C ends a call, and the rest of its answer is nobody's."""
    first = [True]

    def behave(connection: NativeConnection) -> None:
        while connection.request():
            if first.pop() if first else False:
                connection.send(reply()[:40])
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                connection.until_closed()
                return
            connection.send(reply())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with native(behave) as server, SharedLimiter(url_of(server)) as limiter:
            with pytest.raises(KeyboardInterrupt):
                limiter.check("a")
            assert limiter.check("a").remaining == 4
            assert server.counts == [1, 1]
    finally:
        signal.signal(signal.SIGUSR1, before)


# ---- The reader --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["twice", "numbered", "deep", "many", "no text", "another end"])
def test_what_is_no_reply(name: str) -> None:
    reader = resp.Reader()
    reader.feed(GARBAGE[name])
    with pytest.raises(GarbageError):
        reader.read()


def test_replies_are_read_however_they_are_cut() -> None:
    values: list[Any] = [CHECKED, [1, [True, None], {}], "", "a\r\nb é", -(2**63), 2**64 - 1, []]
    data = b"".join(map(reply, values)) + refusal("ERR a reason") + OK
    wanted = [*values, resp.Refusal("ERR", "a reason"), "OK"]
    for size in (1, 2, 3, 7, 64, len(data)):
        reader = resp.Reader()
        found: list[Any] = []
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
            while (value := reader.read()) is not resp.MORE:
                found.append(value)
        assert found == wanted
        assert reader.is_empty
