"""An application of aiohttp with rate limits that survive a restart.

pip install "flint-limiter[aiohttp]"
python -m aiohttp.web -H 127.0.0.1 -P 8080 aiohttp_app:make_app
"""

import os

from aiohttp import web

from flint.aiohttp import setup


async def search(request: web.Request) -> web.Response:
    return web.json_response({"found": request.query.get("q", "")})


async def numbers(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(1000):
        await response.write(f"{number}\n".encode())
    return response


def make_app(_: list[str]) -> web.Application:
    app = web.Application()
    app.router.add_get("/search", search)
    app.router.add_get("/numbers", numbers)
    setup(app, os.environ.get("FLINT_DATA_DIR", "data/limits"), "20/hour", scope="route")
    return app
