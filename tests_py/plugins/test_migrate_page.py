"""The examples of docs/migrate.md run, and applications of the other limiters count in Flint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "migrate.md").read_text("utf-8")
# The examples of each heading, by its last word.
EXAMPLES = {
    heading.split()[-1]: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for heading, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
OF_LIMITS, SLOWAPI, FLASK_LIMITER, SLOWAPI_BY_NAME, FLASK_LIMITER_BY_NAME = EXAMPLES[
    "Flask-Limiter"
]
BUCKET, PYRATE_BY_NAME = EXAMPLES["PyrateLimiter"]
CACHE, THROTTLE = EXAMPLES["django-ratelimit"]
NO_FILE = "[flux] [warning] Configuration file 'flux.toml' not found. Using defaults.\n"


def run(script: str, directory: Path, expected_error: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, expected_error)
    return done.stdout


def test_limits(tmp_path: Path) -> None:
    assert run(OF_LIMITS, tmp_path) == "[True, True, False]\n"
    assert run(OF_LIMITS.replace("2/minute", "2/hour"), tmp_path) == "[True, True, False]\n"
    assert run(OF_LIMITS.replace("2/minute", "2/hour"), tmp_path) == "[False, False, False]\n"


@pytest.mark.parametrize(
    ("example", "module"), [(SLOWAPI, "slowapi"), (SLOWAPI_BY_NAME, "flint.compat.slowapi")]
)
def test_slowapi_across_a_restart(example: str, module: str, tmp_path: Path) -> None:
    app = """
import asyncio
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
EXAMPLE
import httpx
from fastapi import FastAPI, Request
from MODULE import _rate_limit_exceeded_handler
from MODULE.errors import RateLimitExceeded

app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

@app.get("/")
@limiter.limit("3/day")
async def home(request: Request):
    return "hello"

async def ask():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        print([(await client.get("/")).status_code for _ in range(2)])

asyncio.run(ask())
"""
    script = app.replace("EXAMPLE", example).replace("MODULE", module)
    assert run(script, tmp_path) == "[200, 200]\n"
    assert run(script, tmp_path) == "[200, 429]\n"


@pytest.mark.parametrize("example", [FLASK_LIMITER, FLASK_LIMITER_BY_NAME])
def test_flask_limiter_across_a_restart(example: str, tmp_path: Path) -> None:
    script = (
        example.replace("100 per hour", "3 per day")
        + """
@app.get("/")
def home():
    return "hello"

client = app.test_client()
print([client.get("/").status_code for _ in range(2)])
"""
    )
    assert run(script, tmp_path) == "[200, 200]\n"
    assert run(script, tmp_path) == "[200, 429]\n"


def test_pyrate_limiter(tmp_path: Path) -> None:
    assert run(BUCKET, tmp_path) == "True\n"
    left = BUCKET + "\nprint(bucket.count())\n"
    assert run(left, tmp_path) == "True\n2\n"
    script = PYRATE_BY_NAME.replace("Rate(5, Duration.MINUTE)", "Rate(1, Duration.DAY)")
    assert [run(script, tmp_path) for _ in range(2)] == ["True\n", "False\n"]


def test_throttled(tmp_path: Path) -> None:
    script = EXAMPLES["throttled-py"][0].replace("2/m", "2/d")
    assert run(script, tmp_path) == "[False, False, True]\n"
    assert run(script, tmp_path) == "[True, True, True]\n"


def test_django_ratelimit(tmp_path: Path) -> None:
    script = f"""
from django.conf import settings
{CACHE}
settings.configure(CACHES=CACHES)
from django.core.cache import caches
cache = caches[RATELIMIT_USE_CACHE]
print(cache.add("key", 1, 3600), cache.incr("key"))
"""
    assert run(script, tmp_path) == "True 2\n"
    assert run(script, tmp_path) == "False 3\n"


def test_throttles_of_django_rest_framework(tmp_path: Path) -> None:
    script = f"""
from django.conf import settings
{THROTTLE.replace("100/day", "3/day")}
settings.configure(
    FLINT=FLINT, REST_FRAMEWORK={{**REST_FRAMEWORK, "UNAUTHENTICATED_USER": None}}
)
import django
django.setup()
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView
from rest_framework.response import Response

class Home(APIView):
    authentication_classes = []
    def get(self, request):
        return Response("hello")

print([Home.as_view()(APIRequestFactory().get("/")).status_code for _ in range(2)])
"""
    assert run(script, tmp_path) == "[200, 200]\n"
    assert run(script, tmp_path) == "[200, 429]\n"


def test_ratelimit(tmp_path: Path) -> None:
    script = EXAMPLES["ratelimit"][0].replace("@sleep_and_retry\n", "").replace("15,", "1,")
    assert run(script, tmp_path) == "called\n"
    again = script.replace(
        "print(call())", "try:\n    call()\nexcept Exception as no:\n    print(no)"
    )
    assert run(again, tmp_path) == "too many calls\n"


def test_aiolimiter(tmp_path: Path) -> None:
    assert run(EXAMPLES["aiolimiter"][0], tmp_path) == "False\n"


def test_flux(tmp_path: Path) -> None:
    said = run(EXAMPLES["flux"][0], tmp_path, NO_FILE).splitlines()
    assert said[0] == "found found"
    assert 0 < float(said[1]) <= 30


def test_fluxlimit(tmp_path: Path) -> None:
    assert run(EXAMPLES["fluxlimit"][0].replace("rate=10", "rate=0.001"), tmp_path) == "19\n"
    assert run(EXAMPLES["fluxlimit"][0].replace("rate=10", "rate=0.001"), tmp_path) == "18\n"


def test_every_example_is_run_here() -> None:
    assert sum(map(len, EXAMPLES.values())) == PAGE.count("```python") == 14
