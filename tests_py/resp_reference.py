"""A small Flint server in Python that speaks the Redis protocol, on an embedded limiter, for tests
that need to move its clock."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

from resp_faulty import HELLO, OK, refusal, reply

import flint
from flint._remote.shapes import time_ns
from flint.rates import Rate

CODES = {
    flint.NotConfiguredError: "NOT_CONFIGURED",
    flint.UnsupportedError: "UNSUPPORTED",
    ValueError: "ERR",
}
FLAGS = {"LIMITS", "STACK", "NX", "EXACT", "UNNAMED", "COUNTERS"}
FEWEST_ENTRIES = 5  # of a page, so that there are several


def options(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        found[word] = True if word in FLAGS else next(rest)
    return found


def named(said: dict[str, Any]) -> str | None:
    return "" if "UNNAMED" in said else said.get("NAME")


def numbers(result: flint.Result) -> dict[str, Any]:
    names = ("allowed", "algorithm", "limit", "remaining")
    times = ("retry_after_ns", "reset_after_ns", "reset_at_ns")
    return {name: getattr(result, name) for name in (*names, *times)}


def decision(result: flint.Result) -> dict[str, Any]:
    parts = [] if result.results == (result,) and result.name is None else result.results
    names = [one.name for one in parts]
    return {
        **numbers(result),
        "key": result.key,
        "cost": result.cost,
        "undecided": result.undecided,
        "limit_count": len(parts),
        "limit_index": names.index(result.name) if parts else 0,
        "limits": [{"name": one.name, **numbers(one)} for one in parts],
    }


def item(result: Any) -> dict[str, Any]:
    """Of several: without what the client does not tell of them."""
    at_ns = time_ns(result["reset_at"])
    untold = {"limit": 1, "retry_after_ns": 0, "reset_after_ns": 0, "reset_at_ns": at_ns}
    return {**result, **untold}


def status(found: Any, kind: str = "exact") -> dict[str, Any] | None:
    if found is None:
        return None
    times = ("last_allowed_at", "last_denied_at", "last_reset_at")
    return {
        **{name: value for name, value in found.items() if name not in times},
        **{f"{name}_ns": time_ns(found[name]) if found[name] else 0 for name in times},
        "kind": "template" if found["template"] else kind,
        "name": found["name"] or "",
        "reset_at_ns": time_ns(found["reset_at"]),
    }


class Answering:
    """The commands, on a limiter."""

    def __init__(self, limiter: flint.Limiter) -> None:
        self._limiter = limiter

    def answer(self, command: str, words: list[str]) -> bytes:
        try:
            value = getattr(self, command.removeprefix("FLINT.").lower())(*words)
        except tuple(CODES) as error:
            code = next(CODES[kind] for kind in CODES if isinstance(error, kind))
            return refusal(f"{code} {error}".replace("\n", " "))
        return OK if value is OK else reply(value)

    def check(self, key: str, *words: str) -> Any:
        return self._decided(self._limiter.check, key, options([*words]))

    def peek(self, key: str, *words: str) -> Any:
        return self._decided(self._limiter.peek, key, options([*words]))

    @staticmethod
    def _decided(call: Any, key: str, said: dict[str, Any]) -> Any:
        limit: Any = said.get("LIMIT")
        if "RATE" in said:
            burst = int(said["BURST"]) if "BURST" in said else None
            per_ns = int(said["PER"].removesuffix("ns"))
            limit = Rate(int(said["RATE"]), per_ns, burst, said["ALGORITHM"])
        return decision(call(key, int(said["COST"]), limit=limit))

    def checkall(self, *words: str) -> Any:
        pairs = [(key, int(cost)) for key, cost in zip(words[::2], words[1::2], strict=True)]
        found = self._limiter.check_all(pairs)
        return {**found, "results": [item(one) for one in found["results"]]}

    def limit(self, key: str, *words: str) -> bytes:
        said = options([*words])
        burst = int(said["BURST"]) if "BURST" in said else None
        rate, per_ns = int(said["RATE"]), int(said["PER"].removesuffix("ns"))
        which = (said.get("NAME"), "STACK" in said)
        template = False if "EXACT" in said else None
        values = (rate, per_ns, burst, said["ALGORITHM"])
        self._limiter._limit(key, template, *values, "NX" in said, *which)
        return OK

    def limitmany(self, order: str, *words: str) -> bytes:
        limits: list[Any] = []
        for at in range(0, len(words), 8):
            kind, key, name, rate, per_ns, burst, algorithm, stack = words[at : at + 8]
            limits.append(
                {
                    "key": key,
                    "template": kind == "template",
                    "name": name or None,
                    "rate": int(rate),
                    "per_ns": int(per_ns),
                    "burst": int(burst),
                    "algorithm": algorithm,
                    "stack": stack == "STACK",
                }
            )
        self._limiter.limit_many(limits, if_absent=order == "NX")
        return OK

    def _target(self, key: str, said: dict[str, Any]) -> tuple[str, bool]:
        return key, key.endswith("*") and "EXACT" not in said

    def reset(self, key: str, *words: str) -> bytes:
        said = options([*words])
        self._limiter.reset(*self._target(key, said), name=named(said))
        return OK

    def remove(self, key: str, *words: str) -> bytes:
        said = options([*words])
        self._limiter.remove(*self._target(key, said), name=named(said))
        return OK

    def status(self, key: str, *words: str) -> Any:
        said = options([*words])
        return status(self._limiter.status(*self._target(key, said), name=said.get("NAME")))

    def list(self, *words: str) -> Any:
        said = options([*words])
        lasting = [(one["key"], one["name"]) for one in self._limiter._list(None)]
        found = []
        for one in self._limiter._list("COUNTERS" in said):
            kind = "exact" if (one["key"], one["name"]) in lasting else "inline"
            if said.get("KEY") in (None, one["key"]):
                found.append(status(one, kind))
        first = int(said.get("CURSOR", "0"), 16)
        page = found[first : first + FEWEST_ENTRIES]
        return [f"{first + FEWEST_ENTRIES:x}" if page else "", page]

    def top(self, *words: str) -> Any:
        said = options([*words])
        found = self._limiter.top(said["BY"], int(said["COUNT"]))
        return [status(one) for one in found]

    def flush(self) -> bytes:
        self._limiter.flush()
        return OK


class Handler(socketserver.StreamRequestHandler):
    server: Reference

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while words := self._words():
                if words[0] == "HELLO":
                    assert words[1:] == ["3", "AUTH", "default", self.server.token]
                    self.wfile.write(reply(HELLO))
                else:
                    self.wfile.write(self.server.answering.answer(words[0], words[1:]))

    def _words(self) -> list[str]:
        line = self.rfile.readline()
        words = []
        for _ in range(int(line[1:] or b"0")):
            size = int(self.rfile.readline()[1:])
            words.append(self.rfile.read(size + 2)[:-2].decode())
        return words


class Reference(socketserver.ThreadingTCPServer):
    """At `url` until it is shut down."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, limiter: flint.Limiter, token: str) -> None:
        self.answering = Answering(limiter)
        self.token = token
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"flint://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(limiter: flint.Limiter, token: str) -> Iterator[Reference]:
    """A server for `limiter`."""
    with Reference(limiter, token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
