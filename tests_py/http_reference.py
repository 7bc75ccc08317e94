"""A small Flint server in Python, on an embedded limiter, for tests that need to move its clock."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import flint

CODES = {
    flint.NotConfiguredError: ("NOT_CONFIGURED", 400),
    flint.DiskFullError: ("DISK_FULL", 507),
    flint.TableFullError: ("TABLE_FULL", 503),
    flint.UnsupportedError: ("UNSUPPORTED", 400),
    ValueError: ("INVALID_ARGUMENT", 400),
}


def shown(result: flint.Result) -> dict[str, Any]:
    """One decision, without those of the several limits of the key."""
    names = ("key", "allowed", "cost", "limit", "remaining", "algorithm", "undecided", "name")
    found = {name: getattr(result, name) for name in names}
    found["reset_at"] = result.reset_at.replace("+00:00", "Z")
    found["reset_after_ns"] = result.reset_after_ns
    found["retry_after_ns"] = result.retry_after_ns
    return found


def decision(call: Callable[..., flint.Result], body: dict[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in body.items() if name != "details"}
    key, cost = body.pop("key"), body.pop("cost", 1)
    if "per_ns" in body:
        body["per"] = body.pop("per_ns") / 10**9
    result = call(key, cost, **body)
    return {**shown(result), "results": [shown(one) for one in result.results]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 64 * 1024  # an answer is one packet
    server: Reference

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, value: Any, code: str = "") -> None:
        data = json.dumps(value, sort_keys=True, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if code:
            self.send_header("Flint-Error", code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_request(self, routed: Callable[..., Any], *args: Any) -> None:
        token = self.server.token
        if token is not None and self.headers["Authorization"] != f"Bearer {token}":
            return self.answer(401, {"error": "unauthorized"})
        try:
            value = routed(*args)
        except tuple(CODES) as error:
            code, status = next(CODES[kind] for kind in CODES if isinstance(error, kind))
            return self.answer(status, {"error": str(error)}, code)
        return self.answer(200, value)

    def do_GET(self) -> None:
        self.handle_request(self.looked)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        self.handle_request(self.done, body)

    def looked(self) -> Any:
        limiter = self.server.limiter
        self.server.looks.append(self.path)
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        template = {"true": True, "false": False, None: None}[asked.get("template")]
        if url.path == "/v1/limits":
            if asked.get("inline") == "false":
                key = asked.get("key")
                return [one for one in limiter._list(None) if key in (None, one["key"])]
            return limiter.list(counters="counters" in asked)
        if url.path.startswith("/v1/limits/"):
            key = unquote(url.path.removeprefix("/v1/limits/"))
            return limiter.status(key, template, name=asked.get("name"))
        if url.path == "/v1/top":
            by: Any = asked["by"]
            return limiter.top(by, int(asked["limit"]))
        if url.path == "/v1/history":
            most = int(asked["limit"]) if "limit" in asked else None
            newest = "newest_first" in asked
            return limiter.history(asked.get("key"), newest_first=newest, limit=most)
        if url.path == "/v1/doctor":
            return {**limiter.doctor(), "directory_mode": 0o700}
        return {"/v1/info": limiter.info}[url.path]()

    def done(self, body: Any) -> Any:
        limiter = self.server.limiter
        if self.path in ("/v1/check", "/v1/peek"):
            return decision(getattr(limiter, self.path.removeprefix("/v1/")), body)
        if self.path == "/v1/status":
            return limiter.status(**body)
        if self.path == "/v1/check-all":
            return limiter.check_all(body["items"])
        if self.path == "/v1/limits":
            limiter.limit(**body)
        elif self.path == "/v1/limits:batch":
            limiter.limit_many(body["limits"], if_absent=body["if_absent"])
        elif self.path in ("/v1/reset", "/v1/remove"):
            getattr(limiter, self.path.removeprefix("/v1/"))(**body)
        else:
            {"/v1/log/flush": limiter.flush, "/v1/log/compact": limiter.compact}[self.path]()
        return {"ok": True}


class Reference(ThreadingHTTPServer):
    """At `url` until it is shut down."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, limiter: flint.Limiter, token: str | None, path: Path | None) -> None:
        self.limiter = limiter
        self.token = token
        self.looks: list[str] = []  # what has been asked for by GET
        if path is not None:
            self.address_family = socket.AF_UNIX
        super().__init__(str(path) if path else ("127.0.0.1", 0), Handler)  # type: ignore[arg-type]
        port = self.server_address[1]
        self.url = f"http+unix://{path}" if path else f"http://127.0.0.1:{port}"

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = self.socket.accept()
        return connection, address or ("unix", 0)


@contextlib.contextmanager
def serving(
    limiter: flint.Limiter, token: str | None = None, path: Path | None = None
) -> Iterator[Reference]:
    """A server for `limiter`."""
    with Reference(limiter, token, path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
