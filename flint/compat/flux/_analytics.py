"""flux's analytics: what this process has counted, by endpoint, for `monitor`."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flint.compat.flux._result import RateLimitResult

_MOST_ENDPOINTS = 1000
_OTHERS = "(others)"


@dataclass
class _Counts:
    limit_info: dict[str, Any]
    allowed: int = 0
    blocked: int = 0
    took_ms: float = 0
    usage: int = 0
    reset_after: int = 0
    last_updated_ms: int = 0

    def shown(self, endpoint: str) -> dict[str, Any]:
        total = self.allowed + self.blocked
        return {
            "endpoint": endpoint,
            "allowed": self.allowed,
            "blocked": self.blocked,
            "total": total,
            "block_rate": round(100 * self.blocked / total, 2),
            "avg_latency": round(self.took_ms / total, 4),
            "limit_info": self.limit_info,
            "utilization_raw": self.usage,
            "reset_after": self.reset_after,
            "last_updated": self.last_updated_ms,
        }


class StatsProvider:
    """Counts hits by endpoint. Any thread may use it. Of more than 1000 endpoints the rest is
    counted together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, _Counts] = {}

    def record(
        self, endpoint: str, result: RateLimitResult, took_ms: float, limit_info: dict[str, Any]
    ) -> None:
        """Count a decision that took so long; `limit_info` is what it was made by."""
        with self._lock:
            if endpoint not in self._counts and len(self._counts) >= _MOST_ENDPOINTS:
                endpoint = _OTHERS
            counts = self._counts.setdefault(endpoint, _Counts(limit_info))
            counts.limit_info = limit_info
            counts.allowed += result.allowed
            counts.blocked += not result.allowed
            counts.took_ms += took_ms
            counts.usage = result.usage
            counts.reset_after = result.reset_after or 0
            counts.last_updated_ms = time.time_ns() // 1_000_000

    def get_stats(self) -> list[dict[str, Any]]:
        """What was counted, by the endpoints' names; times are in milliseconds, `block_rate` in
        percent, `utilization_raw` and `reset_after` are the last decision's."""
        with self._lock:
            return [counts.shown(name) for name, counts in sorted(self._counts.items())]


stats = StatsProvider()


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10  # seconds until a client that says nothing is left

    def do_GET(self) -> None:
        if self.path.partition("?")[0] in ("/metrics", "/stats"):
            self._answer(200, stats.get_stats())
        else:
            self._answer(404, {"error": "Not Found"})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing of each request."""


class AnalyticsServer:
    """Answers GET /metrics (or /stats) on this machine's own address, from a thread that ends with
    the program. Raises OSError for a port that is taken; port 0 is any, and `port` says which."""

    def __init__(self, port: int = 4444) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(
            target=self._server.serve_forever, name="flux analytics", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop answering, after `start`, and give the port back."""
        self._server.shutdown()
        self._server.server_close()


_lock = threading.Lock()
_started_by: int | None = None


def start(port: int) -> None:
    """The server of this process, unless it has been started; a warning where the port is taken, as
    it is when another worker has it."""
    global _started_by
    with _lock:
        if _started_by == os.getpid():
            return
        _started_by = os.getpid()
    try:
        AnalyticsServer(port).start()
    except OSError as error:
        print(f"[flux] [warning] no analytics on port {port}: {error}", file=sys.stderr)
