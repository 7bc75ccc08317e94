"""`flint migrate`: finds other limiters in sources and says what to write instead."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """\
import limits
import aiolimiter
import flux as limiting
import pyrate_limiter as pyrate
import throttled
from django_ratelimit.decorators import ratelimit
from flask_limiter import Limiter as FlaskLimiter
from fluxlimit import RateLimiter, TokenBucket as Bucket
from limits.storage import MemoryStorage, storage_from_string
from ratelimit import limits as limited, sleep_and_retry
from rest_framework.throttling import BaseThrottle, UserRateThrottle as Throttle
from slowapi import Limiter

limiter = Limiter(key_func, storage_uri="redis://cache", storage_options={"a": 1}, enabled=True)
on_flint = Limiter(key_func, storage_uri="flint:///data")
flask = FlaskLimiter(key_func, app=app)
app.config["RATELIMIT_STORAGE_URI"] = "redis://cache"
stores = [MemoryStorage(), storage_from_string("async+redis://cache")]
third = limits.storage.storage_from_string("memory://")
bucket = pyrate.InMemoryBucket([pyrate.Rate(5, 1000)])
mails = pyrate.Limiter(pyrate.Rate(5, 1000), buffer_ms=9)
by_bucket = pyrate.Limiter(bucket)
store = throttled.RedisStore(server="redis://cache")
RATELIMIT_USE_CACHE = "cache"
REST = {"DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"]}


@sleep_and_retry
@limited(calls=CALLS, period=60)
def call(): ...


@ratelimit(key="header:x-key", rate="5/m", method="POST")
def view(request): ...
"""
PLUGIN = "import flint.plugins.limits; "
INSTEAD = {
    2: "import flint.compat.aiolimiter as aiolimiter",
    3: "import flint.compat.flux as limiting",
    8: "from flint.compat.fluxlimit import RateLimiter, TokenBucket as Bucket",
    10: "from flint.compat.ratelimit import limits as limited, sleep_and_retry",
    11: "from flint.django_rest import UserRateThrottle as Throttle",
    14: PLUGIN + "Limiter(key_func, enabled=True, storage_uri='flint:///var/lib/limits')",
    16: PLUGIN + "FlaskLimiter(key_func, app=app, storage_uri='flint:///var/lib/limits')",
    17: PLUGIN + "app.config['RATELIMIT_STORAGE_URI'] = 'flint:///var/lib/limits'",
    18: PLUGIN + "storage_from_string('async+flint:///var/lib/limits')",
    19: PLUGIN + "limits.storage.storage_from_string('flint:///var/lib/limits')",
    20: "flint.plugins.pyrate_limiter.FlintBucket([pyrate.Rate(5, 1000)], '/var/lib/limits', "
    "'main:20')",
    21: "flint.compat.pyrate_limiter.Limiter(pyrate.Rate(5, 1000), buffer_ms=9, "
    "limiter='/var/lib/limits', key='main:21')",
    23: "flint.plugins.throttled.FlintStore('/var/lib/limits')",
    24: "CACHES['limits'] = {'BACKEND': 'flint.plugins.django_cache.CounterCache', "
    "'LOCATION': '/var/lib/limits'}; RATELIMIT_USE_CACHE = 'limits'",
    25: "'flint.django_rest.AnonRateThrottle'",
    33: "flint.django.ratelimit('5/m', key='header:x-key', methods=['POST'])",
}


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flint", "migrate", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app" / "views").mkdir(parents=True)
    (tmp_path / "app" / "views" / "main.py").write_text(SOURCE, "utf-8")
    for passed_by in (".git", "venv", "node_modules"):
        (tmp_path / "app" / passed_by).mkdir()
        (tmp_path / "app" / passed_by / "other.py").write_text(SOURCE, "utf-8")
    return tmp_path


def test_every_use_is_listed_with_its_line(project: Path) -> None:
    done = run("app", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert {one["file"] for one in found} == {"app/views/main.py"}
    by_line = {one["line"]: one["instead"] for one in found if "FlintStorage" not in one["instead"]}
    assert by_line == INSTEAD
    storage = [one for one in found if "FlintStorage" in one["instead"]]
    assert [(one["line"], one["found"]) for one in storage] == [(18, "MemoryStorage()")]


def test_what_is_written_instead_is_python(project: Path) -> None:
    for one in json.loads(run("app", cwd=project).stdout):
        compile(one["instead"], one["file"], "exec")


def test_coroutines_methods_and_what_is_migrated_already(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        """import limits.aio, throttled.asyncio as waiting
from django_ratelimit.decorators import ratelimit
from pyrate_limiter import Limiter, Rate
storage = limits.aio.storage.MemoryStorage()
store = waiting.MemoryStore()
view = ratelimit(rate="5/m", method=["GET", "POST"])(view)
ours = Limiter([Rate(5, 1000)], limiter="x")
app.config["RATELIMIT_STORAGE_URI"] = "flint:///data"
CACHES = {"limits": {"BACKEND": "flint.plugins.django_cache.CounterCache"}}
RATELIMIT_USE_CACHE = "limits"
""",
        "utf-8",
    )
    found = json.loads(run("main.py", cwd=tmp_path).stdout)
    assert {one["line"]: one["instead"] for one in found} == {
        4: "flint.plugins.limits.AsyncFlintStorage('flint:///var/lib/limits')",
        5: "flint.plugins.throttled.AsyncFlintStore('/var/lib/limits')",
        6: "flint.django.ratelimit('5/m', methods=['GET', 'POST'])",
    }


def test_nothing_is_run_or_changed(tmp_path: Path) -> None:
    source = tmp_path / "main.py"
    source.write_text("raise SystemExit(7)\nimport fluxlimit\n", "utf-8")
    done = run("main.py", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["instead"] == "import flint.compat.fluxlimit as fluxlimit"
    assert source.read_text("utf-8") == "raise SystemExit(7)\nimport fluxlimit\n"
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


def test_what_is_not_python_is_told_and_the_rest_is_listed(project: Path) -> None:
    (project / "app" / "broken.py").write_text("def :\n", "utf-8")
    (project / "app" / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
    (project / "app" / "binary.py").write_bytes(b"\x00\xff")
    done = run("app", cwd=project)
    assert done.returncode == 1
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [
        " app/binary.py",
        " app/broken.py",
    ]
    assert len(json.loads(done.stdout)) == len(INSTEAD) + 1


def test_what_is_not_there(tmp_path: Path) -> None:
    done = run("missing", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "flint: missing is neither a file nor a directory\n"
    assert run(cwd=tmp_path).returncode == 2


def test_a_program_without_other_limiters(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import limits\nprint(limits.parse('1/s'))\n", "utf-8")
    assert run("main.py", cwd=tmp_path).stdout == "[]\n"
