"""Connections that are not our own: psycopg's pools, and those behind PgBouncer."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from postgres.database import (
    DEADLINE_S,
    as_other_user,
    database,
    free_port,
)
from psycopg_pool import AsyncConnectionPool, ConnectionPool

import flint
from flint.postgres import PostgresLimiter

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


@pytest.fixture
def schema() -> str:
    return database().new_schema()


def test_a_pool(schema: str) -> None:
    # Not in autocommit mode, which is how psycopg makes them.
    with (
        ConnectionPool(database().dsn, min_size=1, max_size=2, open=True) as pool,
        PostgresLimiter(pool, schema=schema, timeout=30) as limiter,
    ):
        limiter.limit("a", "20/1000d")
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(lambda _: limiter.allow("a"), range(40))) == 20
        with pytest.raises(flint.UnsupportedError, match="AsyncConnectionPool"):
            asyncio.run(limiter.aallow("a"))
        limiter.close()
        with pool.connection() as connection:  # it is its owner's, and works
            assert connection.execute("select 1").fetchone() == (1,)


def test_a_pool_that_has_none_left(schema: str) -> None:
    with (
        ConnectionPool(database().dsn, min_size=1, max_size=1, open=True) as pool,
        PostgresLimiter(pool, schema=schema, timeout=0.2) as limiter,
        pool.connection(),
        pytest.raises(flint.FlintConnectionError, match="could not reach PostgreSQL"),
    ):
        limiter.allow("a")


def test_a_pool_of_coroutines(schema: str) -> None:
    async def main() -> None:
        async with (
            AsyncConnectionPool(database().dsn, min_size=1, max_size=2, open=False) as pool,
            PostgresLimiter(pool, schema=schema, timeout=30) as limiter,
        ):
            await limiter.alimit("a", "20/1000d")
            answers = await asyncio.gather(*(limiter.aallow("a") for _ in range(40)))
            assert sum(answers) == 20
            with pytest.raises(flint.UnsupportedError, match="ConnectionPool"):
                limiter.allow("a")

    asyncio.run(main())


def test_coroutines_side_by_side(schema: str) -> None:
    async def main() -> None:
        async with PostgresLimiter(database().dsn, schema=schema, timeout=30) as limiter:
            await limiter.alimit("a", "20/1000d")
            answers = await asyncio.gather(*(limiter.aallow("a") for _ in range(60)))
            assert sum(answers) == 20
            # Of a call that is cancelled nothing stays behind that others would find.
            for _ in range(10):
                task = asyncio.ensure_future(limiter.acheck("a"))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert not await limiter.aallow("a")

    asyncio.run(main())


@pytest.mark.parametrize("is_plain", [True, False])
def test_waiting_in_line(schema: str, is_plain: bool) -> None:
    with PostgresLimiter(database().dsn, schema=schema) as limiter:
        limiter.limit("a", 1, per="300ms")
        assert limiter.allow("a")
        if is_plain:
            assert limiter.acquire("a", timeout=60)
        else:
            assert asyncio.run(limiter.aacquire("a", timeout=60))
        assert not limiter.acquire("a", timeout=0)


def test_a_forked_child(schema: str) -> None:
    with PostgresLimiter(database().dsn, schema=schema) as limiter:
        limiter.limit("a", "3/1000d")
        assert limiter.allow("a")
        child = os.fork()
        if child == 0:
            os._exit(0 if limiter.check("a").remaining == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert limiter.check("a").remaining == 0


# ---- PgBouncer ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bouncer() -> Iterator[str]:
    """Behind it two connections, each lent for one transaction at a time."""
    assert PGBOUNCER is not None, "PgBouncer is not installed: apt-get install pgbouncer"
    folder = Path(tempfile.mkdtemp(prefix="flint-pgbouncer-"))
    port, base = free_port(), database()
    (folder / "users").write_text('"flint" ""\n', "utf-8")
    (folder / "ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={base.port} dbname=postgres user=flint\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\n"
        f"default_pool_size = 2\nmax_client_conn = 100\n",
        "utf-8",
    )
    if os.geteuid() == 0:
        user = as_other_user()[1].partition("=")[2]
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_other_user(), PGBOUNCER, folder / "ini"],
            stdout=log,
            stderr=log,
            env={**os.environ, "LD_PRELOAD": ""},
        )
    url = f"postgresql://flint@127.0.0.1:{port}/postgres"
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            psycopg.connect(url, prepare_threshold=None).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline_s, (folder / "log").read_text("utf-8")
            time.sleep(0.02)
        else:
            break
    yield url
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder)


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_behind_pgbouncer(schema: str, bouncer: str, sync: flint.Sync) -> None:
    start = threading.Barrier(16)

    def use(number: int) -> int:
        with PostgresLimiter(bouncer, schema=schema, sync=sync, timeout=60) as limiter:
            if number == 0:
                limiter.limit("t:*", 50, per="1000d")
            start.wait()
            plain = sum(limiter.allow("t:1") for _ in range(5))

            async def main() -> int:
                return sum([await limiter.aallow("t:1") for _ in range(5)])

            return plain + asyncio.run(main())

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(use, range(16))) == 50
    with psycopg.connect(bouncer, prepare_threshold=None) as connection:
        # Nothing of a transaction has stayed in the session.
        found = connection.execute("show synchronous_commit").fetchone()
        assert found == ("on",)
        found = connection.execute("select count(*) from pg_prepared_statements").fetchone()
        assert found == (0,)
