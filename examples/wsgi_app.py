"""A WSGI application without a framework, with rate limits that survive a restart.

pip install flint-limiter gunicorn
gunicorn --threads 8 wsgi_app:app
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flint.wsgi import RateLimitMiddleware

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def reply(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/numbers":
        return (f"{number}\n".encode() for number in range(1000))
    return [b"found\n"]


app = RateLimitMiddleware(
    reply, os.environ.get("FLINT_DATA_DIR", "data/limits"), "20/hour", exempt=["/numbers"]
)
