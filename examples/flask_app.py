"""A Flask application with rate limits that survive a restart.

pip install "flint-limiter[flask]" gunicorn
gunicorn --threads 8 flask_app:app
"""

import os

from flask import Flask

from flint.flask import RateLimiter

app = Flask(__name__)
limits = RateLimiter(app, os.environ.get("FLINT_DATA_DIR", "data/limits"), default="100/minute")


@app.get("/search")
@limits.limit("20/hour")
def search() -> dict[str, str]:
    return {"found": "something"}


@app.get("/health")
@limits.exempt
def health() -> str:
    return "ok"
