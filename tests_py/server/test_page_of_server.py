"""docs/server.md: each of its commands is run, and answered as the page shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from flint_server import DEADLINE_S, PROGRAM, FlintServer, needs_server, running

pytestmark = [
    needs_server,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing"),
    pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is missing"),
]

PAGE = (ROOT / "docs" / "server.md").read_text("utf-8")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
ADDRESS = "localhost:7878"
REDIS_PORT = "-p 7879"


def commands() -> list[tuple[str, str]]:
    """Each command of the page, and what it shows."""
    found = []
    for box in re.findall(r"```console\n((?:.*\n)*?)```\n", PAGE):
        for part in re.split(r"(?m)^\$ ", box)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown.rstrip("\n")))
    return found


def shape(value: Any) -> Any:
    """What must be the same: all but times, and numbers, which stand for themselves alone."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    if isinstance(value, str):
        return TIME.sub("TIME", re.sub(r"^\d+s$", "seconds", value))
    return value if isinstance(value, bool) or value is None else type(value)


def line_shape(line: str) -> Any:
    try:
        return shape(json.loads(line))
    except ValueError:
        # What has ten digits is a time.
        return re.sub(r"\d+ s$|\d{10,}$", "seconds", line)


def answered(server: FlintServer, command: str) -> str:
    command = command.replace(ADDRESS, f"127.0.0.1:{server.port}")
    command = command.replace(REDIS_PORT, f"-p {server.urls[-1].rpartition(':')[2]}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env={**os.environ, "LD_PRELOAD": ""},  # a sanitizer is for our own programs
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    return done.stdout.replace("\r", "").rstrip("\n")


def test_commands_are_answered_as_the_page_shows(data_dir: Path) -> None:
    found = commands()
    assert len(found) > 40
    with running(data_dir, "--redis-bind=127.0.0.1:0") as server:
        for command, shown in found:
            said = answered(server, command)
            ours, theirs = said.split("\n"), shown.split("\n")
            assert list(map(line_shape, ours)) == list(map(line_shape, theirs)), command


def test_the_page_has_every_endpoint() -> None:
    described = json.loads((ROOT / "server" / "openapi.json").read_text("utf-8"))
    asked = {
        re.split(r"[? ']", command.split(ADDRESS)[1])[0]
        for command, _ in commands()
        if ADDRESS in command
    }
    for path in described["paths"]:
        prefix, brace, _ = path.partition("{")
        assert any(one == path or (brace and one.startswith(prefix)) for one in asked), path


def test_the_page_has_every_flag() -> None:
    usage = subprocess.run(
        [PROGRAM, "--help"], capture_output=True, text=True, timeout=DEADLINE_S
    ).stdout
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= set(re.findall(r"--[a-z-]+", usage))
