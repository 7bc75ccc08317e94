"""Workers that count together: as clients of a shared directory, by a Redis server, and an echo
that counts nothing. Runs in the environment of the peers too, where there is no Flint."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import socket
import time
from typing import Any

from loops import Loop, Target

KEY = "user:00000000042"
RATE = 10**9
AT_A_TIME = 16
# The generic cell rate algorithm in doubles, on Redis's own clock.
GCRA = """
local now = redis.call('TIME')
local t = now[1] * 1000000 + now[2]
local period, burst = 1000000 / tonumber(ARGV[1]), 1000000 * tonumber(ARGV[2]) / tonumber(ARGV[1])
local arrival = tonumber(redis.call('GET', KEYS[1]) or t)
if arrival < t then arrival = t end
if arrival + period - t > burst then return {0, arrival - t} end
redis.call('SET', KEYS[1], arrival + period, 'PX', math.ceil((arrival + period - t) / 1000) + 1)
return {1, 0}
"""


class Asking(Loop):
    """What is on disk is the business of whoever is asked."""

    def unsynced(self, made: int) -> int | None:  # noqa: ARG002
        return None


def opened(directory: str) -> Any:
    flint: Any = importlib.import_module("flint")
    limiter = flint.Limiter(directory, sync="batch", shared=True, answer_timeout="1m")
    if limiter.info()["role"] != "client":
        raise RuntimeError("nobody else owns the directory")
    return limiter


class Client(Asking):
    def __init__(self, directory: str) -> None:
        self.limiter = opened(directory)
        super().__init__(self.limiter.allow, [KEY])

    def close(self) -> None:
        self.limiter.close()


class Echo(Asking):
    """A message there and one back, from Python."""

    def __init__(self, path: str, request_bytes: int, reply_bytes: int) -> None:
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(path)
        send, receive, request = self.stream.send, self.stream.recv, bytes(request_bytes)

        def ask(_key: str) -> bool:
            send(request)
            return len(receive(reply_bytes)) == reply_bytes

        super().__init__(ask, [KEY])

    def close(self) -> None:
        self.stream.close()


class Awaited(Target):
    """`acheck` of a client, so many at a time."""

    def __init__(self, directory: str, at_a_time: int) -> None:
        super().__init__()
        self.limiter = opened(directory)
        self.loop = asyncio.new_event_loop()
        self.at_a_time = at_a_time

    async def together(self, rounds: int) -> int:
        acheck, allowed = self.limiter.acheck, 0
        for _ in range(rounds):
            results = await asyncio.gather(*(acheck(KEY) for _ in range(self.at_a_time)))
            allowed += sum(result.allowed for result in results)
        return allowed

    def run(self, calls: int) -> dict[str, Any]:
        rounds = -(-calls // self.at_a_time)
        made = rounds * self.at_a_time
        started = time.perf_counter_ns()
        allowed = self.loop.run_until_complete(self.together(rounds))
        ns = time.perf_counter_ns() - started
        counted = {"allowed": allowed, "denied": made - allowed}
        return {"ns": ns, "calls": made, **counted, "unsynced": None}

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.limiter.close()


class RedisPy(Asking):
    """A script of GCRA, by redis-py with hiredis over a unix socket."""

    def __init__(self, path: str) -> None:
        redis: Any = importlib.import_module("redis")
        self.redis = redis.Redis(unix_socket_path=path)
        script, arguments = self.redis.register_script(GCRA), [RATE, RATE]
        super().__init__(lambda key: script(keys=[key], args=arguments)[0], [KEY])
        self.versions = {name: importlib.metadata.version(name) for name in ("redis", "hiredis")}
        self.versions["redis-py"] = self.versions.pop("redis")

    def close(self) -> None:
        self.redis.close()


class Limits(Asking):
    """limits over the same server, by its fixed window, the cheapest of its strategies."""

    def __init__(self, path: str) -> None:
        limits: Any = importlib.import_module("limits")
        storage: Any = importlib.import_module("limits.storage")
        strategies: Any = importlib.import_module("limits.strategies")
        limiter = strategies.FixedWindowRateLimiter(
            storage.storage_from_string(f"redis+unix://{path}")
        )
        item = limits.RateLimitItemPerYear(RATE)
        super().__init__(lambda key: limiter.hit(item, key), [KEY])
        self.versions = {"limits": importlib.metadata.version("limits")}
