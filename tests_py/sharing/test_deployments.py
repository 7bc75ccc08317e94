"""One limit for the workers of servers and pools that replace them under load: not one admission
too many, and no error that anybody sees.

FLINT_LONG=1 loads each for a minute, and runs all of them; the result is in
tests_py/results/sharing.txt. Otherwise there are a few, for as long as it takes."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import flint
from sharing.deployments import (
    DEADLINE_S,
    LIMIT,
    LOAD_S,
    LONG,
    check_counts,
    check_served,
    free_port,
    python_path,
    report,
)

WORKERS = 4 if LONG else 2
REQUESTS_OF_A_WORKER = 50
REPLACED = 2 * WORKERS + 1  # so many workers are to be seen

only_long = pytest.mark.skipif(not LONG, reason="set FLINT_LONG=1")


# ---- Servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "preload"),
    [
        ("sync", True),
        pytest.param("sync", False, marks=only_long),
        pytest.param("gthread", True, marks=only_long),
        ("gthread", False),
        pytest.param("uvicorn.workers.UvicornWorker", True, marks=only_long),
        pytest.param("uvicorn.workers.UvicornWorker", False, marks=only_long),
    ],
)
def test_gunicorn(tmp_path: Path, kind: str, preload: bool) -> None:
    port = free_port()
    asgi = "uvicorn" in kind
    command = [
        *(sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", str(WORKERS)),
        *("-k", kind, "--max-requests", str(REQUESTS_OF_A_WORKER), "--graceful-timeout", "60"),
        *(["--threads", "4"] if kind == "gthread" else []),
        *(["--preload"] if preload else []),
        "application:asgi" if asgi else "application:wsgi",
    ]
    told = check_served(tmp_path, command, port, REPLACED)
    assert bool(told.owners) is not preload  # or the arbiter owns it
    report(f"gunicorn -k {kind}{' --preload' if preload else ''}", told)


@only_long
def test_uvicorn(tmp_path: Path) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "--port", str(port), "--workers", str(WORKERS)),
        *("--limit-max-requests", str(REQUESTS_OF_A_WORKER), "application:asgi"),
    ]
    report(f"uvicorn --workers {WORKERS}", check_served(tmp_path, command, port, REPLACED))


@only_long
@pytest.mark.parametrize("lazy", [False, True])
def test_uwsgi(tmp_path: Path, lazy: bool) -> None:
    program = shutil.which("uwsgi") or shutil.which(Path(sys.executable).with_name("uwsgi"))
    if program is None:
        pytest.skip(
            "uWSGI is not installed: pip install uwsgi, or apt install uwsgi-plugin-python3"
        )
    port = free_port()
    command = [
        *(program, *(["--plugin", "python3"] if program.startswith("/usr/bin") else [])),
        *("--http-socket", f"127.0.0.1:{port}", "--master", "--die-on-term"),
        *("--processes", str(WORKERS), "--max-requests", str(REQUESTS_OF_A_WORKER)),
        *("--min-worker-lifetime", "1", "--need-app", "--module", "application:wsgi"),
        *(["--lazy-apps"] if lazy else []),
    ]
    told = check_served(tmp_path, command, port, REPLACED)
    assert bool(told.owners) is lazy
    report(f"uwsgi --processes {WORKERS}{' --lazy-apps' if lazy else ''}", told)


# ---- Task queues ---------------------------------------------------------------------------------

TASKS = f"""
import os
import celery
import flint

top = os.environ["TOP"]
app = celery.Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={{
        "data_folder_in": top + "/queue",
        "data_folder_out": top + "/queue",
        "control_folder": top + "/control",
    }},
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
)
limiter = flint.Limiter(top + "/limits", shared=True, sync="batch", answer_timeout="1m")
limiter.limit("k*", rate={LIMIT}, per="365d", algorithm="fixed_window_counter")
log = os.open(top + "/told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@app.task
def check(key):
    try:
        said = int(limiter.allow(f"k{{key}}"))
    except Exception as error:
        said = repr(error)
    os.write(log, f"{{key}} {{os.getpid()}} {{said}}\\n".encode())
"""
SEND = """
import sys
import tasks
first, last, limit = map(int, sys.argv[1:])
for i in range(first, last):
    tasks.check.delay(i // (limit + 5))
"""


@only_long
def test_celery(tmp_path: Path) -> None:
    if importlib.util.find_spec("celery") is None:
        pytest.skip("celery is not installed: pip install celery")
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tasks.py").write_text(TASKS, "utf-8")
    environment = {**os.environ, "TOP": str(tmp_path), "PYTHONPATH": python_path(tmp_path)}
    command = [
        *(sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork"),
        *("--concurrency", str(WORKERS), "--max-tasks-per-child", "20"),
    ]
    told = tmp_path / "told"
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    sent, until_s = 0, time.monotonic() + LOAD_S
    try:
        while time.monotonic() < until_s:
            more = [sys.executable, "-c", SEND, str(sent), str(sent + 500), str(LIMIT)]
            subprocess.run(more, cwd=tmp_path, env=environment, check=True)
            sent += 500
            deadline_s = time.monotonic() + DEADLINE_S
            while not told.exists() or told.read_bytes().count(b"\n") < sent:
                assert time.monotonic() < deadline_s, (tmp_path / "log").read_text("utf-8")
                time.sleep(0.05)
    finally:
        worker.terminate()
        worker.wait(DEADLINE_S)
    lines = [line.split(maxsplit=2) for line in told.read_text("utf-8").splitlines()]
    assert {said for _, _, said in lines} == {"0", "1"}
    admitted: dict[int, int] = {}
    for key, _, said in lines:
        admitted[int(key)] = admitted.get(int(key), 0) + int(said)
    check_counts(tmp_path / "limits", admitted, 0)
    children = {pid for _, pid, _ in lines}
    assert len(children) >= REPLACED
    print(
        f"celery prefork: {sent:,} tasks in {len(children)} processes, {len(admitted)} limits of "
        f"{LIMIT}, none over; no errors"
    )


# ---- multiprocessing -----------------------------------------------------------------------------

of_process: Any = None


def open_in_process(path: str) -> None:
    global of_process
    if of_process is None:
        of_process = flint.Limiter(path, shared=True, sync="batch", answer_timeout="1m")


def check_in_process(number: int) -> tuple[int, int, bool]:
    key = number // (LIMIT + 5)
    return key, os.getpid(), of_process.allow(f"k{key}")


@pytest.mark.parametrize(
    "method",
    [
        "fork",
        pytest.param("spawn", marks=only_long),
        pytest.param("forkserver", marks=only_long),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    global of_process
    path = str(tmp_path / "limits")
    open_in_process(path)
    of_process.limit("k*", rate=LIMIT, per="365d", algorithm="fixed_window_counter")
    admitted: dict[int, int] = {}
    processes = set()
    asked, until_s = 0, time.monotonic() + LOAD_S
    try:
        context = multiprocessing.get_context(method)
        with context.Pool(WORKERS, open_in_process, [path], maxtasksperchild=20) as pool:
            while asked == 0 or time.monotonic() < until_s:
                numbers = range(asked, asked + 300)
                for key, pid, allowed in pool.imap_unordered(check_in_process, numbers):
                    admitted[key] = admitted.get(key, 0) + allowed
                    processes.add(pid)
                asked += 300
    finally:
        of_process.close()
        of_process = None
    check_counts(Path(path), admitted, 0)
    assert len(processes) >= REPLACED
    print(
        f"multiprocessing, {method}: {asked:,} tasks in {len(processes)} processes, "
        f"{len(admitted)} limits of {LIMIT}, none over; no errors"
    )


# ---- Containers ----------------------------------------------------------------------------------

ALONE = """
import os, sys, time
import flint
limiter = flint.Limiter(sys.argv[1], shared=True, sync="batch", answer_timeout="1m")
calls, until_s = 0, time.monotonic() + float(sys.argv[2])
print("pid", os.getpid(), flush=True)
sys.stdin.readline()
for key in range(10**9):
    admitted = 0
    while limiter.allow(f"k{key}"):
        admitted += 1
    print(key, admitted, flush=True)
    if key >= 20 and time.monotonic() > until_s:
        break
limiter.close()
"""
NAMESPACES = ["unshare", "--user", "--map-root-user", "--pid", "--mount-proc", "--kill-child"]


def why_no_namespaces() -> str:
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def test_two_pid_namespaces(tmp_path: Path) -> None:
    if why := why_no_namespaces():
        pytest.skip(f"no process may have a PID namespace here: {why}")
    path = tmp_path / "limits"
    with flint.Limiter(path, sync="batch") as limiter:
        limiter.limit("k*", rate=LIMIT, per="365d", algorithm="fixed_window_counter")
    command = [*NAMESPACES, sys.executable, "-c", ALONE, str(path), str(LOAD_S)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    admitted: dict[int, int] = {}
    try:
        for one in both:
            assert one.stdin is not None
            assert one.stdout is not None
            assert one.stdout.readline() == "pid 1\n"  # each is the first of its own
        for one in both:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        for one in both:
            said, _ = one.communicate(timeout=LOAD_S + DEADLINE_S)
            for line in said.splitlines():
                key, count = map(int, line.split())
                admitted[key] = admitted.get(key, 0) + count
            assert one.returncode == 0
    finally:
        for one in both:
            one.kill()
            one.communicate()
    check_counts(path, admitted, 0)
    print(f"two PID namespaces: {len(admitted)} limits of {LIMIT}, none over; no errors")
