"""An application of aiohttp with rate limits that survive a restart.

pip install "flint-limiter[aiohttp]"
python -m aiohttp.web -H 127.0.0.1 -P 8080 aiohttp_app:make_app
"""

import os

from aiohttp import web

from flint.aiohttp import setup


async def search(request: web.Request) -> web.Response:
    return web.json_response({"found": request.query.get("q", "")})


def make_app(_: list[str]) -> web.Application:
    app = web.Application()
    app.router.add_get("/search", search)
    setup(app, os.environ.get("FLINT_DATA_DIR", "data/limits"), "20/hour", scope="route")
    return app
