"""`acquire` over all processes that share a directory: first come, first served."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flint
from flint._local import shared_lines
from flint._local.sharing import describe
from sharing import raw
from sharing.member import Member

Three = tuple[Member, Member, Member]
JOIN, LEAVE, PLACE, HERE = 17, 18, 19, 20
DEADLINE_S = 120


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


@pytest.fixture
def three(path: Path) -> Iterator[Three]:
    """The first owns the directory."""
    with Member(path) as owner, Member(path) as one, Member(path) as two:
        yield owner, one, two


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def in_line(path: Path) -> int:
    """How many stand in a line, as the owner tells."""
    found = describe(str(path))
    return 0 if found is None else sum(one["callers"] for one in found["waiting"])


def send_and_wait(path: Path, member: Member, call: str) -> None:
    """Have a member call something that makes it stand in line."""
    before = in_line(path)
    member.send(call)
    wait_until(lambda: in_line(path) == before + 1)


def admitted(limiter: flint.Limiter) -> list[int]:
    """The costs of what "k" has been admitted, oldest first."""
    return [one["cost"] for one in limiter.history("k") if one["type"] == "ALLOW"]


SYNC = "limiter.acquire('k', {}).cost"
ASYNC = "__import__('asyncio').run(limiter.aacquire('k', {})).cost"


@pytest.mark.parametrize("acquire", [SYNC, ASYNC])
def test_whoever_came_first_is_served_first(path: Path, three: Three, acquire: str) -> None:
    owner, one, two = three
    with flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", rate=10, per="365d")
        assert limiter.allow("k", 9)
        send_and_wait(path, one, acquire.format(10))
        send_and_wait(path, two, acquire.format(1))  # it is there, but not for him
        send_and_wait(path, owner, acquire.format(2))
        assert admitted(limiter) == [9]
        limiter.reset("k")
        assert one.answer() == 10
        wait_until(lambda: in_line(path) == 2)
        limiter.reset("k")
        assert two.answer() == 1
        assert owner.answer() == 2
        assert admitted(limiter) == [9, 10, 1, 2]
        wait_until(lambda: in_line(path) == 0)


def test_many_processes_and_threads(path: Path, three: Three) -> None:
    program = (
        "sum(one.cost for one in __import__('concurrent.futures').futures.ThreadPoolExecutor(8)"
        ".map(limiter.acquire, ['k'] * 8, [3] * 8))"
    )
    owner, one, two = three
    with flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", rate=200, per="1s", burst=10, algorithm="token_bucket")
        for member in (owner, one, two):
            member.send(program)
        assert [member.answer() for member in (owner, one, two)] == [24, 24, 24]
        status = limiter.status("k")
        assert status is not None
        assert status["total_allowed"] == 24
        wait_until(lambda: in_line(path) == 0)


@pytest.mark.parametrize("changes", [0, 2])
def test_a_limit_that_a_check_changes_wakes_who_waits(
    path: Path, three: Three, changes: int
) -> None:
    """At once, whether the owner makes that check or another."""
    _, one, _ = three
    limits = {"rate": 1, "per": "365d"}
    assert one.ask(f"limiter.allow('k', **{limits})") is True
    send_and_wait(path, one, "[time.monotonic(), limiter.acquire('k').cost, time.monotonic()]")
    changed_at = time.monotonic()
    assert three[changes].ask("limiter.allow('k', rate=1000, per='365d')") is True
    asked_at, _, answered_at = one.answer()
    assert asked_at < changed_at
    assert answered_at - changed_at < 5


def test_a_process_that_dies_leaves_its_line(path: Path, three: Three) -> None:
    owner, one, two = three
    owner.ask("limiter.limit('k', rate=10, per='365d')")
    owner.ask("limiter.allow('k', 9)")
    send_and_wait(path, one, SYNC.format(10))
    send_and_wait(path, two, SYNC.format(1))
    one.process.kill()
    assert two.answer() == 1


def test_a_process_that_is_stopped_loses_its_place(path: Path, three: Three) -> None:
    owner, one, two = three
    owner.ask("limiter.limit('k', rate=10, per='365d')")
    owner.ask("limiter.allow('k', 9)")
    send_and_wait(path, one, SYNC.format(10))
    send_and_wait(path, two, SYNC.format(1))
    one.stop()
    assert two.answer() == 1
    os.kill(one.process.pid, signal.SIGCONT)
    wait_until(lambda: in_line(path) == 1)
    owner.ask("limiter.reset('k')")
    assert one.answer() == 10


def test_a_forked_child_has_no_part_in_it(path: Path) -> None:
    start = "__import__('threading').Thread(target=limiter.acquire, args=('k',), daemon=True)"
    sockets = (
        "[os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]"
        ".__str__().count('socket')"
    )
    fork = f"[os.waitpid(os.fork() or os._exit({sockets}), 0)[1] for os in [__import__('os')]]"
    with Member(path) as owner, Member(path) as one:
        owner.ask("limiter.limit('k', rate=1, per='365d')")
        owner.ask("limiter.allow('k')")
        send_and_wait(path, one, f"{start}.start()")
        assert one.answer() is None
        assert one.ask(fork) == [0]
        assert in_line(path) == 1


def test_who_waits_queues_again_when_the_owner_is_gone(path: Path, three: Three) -> None:
    owner, one, two = three
    with flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", rate=10, per="365d")
        assert limiter.allow("k", 10)
        send_and_wait(path, one, SYNC.format(6))
        send_and_wait(path, two, ASYNC.format(5))
        owner.process.kill()
        owner.process.wait()
        # Nobody but those two calls anything.
        wait_until(lambda: in_line(path) == 2)
        limiter.reset("k")
        wait_until(lambda: in_line(path) == 1)
        limiter.reset("k")
        assert (one.answer(), two.answer()) == (6, 5)
        assert sorted(admitted(limiter)) == [5, 6, 10]


@pytest.mark.parametrize("acquire", ["acquire", "aacquire"])
def test_giving_up_behind_another_process(path: Path, three: Three, acquire: str) -> None:
    call = f"limiter.{acquire}('k', 1, timeout=0)"
    if acquire == "aacquire":
        call = f"__import__('asyncio').run({call})"
    owner, one, two = three
    owner.ask("limiter.limit('k', rate=10, per='1000s')")
    owner.ask("limiter.allow('k', 9)")
    send_and_wait(path, one, SYNC.format(10))
    for member in (owner, two):
        allowed, retry_after = member.ask(
            f"[(one.allowed, one.retry_after) for one in [{call}]][0]"
        )
        assert allowed is False
        assert retry_after > 500  # of all ten, and not of the one that is there
    assert two.ask("limiter.status('k')['total_denied']") == 2
    wait_until(lambda: in_line(path) == 1)
    owner.ask("limiter.reset('k')")
    assert one.answer() == 10


def test_closing_ends_those_who_wait(path: Path) -> None:
    closing = "[__import__('threading').Timer(0.1, limiter.close).start(), limiter.acquire('k')]"
    with Member(path) as owner, Member(path) as client:
        owner.ask("limiter.limit('k', rate=1, per='365d')")
        owner.ask("limiter.allow('k')")
        for member in (client, owner):
            assert member.ask(closing)[0] == "ClosedError"


def no_descriptor(_directory: str) -> socket.socket:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_an_owner_that_does_not_tell(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_lines, "connected", no_descriptor)
    monkeypatch.setattr(shared_lines, "_LONGEST_UNTOLD_S", 0.2)
    with (
        ThreadPoolExecutor() as pool,
        flint.Limiter(path, shared=True, answer_timeout="100ms") as limiter,
    ):
        limiter.limit("k", "1000/s")
        waits = [
            pool.submit(limiter.acquire, "k", timeout=0),
            pool.submit(lambda: asyncio.run(limiter.aacquire("k"))),
        ]
        for one in waits:
            error = one.exception(DEADLINE_S)
            assert isinstance(error, flint.FlintConnectionError)
            assert "does not tell who is first in line" in str(error)


def test_who_asks_late_where_it_stands_waits_for_the_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(limiter: flint.Limiter) -> None:
        first = asyncio.ensure_future(limiter.aacquire("k", 10))
        second = asyncio.ensure_future(limiter.aacquire("k", 1))
        lines = limiter._lines
        assert isinstance(lines, shared_lines.SharedLines)
        while [one.place is None for one in lines._standing.values()] != [False, False]:
            await asyncio.sleep(0.001)
        waiter, standing = list(lines._standing.items())[1]
        standing.since = -1e9  # it was told long ago
        with monkeypatch.context() as patch:
            patch.setattr(lines._link, "add", lambda *_: None)
            assert lines._place_of(waiter, gives_up=True) is None
            assert lines._place_of(waiter, gives_up=True) is None
        for one in (first, second):
            one.cancel()

    with flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", rate=10, per="365d")
        assert limiter.allow("k", 9)
        asyncio.run(asyncio.wait_for(main(limiter), DEADLINE_S))


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_nobody_stands_in_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor() as pool, flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", "1000/s")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="new thread"):
                limiter.acquire("k")
        assert pool.submit(limiter.acquire, "k").result(DEADLINE_S)
        wait_until(lambda: in_line(path) == 0)


def test_what_the_thread_fails_with_is_raised_by_those_who_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(_directory: str) -> socket.socket:
        go_on.wait(DEADLINE_S)
        raise MemoryError

    go_on = threading.Event()
    with ThreadPoolExecutor() as pool, flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", "1000/s")
        with monkeypatch.context() as patch:
            patch.setattr(shared_lines, "connected", connected)
            waits = [
                pool.submit(limiter.acquire, "k"),
                pool.submit(lambda: asyncio.run(limiter.aacquire("k"))),
            ]
            lines = limiter._lines
            assert isinstance(lines, shared_lines.SharedLines)
            wait_until(lambda: len(lines._standing) == 2)
            go_on.set()
            for one in waits:
                assert type(one.exception(DEADLINE_S)) is MemoryError
        assert pool.submit(limiter.acquire, "k").result(DEADLINE_S)
        wait_until(lambda: in_line(path) == 0)


# ---- What is said over the socket --------------------------------------------------------------


def join(number: int, key: bytes, cost: int = 1) -> bytes:
    return raw.message(JOIN, struct.pack("<QQI", number, cost, len(key)) + key)


def numbered(function: int, number: int) -> bytes:
    return raw.message(function, struct.pack("<Q", number))


def told(stream: Any) -> tuple[int, int, int, int]:
    """Code, whether it is first, number, units ahead; what is asked is answered."""
    while True:
        code, body = raw.reply(stream)
        first, number, units_ahead = struct.unpack("<IQQ", body)
        if number != 0:
            return code, first, number, units_ahead
        stream.sendall(raw.message(HERE))


def test_places(path: Path) -> None:
    most = 2**64 - 1
    with flint.Limiter(path, shared=True) as limiter, raw.connect(path) as one:
        one.sendall(join(1, b"a", 5) + join(2, b"b") + join(3, b"a", most) + join(4, b"a"))
        assert told(one) == (0, 1, 1, 0)
        assert told(one) == (0, 1, 2, 0)
        assert told(one) == (0, 0, 3, 5)
        assert told(one) == (0, 0, 4, most)
        one.sendall(join(4, b"b"))  # a second time
        assert told(one)[0] == 5
        with raw.connect(path) as other:
            other.sendall(join(1, b"a"))
            assert told(other) == (0, 0, 1, most)
            one.sendall(numbered(LEAVE, 3) + numbered(LEAVE, 99) + numbered(PLACE, 4))
            assert told(one) == (0, 0, 4, 5)
            limiter.limit("unrelated", "1/s")  # whoever is first looks at his limit again
            assert sorted([told(one), told(one)]) == [(0, 1, 1, 0), (0, 1, 2, 0)]
            one.sendall(numbered(LEAVE, 1))
            assert told(one) == (0, 1, 4, 0)
            one.close()
            assert told(other) == (0, 1, 1, 0)


def test_lines_are_bounded(path: Path) -> None:
    most = 16384
    with flint.Limiter(path, shared=True), raw.connect(path) as stream:
        for number in range(1, most + 1):
            stream.sendall(join(number, b"k" if number % 2 else b"%d" % number))
            if number % 64 == 0:
                assert {told(stream)[0] for _ in range(64)} == {0}
        stream.sendall(join(most + 1, b"k"))
        assert told(stream)[0] == 5
        stream.sendall(numbered(LEAVE, 2) + join(most + 1, b"k"))
        assert told(stream) == (0, 0, most + 1, most // 2)


def test_keys_of_lines_are_bounded(path: Path) -> None:
    with flint.Limiter(path, shared=True), raw.connect(path) as stream:
        for number in range(1, 1025):
            stream.sendall(join(number, b"%065536d" % number))
            assert told(stream) == (0, 1, number, 0)
        stream.sendall(join(2000, b"k"))
        assert told(stream)[0] == 5
        stream.sendall(join(2001, b"%065536d" % 1))  # a line that is there
        assert told(stream) == (0, 0, 2001, 1)
        stream.sendall(numbered(LEAVE, 7) + join(2000, b"k"))
        assert told(stream) == (0, 1, 2000, 0)


def told_before_a_check(stream: socket.socket, numbers: range, other: flint.Limiter) -> int:
    """Of many who ask where they stand, how many are told before somebody else's check is decided,
    when the owner has begun to tell."""
    stream.sendall(b"".join(numbered(PLACE, number) for number in numbers))
    begun, received = 1000, 0
    for _ in range(begun):
        told(stream)
    assert other.allow("other")
    while select.select([stream], [], [], 0)[0]:
        told(stream)
        received += 1
    for _ in range(len(numbers) - begun - received):
        told(stream)
    return received


def test_a_long_line_that_asks_where_it_stands_holds_nobody_up(path: Path) -> None:
    most, asking = 16384, 8000
    with flint.Limiter(path, shared=True) as owner, raw.connect(path) as stream:
        owner.limit("other", "1000/s")
        for number in range(1, most + 1):
            stream.sendall(join(number, b"k"))
            if number % 64 == 0:
                for _ in range(64):
                    told(stream)
        with flint.Limiter(path, shared=True, answer_timeout="5m") as client:
            last = range(most + 1 - asking, most + 1)
            # Where it is this process that is late it is tried again.
            assert min(told_before_a_check(stream, last, client) for _ in range(5)) < 1000


@pytest.mark.parametrize(
    "sent", [raw.message(JOIN), join(1, b"k") + b"", raw.message(LEAVE, b"1"), raw.message(21)]
)
def test_what_cannot_be_read_ends_the_connection(path: Path, sent: bytes) -> None:
    if sent == join(1, b"k"):
        sent = raw.message(JOIN, join(1, b"k")[8:] + b"more")
    with flint.Limiter(path, shared=True), raw.connect(path) as stream:
        stream.sendall(sent)
        code, body = raw.reply(stream)
        assert code in (1, 5)
        assert raw.error(body)
        assert raw.receive(stream) == b""


# ---- Event loops -------------------------------------------------------------------------------

CALLS: dict[str, Callable[[flint.Limiter], Any]] = {
    "apeek": lambda limiter: limiter.apeek("k"),
    "apeek of several": lambda limiter: limiter.apeek("new", limit="5/m; 10/h"),
    "acheck": lambda limiter: limiter.acheck("k"),
    "aallow": lambda limiter: limiter.aallow("k"),
    "acheck_all": lambda limiter: limiter.acheck_all(["k"]),
    "aacquire": lambda limiter: limiter.aacquire("k"),
    "aacquire in vain": lambda limiter: limiter.aacquire("empty", timeout=0),
    "alimit": lambda limiter: limiter.alimit("other", "5/m"),
    "alimit_many": lambda limiter: limiter.alimit_many([("other", "5/m")]),
    "areset": lambda limiter: limiter.areset("k"),
    "aremove": lambda limiter: limiter.aremove("k"),
    "astatus": lambda limiter: limiter.astatus("k"),
    "alist": lambda limiter: limiter.alist(),
    "atop": lambda limiter: limiter.atop(),
    "aflush": lambda limiter: limiter.aflush(),
}


def test_an_owner_that_is_stopped_does_not_stop_event_loops(path: Path) -> None:
    async def run(name: str, owner: Member, limiter: flint.Limiter) -> None:
        await limiter.areset("empty")
        assert await limiter.aallow("empty", 5)
        owner.stop()
        task = asyncio.ensure_future(CALLS[name](limiter))
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not task.done()
        os.kill(owner.process.pid, signal.SIGCONT)  # which a loop that waits for it does not do
        await task

    with Member(path) as owner, flint.Limiter(path, shared=True, answer_timeout="30s") as limiter:
        limiter.limit("k", rate=100, per="1h")
        limiter.limit("empty", rate=5, per="1h")
        for name in CALLS:
            asyncio.run(run(name, owner, limiter))
