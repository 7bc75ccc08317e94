"""A Flask application with rate limits that survive a restart.

pip install "flint-limiter[flask]" gunicorn
gunicorn --threads 8 flask_app:app
"""

import os

from flask import Flask, Response

from flint.flask import RateLimiter

app = Flask(__name__)
limits = RateLimiter(app, os.environ.get("FLINT_DATA_DIR", "data/limits"), default="100/minute")


@app.get("/search")
@limits.limit("20/hour")
def search() -> dict[str, str]:
    return {"found": "something"}


@app.get("/numbers")
def numbers() -> Response:
    return Response((f"{number}\n" for number in range(1000)), mimetype="text/plain")


@app.get("/health")
@limits.exempt
def health() -> str:
    return "ok"
