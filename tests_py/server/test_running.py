"""How the server starts, whom it answers, and how it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PACKAGE_ROOT
from flint_server import DEADLINE_S, PROGRAM, FlintServer, needs_server, read_all, refused, running

import flint
from flint import Limiter

pytestmark = needs_server

CHECK = {"key": "api"}


@pytest.fixture
def data(data_dir: Path) -> Path:
    """A directory with a limit of a thousand a day."""
    with Limiter(data_dir) as limiter:
        limiter.limit("api", rate=1000, per="1d")
    return data_dir


# ---- Starting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--bind localhost:1", 2, '--bind must be ADDRESS:PORT or unix:PATH, not "localhost:1"'),
        ("--nonsense", 2, 'unknown option "--nonsense"'),
        ("--sync", 2, "--sync needs a value"),
        ("--sync often", 1, 'unsupported sync mode "often"; expected always or batch'),
        ("--max-blocking 0", 1, "--max-blocking must be greater than zero"),
        (
            "--bind 0.0.0.0:0",
            1,
            "refusing to bind shared server to a non-loopback address without --token",
        ),
        ("--token-file nowhere", 1, 'cannot read the token file "nowhere"'),
        ("--idle-timeout never", 2, "--idle-timeout must be digits with ms, s, m, h or d"),
    ],
)
def test_what_is_refused(
    words: str, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    got, err = refused(*words.split())
    assert (got, err[: 7 + len(said)]) == (code, f"flint: {said}")
    assert not list(tmp_path.iterdir())


def test_a_directory_in_use(data: Path) -> None:
    with Limiter(data):
        code, err = refused("--data-dir", str(data), "--bind=127.0.0.1:0")
        assert (code, "already locked" in err) == (1, True)
    with running(data) as server:
        assert server.json("POST", "/v1/check", CHECK)["remaining"] == 999


def test_the_command_becomes_the_server(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLINT_SERVER_TOKEN", raising=False)
    words = ["--data-dir", str(data), "--bind", "127.0.0.1:0", "--token", "hush", "--sync", "batch"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flint", "server", "start", *words],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    server = FlintServer(process, [url])
    try:
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"hush" not in shown
        assert Path(f"/proc/{process.pid}/exe").resolve() == PROGRAM.resolve()
        assert server.ask("GET", "/v1/health")[0] == 401
        with flint.SharedLimiter(url, token="hush") as limiter:
            assert limiter.check("api").remaining == 999
    finally:
        server.leave()


def test_a_token_is_hidden(data: Path) -> None:
    for words in (["--token", "hush"], ["--token=hush"]):
        with running(data, *words) as server:
            assert b"hush" not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
            assert server.ask("GET", "/v1/health", Authorization="Bearer hush")[0] == 200


# ---- Who is answered -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    """With tokens of each right."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens"
    tokens.write_text("# who may\nr read\nc check\na admin\nw\n", "utf-8")
    with Limiter(folder / "data") as limiter:
        limiter.limit("api", rate=1000, per="1d")
    variables = {"FLINT_SERVER_TOKEN": "whole secret"}
    with running(folder / "data", "--token-file", str(tokens), **variables) as server:
        yield server


@pytest.mark.parametrize(
    "said", ["", "Bearer", "Bearer ", "Bearer x", "bearer a", "Bearer a ", "Basic a", "Bearer a a"]
)
def test_wrong_tokens(guarded: FlintServer, said: str) -> None:
    for path in ("/v1/health", "/v1/limits"):
        fields = {"Authorization": said} if said else {}
        if said == "Bearer a ":
            continue  # spaces at the end are not part of a field
        status, _, text = guarded.ask("GET", path, **fields)
        assert (status, text) == (401, '{"error":"unauthorized"}')
    assert guarded.ask("GET", "/healthz")[0] == guarded.ask("GET", "/readyz")[0] == 200
    assert guarded.ask("GET", "/nowhere")[0] == 404


@pytest.mark.parametrize(
    ("token", "rights"), [("r", 1), ("c", 2), ("a", 3), ("w", 3), ("whole secret", 3)]
)
def test_rights(guarded: FlintServer, token: str, rights: int) -> None:
    asked = (
        ("GET", "/v1/limits", None),
        ("POST", "/v1/check", CHECK),
        ("POST", "/v1/reset", CHECK),
    )
    for needed, (method, path, body) in enumerate(asked, 1):
        status = guarded.ask(method, path, body, Authorization=f"Bearer {token}")[0]
        assert status == (200 if rights >= needed else 403)


def test_a_wrong_token_is_refused_before_the_body(guarded: FlintServer) -> None:
    head = b"POST /v1/check HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    answer = guarded.send(head + b"Authorization: Bearer x\r\nContent-Length: 60000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "127.0.0.1:7878"}, 200),
        ({"Host": "[::1]:7878"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
    ids=str,
)
def test_web_pages_are_kept_out(data: Path, fields: dict[str, str], expected: int) -> None:
    with running(data) as server:
        assert server.ask("POST", "/v1/log/flush", **fields)[0] == expected
        assert server.ask("POST", "/v1/log/flush", "{}", **fields)[0] == max(expected, 415) - (
            12 if expected == 403 else 0
        )
        assert server.ask("GET", "/healthz", **fields)[0] == 200


# ---- Unix sockets --------------------------------------------------------------------------------


def test_a_unix_socket(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "flint.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # nobody listens there any more
    with running(data, binds=(f"unix:{path}", "127.0.0.1:0")) as server:
        assert server.urls[0] == f"http+unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        with flint.SharedLimiter(f"http+unix://{path}") as limiter:
            assert limiter.check("api").remaining == 999
        code, err = refused("--data-dir", f"{data}2", f"--bind=unix:{path}")
        assert (code, "is in use" in err) == (1, True)
    assert not path.exists()


# ---- Leaving -------------------------------------------------------------------------------------


def test_it_answers_what_was_asked_and_leaves(data: Path) -> None:
    with running(data) as server, server.connect() as idle, server.connect() as asking:
        body = json.dumps(CHECK).encode()
        asking.sendall(b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\n")
        server.json("GET", "/v1/health")  # after which that has been read
        server.process.send_signal(signal.SIGTERM)
        assert read_all(idle) == b""  # it is leaving
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        asking.sendall(fields.encode() + body)
        answer = read_all(asking)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert "left: everything is on disk" in server.left()
    with Limiter(data) as limiter:
        assert limiter.peek("api").remaining == 999


def test_a_second_signal_ends_it_at_once(data: Path) -> None:
    with running(data) as server, server.connect() as asking:
        asking.sendall(b"GET ")
        server.json("GET", "/v1/health")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stderr
        assert "leaving" in server.process.stderr.readline()
        server.process.send_signal(signal.SIGINT)
        server.left(128 + signal.SIGINT)


def test_nobody_reads_its_log(data: Path) -> None:
    """A line that cannot be written holds nobody up, at the end neither."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * 4096)
        os.set_blocking(writing, True)
        command = [PROGRAM, "--data-dir", data, "--bind=127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing, text=True)
        assert process.stdout
        server = FlintServer(process, process.stdout.readline().split()[-1:])
        assert server.json("POST", "/v1/check", CHECK)["remaining"] == 999
        process.send_signal(signal.SIGTERM)  # which it says
        assert process.wait(DEADLINE_S) == 0
        process.stdout.close()
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("sync", ["always", "batch"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_answered_admission_is_lost(data: Path, sync: str, end: signal.Signals) -> None:
    """Clients check until the server is gone."""
    answered: list[int] = []
    with running(data, "--sync", sync) as server:
        ready = threading.Barrier(5)

        def check() -> None:
            waited = False
            with (
                contextlib.suppress(flint.FlintConnectionError, flint.FlintServerError),
                flint.SharedLimiter(server.urls[0]) as limiter,
            ):
                while True:
                    remaining = limiter.check("api").remaining
                    answered.append(remaining)
                    if not waited:
                        ready.wait(DEADLINE_S)
                        waited = True

        threads = [threading.Thread(target=check) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait(DEADLINE_S)
        server.process.send_signal(end)
        for thread in threads:
            thread.join(DEADLINE_S)
        server.left(0 if end == signal.SIGTERM else -end)
    with Limiter(data) as limiter:
        used = 1000 - limiter.peek("api").remaining
    admitted = [remaining for remaining in answered if remaining]
    assert len(set(admitted)) == len(admitted)  # none was counted twice
    # What a client was not told of may have been counted.
    assert len(admitted) <= used <= len(admitted) + 4
