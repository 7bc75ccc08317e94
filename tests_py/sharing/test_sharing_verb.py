"""`flint sharing`, and what it is made of."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flint
from flint._local.sharing import describe
from sharing import raw
from sharing.member import Member

NOW_NS = 1_800_000_000 * 10**9


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


def told(text: bytes, code: int = 0) -> bytes:
    """The answer of an owner."""
    return struct.pack("<IiI", 8 + len(text), code, len(text)) + text


def test_a_newer_owner_may_say_more(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    text = (
        f"owner 1 {NOW_NS} 2000000 9.0.0 batch containers 3\nclient 2 {NOW_NS} 4 root\n"
        f"line 5 {NOW_NS} 6 keys 7\nquota 8\n"
    )
    with raw.foreign_owner(path, told(text.encode())):
        answer = json.loads(run(path, "--json").stdout)
    since = "2027-01-15T08:00:00Z"
    owner = {"pid": 1, "version": "9.0.0", "since": since, "sync": "batch", "takeover_ms": 2}
    assert answer == {
        "owner": owner,
        "clients": [{"pid": 2, "since": since, "requests": 4}],
        "waiting": [{"pid": 5, "since": since, "callers": 6}],
    }


@pytest.mark.parametrize(
    "answer",
    [
        told(b""),
        told(b"\xff"),
        told(b"owner 1 2 3 1.1.0"),
        told(b"client 1 2 3 1.1.0 always"),
        told(b"owner one 2 3 1.1.0 always"),
        told(b"owner 1 %d 3 1.1.0 always" % 10**30),
        told(b"owner 1 2 -3 1.1.0 always"),
        told(b"owner 1 2 3 1.1.0 always\nclient 4 5"),
        told(b"owner 1 2 3 1.1.0 always", code=5),
        struct.pack("<Ii", 2**31, 0),
    ],
)
def test_an_answer_that_is_garbage(tmp_path: Path, answer: bytes) -> None:
    with raw.foreign_owner(tmp_path / "limits", answer):
        done = run(tmp_path / "limits")
    assert (done.returncode, done.stdout) == (4, "")
    assert "does not tell who shares it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_owner_that_ends_without_an_answer(tmp_path: Path) -> None:
    with raw.foreign_owner(tmp_path / "limits", b""):
        done = run(tmp_path / "limits")
    assert (done.returncode, "nobody shares" in done.stderr) == (1, True)
