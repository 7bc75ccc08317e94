"""A FastAPI application with rate limits that survive a restart.

pip install "flint-limiter[fastapi]" uvicorn
uvicorn fastapi_app:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

import flint
from flint.fastapi import RateLimit

DATA_DIR = os.environ.get("FLINT_DATA_DIR", "data/limits")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with flint.Limiter(DATA_DIR) as limiter:
        app.state.limiter = limiter
        yield


app = FastAPI(lifespan=lifespan)
search_limit = RateLimit("20/hour")


@app.get("/search", dependencies=[Depends(search_limit)], responses=search_limit.responses)
async def search(q: str = "") -> dict[str, str]:
    return {"found": q}


@app.get("/numbers", dependencies=[Depends(RateLimit("100/minute", key=("ip", "route")))])
async def numbers() -> StreamingResponse:
    async def count() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"

    return StreamingResponse(count(), media_type="text/plain")
