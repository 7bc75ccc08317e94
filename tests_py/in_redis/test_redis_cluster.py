"""Redis as a cluster of six nodes, and behind Sentinel, with a failover in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from conformance.test_calls import START_S, answered, plainly, script
from in_redis.redis_server import (
    PATIENCE_S,
    RedisServer,
    free_port,
    new_namespace,
    stop_clock,
)
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

import flint
from flint._remote import breaker
from flint.redis import RedisLimiter
from flint.testing import ManualClock

DEADLINE_S = 120
NODES = 6


def until(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    """Three primaries with a replica each."""
    words = ("--cluster-enabled yes", "--cluster-node-timeout 2000")
    found = [RedisServer(*words, port=cluster_port()) for _ in range(NODES)]
    addresses = [f"127.0.0.1:{node.port}" for node in found]
    command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1"]
    subprocess.run([*command, "--cluster-yes"], check=True, capture_output=True, timeout=DEADLINE_S)
    until(lambda: all(state(node)["cluster_state"] == "ok" for node in found))
    until(lambda: all(state(node)["cluster_known_nodes"] == "6" for node in found))
    yield found
    for node in found:
        node.remove()


def cluster_port() -> int:
    """One whose 10,000th next, for the nodes among themselves, is a port too."""
    while True:
        port = free_port()
        if port < 55_000:
            return port


def state(node: RedisServer) -> Any:
    with node.client() as client:
        return client.execute_command("CLUSTER INFO")


def cluster(nodes: list[RedisServer]) -> redis.RedisCluster:
    return redis.RedisCluster("127.0.0.1", nodes[0].port, socket_timeout=PATIENCE_S)


@pytest.mark.filterwarnings("ignore:checks of .* carry two limits in turn")
def test_every_call_answers_as_in_memory(nodes: list[RedisServer]) -> None:
    clock, other = ManualClock(START_S), ManualClock(START_S)
    with (
        cluster(nodes) as client,
        RedisLimiter(client, namespace=new_namespace(), totals=True) as limiter,
        flint.Limiter(":memory:", clock=other) as expected,
    ):
        stop_clock(limiter, client, clock)
        for number, (call, seconds) in enumerate(script(4)):
            clock.advance(seconds)
            other.advance(seconds)
            found, wanted = answered(plainly, limiter, call), answered(plainly, expected, call)
            assert found == wanted, (number, call)
        # All of it is in one slot.
        keys = list(client.scan_iter(f"{limiter.namespace}:*"))
        assert len({client.keyslot(key) for key in keys}) == 1
        assert len(keys) > 4


@pytest.mark.filterwarnings("ignore:checks of .* carry two limits in turn")
def test_every_coroutine_answers_as_in_memory(nodes: list[RedisServer]) -> None:
    async def main() -> None:
        clock, other = ManualClock(START_S), ManualClock(START_S)
        found_client = redis.asyncio.RedisCluster(
            "127.0.0.1", nodes[0].port, socket_timeout=PATIENCE_S
        )
        with cluster(nodes) as told, flint.Limiter(":memory:", clock=other) as expected:
            async with (
                found_client as client,
                RedisLimiter(client, namespace=new_namespace(), totals=True) as limiter,
            ):
                stop_clock(limiter, told, clock)
                for number, ((name, args, kwargs), seconds) in enumerate(script(5)):
                    clock.advance(seconds)
                    other.advance(seconds)
                    wanted = answered(plainly, expected, (name, args, kwargs))
                    try:
                        found = await getattr(limiter, "a" + name)(*args, **kwargs)
                    except (flint.FlintError, ValueError, TypeError) as error:
                        found = type(error), str(error)
                    assert found == wanted, (number, name, args)

    asyncio.run(main())


def test_many_clients_while_a_replica_takes_over(nodes: list[RedisServer]) -> None:
    namespace = new_namespace()

    def use(number: int) -> int:
        admitted = 0
        with (
            cluster(nodes[number % NODES :]) as client,
            RedisLimiter(client, namespace=namespace) as limiter,
        ):
            for _ in range(20):
                try:
                    admitted += limiter.allow("t:1")
                except flint.FlintConnectionError:
                    time.sleep(0.05)
        return admitted

    with (
        cluster(nodes) as client,
        RedisLimiter(client, namespace=namespace) as limiter,
        ThreadPoolExecutor(8) as threads,
    ):
        limiter.limit("t:*", "100/1000d")
        name = replica_of(nodes, f"{{{namespace}}}")
        counts = [threads.submit(use, number) for number in range(8)]
        with redis.Redis(port=name.port) as taking:
            # In agreement with the primary, which so loses nothing.
            assert taking.execute_command("CLUSTER FAILOVER")
            until(lambda: taking.info("replication")["role"] == "master")
        assert sum(one.result() for one in counts) <= 100
        until(lambda: eventually(limiter, "t:1") is not None)
        while eventually(limiter, "t:1"):
            pass
        assert limiter.peek("t:1").remaining == 0


def replica_of(nodes: list[RedisServer], key: str) -> Any:
    """The node that would take over."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        with cluster(nodes) as client:
            found = client.get_node_from_key(key, replica=True)
        if found is not None:
            return found
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def eventually(limiter: RedisLimiter, key: str) -> bool | None:
    try:
        return limiter.allow(key)
    except flint.FlintConnectionError:
        return None


def test_min_replicas_is_for_one_server(nodes: list[RedisServer]) -> None:
    with cluster(nodes) as client, pytest.raises(flint.UnsupportedError, match="min_replicas"):
        RedisLimiter(client, min_replicas=1)


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_cluster_that_is_away(is_plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 0.0)

    async def see_it_away(limiter: RedisLimiter) -> None:
        async def check() -> Any:
            return limiter.check("a") if is_plain else await limiter.acheck("a")

        assert not (await check()).undecided
        node.stop()
        limiter._on_error = "allow"
        for _ in range(4):
            assert (await check()).undecided
        limiter._on_error = "raise"
        with pytest.raises(flint.FlintConnectionError, match="could not reach Redis"):
            await check()

    async def main() -> None:
        async with redis.asyncio.RedisCluster(
            "127.0.0.1", node.port, socket_timeout=PATIENCE_S
        ) as client:
            await see_it_away(RedisLimiter(client))

    with RedisServer("--cluster-enabled yes", port=cluster_port()) as node:
        with node.client() as told:
            assert told.execute_command("CLUSTER ADDSLOTS", *range(16384))
        until(lambda: state(node)["cluster_state"] == "ok")
        with cluster([node]) as client:
            limiter = RedisLimiter(client)
            limiter.limit("a", "5/d")
            asyncio.run(see_it_away(limiter) if is_plain else main())


# ---- Sentinel ----------------------------------------------------------------------------------


class Watched:
    """A primary, its replica, and a sentinel."""

    def __init__(self) -> None:
        self.primary = RedisServer()
        self.replica = RedisServer(f"--replicaof 127.0.0.1 {self.primary.port}")
        folder = self.primary.folder / "sentinel.conf"
        self.port = free_port()
        folder.write_text(
            f"port {self.port}\nsentinel monitor limits 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds limits 500\nsentinel failover-timeout limits 2000\n",
            "utf-8",
        )
        with (self.primary.folder / "sentinel.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["redis-server", folder, "--sentinel"], stdout=log, stderr=log, env=os.environ
            )

    def sentinel(self) -> Sentinel:
        return Sentinel([("127.0.0.1", self.port)], socket_timeout=PATIENCE_S)

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()
        self.primary.remove()
        self.replica.remove()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(breaker, "ASK_AGAIN_S", 0.0)
    found = Watched()
    yield found
    found.remove()


def knows_replica(watched: Watched) -> bool:
    try:
        return bool(watched.sentinel().discover_slaves("limits"))
    except redis.RedisError:
        return False


def test_a_failover(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    until(lambda: knows_replica(watched))
    client = watched.sentinel().master_for(
        "limits", socket_timeout=PATIENCE_S, retry=Retry(ConstantBackoff(0), 0)
    )
    with client, RedisLimiter(client, min_replicas=1, timeout=PATIENCE_S) as limiter:
        limiter.limit("t:*", "50/1000d")
        before = sum(limiter.allow("t:1") for _ in range(20))
        assert before == 20
        watched.primary.stop()
        other = RedisLimiter(client)
        until(lambda: eventually(other, "t:1") is not None)
        # Nobody has what is counted now but the one that took over.
        with pytest.raises(flint.FlintConnectionError, match="only 0 of 1"):
            RedisLimiter(client, min_replicas=1, timeout=1).allow("t:1")
        with watched.replica.client() as taken:
            assert taken.info("replication")["role"] == "master"
        left = other.peek("t:1").remaining
        lost = left - (50 - before - 2)  # two more were counted since
        with capsys.disabled():
            print(f" lost by the failover: {lost} of {before} admissions", end="")
        assert lost == 0
        assert sum(other.allow("t:1") for _ in range(40)) == 28
