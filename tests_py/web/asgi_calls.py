"""Calls of an ASGI application, in process and without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

Returned = TypeVar("Returned")


def run(coroutine: Coroutine[Any, Any, Returned]) -> Returned:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, which is there at most once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(
    path: str = "/",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    client: tuple[str, int] | None = ("203.0.113.7", 1234),
    kind: str = "http",
    **more: Any,
) -> dict[str, Any]:
    raw = [
        (name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()
    ]
    scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": raw,
        "client": client,
        "server": ("127.0.0.1", 80),
        **more,
    }
    if kind == "http":
        scope["method"] = method
    return scope


async def call(app: Any, path: str = "/", *, body: bytes = b"", **scope: Any) -> Answer:
    """The answer to one request."""
    sent: list[Any] = []
    received = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope_of(path, **scope), receive, send)
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in sent[0]["headers"]]
    return Answer(sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]))


async def statuses(app: Any, times: int, path: str = "/", **scope: Any) -> list[int]:
    return [(await call(app, path, **scope)).status for _ in range(times)]


async def talk(app: Any, messages: list[str], **scope: Any) -> list[Any]:
    """What a WebSocket sends that is opened, sent these messages and closed."""
    sent: list[Any] = []
    received = [{"type": "websocket.connect"}]
    received += [{"type": "websocket.receive", "text": text} for text in messages]

    async def receive() -> Any:
        return received.pop(0) if received else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope_of(kind="websocket", **scope), receive, send)
    return sent
