"""`flint sharing`, and what it is made of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import flint
from flint._local.sharing import describe
from sharing.member import Member


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flint", "sharing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_tells_owner_and_clients(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "limits"
    with flint.Limiter(path, shared=True), Member(path) as client:
        client.ask("limiter.list()")
        told = json.loads(run(path, "--json").stdout)
        assert told["owner"].pop("since").endswith("Z")
        version = flint.__version__
        owner = {"pid": os.getpid(), "version": version, "sync": "always", "takeover_ms": 0}
        assert told["owner"] == owner
        (one,) = told["clients"]
        assert one["pid"] == client.process.pid
        assert one["requests"] >= 2
        assert told["waiting"] == []
        client.ask("limiter.limit('k', '1/day') or limiter.check('k').cost")
        client.send("limiter.acquire('k').cost")
        deadline = time.monotonic() + 60
        while not (waiting := json.loads(run(path, "--json").stdout)["waiting"]):
            assert time.monotonic() < deadline
        assert waiting[0].pop("since").endswith("Z")
        assert waiting == [{"pid": client.process.pid, "callers": 1}]


def test_it_tells_how_long_a_takeover_took(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with Member(path) as owner, Member(path) as client:
        owner.process.kill()
        owner.process.wait()
        assert client.ask("limiter.info()['role']") == "owner"
        found = describe(str(path))
        assert found is not None
        assert found["takeover_ns"] > 0
        assert re.fullmatch(r"\d[\d.,]*", str(json.loads(run(path).stdout)["owner"]["takeover_ms"]))


def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    assert "no data directory" in run(path).stderr
    flint.Limiter(path).close()
    done = run(path)
    assert (done.returncode, "nobody shares" in done.stderr) == (1, True)
    with Member(path) as owner:
        owner.stop()
        done = run(path)
        assert (done.returncode, "may be stopped" in done.stderr) == (4, True)
