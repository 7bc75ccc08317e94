"""A Starlette application, with a WebSocket, whose rate limits survive a restart.

pip install "flint-limiter[starlette]" uvicorn wsproto
uvicorn starlette_app:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import flint
from flint.starlette import RateLimitMiddleware

limiter = flint.connect(os.environ.get("FLINT_DATA_DIR", "data/limits"))


@flint.rate_limit("20/hour")
async def search(request: Request) -> JSONResponse:
    return JSONResponse({"found": request.query_params.get("q", "")})


@flint.rate_limit("100/minute")
async def numbers(_: Request) -> StreamingResponse:
    async def count() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"

    return StreamingResponse(count(), media_type="text/plain")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.limiter = limiter
    yield
    await limiter.aclose()


app = Starlette(
    routes=[
        Route("/search", search),
        Route("/numbers", numbers),
        WebSocketRoute("/echo", echo),
    ],
    middleware=[Middleware(RateLimitMiddleware, limiter, "1000/minute", messages="10/hour")],
    lifespan=lifespan,
)
