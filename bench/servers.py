"""Servers to measure, each on the first processor, and what loads them, on the last."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import VERSIONS, NotRun

import flint

FLINT_SERVER = Path(flint.__file__).parent / "bin" / "flint-server"
RATE = 10**9  # per second: nothing is denied
START_TIMEOUT_S = 10.0
UNPRIVILEGED = "nobody"
LOAD_TIMEOUT_S = 120.0


def found(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise NotRun(f"{program} is not installed; on Debian: apt-get install {package}")
    return path


def pinned(processor: int, command: Sequence[str | Path]) -> list[str]:
    return ["taskset", "-c", str(processor), *map(str, command)]


def processors() -> tuple[int, int]:
    """For the server, and for what loads it."""
    there = sorted(os.sched_getaffinity(0))
    return there[0], there[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


# ---- Servers -----------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(command: Sequence[str | Path], *ports: int, pin: bool = True) -> Iterator[None]:
    """Runs a server, from when it accepts on its ports until the block ends. It stays on the first
    processor, unless `pin` is false."""
    process = subprocess.Popen(
        pinned(processors()[0], command) if pin else [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for port in ports:
            await_port(process, port, str(command[0]))
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise NotRun(f"{name} did not start")


@dataclass(frozen=True)
class Flint:
    http: int
    redis: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"


@contextlib.contextmanager
def flint_server(directory: Path, sync: str) -> Iterator[Flint]:
    if not FLINT_SERVER.exists():
        raise NotRun("flint-server was not built: libuv1-dev or llhttp's sources are missing")
    one = Flint(free_port(), free_port())
    command: list[str | Path] = [FLINT_SERVER, "--data-dir", directory / "data", "--sync", sync]
    command += ["--bind", f"127.0.0.1:{one.http}", "--redis-bind", f"127.0.0.1:{one.redis}"]
    VERSIONS["flint-server"] = flint.__version__
    with serving(command, one.http, one.redis):
        with flint.SharedLimiter(one.url) as limiter:
            limiter.limit("bench", rate=RATE, per="1s")
        yield one


@contextlib.contextmanager
def redis_server(directory: Path, *, always: bool = False, pin: bool = True) -> Iterator[int]:
    """Yields its port; it listens at redis.sock in the directory too."""
    program = found("redis-server", "redis-server")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    VERSIONS["redis"] = version.stdout.partition("v=")[2].partition(" ")[0]
    port = free_port()
    command: list[str | Path] = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        directory,
        "--save",
        "",
        "--unixsocket",
        directory / "redis.sock",
    ]
    command += ["--appendonly", "yes", "--appendfsync", "always"] if always else []
    with serving(command, port, pin=pin):
        yield port


def unprivileged() -> list[str]:
    """What stands before a command that root may not run."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(UNPRIVILEGED)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@contextlib.contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """Yields its URL. Its settings are those that it comes with: every commit waits for the
    disk."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise NotRun("postgres is not installed; on Debian: apt-get install postgresql")
    there = programs[-1]
    version = subprocess.run([there / "postgres", "--version"], capture_output=True, text=True)
    VERSIONS["postgres"] = version.stdout.split()[2]
    if os.geteuid() == 0:
        directory.parent.chmod(0o711)
        shutil.chown(directory, UNPRIVILEGED)
    data, port = directory / "data", free_port()
    made: list[str | Path] = [
        *unprivileged(),
        there / "initdb",
        "-D",
        data,
        "-U",
        "bench",
        "-A",
        "trust",
    ]
    done = subprocess.run(made, capture_output=True, text=True, cwd=directory)
    if done.returncode != 0:
        raise NotRun(f"initdb: {done.stderr.strip()[-200:]}")
    command: list[str | Path] = [*unprivileged(), there / "postgres", "-D", data, "-p", str(port)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={directory}"]
    with serving(command, port, pin=False):
        is_ready: list[str | Path] = [
            there / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-t",
            "10",
        ]
        deadline = time.monotonic() + START_TIMEOUT_S
        while subprocess.run(is_ready).returncode != 0:
            if time.monotonic() > deadline:
                raise NotRun("postgres did not start")
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"


NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  limit_req_zone $binary_remote_addr zone=one:1m rate=100000000r/s;
  server {{
    listen 127.0.0.1:{port};
    root {directory};
    location = /check {{ limit_req zone=one burst=100000 nodelay; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[int]:
    """Answers a file of some bytes behind limit_req, which does not see what `return` answers."""
    program = found("nginx", "nginx-light")
    version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    VERSIONS["nginx"] = version.stderr.partition("/")[2].strip()
    port = free_port()
    directory.chmod(0o755)
    (directory / "check").write_text('{"allowed":true}\n', "utf-8")
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, port=port), "utf-8")
    if os.getuid() == 0:
        config.write_text("user root;\n" + config.read_text("utf-8"), "utf-8")
    with serving([program, "-p", directory, "-c", config], port):
        yield port


@contextlib.contextmanager
def throttlecrab(_directory: Path) -> Iterator[int]:
    program = shutil.which("throttlecrab-server")
    if program is None:
        raise NotRun("throttlecrab-server is not installed; cargo install throttlecrab-server")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    VERSIONS["throttlecrab-server"] = version.stdout.split()[-1]
    port = free_port()
    command = [program, "--http", "--http-host", "127.0.0.1", "--http-port", str(port)]
    with serving(command, port):
        yield port


# ---- Loads -------------------------------------------------------------------------------------


@dataclass
class Load:
    """What a round runs, against a server that runs already."""

    what: str
    url: str | None = None  # of the Flint that is loaded, which counts

    def totals(self) -> tuple[int, int]:
        if self.url is None:
            return 0, 0
        with flint.SharedLimiter(self.url) as limiter:
            status = limiter.status("bench")
        assert status is not None
        return status["total_allowed"], status["total_denied"]

    def round(self, calls: int) -> dict[str, Any]:
        before = self.totals()
        seen = self.run(calls)
        after = self.totals()
        counted = {"allowed": after[0] - before[0], "denied": after[1] - before[1]}
        if self.url is None:
            counted = {"allowed": seen["calls"], "denied": 0}
        return {"unsynced": None, **counted, **seen}

    def run(self, calls: int) -> dict[str, Any]:
        raise NotImplementedError


def output(command: Sequence[str | Path]) -> str:
    done = subprocess.run(
        pinned(processors()[1], command),
        capture_output=True,
        text=True,
        timeout=LOAD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise NotRun(f"{command[0]}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


@dataclass
class Wrk(Load):
    """HTTP, over so many connections, for a second or more."""

    target: str = ""
    script: Path | None = None
    connections: int = 16
    seconds: int = 1

    def run(self, _calls: int) -> dict[str, Any]:
        command: list[str | Path] = [found("wrk", "wrk"), "-t", "1", "-c", str(self.connections)]
        command += ["-d", f"{self.seconds}s"]
        command += ["-s", self.script] if self.script else []
        shown = output([*command, self.target])
        if "Non-2xx" in shown or "Socket errors" in shown:
            raise NotRun(f"{self.what}: {shown.strip()[-300:]}")
        seen = re.search(r"(\d+) requests in ([\d.]+)(ms|s)", shown)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
        if not seen or not rate:
            raise NotRun(f"wrk printed {shown!r}")
        calls = int(seen[1])
        return {"calls": calls, "ns": calls / float(rate[1]) * 1e9}


def post(directory: Path, body: dict[str, Any]) -> Path:
    """A script for wrk."""
    path = directory / "post.lua"
    path.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = {json.dumps(json.dumps(body))}\n"
        'wrk.headers["Content-Type"] = "application/json"\n',
        "utf-8",
    )
    return path


@dataclass
class Vegeta(Load):
    """HTTP at a rate that does not wait for answers: what the slowest of them took."""

    target: str = ""
    body: Path | None = None
    rate: int = 1
    seconds: int = 2

    def run(self, _calls: int) -> dict[str, Any]:
        program = shutil.which("vegeta")
        if program is None or self.body is None:
            raise NotRun("vegeta is not installed; go install github.com/tsenart/vegeta/v12@latest")
        targets = self.body.with_name("targets")
        targets.write_text(
            f"POST {self.target}\nContent-Type: application/json\n@{self.body}\n", "utf-8"
        )
        answers = self.body.with_name("answers")
        attack = [program, "attack", f"-rate={self.rate}/s", f"-duration={self.seconds}s"]
        output([*attack, f"-targets={targets}", f"-output={answers}", "-max-workers=64"])
        lines = output([program, "encode", "--to", "csv", answers]).splitlines()
        answered = [line.split(",") for line in lines]
        failed = [one for one in answered if one[1] != "200"]
        if failed:
            raise NotRun(f"{self.what}: {len(failed)} of {len(answered)} failed: {failed[0][:3]}")
        times_ns = sorted(float(one[2]) for one in answered)
        at = {
            f"{name}_ns": times_ns[min(int(part * len(times_ns)), len(times_ns) - 1)]
            for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("most", 1.0))
        }
        return {"calls": len(times_ns), "ns": at["p99_ns"], **at}


@dataclass
class RedisBenchmark(Load):
    """The Redis protocol: a command, over so many connections, so many of each in flight."""

    port: int = 0
    command: Sequence[str] = field(default_factory=tuple)
    connections: int = 16
    pipeline: int = 1

    def run(self, calls: int) -> dict[str, Any]:
        program = found("redis-benchmark", "redis-tools")
        shown = output(
            [
                *(program, "-p", str(self.port), "-n", str(calls), "-c", str(self.connections)),
                *("-P", str(self.pipeline), "--csv", *self.command),
            ]
        )
        last = shown.strip().split("\n")[-1]
        rate = re.search(r'","([\d.]+)"', last)
        if not rate or "rror" in shown:
            raise NotRun(f"redis-benchmark printed {shown[-300:]!r}")
        return {"calls": calls, "ns": calls / float(rate[1]) * 1e9}
