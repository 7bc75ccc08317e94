"""Measures flint-server beside other servers, each on one processor, loaded from another.

    ./dev bench server [--quick] [--only NAME]... [--directory DIR]

Rounds of both sides alternate; a ratio is of the rates of neighbouring rounds. Results go to
bench/results/server/, unless --quick is given.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import alone
import servers
from harness import (
    SHOWN,
    Bench,
    Case,
    Outcome,
    Spec,
    alternate,
    at_least,
    case,
    faster,
    figure,
    outcome,
    tally,
)
from servers import RATE, Load, RedisBenchmark, Vegeta, Wrk

CHECK = {"key": "bench"}
# redis-cell's arguments: a burst, so many in so many seconds. All are let in.
THROTTLE = ("CL.THROTTLE", "bench", str(RATE), str(RATE), "1")
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


def rounds(bench: Bench, ours: Load, theirs: Load, calls: int) -> Outcome:
    seen = alternate([ours, theirs], [calls, calls], 2 * bench.long_rounds)
    return faster(seen[0], seen[1], (ours.what, theirs.what))


def http(bench: Bench, directory: Path, one: servers.Flint) -> Wrk:
    return Wrk(
        "flint-server, POST /v1/check",
        url=one.url,
        target=f"{one.url}/v1/check",
        script=servers.post(directory, CHECK),
        seconds=1 if bench.quick else 3,
    )


def against_constant(bench: Bench) -> Outcome:
    directory = bench.place("server")
    with servers.flint_server(directory, "batch") as one:
        ours = http(bench, directory, one)
        theirs = Wrk(
            "the same server, GET /v1/health",
            target=f"{one.url}/v1/health",
            seconds=ours.seconds,
        )
        return rounds(bench, ours, theirs, 1)


def against_nginx(bench: Bench) -> Outcome:
    directory = bench.place("server")
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(servers.flint_server(directory, "batch"))
        port = stack.enter_context(servers.nginx(bench.place("nginx")))
        ours = http(bench, directory, one)
        theirs = Wrk(
            "nginx, limit_req before a file",
            target=f"http://127.0.0.1:{port}/check",
            seconds=ours.seconds,
        )
        return rounds(bench, ours, theirs, 1)


def against_throttlecrab(bench: Bench) -> Outcome:
    directory = bench.place("server")
    body = {"key": "crab", "max_burst": RATE, "count_per_period": RATE, "period": 1}
    script = servers.post(directory, body)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(servers.flint_server(directory, "batch"))
        port = stack.enter_context(servers.throttlecrab(bench.place("throttlecrab")))
        sides = [
            Wrk(what, target=f"{url}/throttle", script=script, seconds=1 if bench.quick else 3)
            for what, url in (
                ("flint-server, POST /throttle", one.url),
                ("throttlecrab-server, memory", f"http://127.0.0.1:{port}"),
            )
        ]
        return rounds(bench, sides[0], sides[1], 1)


def at_half_load(bench: Bench) -> Outcome:
    """Asked at half of the rate that 16 connections reach, whether it answers or not."""
    directory = bench.place("server")
    body = directory / "check.json"
    body.write_text(json.dumps(CHECK), "utf-8")
    with servers.flint_server(directory, "batch") as one:
        seen = http(bench, directory, one).round(1)
        rate = int(seen["calls"] / seen["ns"] * 1e9 / 2)
        what = f"POST /v1/check, {rate:,} a second"
        side = Vegeta(what, url=one.url, target=f"{one.url}/v1/check", body=body, rate=rate)
        found = [side.round(1) for _ in range(2 * bench.long_rounds)]
    p99 = figure("ns")
    shown = tally(what, found, p99, details=("p50_ns", "p999_ns", "most_ns"))
    return outcome([p99(one) / 1e6 for one in found], [shown])


def against_redis(
    command: Callable[[int], Sequence[str]],
    what: str,
    *,
    sync: str = "batch",
    connections: int = 16,
    pipeline: int = 1,
    calls: int = 200_000,
) -> Callable[[Bench], Outcome]:
    def run(bench: Bench) -> Outcome:
        directory, other = bench.place("server"), bench.place("redis")
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(servers.flint_server(directory, sync))
            port = stack.enter_context(servers.redis_server(other, always=sync == "always"))
            ours = RedisBenchmark(
                f"flint-server, CL.THROTTLE, {sync}",
                port=one.redis,
                command=THROTTLE,
                connections=connections,
                pipeline=pipeline,
            )
            theirs = RedisBenchmark(
                what,
                port=port,
                command=command(port),
                connections=connections,
                pipeline=pipeline,
            )
            return rounds(bench, ours, theirs, calls // (20 if bench.quick else 1))

    return run


def lua(port: int) -> Sequence[str]:
    client = servers.found("redis-cli", "redis-tools")
    sha = servers.output([client, "-p", str(port), "SCRIPT", "LOAD", GCRA]).strip()
    return ("EVALSHA", sha, "1", "bench", str(RATE), str(RATE))


HALF_LOAD = Spec("http-half-load", "POST /v1/check, batch mode", "99 of 100", SHOWN, "ms")

CASES: tuple[Case, ...] = (
    case(
        "http-constant",
        "POST /v1/check, batch mode, 16 connections",
        "the same loop, answering a constant to a GET",
        at_least(0.85),
        against_constant,
    ),
    case(
        "http-nginx",
        "POST /v1/check, batch mode, 16 connections",
        "nginx with limit_req, GET of a file of 17 bytes",
        at_least(0.85),
        against_nginx,
    ),
    case(
        "http-throttlecrab",
        "POST /throttle, batch mode, 16 connections",
        "throttlecrab-server, in memory",
        SHOWN,
        against_throttlecrab,
    ),
    Case((HALF_LOAD,), lambda bench: [at_half_load(bench)]),
    case(
        "redis-ping",
        "CL.THROTTLE, batch mode, 16 connections, not pipelined",
        "PING of redis-server",
        at_least(0.9),
        against_redis(lambda _port: ("PING",), "redis-server, PING"),
    ),
    case(
        "redis-lua",
        "CL.THROTTLE, batch mode, one connection with 16 in flight",
        "a script of the same algorithm on redis-server",
        at_least(4),
        against_redis(lua, "redis-server, EVALSHA of GCRA", connections=1, pipeline=16),
    ),
    case(
        "redis-always",
        "CL.THROTTLE, always mode, 64 connections",
        "INCR of redis-server with appendfsync always",
        at_least(0.8),
        against_redis(
            lambda _port: ("INCR", "bench"),
            "redis-server, INCR, always",
            sync="always",
            connections=64,
            calls=20_000,
        ),
    ),
)


if __name__ == "__main__":
    alone.main("server", "Measures flint-server beside other servers.", CASES)
