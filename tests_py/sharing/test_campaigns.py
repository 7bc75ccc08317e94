"""What becomes of those who share a directory when many come, when they come at once, and when
something that they need is missing.

FLINT_LONG=1 opens at once 10,000 times; the result is in tests_py/results/sharing.txt."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PACKAGE_ROOT
from test_failures import MOUNT, NAMESPACE, why_no_disk

import flint
from sharing import raw
from sharing.member import Member

LONG = "FLINT_LONG" in os.environ
OPENINGS = 10_000 if LONG else 50
CLIENTS = 200
PROCESSES = 200 if LONG else 8
DEADLINE_S = 120


# ---- Many ----------------------------------------------------------------------------------------

OPENER = """
import sys, flint
for line in sys.stdin:
    with flint.Limiter(line.strip(), shared=True, sync="batch", answer_timeout="5m") as limiter:
        limiter.limit("k", rate=2, per="1d")
        print(int(limiter.allow("k")), limiter.info()["role"], flush=True)
        sys.stdin.readline()
"""


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_two_openers_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENER]
    pipe = subprocess.PIPE
    pair = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    begun_s = time.monotonic()
    try:
        for i in range(OPENINGS):
            path = tmp_path / str(i)
            for one in pair:
                tell(one, str(path))
            assert sorted(heard(one) for one in pair) == ["1 client\n", "1 owner\n"]
            for one in pair:
                tell(one, "")
            with flint.Limiter(path, sync="batch", lock_timeout=DEADLINE_S) as limiter:
                assert limiter.status("k")["total_allowed"] == 2  # type: ignore[index]
            shutil.rmtree(path)
    finally:
        for one in pair:
            one.kill()
            one.communicate()
    print(f"two openers at once {OPENINGS:,} times: {time.monotonic() - begun_s:.0f} s")


MANY = """
import sys, flint
limiters = [flint.Limiter(sys.argv[1], shared=True, answer_timeout="5m")
            for _ in range(int(sys.argv[2]))]
print("open", flush=True)
sys.stdin.readline()
print(sum(limiter.allow("k") for limiter in limiters for _ in range(5)), flush=True)
sys.stdin.readline()
"""


def test_200_clients(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    command = [sys.executable, "-c", MANY, str(path), str(CLIENTS // PROCESSES)]
    pipe = subprocess.PIPE
    with flint.Limiter(path, shared=True) as owner:
        owner.limit("k", rate=5 * CLIENTS - 1, per="1d")
        processes = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)
        ]
        try:
            assert [heard(one) for one in processes] == ["open\n"] * PROCESSES
            assert len(raw.describe(path)) == 1 + CLIENTS
            for one in processes:
                tell(one, "")
            assert sum(int(heard(one)) for one in processes) == 5 * CLIENTS - 1
        finally:
            for one in processes:
                one.kill()
                one.communicate()


# ---- Other versions and other users --------------------------------------------------------------


def refusal(text: str) -> bytes:
    body = struct.pack("<iiqQI", 5, 0, 0, 0, 0) + struct.pack("<I", len(text)) + text.encode()
    return struct.pack("<I", len(body)) + body


def test_an_owner_of_another_version_refuses(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    told = "owned by a process with Flint 9.0.0: stop the older ones first"
    with (
        raw.foreign_owner(path, refusal(told)),
        pytest.raises(flint.UnsupportedError, match=r"Flint 9\.0\.0: stop the older ones first"),
    ):
        flint.Limiter(path, shared=True)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64])
def test_an_owner_that_speaks_otherwise_is_not_waited_for(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "limits"
    with raw.foreign_owner(path, answer), pytest.raises(flint.LockedError, match="does not share"):
        flint.Limiter(path, shared=True, lock_timeout="100ms", answer_timeout="30s")


# What it needs of Python and Flint it has loaded before: they may be where nobody else can read.
AS_NOBODY = """
import os, sys, tempfile, flint
with tempfile.TemporaryDirectory() as own, flint.Limiter(own, shared=True) as limiter:
    limiter.limit("k", rate=1, per="1h")
error = flint.FlintPermissionError
os.setuid(65534)
try:
    limiter = flint.Limiter(sys.argv[1], shared=True, file_mode=0o666)
except flint.FlintPermissionError as error:
    print(error, flush=True)
else:
    limiter.limit("k", rate=1, per="1h")
    print(limiter.info()["role"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Below no directory that is one user's alone, as those of pytest are."""
    with tempfile.TemporaryDirectory(prefix="flint-test-") as top:
        Path(top).chmod(0o755)
        path = Path(top) / "limits"
        path.mkdir()
        path.chmod(0o777)
        yield path


@contextlib.contextmanager
def nobody(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", AS_NOBODY, str(path)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.filterwarnings("ignore::flint.FlintWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(open_to_all: Path) -> None:
    with flint.Limiter(open_to_all, shared=True, file_mode=0o666), nobody(open_to_all) as other:
        assert "must be of one user" in heard(other)


@pytest.mark.filterwarnings("ignore::flint.FlintWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_owner_is_refused(open_to_all: Path) -> None:
    with nobody(open_to_all) as owner:
        assert heard(owner) == "owner\n"
        with pytest.raises(flint.FlintPermissionError, match=r"user 65534.* must be of one user"):
            flint.Limiter(open_to_all, shared=True, file_mode=0o666)


# ---- What is missing -----------------------------------------------------------------------------


def test_an_owner_without_descriptors_serves_those_it_has(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    limit = "__import__('resource').setrlimit(7, ({}, __import__('resource').getrlimit(7)[1]))"
    with (
        Member(path) as owner,
        flint.Limiter(path, shared=True) as client,
        contextlib.ExitStack() as more,
    ):
        client.limit("k", rate=2, per="1h")
        descriptors = Path(f"/proc/{owner.process.pid}/fd")
        before = owner.ask("__import__('resource').getrlimit(7)[0]")
        most = len(list(descriptors.iterdir())) + 4
        owner.ask(limit.format(most))
        while len(list(descriptors.iterdir())) < most:
            more.enter_context(raw.connect(path))
            time.sleep(0.01)
        with pytest.raises(flint.FlintConnectionError, match="has not answered"):
            flint.Limiter(path, shared=True, answer_timeout="100ms")
        assert client.allow("k")
        owner.ask(limit.format(before))
        with flint.Limiter(path, shared=True, answer_timeout="5m") as late:
            assert late.allow("k")
            assert not client.allow("k")


def test_a_client_without_descriptors_says_so_and_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    few = "__import__('resource').setrlimit(7, (3, __import__('resource').getrlimit(7)[1]))"
    with Member(path) as owner, Member(path) as client:
        owner.ask("limiter.limit('k', rate=1, per='1h')")
        before = client.ask("__import__('resource').getrlimit(7)")
        client.ask(few)
        owner.process.kill()
        owner.process.wait()
        for _ in range(2):
            kind, text = client.ask("limiter.allow('k')")
            assert (kind, "Too many open files" in text) == ("FlintOSError", True)
        client.ask(f"__import__('resource').setrlimit(7, {tuple(before)})")
        assert client.ask("limiter.allow('k')") is True
        assert client.ask("limiter.info()['role']") == "owner"


# In a mount namespace, where the first argument is a small file system of its own.
FULL_DISK = """
import os, subprocess, sys
import flint
from sharing.member import Member

top = sys.argv[1]
sizes = {"segment_bytes": 262144, "ring_bytes": 262144}
with Member(f"{top}/limits", **sizes) as owner:
    clients = [flint.Limiter(f"{top}/limits", shared=True, **sizes) for _ in range(2)]
    clients[0].limit("k", rate=3, per="1d")
    assert clients[1].allow("k")
    owner.process.kill()
    owner.process.wait()
with open(f"{top}/ballast", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
for client in 2 * clients:
    try:
        client.check("k")
    except flint.DiskFullError:
        pass
    else:
        sys.exit("took over on a full disk")
os.remove(f"{top}/ballast")
assert [client.check("k").remaining for client in clients] == [1, 0]
assert [client.info()["role"] for client in clients] == ["owner", "client"]
assert not clients[1].allow("k")
"""


def test_a_disk_that_is_full_at_a_takeover(tmp_path: Path) -> None:
    if why_no_disk():
        pytest.skip(f"no file system can be mounted here: {why_no_disk()}")
    script = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [*NAMESPACE, "sh", "-ec", MOUNT, "sh", str(tmp_path), *script],
        env={**os.environ, "PYTHONPATH": f"{PACKAGE_ROOT}:{tests}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_damage_at_a_takeover_is_told_to_everybody(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with Member(path) as owner, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Member(path)) for _ in range(3)]
        for i in range(100):
            clients[0].ask(f"limiter.limit('k{i}', rate=5, per='1h')")
        owner.process.kill()
        owner.process.wait()
        with (path / "flint.aof").open("r+b") as file:
            file.seek(4096 + 200)
            file.write(b"\xff" * 8)
        for _ in range(2):
            for client in clients:  # all at once
                client.send("limiter.allow('k1')")
            assert [client.answer()[0] for client in clients] == ["CorruptionError"] * 3
            assert clients[0].ask("limiter.list()")[0] == "CorruptionError"


# ---- Programs that are started -------------------------------------------------------------------

EXECUTES = """
import os, subprocess, sys
import flint
path, role, way = sys.argv[1:]
if role == "client":
    owner = flint.Limiter(path, shared=True)
limiter = flint.Limiter(path, shared=True)
assert limiter.info()["role"] == role
limiter.limit("k", rate=2, per="1h")
assert limiter.allow("k")
sleep = ["sleep", "1000"]
if way == "fork, then exec":
    pid = os.fork()
    if pid == 0:
        os.execvp(sleep[0], sleep)
else:
    pid = subprocess.Popen(sleep, close_fds=False).pid
print(pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("way", ["fork, then exec", "posix_spawn or vfork"])
@pytest.mark.parametrize("role", ["owner", "client"])
def test_a_program_that_is_started_keeps_nothing(tmp_path: Path, role: str, way: str) -> None:
    path = tmp_path / "limits"
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", EXECUTES, str(path), role, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(heard(parent))
    try:
        with Member(path) as other:
            assert other.ask("limiter.info()['role']") == "client"
            while Path(f"/proc/{child}/comm").read_text("utf-8") != "sleep\n":
                time.sleep(0.01)
            tell(parent, "")
            parent.wait()
            assert other.ask("limiter.check('k').remaining") == 0
            assert other.ask("limiter.info()['role']") == "owner"
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()
