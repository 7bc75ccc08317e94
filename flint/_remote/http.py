"""Requests and answers of HTTP/1.1, as bytes: what the plain and the asyncio client share."""

from __future__ import annotations

import json
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Any, NamedTuple

from flint.errors import FlintError, FlintServerError, TableFullError

if TYPE_CHECKING:
    from io import BufferedIOBase

    from flint._remote.server import Server

# Nothing that a server answers is longer: some 500,000 limits.
MOST_BODY_BYTES = 256 * 2**20
MOST_HEAD_BYTES = 64 * 1024
ENDED = "the server has ended the connection"


class Request(NamedTuple):
    """What is asked. `repeatable`: asking twice does no more than asking once."""

    method: str
    path: str
    body: Any
    repeatable: bool


class Answer(NamedTuple):
    """`code`: the name of the limiter's code when it has failed, as in flint_limiter.h."""

    status: int
    code: str
    body: bytes


class GarbageError(Exception):
    """What came is no answer."""


class _Source:
    """What HTTPResponse takes for a socket."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file

    def makefile(self, _mode: str) -> BufferedIOBase:
        return self._file


def as_bytes(request: Request, server: Server, token: str | None) -> bytes:
    """The whole request."""
    lines = [
        f"{request.method} {server.prefix}{request.path} HTTP/1.1",
        f"Host: {server.host_header}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "User-Agent: flint-limiter",
    ]
    body = b""
    if request.body is not None:
        body = json.dumps(request.body, ensure_ascii=False, separators=(",", ":")).encode()
        lines.append("Content-Type: application/json")
    if body or request.method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def read_head(file: BufferedIOBase, method: str) -> HTTPResponse:
    """An answer whose head has been read. Raises GarbageError, and what reading raises."""
    response = HTTPResponse(_Source(file), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
    except RemoteDisconnected:
        raise ConnectionResetError(ENDED) from None
    except OSError:
        raise
    except (HTTPException, ValueError) as error:
        raise GarbageError(f"the answer is not HTTP: {error!r:.200}") from None
    if response.length is not None and response.length > MOST_BODY_BYTES:
        raise GarbageError(f"the answer would be {response.length} bytes long")
    return response


def read_body(response: HTTPResponse) -> bytes:
    """The body, when the head has been read."""
    try:
        body = response.read(MOST_BODY_BYTES + 1)
    except IncompleteRead:
        raise ConnectionResetError(ENDED) from None
    except (HTTPException, ValueError) as error:
        raise GarbageError(f"the answer's body is not HTTP: {error!r:.200}") from None
    if response.length:
        raise ConnectionResetError(ENDED)
    if len(body) > MOST_BODY_BYTES:
        raise GarbageError(f"the answer is longer than {MOST_BODY_BYTES} bytes")
    return body


def answer_of(response: HTTPResponse, body: bytes) -> Answer:
    return Answer(response.status, response.getheader("Flint-Error") or "", body)


def read_answer(answer: Answer) -> Any:
    """The JSON of an answer that is one. Raises GarbageError, or FlintServerError for another."""
    if answer.status != 200:
        raise FlintServerError(answer.status, _message(answer))
    return _json(answer)


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise GarbageError(f"the answer is not JSON: {answer.body[:100]!r}") from None


def _message(answer: Answer) -> str:
    """What the server says is wrong."""
    if 300 <= answer.status < 400:
        return "the server sends the client to another URL, which it does not follow"
    if answer.status in (404, 405) and not answer.body:
        return "the server does not have this call; perhaps it is older than the client"
    try:
        error = _json(answer)["error"]
    except (GarbageError, KeyError, TypeError, IndexError):
        error = None
    text = error if isinstance(error, str) else answer.body[:2000].decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text[:2000] or "no reason is given"


def is_servers_trouble(error: FlintError) -> bool:
    """Whether a check failed for no reason that lies with the caller."""
    if isinstance(error, FlintServerError):
        return error.status >= 500
    return isinstance(error, (OSError, TableFullError))
