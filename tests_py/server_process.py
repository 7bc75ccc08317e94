"""The server that comes with Flint, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PACKAGE_ROOT

SERVER = PACKAGE_ROOT / "flint" / "bin" / "flint-server"
needs_server = pytest.mark.skipif(not SERVER.exists(), reason="built without the server")


class Server:
    """A process that serves a data directory at `url`."""

    def __init__(
        self, data_dir: Path, *flags: str, token: str | None = None, port: int = 0
    ) -> None:
        names = (name for name in os.environ if not name.startswith("FLINT"))
        environment = {name: os.environ[name] for name in names}
        if token is not None:
            environment["FLINT_SERVER_TOKEN"] = token
        bind = ["--bind", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(
            [str(SERVER), "--data-dir", str(data_dir), *bind, *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"listening on (http://\S+:(\d+))", line)
        if found is None:
            self.end(signal.SIGKILL)
        assert found, line
        self.url, self.port = found[1], int(found[2])

    def end(self, number: int) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextlib.contextmanager
def flint_server(data_dir: Path, *flags: str, token: str | None = None) -> Iterator[str]:
    """Its URL, until it is told to leave, which it must do well."""
    server = Server(data_dir, *flags, token=token)
    try:
        yield server.url
    finally:
        code = server.end(signal.SIGTERM)
    assert code == 0
