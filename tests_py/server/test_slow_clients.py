"""Clients that are slow on purpose hold up nobody else. FLINT_LONG=1 has 10,000 of them, and
measures what the others notice; the result is in tests_py/results."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slow_clients
from flint_server import DEADLINE_S, FlintServer, needs_server, running

from flint import Limiter, SharedLimiter

pytestmark = needs_server

IS_LONG = "FLINT_LONG" in os.environ
CLIENTS = 10_000 if IS_LONG else 200
ROUNDS = 8 if IS_LONG else 1
CHECKS = 2_000 if IS_LONG else 50
KEYS = 400
SLOWLY = 1024  # bytes in a tenth of a second


@contextlib.contextmanager
def beside(server: FlintServer, count: int) -> Iterator[None]:
    """None of them is left by the server, which gives them time."""
    process = subprocess.Popen(
        [sys.executable, slow_clients.__file__, str(server.port), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "connected\n"
        yield
        process.stdin.close()
        assert process.stdout.readline() == "0\n"
        process.wait(DEADLINE_S)


def until_it_rests(server: FlintServer) -> None:
    """Until the server has done what all the slow ones have asked for at once."""
    stat = Path(f"/proc/{server.process.pid}/stat")
    deadline_s = time.monotonic() + DEADLINE_S
    before, used = -1, 0
    while used - before > 5 or before < 0:  # hundredths of a second, in half of one
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
        fields = stat.read_text("ascii").rsplit(")", 1)[1].split()
        before, used = used or -1, int(fields[11]) + int(fields[12])


def measured_us(limiter: SharedLimiter) -> list[float]:
    """How long checks take."""
    taken_us = []
    for _ in range(CHECKS):
        begun_s = time.perf_counter()
        assert limiter.check("api").allowed
        taken_us.append((time.perf_counter() - begun_s) * 1e6)
    return taken_us


def p99(taken_us: list[float]) -> float:
    return statistics.quantiles(taken_us, n=100)[98]


def test_others_do_not_notice(tmp_path: Path) -> None:
    with Limiter(tmp_path / "data") as limiter:
        limiter.limit("api", rate=10**9, per="1d")
        limiter.limit_many([(f"{i:03}" + "k" * 1000, 1, "1d") for i in range(KEYS)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    waits = [f"--{phase}-timeout=1h" for phase in ("header", "body", "write")]
    with (
        contextlib.closing(_Restoring(soft, hard)),
        running(tmp_path / "data", "--sync=batch", *waits) as server,
        SharedLimiter(server.urls[0]) as limiter,
    ):
        alone, disturbed, ratios = [], [], []
        measured_us(limiter)
        before_kib = server.memory_kib()
        for _ in range(ROUNDS):
            alone.append(p99(measured_us(limiter)))
            with beside(server, CLIENTS):
                if IS_LONG:
                    until_it_rests(server)
                disturbed.append(p99(measured_us(limiter)))
                each_kib = (server.memory_kib() - before_kib) / CLIENTS
            ratios.append(disturbed[-1] / alone[-1])
        print(
            f"{CLIENTS} slow clients, {ROUNDS} rounds of {CHECKS} checks: p99 alone "
            f"{statistics.median(alone):.0f} us, beside them "
            f"{statistics.median(disturbed):.0f} us, median of the ratios "
            f"{statistics.median(ratios):.2f}; {each_kib:.0f} KiB each"
        )
        # What is queued for each has a bound, and so has what is read.
        assert each_kib < 512 or server.is_sanitized()
        if IS_LONG:
            assert statistics.median(ratios) < 2


class _Restoring:
    """Puts the limit of descriptors back."""

    def __init__(self, soft: int, hard: int) -> None:
        self._limits = soft, hard

    def close(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


ASKED = 200  # more than the system itself takes
PAGE = b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"


def asking_for_much(server: FlintServer) -> socket.socket:
    """A client that has asked for several long answers. It has little room for them, and so has
    the system."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    connection.settimeout(DEADLINE_S)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(PAGE * ASKED)
    return connection


def open_connections(server: FlintServer) -> int:
    """But for the one that asks."""
    found = re.search(
        r"(?m)^flint_server_open_connections (\d+)$", server.ask("GET", "/metrics")[2]
    )
    assert found
    return int(found[1]) - 1


def test_who_reads_too_little_is_left(tmp_path: Path) -> None:
    """A client that takes some bytes now and then has no more time for each."""
    with (
        running(tmp_path / "data", "--write-timeout=1s") as server,
        asking_for_much(server) as slow,
    ):
        deadline_s = time.monotonic() + DEADLINE_S
        while open_connections(server) == 1:
            assert time.monotonic() < deadline_s
            slow.recv(SLOWLY)
            time.sleep(0.1)  # as slow clients do


def test_who_reads_on_has_its_time(tmp_path: Path) -> None:
    """All of it takes longer than the timeout, and so does what the server then writes at once: the
    system first takes more and more for the client, so it needs some rounds to come to that."""
    with (
        running(tmp_path / "data", "--write-timeout=4s") as server,
        asking_for_much(server) as client,
    ):
        for _ in range(7):
            time.sleep(1.6)
            taken = 0
            while taken < 60_000:  # which gives back more time than has passed
                taken += (more := len(client.recv(65536)))
                assert more
        assert open_connections(server) == 1


@pytest.mark.parametrize("kind", [slow_clients.HEAD, slow_clients.BODY], ids=["head", "body"])
def test_the_slow_are_left(tmp_path: Path, kind: bytes) -> None:
    """A byte now and then gives a head or a body no more time."""
    waits = [f"--{phase}-timeout=200ms" for phase in ("header", "body")]
    with running(tmp_path / "data", *waits) as server, server.connect() as slow:
        slow.sendall(kind)
        deadline_s = time.monotonic() + DEADLINE_S
        with contextlib.suppress(ConnectionError):
            while True:
                assert time.monotonic() < deadline_s
                slow.send(b"x")
                time.sleep(0.01)  # as slow clients do
