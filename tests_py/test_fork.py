"""A forked child cannot use its parent's limiter, is told so, and does the parent no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flint import Limiter

# Runs in an interpreter of its own: the test runner's threads should not be forked.
SCRIPT_START = """
import faulthandler, gc, os, sys, threading, time, warnings
import flint
warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads

def fork(child):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status

limiter = flint.Limiter(sys.argv[1], sync=sys.argv[2])
limiter.limit("api", rate=3, per="1h")
assert limiter.allow("api")
"""

USE = """
def child():
    calls = [
        lambda: limiter.allow("api"),
        lambda: limiter.check("api"),
        lambda: limiter.peek("api"),
        lambda: limiter.check_all(["api"]),
        lambda: limiter.limit("api", rate=1, per="1h"),
        lambda: limiter.limit_many([("api", 1, "1h")]),
        lambda: limiter.remove("api"),
        lambda: limiter.reset("api"),
        lambda: limiter.status("api"),
        lambda: limiter.list(),
        lambda: limiter.top(),
        lambda: limiter.info(),
        lambda: limiter.flush(),
        lambda: limiter.compact(),
    ]
    for call in calls:
        try:
            call()
        except flint.ForkedError as error:
            assert isinstance(error, RuntimeError) and "parent" in str(error), error
        else:
            raise AssertionError("worked in the child")
    try:
        flint.Limiter(sys.argv[1])  # the parent still holds it
    except flint.LockedError:
        pass
    with flint.Limiter(sys.argv[1] + ".child") as own:
        own.limit("api", rate=1, per="1h")
        assert own.allow("api")
    with limiter:  # closing is no use
        pass
    limiter.close()
    try:
        limiter.allow("api")
    except flint.ClosedError:
        pass
fork(child)
assert limiter.allow("api")
"""

DROP = """
def child():
    global limiter
    del limiter
    gc.collect()
fork(child)
try:
    flint.Limiter(sys.argv[1])
except flint.LockedError:
    pass
assert limiter.allow("api")
"""

EXIT = """
pid = os.fork()
if pid == 0:
    sys.exit(0)  # with the interpreter's whole ending
assert os.waitpid(pid, 0)[1] == 0
assert limiter.allow("api")
"""

WHILE_BUSY = """
stop = False
def use():
    while not stop:
        limiter.peek("api")
        limiter.allow("api")
        limiter.status("api")
threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads:
    thread.start()

def child():
    try:
        limiter.allow("api")
    except flint.ForkedError:
        limiter.close()  # whatever the other threads were doing
for _ in range(20):
    fork(child)
stop = True
for thread in threads:
    thread.join()
limiter.reset("api")
assert limiter.allow("api")
"""

WHILE_LOCKED = """
lock = limiter._lines._lock
taken, release = threading.Event(), threading.Event()
def hold():
    with lock:
        taken.set()
        release.wait()
holder = threading.Thread(target=hold, daemon=True)
holder.start()
taken.wait()

def child():
    faulthandler.dump_traceback_later(30, exit=True)  # instead of waiting for ever
    limiter.close()
fork(child)
release.set()
holder.join()
limiter.reset("api")
assert limiter.allow("api")
"""


def check(run_python: Callable[..., str], data_dir: Path, script: str) -> None:
    for sync in ["always", "batch"]:
        directory = data_dir / sync
        run_python(SCRIPT_START + script, directory, sync)
        with Limiter(directory) as limiter:
            status = limiter.status("api")
            assert status is not None
            assert status["total_allowed"] >= 2


def test_use_in_a_child(run_python: Callable[..., str], data_dir: Path) -> None:
    check(run_python, data_dir, USE)


def test_a_child_drops_its_limiter(run_python: Callable[..., str], data_dir: Path) -> None:
    check(run_python, data_dir, DROP)


def test_a_child_exits(run_python: Callable[..., str], data_dir: Path) -> None:
    check(run_python, data_dir, EXIT)


def test_fork_while_threads_are_inside(run_python: Callable[..., str], data_dir: Path) -> None:
    check(run_python, data_dir, WHILE_BUSY)


def test_a_child_needs_no_lock_that_a_thread_of_its_parent_held(
    run_python: Callable[..., str], data_dir: Path
) -> None:
    check(run_python, data_dir, WHILE_LOCKED)


def test_the_lock_goes_with_the_parent(run_python: Callable[..., str], data_dir: Path) -> None:
    """A child that lives on does not keep the directory locked."""
    script = """
ready, go = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(go)
    os.read(ready, 1)
    os._exit(0)
os.close(ready)
limiter.close()
flint.Limiter(sys.argv[1]).close()
os.close(go)
os.waitpid(pid, 0)
"""
    run_python(SCRIPT_START + script, data_dir, "batch")


def test_a_child_does_not_keep_the_lock_of_a_dead_parent(
    run_python: Callable[..., str], data_dir: Path
) -> None:
    script = """
if os.fork() == 0:
    os.setsid()
    for number in (0, 1, 2):
        os.close(number)
    time.sleep(5)
    os._exit(0)
os._exit(0)
"""
    run_python(SCRIPT_START + script, data_dir, "batch")
    Limiter(data_dir).close()
