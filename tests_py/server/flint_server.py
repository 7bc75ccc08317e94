"""Starts the real flint-server, and talks to it: over http.client, or byte by byte."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PACKAGE_ROOT

PROGRAM = PACKAGE_ROOT / "flint" / "bin" / "flint-server"
DEADLINE_S = 60
LISTENING = re.compile(r"flint server listening on (\S+)\n")

# It is built where llhttp is; `./dev` always has it.
needs_server = pytest.mark.skipif(
    not PROGRAM.is_file() and "FLINT_LLHTTP_DIR" not in os.environ,
    reason="flint-server was not built: it needs libuv and llhttp (FLINT_LLHTTP_DIR)",
)


def environment(**variables: str) -> dict[str, str]:
    """Ours, without a token of somebody else's. A sanitizer that is built in looks for leaks."""
    inherited = {name: value for name, value in os.environ.items() if name != "FLINT_SERVER_TOKEN"}
    return {**inherited, **variables}


class FlintServer:
    """A server that runs; `urls` are where it listens."""

    def __init__(self, process: subprocess.Popen[str], urls: list[str]) -> None:
        self.process = process
        self.urls = urls

    @property
    def port(self) -> int:
        return int(self.urls[0].rsplit(":", 1)[1])

    @property
    def native_url(self) -> str:
        """Where it speaks the Redis protocol, as flint.SharedLimiter calls that."""
        scheme, _, rest = self.urls[-1].partition(":")
        return {"redis": "flint:", "rediss": "flints:", "redis+unix": "unix:"}[scheme] + rest

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Status, fields and body of an answer. A body that is no str is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, str):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read().decode()

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The value of an answer that must be a 200."""
        status, _, text = self.ask(method, path, body, **headers)
        assert status == 200, text
        return json.loads(text)

    def send(self, data: bytes) -> bytes:
        """All that comes back until the server closes the connection."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1])

    def is_sanitized(self) -> bool:
        """What is freed is kept for a while then."""
        return "libasan" in Path(f"/proc/{self.process.pid}/maps").read_text("ascii")

    def reload(self) -> str:
        """Has it read its files again. What it says of that."""
        self.process.send_signal(signal.SIGHUP)
        assert self.process.stderr
        return self.process.stderr.readline()

    def leave(self) -> str:
        """Ends it by SIGTERM, which must go well. What it said on standard error."""
        self.process.send_signal(signal.SIGTERM)
        return self.left()

    def left(self, code: int = 0) -> str:
        """Waits for its end."""
        _, err = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == code, err
        return err


def read_all(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65536):
            data += more
    return data


@contextlib.contextmanager
def running(
    data_dir: Path, *words: str, binds: tuple[str, ...] = ("127.0.0.1:0",), **variables: str
) -> Iterator[FlintServer]:
    """A server for a data directory. It is ended if it still runs."""
    command = [PROGRAM, "--data-dir", data_dir, *(f"--bind={bind}" for bind in binds), *words]
    process = subprocess.Popen(
        command,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    urls = []
    try:
        redis = sum(word.startswith("--redis-bind=") for word in words)
        for _ in range(len(binds) + redis):
            line = process.stdout.readline()
            if not line:
                raise AssertionError(process.communicate(timeout=DEADLINE_S)[1])
            found = LISTENING.fullmatch(line)
            assert found, line
            urls.append(found[1])
        server = FlintServer(process, urls)
        yield server
        if process.poll() is None:
            server.leave()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=DEADLINE_S)


def refused(*words: str, **variables: str) -> tuple[int, str]:
    """Exit code and complaint of a server that does not start."""
    done = subprocess.run(
        [PROGRAM, *words],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr
