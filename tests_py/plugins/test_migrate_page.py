"""The examples of docs/migrate.md run, and applications of the other limiters count in Flint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PAGE = (ROOT / "docs" / "migrate.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(script: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_limits(tmp_path: Path) -> None:
    assert run(EXAMPLES[0], tmp_path) == "[True, True, False]\n"
    assert run(EXAMPLES[0].replace("2/minute", "2/hour"), tmp_path) == "[True, True, False]\n"
    assert run(EXAMPLES[0].replace("2/minute", "2/hour"), tmp_path) == "[False, False, False]\n"


def test_slowapi_across_a_restart(tmp_path: Path) -> None:
    app = """
import asyncio
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
EXAMPLE
import httpx
from fastapi import FastAPI, Request
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded

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
    script = app.replace("EXAMPLE", EXAMPLES[1])
    assert run(script, tmp_path) == "[200, 200]\n"
    assert run(script, tmp_path) == "[200, 429]\n"


def test_flask_limiter_across_a_restart(tmp_path: Path) -> None:
    script = (
        EXAMPLES[2].replace("100 per hour", "3 per day")
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
    assert run(EXAMPLES[3], tmp_path) == "True\n"
    left = EXAMPLES[3] + "\nprint(bucket.count())\n"
    assert run(left, tmp_path) == "True\n2\n"


def test_fluxlimit(tmp_path: Path) -> None:
    assert run(EXAMPLES[4].replace("rate=10", "rate=0.001"), tmp_path) == "19\n"
    assert run(EXAMPLES[4].replace("rate=10", "rate=0.001"), tmp_path) == "18\n"


def test_every_example_is_run_here() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 5
