"""The places under test. A factory is given an empty directory and a clock, and opens a limiter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import resp_reference
from http_reference import serving
from in_redis import redis_server
from postgres import database

import flint
from flint.testing import ManualClock

Factory = Callable[[Path, ManualClock], contextlib.AbstractContextManager[flint.AnyLimiter]]


def directory(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    return flint.connect(path / "limits", clock=clock)


def directory_in_batch_mode(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    return flint.connect((path / "limits").as_uri(), sync="batch", clock=clock)


def memory(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    assert path.is_dir()
    return flint.connect(":memory:", clock=clock)


@contextlib.contextmanager
def http(path: Path, clock: ManualClock) -> Iterator[flint.AnyLimiter]:
    assert path.is_dir()
    with (
        flint.Limiter(":memory:", clock=clock) as limiter,
        serving(limiter, token="secret") as server,
        flint.connect(server.url, token=server.token) as shared,
    ):
        yield shared


@contextlib.contextmanager
def native(path: Path, clock: ManualClock) -> Iterator[flint.AnyLimiter]:
    assert path.is_dir()
    with (
        flint.Limiter(":memory:", clock=clock) as limiter,
        resp_reference.serving(limiter, token="secret") as server,
        flint.connect(server.url, token=server.token) as shared,
    ):
        yield shared


@contextlib.contextmanager
def postgres(path: Path, clock: ManualClock) -> Iterator[flint.AnyLimiter]:
    assert path.is_dir()
    with database.clocked(clock) as limiter:
        yield limiter


@contextlib.contextmanager
def redis(path: Path, clock: ManualClock) -> Iterator[flint.AnyLimiter]:
    assert path.is_dir()
    with redis_server.clocked(clock) as limiter:
        yield limiter


def owner(path: Path, clock: ManualClock) -> flint.AnyLimiter:
    return flint.connect(path / "limits", clock=clock, shared=True)


@contextlib.contextmanager
def client(path: Path, clock: ManualClock) -> Iterator[flint.AnyLimiter]:
    with (
        flint.Limiter(path / "limits", clock=clock, shared=True),
        flint.Limiter(path / "limits", clock=clock, shared=True) as asked,
    ):
        assert asked.info()["role"] == "client"
        yield asked


PLACES: dict[str, Factory] = {
    "always": directory,
    "batch": directory_in_batch_mode,
    "memory": memory,
    "owner": owner,
    "client": client,
    "http": http,
    "native": native,
    "postgres": postgres,
    "redis": redis,
}
