"""What each option of Limiter does, seen from outside. Values that are refused are in
test_bad_input.py, and failures that are produced for real in test_failures.py."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PACKAGE_ROOT

import flint
from flint import Limiter, PoisonedError, TableFullError
from flint.testing import ManualClock

ALLOW_BYTES = 40  # of a record in the log
SEAL_AND_CLOCK_BYTES = 200  # more than one of each
NEVER_BY_ITSELF: dict[str, Any] = {"flush_every_ms": 3_600_000, "flush_every_events": 2**32}


def types(limiter: Limiter) -> list[str]:
    return [event["type"] for event in limiter.history()]


# ---- on_error ----------------------------------------------------------------------------------


def full_table(**options: Any) -> Limiter:
    """With room for no more keys."""
    limiter = Limiter(":memory:", max_keys=1, **options)
    limiter.limit("k:*", rate=1, per="1h")
    assert limiter.allow("k:1")
    return limiter


def test_on_error_raise() -> None:
    limiter = full_table()
    for call in (limiter.allow, limiter.check):
        with pytest.raises(TableFullError, match="1 keys in use, as many as max_keys allows"):
            call("k:2")
    with pytest.raises(TableFullError):
        limiter.check_all(["k:1", "k:2"])
    assert limiter.info()["undecided"] == 0


@pytest.mark.parametrize(("on_error", "answer"), [("allow", True), ("deny", False)])
def test_on_error_answers(on_error: flint.OnError, answer: bool) -> None:
    limiter = full_table(on_error=on_error)
    assert limiter.allow("k:2") is answer
    result = limiter.check("k:2")
    assert (result.allowed, bool(result), result.undecided) == (answer, answer, True)
    assert (result.key, result.limit, result.remaining) == ("k:2", 1, 1)
    assert limiter.check_all(["k:2", "k:3"])["allowed"] is answer
    assert limiter.allow_all(["k:2"]) is answer
    assert asyncio.run(limiter.aallow("k:2")) is answer
    assert limiter.info()["undecided"] == 5
    counted = limiter.status("k:*")
    assert counted is not None
    assert (counted["total_allowed"], counted["total_denied"]) == (1, 0)


@pytest.mark.parametrize(("on_error", "runs"), [("allow", True), ("deny", False)])
def test_on_error_of_a_decorated_function(on_error: flint.OnError, runs: bool) -> None:
    limiter = full_table(on_error=on_error)

    @limiter.rate_limit(lambda: "k:2", rate=1, per="1h")
    def decorated() -> str:
        return "ran"

    if runs:
        assert [decorated(), decorated()] == ["ran", "ran"]
    else:
        with pytest.raises(flint.RateLimitExceeded, match="k:2"):
            decorated()
    assert limiter.info()["undecided"] == 1 + runs


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_on_error_leaves_decisions_alone(on_error: flint.OnError) -> None:
    limiter = full_table(on_error=on_error)
    result = limiter.check("k:1")
    assert (result.allowed, result.undecided) == (False, False)
    with pytest.raises(flint.NotConfiguredError):
        limiter.allow("unknown")
    with pytest.raises(ValueError, match="cost"):
        limiter.allow("k:1", 2)
    limiter.close()
    with pytest.raises(flint.ClosedError):
        limiter.allow("k:1")


@pytest.mark.parametrize(("on_error", "answer"), [("allow", True), ("deny", False)])
@pytest.mark.parametrize("sync", ["always", "batch"])
def test_on_error_when_poisoned(
    data_dir: Path, sync: flint.Sync, on_error: flint.OnError, answer: bool
) -> None:
    limiter = Limiter(data_dir, sync=sync, on_error=on_error)
    limiter.limit("k", rate=10, per="1h")
    limiter.flush()
    os.truncate(data_dir / "flint.ring", 4096)
    for _ in range(3):
        result = limiter.check("k")
        assert (result.allowed, result.undecided) == (answer, True)
        assert asyncio.run(limiter.acheck("k")).undecided
    assert limiter.info()["undecided"] == 6
    with pytest.raises(PoisonedError):  # a change is not a decision
        limiter.limit("other", rate=1, per="1h")
    with pytest.raises(PoisonedError):
        limiter.close()


# ---- max_keys and when_full --------------------------------------------------------------------


def test_max_keys_refuses(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, clock=clock, max_keys=2) as limiter:
        limiter.limit("k:*", rate=1, per="1h")
        limiter.limit_many((f"exact:{i}", 1, "1h") for i in range(10))  # do not count
        assert limiter.allow("k:1")
        assert limiter.allow("inline", rate=1, per="1h")
        for call in (
            lambda: limiter.allow("k:2"),
            lambda: limiter.allow("other", rate=1, per="1h"),
            lambda: limiter.check_all(["exact:1", "k:2"]),
        ):
            with pytest.raises(TableFullError, match="max_keys"):
                call()
        assert not limiter.allow("k:1")
        assert limiter.allow("exact:1")
        assert limiter.peek("k:2")
        assert limiter.info()["evicted"] == 0
        before = limiter.list(counters=True)
    with Limiter(data_dir, clock=clock, max_keys=2) as limiter:
        assert limiter.list(counters=True) == before
        with pytest.raises(TableFullError):
            limiter.allow("k:2")


def allowed_soon(limiter: Limiter, key: str) -> bool:
    """Each refused call looks for fresh keys in another part of the table."""
    for _ in range(64):
        with contextlib.suppress(TableFullError):
            return limiter.allow(key)
    return False


def test_fresh_keys_go_first(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, clock=clock, max_keys=2) as limiter:
        limiter.limit("k:*", rate=1, per="1h")
        assert limiter.allow("k:1")
        clock.advance(1800)
        assert limiter.allow("k:2")
        clock.advance(1800)  # k:1 is fresh again, k:2 is not
        assert allowed_soon(limiter, "k:3")
        assert not limiter.allow("k:2")
        assert not limiter.allow("k:3")
        assert limiter.info()["counters"] == 2
        assert limiter.info()["evicted"] == 0
        assert "LIMIT_REMOVED" not in types(limiter)


def test_evicting(data_dir: Path, clock: ManualClock) -> None:
    options: dict[str, Any] = {"clock": clock, "max_keys": 2, "when_full": "evict"}
    with Limiter(data_dir, **options) as limiter:
        limiter.limit("k:*", rate=1, per="1h")
        assert limiter.allow_all(["k:1", "k:2"])
        assert limiter.allow("k:3")
        assert limiter.info()["evicted"] == 1
        assert limiter.info()["counters"] == 2
        [removed] = [event for event in limiter.history() if event["type"] == "LIMIT_REMOVED"]
        gone = removed["key"]
        assert gone in {"k:1", "k:2"}
        assert limiter.peek(gone)
        kept = sorted({"k:1", "k:2", "k:3"} - {gone})
        assert not any(map(limiter.peek, kept))
        template = limiter.status("k:*")
        assert template is not None
        assert template["total_allowed"] == 3
        before = limiter.list(counters=True)
    with Limiter(data_dir, **options) as limiter:
        assert limiter.list(counters=True) == before
        assert limiter.peek(gone)
        assert not any(map(limiter.peek, kept))
        assert limiter.info()["evicted"] == 0  # since it was opened


def test_a_bound_below_what_a_directory_holds(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, clock=clock, sync="batch") as limiter:
        limiter.limit("k:*", rate=1, per="1h")
        assert all(limiter.allow(f"k:{i}") for i in range(100))
    with Limiter(data_dir, clock=clock, sync="batch", max_keys=10) as limiter:
        assert not any(limiter.allow(f"k:{i}") for i in range(100))
        with pytest.raises(TableFullError):
            limiter.allow("k:new")
        clock.advance(3600)
        assert all(allowed_soon(limiter, f"k:new:{i}") for i in range(10))


# ---- What may be lost --------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1, 10])
def test_max_unsynced_events(data_dir: Path, bound: int) -> None:
    with Limiter(data_dir, sync="batch", max_unsynced_events=bound, **NEVER_BY_ITSELF) as limiter:
        limiter.limit("k", rate=1000, per="1h")
        limiter.flush()
        most = 0
        for _ in range(100):
            assert limiter.allow("k")
            info = limiter.info()
            most = max(most, info["appended"] - info["durable"])
        assert most <= bound * ALLOW_BYTES + SEAL_AND_CLOCK_BYTES
        assert limiter.info()["syncs"] >= 100 // bound


def test_without_max_unsynced_events(data_dir: Path) -> None:
    with Limiter(data_dir, sync="batch", **NEVER_BY_ITSELF) as limiter:
        limiter.limit("k", rate=1000, per="1h")
        limiter.flush()
        for _ in range(100):
            assert limiter.allow("k")
        info = limiter.info()
        assert info["appended"] - info["durable"] >= 100 * ALLOW_BYTES


@pytest.mark.parametrize("sync_denials", [False, True])
def test_sync_denials(data_dir: Path, sync_denials: bool) -> None:
    with Limiter(data_dir, sync_denials=sync_denials, **NEVER_BY_ITSELF) as limiter:
        limiter.limit("k", rate=1, per="1h")
        assert limiter.allow("k")
        for _ in range(3):
            before = limiter.info()["appended"]
            assert not limiter.allow("k")
            assert (limiter.info()["durable"] >= before + ALLOW_BYTES) is sync_denials
        before = limiter.info()["appended"]
        assert not asyncio.run(limiter.aallow("k"))
        assert (limiter.info()["durable"] >= before + ALLOW_BYTES) is sync_denials


# ---- Time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "remaining"),
    [
        ({}, 10),
        ({"max_downtime": "3s"}, 3),
        ({"max_downtime": 0.5}, 0),
        ({"max_downtime": "1h"}, 6),
    ],
)
def test_max_downtime(
    data_dir: Path, clock: ManualClock, options: dict[str, Any], remaining: int
) -> None:
    down_s = 6 if remaining == 6 else 7200
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("k", rate=10, per="10s")
        assert limiter.allow("k", 10)
    clock.advance(down_s)
    follower = Limiter.open_readonly(data_dir, clock=clock, **options)
    assert follower.peek("k").remaining == remaining
    with Limiter(data_dir, clock=clock, **options) as limiter:
        assert limiter.peek("k").remaining == remaining
        clock.advance(2)  # while it is open nothing is held back
        assert limiter.peek("k").remaining == min(10, remaining + 2)


# ---- History -----------------------------------------------------------------------------------


def keys_in_history(limiter: Limiter) -> set[str]:
    return {event["key"] for event in limiter.history() if event["type"] == "ALLOW"}


def rounds(limiter: Limiter, clock: ManualClock) -> None:
    """A day's events and a compaction, three times."""
    limiter.limit("k:*", rate=1000, per="1h")
    for day in range(3):
        for _ in range(100):
            limiter.check(f"k:{day}")
        clock.advance(86_400)
        limiter.compact()


def test_history_is_kept_behind_compaction(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, sync="batch", clock=clock) as limiter:
        rounds(limiter, clock)
        assert keys_in_history(limiter) == {"k:0", "k:1", "k:2"}
        assert limiter.info()["history_bytes"] > 300 * ALLOW_BYTES


def test_history_max_bytes_0_keeps_none(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, sync="batch", clock=clock, history_max_bytes=0) as limiter:
        rounds(limiter, clock)
        assert limiter.history() == []
        assert limiter.info()["history_bytes"] == 0
        assert limiter.allow("k:3")
        assert keys_in_history(limiter) == {"k:3"}  # the log itself is no less complete
        status = limiter.status("k:*")
        assert status is not None
        assert status["total_allowed"] == 301
    assert len(list(data_dir.glob("flint.aof*"))) == 1


def test_history_max_bytes(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, sync="batch", clock=clock) as limiter:
        rounds(limiter, clock)
    most = 150 * ALLOW_BYTES + 2 * 4096  # one round's segment, not two
    with Limiter(data_dir, sync="batch", clock=clock, history_max_bytes=most) as limiter:
        assert keys_in_history(limiter) == {"k:2"}
        assert 0 < limiter.info()["history_bytes"] <= most


def test_history_max_age(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, sync="batch", clock=clock, history_max_age="60h") as limiter:
        rounds(limiter, clock)
        assert keys_in_history(limiter) == {"k:1", "k:2"}


# ---- The clock ---------------------------------------------------------------------------------


def test_the_systems_clock_goes_on_where_the_counters_was(data_dir: Path) -> None:
    for number, clock in enumerate(("system", None, "system")):
        with Limiter(data_dir, clock=clock) as limiter:
            limiter.limit("k", rate=3, per="30d")
            assert limiter.acquire("k").remaining == 2 - number
    assert Limiter.open_readonly(data_dir, clock="system").peek("k").remaining == 0


# ---- The mapped ring ---------------------------------------------------------------------------

LOOK = """
import ctypes, signal, sys, flint
from pathlib import Path

def handler():
    action = ctypes.create_string_buffer(256)
    assert ctypes.CDLL(None).sigaction(signal.SIGBUS, None, action) == 0
    return action.raw[:8]  # of struct sigaction the address comes first

before = handler()
limiter = flint.Limiter(sys.argv[1], mapped=sys.argv[2])
limiter.limit("k", rate=1, per="1h")
assert limiter.allow("k") and not limiter.allow("k")
print("flint.ring" in Path("/proc/self/maps").read_text(), handler() != before)
"""


@pytest.mark.parametrize(("mapped", "found"), [("auto", "True True"), ("never", "False False")])
def test_mapped(data_dir: Path, run_python: Callable[..., str], mapped: str, found: str) -> None:
    assert run_python(LOOK, data_dir, mapped).strip() == found


DIE = """
import os, signal, sys, flint
limiter = flint.Limiter(sys.argv[1], sync=sys.argv[2], mapped="never",
                        flush_every_ms=3_600_000, flush_every_events=2**32)
limiter.limit("k", rate=1000, per="1h")
for _ in range(100):
    assert limiter.allow("k")
assert limiter.allow("one", rate=1, per="1h") and not limiter.allow("one")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_mapped_never_survives_a_kill(data_dir: Path, sync: flint.Sync) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIE, str(data_dir), sync],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
    with Limiter(data_dir, mapped="never") as limiter:
        status, one = limiter.status("k"), limiter.status("one")
        assert status is not None
        assert (status["total_allowed"], status["total_denied"]) == (100, 0)
        assert one is not None
        assert (one["total_allowed"], one["total_denied"]) == (1, 1)
        from_ring = limiter.info()["recovered_ring_records"]
        assert from_ring >= (100 if sync == "batch" else 1)


def test_memory_takes_every_option(clock: ManualClock) -> None:
    limiter = Limiter(
        ":memory:",
        sync="batch",
        clock=clock,
        max_unsynced_events=1,
        max_downtime="1s",
        history_max_bytes=0,
        history_max_age="1d",
        max_replay_bytes=2**20,
        max_keys=1,
        when_full="evict",
        on_error="deny",
        mapped="never",
        sync_denials=True,
    )
    limiter.limit("k:*", rate=1, per="1h")
    assert [limiter.allow(f"k:{i}") for i in range(3)] == [True, True, True]
    assert limiter.info()["evicted"] == 2


def test_files_for_a_group(data_dir: Path) -> None:
    for group in [os.getegid(), grp.getgrgid(os.getegid()).gr_name]:
        directory = data_dir / str(group)
        with Limiter(directory, file_mode=0o660, group=group):
            assert directory.stat().st_mode & 0o777 == 0o770
            for path in directory.iterdir():
                assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o660, os.getegid())


def test_who_a_directory_is_for_is_checked(data_dir: Path) -> None:
    for wrong in [0o700, 0o677, 0o606 | 0o1000]:
        with pytest.raises(ValueError, match="file_mode"):
            Limiter(data_dir, file_mode=wrong)
    for group in ["no such group", -1, 2**32 - 1]:
        with pytest.raises(ValueError, match="group must be the name or the id of a group"):
            Limiter(data_dir, group=group)
    with pytest.raises(TypeError, match="group must be the name or the id of a group"):
        Limiter(data_dir, group=True)


def test_waiting_for_a_directory(data_dir: Path) -> None:
    first = Limiter(data_dir)
    with pytest.raises(flint.LockedError, match=rf"by process {os.getpid()} since 20") as caught:
        Limiter(data_dir)
    assert "waited" not in str(caught.value)
    with pytest.raises(flint.LockedError, match=r"waited 0\.001 s for it"):
        Limiter(data_dir, lock_timeout="1ms")
    opened: list[Limiter] = []
    waiting = threading.Thread(target=lambda: opened.append(Limiter(data_dir, lock_timeout="1h")))
    waiting.start()
    first.close()
    waiting.join()
    opened[0].close()


def test_a_handler_that_takes_the_guards_place_is_told_of(
    run_python: Callable[..., str], data_dir: Path
) -> None:
    script = """
import faulthandler, sys, flint
faulthandler.enable()
with flint.Limiter(sys.argv[1]) as limiter:
    print(limiter.info()["warnings"])
    faulthandler.disable()
    faulthandler.enable()
    print(limiter.info()["warnings"])
"""
    assert run_python(script, data_dir).split() == ["0", "8"]


CROWDED = """
import resource, sys, flint
limiter = flint.Limiter(sys.argv[1], sync="batch", segment_bytes=2**18, ring_bytes=2**18)
limiter.limit("k", rate=10**9, per="1h")
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
admitted = 0
try:
    while admitted < 100_000:
        limiter.allow("k")
        admitted += 1
except flint.FlintOSError as error:
    print(type(error).__name__, error.errno, "works again" in str(error))
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
while True:
    try:
        assert limiter.allow("k")
        break
    except flint.FlintOSError:  # until the next segment has been tried again
        pass
limiter.close()
with flint.Limiter(sys.argv[1]) as limiter:
    print(limiter.status("k")["total_allowed"] == admitted + 1)
"""


def test_a_segment_that_finds_no_descriptor_is_tried_again(
    data_dir: Path, run_python: Callable[..., str]
) -> None:
    assert run_python(CROWDED, data_dir).split("\n")[:2] == ["FlintOSError 24 True", "True"]


def test_what_openssl_is_configured_for_does_not_matter(data_dir: Path) -> None:
    config = data_dir.parent / "openssl.cnf"
    config.write_text(
        "config_diagnostics = 1\nopenssl_conf = main\n[main]\nproviders = them\n"
        "[them]\nabsent = absent\n[absent]\nactivate = 1\n"
    )
    program = "import sys, flint; flint.Limiter(sys.argv[1]).close()"
    done = subprocess.run(
        [sys.executable, "-c", program, str(data_dir)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "OPENSSL_CONF": str(config)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
