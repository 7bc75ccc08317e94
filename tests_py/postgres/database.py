"""Starts the real PostgreSQL, in a temporary directory, for the time of the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq

from flint import postgres
from flint.postgres import PostgresLimiter
from flint.testing import ManualClock

DEADLINE_S = 60
# What runs it: PostgreSQL does not run as root.
USERS = ("postgres", "nobody")
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def program(name: str) -> Path:
    """One of PostgreSQL's."""
    assert PROGRAMS, "PostgreSQL is not installed: apt-get install postgresql, as ./dev does"
    return PROGRAMS[-1] / name


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def as_other_user() -> list[str]:
    """What stands before a command that root has run by somebody else."""
    if os.geteuid() != 0:
        return []
    for user in USERS:
        known = subprocess.run(["id", user], capture_output=True, check=False)
        if known.returncode == 0:
            return ["setpriv", f"--reuid={user}", f"--regid={group_of(user)}", "--clear-groups"]
    raise AssertionError(f"root needs one of the users {USERS}")


def group_of(user: str) -> str:
    done = subprocess.run(["id", "-g", user], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Database:
    """A server with a directory of its own."""

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="flint-postgres-"))
        self.port = free_port()
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self._folder, next(iter(as_other_user()[1:2])).partition("=")[2])
        self._run("initdb", "-D", self.data, "-U", "flint", "-A", "trust", "--no-sync", "-E=UTF8")
        self.start()

    @property
    def data(self) -> Path:
        return self._folder / "data"

    @property
    def dsn(self) -> str:
        return f"postgresql://flint@127.0.0.1:{self.port}/postgres"

    def _run(self, name: str, *words: str | Path) -> None:
        command = [*as_other_user(), program(name), *words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            cwd=self._folder,
            check=False,
            env={**os.environ, "LD_PRELOAD": ""},
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, **settings: str) -> None:
        """Starts it, and waits until it answers."""
        given = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "logging_collector": "off",
            **self._settings,
            **settings,
        }
        words = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*as_other_user(), program("postgres"), "-D", self.data, *words],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "LD_PRELOAD": ""},
            )
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                psycopg.connect(self.dsn).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline_s, (self._folder / "log").read_text("utf-8")
                assert self._process.poll() is None, (self._folder / "log").read_text("utf-8")
                time.sleep(0.02)
            else:
                return

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def pause(self, stops: bool) -> None:
        """Stops all of its processes, or has them go on."""
        assert self._process
        found = [self._process.pid]
        children = Path(f"/proc/{found[0]}/task/{found[0]}/children")
        found += map(int, children.read_text("ascii").split())
        for process in found:
            with contextlib.suppress(ProcessLookupError):  # its client has gone
                os.kill(process, signal.SIGSTOP if stops else signal.SIGCONT)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends it: fast, or as a crash by SIGQUIT."""
        if self._process is None:
            return
        self.send(number)
        self._process.wait(timeout=DEADLINE_S)
        self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True, **options)

    def ask(self, sql: str, *values: Any) -> Any:
        """The first value that a statement says."""
        with self.connect() as connection:
            found = connection.execute(sql, values or None)  # type: ignore[arg-type]
            row = found.fetchone() if found.description else None
            return row and row[0]

    def new_schema(self) -> str:
        """The name of a schema that holds Flint."""
        schema = f"Flint-{os.getpid()} {next(self._numbers)}"
        postgres.create(self.dsn, schema=schema)
        return schema


@functools.cache
def database() -> Database:
    """The one that tests share which leave it as it is. It waits for no disk: it never crashes."""
    found = Database(fsync="off")
    atexit.register(found.remove)
    return found


# ---- A clock of the tests ----------------------------------------------------------------------


class ClockedSessions:
    """Sessions that tell the time of a test to the database before each statement."""

    def __init__(self, sessions: Any, clock: ManualClock) -> None:
        self._sessions = sessions
        self._clock = clock

    def take(self, deadline: float) -> Any:
        return self._told(self._sessions.take(deadline))

    def _told(self, taken: Any) -> Any:
        done = taken.pgconn.exec_(f"set flint.test_ns = '{self._clock.now_ns}'".encode())
        assert done.status == pq.ExecStatus.COMMAND_OK, done.error_message
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sessions, name)


class ClockedLoopSessions(ClockedSessions):
    async def take(self, deadline: float) -> Any:
        return self._told(await self._sessions.take(deadline))


def stop_clock(base: Database, schema: str) -> None:
    """Has the functions of a schema read the time of the tests."""
    base.ask(
        f'create or replace function "{schema}".now_ns() returns int8 language sql volatile as '
        "$$ select current_setting('flint.test_ns')::int8 $$"
    )


@contextlib.contextmanager
def clocked(clock: ManualClock, **options: Any) -> Iterator[PostgresLimiter]:
    """A limiter in a schema of its own, whose time is that of a clock."""
    base = database()
    schema = base.new_schema()
    stop_clock(base, schema)
    with PostgresLimiter(base.dsn, schema=schema, **options) as limiter:
        limiter._sessions = ClockedSessions(limiter._sessions, clock)
        limiter._loop_sessions = ClockedLoopSessions(limiter._loop_sessions, clock)
        limiter._begin(clock)
        yield limiter
    base.ask(f'drop schema "{schema}" cascade')
