"""Applications under real servers, and many clients of them at a time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from conftest import PACKAGE_ROOT, ROOT

CLIENTS = 50
DEADLINE_S = 60


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def statuses(url: str, requests: int) -> list[int]:
    """Of requests that are made by many clients at the same time."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return sorted(clients.map(status, [url] * requests))


_LISTENING = re.compile(
    r"(?:[Rr]unning on http://|Listening at: http://|Listening on TCP address )"
    r"(127\.0\.0\.1:\d+)"
)


@contextmanager
def serving(
    app: str, data_dir: Path, *server_command: str, folder: Path = ROOT / "examples"
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of an application of a folder under its server, and the server."""
    command = [sys.executable, "-P", "-m", *server_command, app]
    paths = f"{PACKAGE_ROOT}{os.pathsep}{folder}"
    server = subprocess.Popen(
        command,
        env={
            **os.environ,
            "PYTHONPATH": paths,
            "FLINT_DATA_DIR": str(data_dir),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(data_dir.parent),  # gunicorn keeps a socket there
        },
        cwd=data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    try:
        said = ""
        for line in server.stdout:
            said += line
            found = _LISTENING.search(line)
            if found:
                break
        else:
            raise AssertionError(said)
        yield f"http://{found[1]}", server
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=DEADLINE_S)
