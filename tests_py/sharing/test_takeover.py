"""What happens when the owner dies, is stopped, or forks."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import flint
from sharing import raw
from sharing.member import Member


@pytest.mark.parametrize("on_error", ["raise", "allow", "deny"])
def test_an_owner_that_is_stopped_is_not_taken_over(tmp_path: Path, on_error: str) -> None:
    path = tmp_path / "limits"
    options = {"answer_timeout": "100ms", "on_error": on_error}
    with Member(path) as owner, Member(path, **options) as client:
        client.ask("limiter.limit('k', rate=5, per='1h')")
        owner.stop()
        if on_error == "raise":
            kind, text = client.ask("limiter.allow('k')")
            assert kind == "FlintConnectionError"
            assert "has not answered for 0.100 s" in text
        else:
            assert client.ask("limiter.allow('k')") is (on_error == "allow")
            assert client.ask("limiter.check('k').undecided") is True
            assert client.ask("limiter.check_all(['k'])['allowed']") is (on_error == "allow")
        os.kill(owner.process.pid, signal.SIGCONT)
        assert client.ask("limiter.info()['role']") == "client"
        assert client.ask("limiter.info()['undecided']") == (0 if on_error == "raise" else 3)
        assert client.ask("bool(limiter.peek('k'))") is True


SIGNALS = "[__import__('signal').setitimer(0, 0.05, 0.05), 0][1]"
LARGE = "limiter.limit_many([('k' * 60000 + str(i), 5, '1h') for i in range(50)])"


@pytest.mark.parametrize("call", ["limiter.allow('k')", LARGE])
def test_signals_do_not_make_a_stopped_owner_one_that_answers(tmp_path: Path, call: str) -> None:
    path = tmp_path / "limits"
    with (
        Member(path) as owner,
        Member(path, answer_timeout="200ms") as client,
        contextlib.ExitStack() as waiting,
    ):
        client.ask("limiter.limit('k', rate=5, per='1h')")
        client.ask("str(__import__('signal').signal(14, lambda *_: None))")
        client.ask(SIGNALS)
        owner.stop()

        def must_fail() -> None:
            client.send(call)
            assert client.process.stdout is not None
            assert select.select([client.process.stdout], [], [], 60)[0]
            assert client.answer()[0] == "FlintConnectionError"

        must_fail()
        with contextlib.suppress(BlockingIOError):  # until nobody can connect any more
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(str(path / "flint.sock"))
        must_fail()


def test_an_owner_that_closes_every_connection_is_not_asked_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    welcome = struct.pack("<Ii", 4, 0)
    with (
        raw.foreign_owner(path, welcome),
        pytest.raises(flint.FlintConnectionError, match=r"without an answer for 0\.100 s"),
    ):
        flint.Limiter(path, shared=True, lock_timeout="100ms")


def test_a_client_waits_for_whoever_recovers(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with Member(path) as owner, Member(path) as one, Member(path) as two:
        owner.ask("limiter.limit('k', rate=100, per='1h')")
        owner.process.kill()
        owner.process.wait()
        for member in (one, two):
            member.send("limiter.allow('k')")
        assert (one.answer(), two.answer()) == (True, True)
        assert sorted(member.ask("limiter.info()['role']") for member in (one, two)) == [
            "client",
            "owner",
        ]
        assert int(raw.describe(path)[0][3]) > 0  # how long it took


FORKS = """
import os, sys, time
import flint
path, kind = sys.argv[1:]
if kind == "client":
    owner = flint.Limiter(path, shared=True)
limiter = flint.Limiter(path, shared=True)
assert limiter.info()["role"] == kind
limiter.limit("k", rate=10, per="1h")
assert limiter.allow("k")
into, out = os.pipe()
pid = os.fork()
if pid == 0:
    # Whoever has the parent's descriptors must not keep anybody from taking over.
    os.close(out)
    assert limiter.info()["role"] == "client"
    assert limiter.allow("k")
    print("child", flush=True)
    os.read(into, 1)  # the parent is gone
    assert limiter.check("k").remaining == 7
    print(limiter.info()["role"], flush=True)
    limiter.close()
    os._exit(0)
os.close(into)
time.sleep(float(sys.stdin.readline()))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", ["owner", "client"])
def test_a_forked_child_goes_on(tmp_path: Path, kind: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "limits"), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "child\n"
    process.stdin.write("0\n")
    process.stdin.flush()
    assert process.stdout.readline() == "owner\n"
    assert process.stdout.read() == ""
    process.wait()
    process.stdin.close()
    process.stdout.close()


def use_in_child(path: str, queue: multiprocessing.Queue[int]) -> None:
    with flint.Limiter(path, shared=True) as limiter:
        queue.put(limiter.check("k").remaining)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    path = str(tmp_path / "limits")
    context = multiprocessing.get_context(method)
    with flint.Limiter(path, shared=True) as limiter:
        limiter.limit("k", rate=3, per="1h")
        queue = context.Queue()
        processes = [context.Process(target=use_in_child, args=(path, queue)) for _ in range(3)]
        for process in processes:
            process.start()
        assert sorted(queue.get(timeout=60) for _ in processes) == [0, 1, 2]
        for process in processes:
            process.join()
        assert not limiter.allow("k")
