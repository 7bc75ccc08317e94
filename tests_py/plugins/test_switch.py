"""Applications on other limiters, switched to Flint by one line: eight workers, one limit, and a
restart in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from serving import serving, statuses

WORKERS = 8
LIMIT = 40
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0", "--workers", str(WORKERS), "--preload")
FORKED = ("forked",)  # Uvicorn, with workers that are forked and not started anew

FORKED_UVICORN = f"""
import importlib
import os
import signal
import socket
import sys

import uvicorn

module, _, name = sys.argv[1].partition(":")
config = uvicorn.Config(getattr(importlib.import_module(module), name))
listening = socket.create_server(("127.0.0.1", 0))
workers = []
for _ in range({WORKERS}):
    worker = os.fork()
    if not worker:
        uvicorn.Server(config).run(sockets=[listening])
        os._exit(0)
    workers.append(worker)


def stop(*_):
    for worker in workers:
        os.kill(worker, signal.SIGTERM)


signal.signal(signal.SIGTERM, stop)
print(f"Running on http://127.0.0.1:{{listening.getsockname()[1]}}", flush=True)
while workers:
    os.waitpid(workers[-1], 0)
    workers.pop()
"""

SLOWAPI = f"""
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
from fastapi import FastAPI, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

limiter = Limiter(get_remote_address, storage_uri="memory://")
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.get("/")
@limiter.limit("{LIMIT}/day")
async def home(request: Request):
    return "hello"
"""

FLASK_LIMITER = f"""
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

app = Flask(__name__)
limiter = Limiter(get_remote_address, app=app, storage_uri="memory://")


@app.get("/")
@limiter.limit("{LIMIT}/day")
def home():
    return "hello"
"""

REST_FRAMEWORK = f"""
import sys

from django.conf import settings

THROTTLE = "rest_framework.throttling.AnonRateThrottle"
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    FLINT=globals().get("FLINT"),
    REST_FRAMEWORK={{
        "DEFAULT_THROTTLE_CLASSES": [THROTTLE],
        "DEFAULT_THROTTLE_RATES": {{"anon": "{LIMIT}/day"}},
        "UNAUTHENTICATED_USER": None,
    }},
)
import django

django.setup()
from django.core.wsgi import get_wsgi_application
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView


class Home(APIView):
    authentication_classes = []

    def get(self, request):
        return Response("hello")


urlpatterns = [path("", Home.as_view())]
app = get_wsgi_application()
"""

# Shared, however slow the machine is.
PATIENT = {"shared": True, "answer_timeout": 60, "lock_timeout": 60}

# For each application its server, its line before, and its line on Flint.
SWITCHES = {
    "slowapi": (
        SLOWAPI,
        FORKED,
        'limiter = Limiter(get_remote_address, storage_uri="memory://")',
        "import flint.plugins.limits; limiter = Limiter(get_remote_address, "
        'storage_uri="flint:limits", storage_options=PATIENT)',
    ),
    "Flask-Limiter": (
        FLASK_LIMITER,
        GUNICORN,
        'limiter = Limiter(get_remote_address, app=app, storage_uri="memory://")',
        "import flint.plugins.limits; limiter = Limiter(get_remote_address, app=app, "
        'storage_uri="flint:limits", storage_options=PATIENT, strategy="moving-window")',
    ),
    "Django REST framework": (
        REST_FRAMEWORK,
        GUNICORN,
        'THROTTLE = "rest_framework.throttling.AnonRateThrottle"',
        'THROTTLE = "flint.django_rest.AnonRateThrottle"; '
        'FLINT = {"URL": "limits", "OPTIONS": PATIENT}',
    ),
}


def let_in(peer: str, on_flint: bool, folder: Path, requests: tuple[int, int]) -> list[int]:
    """How many of the requests are answered, before a restart and behind it."""
    source, server, before, after = SWITCHES[peer]
    assert source.count(before) == 1
    after = after.replace("PATIENT", str(PATIENT))
    text = source.replace(before, after) if on_flint else source
    (folder / "application.py").write_text(text, "utf-8")
    (folder / "forked.py").write_text(FORKED_UVICORN, "utf-8")
    answered = []
    for count in requests:
        with serving("application:app", folder / "limits", *server, folder=folder) as (url, _):
            said = statuses(f"{url}/", count)
            assert set(said) <= {200, 429}
            answered.append(said.count(200))
    return answered


@pytest.mark.parametrize("peer", SWITCHES)
def test_eight_workers_have_one_limit_across_a_restart(peer: str, tmp_path: Path) -> None:
    assert let_in(peer, True, tmp_path, (25, 30)) == [25, LIMIT - 25]


@pytest.mark.skipif("FLINT_LONG" not in os.environ, reason="set FLINT_LONG=1")
@pytest.mark.parametrize("peer", SWITCHES)
def test_they_have_not_before(peer: str, tmp_path: Path) -> None:
    """The test above can fail: each start begins anew, whatever the workers share."""
    assert sum(let_in(peer, False, tmp_path, (25, 30))) == 55
