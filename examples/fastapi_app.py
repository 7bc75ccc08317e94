"""A FastAPI application with rate limits that survive a restart.

pip install "flint-limiter[fastapi]" uvicorn
uvicorn fastapi_app:app
"""

import os
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from flint.fastapi import RateLimit, setup

app = FastAPI()
setup(app, os.environ.get("FLINT_DATA_DIR", "data/limits"))


@app.get("/search", dependencies=[Depends(RateLimit("20/hour"))])
async def search(q: str = "") -> dict[str, str]:
    return {"found": q}


@app.get("/numbers", dependencies=[Depends(RateLimit("100/minute", key=("ip", "route")))])
async def numbers() -> StreamingResponse:
    async def count() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"

    return StreamingResponse(count(), media_type="text/plain")
