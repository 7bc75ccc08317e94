"""What happens when the owner dies, is stopped, or forks."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

import flint
from sharing import raw
from sharing.member import Member

LONG = os.environ.get("FLINT_LONG") == "1"
WORKERS = 8

# Counts what it was answered in its slot of a file that outlives it, and its longest call.
WORKER = """
import mmap, struct, sys, time
import flint
path, sync, slots, slot = sys.argv[1:]
with open(slots, "r+b") as file:
    shared = mmap.mmap(file.fileno(), 0)
limiter = flint.Limiter(path, sync=sync, shared=True)
admitted = longest_ns = asked = 0
while True:
    begun_ns = time.perf_counter_ns()
    result = limiter.check("k")
    longest_ns = max(longest_ns, time.perf_counter_ns() - begun_ns)
    admitted += bool(result)
    asked += 1
    struct.pack_into("<QQQ", shared, 24 * int(slot), admitted, asked, longest_ns)
"""


def start_worker(path: Path, sync: str, slots: Path, slot: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(path), sync, str(slots), str(slot)]
    return subprocess.Popen(command)


def read_slots(slots: Path, count: int) -> list[tuple[int, int, int]]:
    data = slots.read_bytes()
    return [struct.unpack_from("<QQQ", data, 24 * slot) for slot in range(count)]


def wait_for_progress(slots: Path, count: int, before: int) -> None:
    while sum(one[1] for one in read_slots(slots, count)) <= before:
        time.sleep(0.001)


@pytest.mark.parametrize("sync", ["batch", "always"])
def test_nothing_answered_is_lost_when_owners_are_killed(tmp_path: Path, sync: str) -> None:
    kills = 1000 if LONG else 10
    rate = 2_000_000 if LONG else 4_000
    path = tmp_path / "limits"
    slots = tmp_path / "slots"
    count = WORKERS + kills
    slots.write_bytes(bytes(24 * count))
    with flint.Limiter(path, sync=sync, shared=True) as first:
        first.limit("k", rate=rate, per="365d", algorithm="fixed_window_counter")
    workers = [start_worker(path, sync, slots, slot) for slot in range(WORKERS)]
    try:
        wait_for_progress(slots, count, 0)
        for kill in range(kills):
            pid = raw.kill_owner(path)
            asked = sum(one[1] for one in read_slots(slots, count))
            (dead,) = (one for one in workers if one.pid == pid)
            dead.wait()
            workers.remove(dead)
            workers.append(start_worker(path, sync, slots, WORKERS + kill))
            wait_for_progress(slots, count, asked + WORKERS)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    seen = read_slots(slots, count)
    answered = sum(one[0] for one in seen)
    with flint.Limiter(path, sync=sync) as last:
        status = last.status("k")
        assert last.doctor()["ok"]
    assert status is not None
    longest_ms = [one[2] / 1e6 for one in seen if one[1] > 0]
    print(f"{kills} kills, {sync}: longest call {max(longest_ms):.1f} ms, {answered} answered")
    # Each worker has at most one check under way when an owner dies, and at the end.
    under_way = (kills + 1) * (WORKERS + 1)
    assert answered <= status["total_allowed"] <= min(rate, answered + under_way)


def test_two_openers_at_once(tmp_path: Path) -> None:
    script = """
import sys, flint
for line in sys.stdin:
    with flint.Limiter(line.strip(), shared=True, sync="batch") as limiter:
        limiter.limit("k", rate=2, per="1h")
        print(int(limiter.allow("k")), flush=True)
        sys.stdin.readline()
"""
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for i in range(100):
            for one in pair:
                assert one.stdin is not None
                one.stdin.write(f"{tmp_path / str(i)}\n")
                one.stdin.flush()
            for one in pair:
                assert one.stdout is not None
                assert one.stdout.readline() == "1\n"
            for one in pair:
                assert one.stdin is not None
                one.stdin.write("\n")
                one.stdin.flush()
    finally:
        for one in pair:
            one.kill()
            one.communicate()
    for i in range(100):
        with flint.Limiter(tmp_path / str(i), sync="batch") as limiter:
            assert limiter.status("k")["total_allowed"] == 2  # type: ignore[index]


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


def test_signals_do_not_make_a_stopped_owner_one_that_answers(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with Member(path) as owner, Member(path, answer_timeout="200ms") as client:
        client.ask("limiter.limit('k', rate=5, per='1h')")
        client.ask("str(__import__('signal').signal(14, lambda *_: None))")
        client.ask("__import__('signal').setitimer(0, 0.05, 0.05)")
        owner.stop()
        client.send("limiter.allow('k')")
        assert client.process.stdout is not None
        assert select.select([client.process.stdout], [], [], 60)[0]
        assert client.answer()[0] == "FlintConnectionError"


def test_damage_at_a_takeover_is_loud(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with Member(path) as owner, flint.Limiter(path, shared=True) as client:
        for i in range(100):
            client.limit(f"k{i}", rate=5, per="1h")
        owner.process.kill()
        owner.process.wait()
        with (path / "flint.aof").open("r+b") as file:
            file.seek(4096 + 200)
            file.write(b"\xff" * 8)
        for _ in range(2):
            with pytest.raises(flint.CorruptionError):
                client.check("k1")


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


GUNICORN = """
import os
import flint
limiter = flint.Limiter(os.environ["LIMITS"], shared=True)
limiter.limit("k", rate=5, per="1h")

def app(environ, start_response):
    result = limiter.check("k")
    start_response("200 OK" if result else "429 Too Many Requests", [])
    return [limiter.info()["role"].encode()]
"""


def test_gunicorn_with_preload(tmp_path: Path) -> None:
    gunicorn = pytest.importorskip("gunicorn")
    assert gunicorn is not None
    from urllib.error import HTTPError
    from urllib.request import urlopen

    (tmp_path / "application.py").write_text(GUNICORN)
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:0"]
    environment = {**os.environ, "LIMITS": str(tmp_path / "limits"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--chdir", str(tmp_path), "application:app"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(line for line in process.stderr if "Listening at" in line)
        url = url.split("Listening at: ")[1].split()[0]
        bodies = [urlopen(url, timeout=30).read() for _ in range(5)]
        assert bodies == [b"client"] * 5  # the arbiter owns it
        with pytest.raises(HTTPError, match="429"):
            urlopen(url, timeout=30)
    finally:
        process.terminate()
        process.communicate()
