"""Flint 0.2.1's own client, from the package index, and today's server.

It is installed, which may mean built, so this runs only with FLINT_LONG=1. The result is in
tests_py/results/old_client.txt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from server.flint_server import needs_server, running

SCRIPT = """
import dataclasses, json, sys
import flint
shared = flint.SharedLimiter(sys.argv[1], token="hush-hush")
said = []

def say(call):
    try:
        value = call()
    except Exception as error:
        value = [type(error).__name__, str(error)]
    said.append(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)

say(lambda: shared.limit("a/b \\u00e9*?", rate=2, per="1d"))
say(lambda: shared.limit("b", rate=3, per="1000ms", algorithm="fixed_window_counter"))
say(lambda: shared.check("a/b \\u00e9*?"))
say(lambda: shared.allow("a/b \\u00e9*?", cost=2))
say(lambda: shared.check_all(["a/b \\u00e9*?", {"key": "b", "cost": 2}]))
say(lambda: shared.allow_all([("a/b \\u00e9*?", 1), ["b", 1]]))
say(lambda: shared.status("a/b \\u00e9*?"))
say(lambda: shared.status("nothing"))
say(lambda: [one["key"] for one in shared.list()])
say(lambda: shared.reset("a/b \\u00e9*?"))
say(lambda: shared.allow("a/b \\u00e9*?", cost=2))
say(lambda: shared.flush())
say(lambda: shared.compact())
say(lambda: shared.doctor())
say(lambda: shared.check("nothing"))
say(lambda: shared.check("b", cost=0))
say(lambda: shared.limit("b", rate=1, per="1x"))
say(lambda: shared.limit("b", rate=1, per="1s", algorithm="sorted"))
say(lambda: shared.check_all([]))
say(lambda: flint.SharedLimiter(sys.argv[1], token="wrong").list())
say(lambda: flint.SharedLimiter("http://127.0.0.1:1").list())
print(json.dumps(said))
"""


def said_by(python: Path, url: str) -> list[Any]:
    done = subprocess.run(
        [str(python), "-I", "-c", SCRIPT, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[Any] = json.loads(done.stdout)
    return said


@needs_server
@pytest.mark.skipif("FLINT_LONG" not in os.environ, reason="set FLINT_LONG=1")
def test_the_client_of_flint_0_2_1(tmp_path: Path) -> None:
    venv.create(tmp_path / "old", with_pip=True)
    python = tmp_path / "old" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "flint-limiter==0.2.1"]
    subprocess.run(install, check=True, timeout=1800)
    with running(tmp_path / "data", FLINT_SERVER_TOKEN="hush-hush") as server:
        said = said_by(python, server.urls[0])
    key = "a/b \u00e9*?"
    none, _, checked, denied, several, together, status, nothing, keys, *rest = said
    assert (none, checked["allowed"], checked["remaining"]) == (None, True, 1)
    assert checked["reset_at"].endswith("Z")
    assert denied is False
    assert [several["allowed"], several["denied_key"], len(several["results"])] == [True, None, 2]
    assert together is False
    assert (status["key"], status["rate"], status["per_millis"]) == (key, 2, 86_400_000)
    assert (status["total_allowed"], status["total_denied"]) == (2, 2)
    assert (nothing, sorted(keys)) == (None, [key, "b"])
    reset, again, flushed, compacted, doctor, *errors = rest
    assert (reset, again, flushed, compacted) == (None, True, None, None)
    assert doctor["ok"] is True
    assert {"limits", "history_events", "aof_bytes", "snapshot_exists"} <= doctor.keys()
    assert [kind for kind, _ in errors] == ["FlintServerError"] * 6 + ["FlintConnectionError"]
    assert errors[0][1] == "Flint server error 400: limit is not configured: nothing"
    assert errors[5][1] == "Flint server error 401: unauthorized"
    print(f"Flint 0.2.1 on Python {sys.version.split()[0]}: {len(said)} calls, as they should be")
