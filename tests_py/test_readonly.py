"""Limiter.open_readonly and refresh: looking at a directory that another process may be writing,
without a lock and without changing anything."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PACKAGE_ROOT

import flint
from flint import FlintOSError, FlintWarning, Limiter, ReadOnlyError, UnsupportedError
from flint.testing import ManualClock

GOLDEN = Path(__file__).resolve().parent.parent / "tests_c" / "golden"


def tree(directory: Path) -> dict[str, tuple[int, int, int]]:
    found = {p.name: p.stat() for p in [directory, *directory.iterdir()]}
    return {name: (s.st_size, s.st_mtime_ns, s.st_mode) for name, s in found.items()}


def total(limiter: Limiter, key: str) -> int:
    status = limiter.status(key)
    return 0 if status is None else status["total_allowed"]


class Writer:
    """A limiter in another process, which runs the lines that it is sent."""

    SCRIPT = """
import sys, flint
limiter = flint.Limiter(sys.argv[1], sync=sys.argv[2], segment_bytes=262144, ring_bytes=262144)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""

    def __init__(self, data_dir: Path, sync: str = "batch") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(data_dir), sync],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Writer]]:
    writers: list[Writer] = []

    def run(sync: str = "batch") -> Writer:
        writers.append(Writer(data_dir, sync))
        writers[-1].run("limiter.limit('k:*', rate=1000, per='1h')")
        return writers[-1]

    yield run
    for writer in writers:
        writer.kill()


@pytest.fixture
def filled(data_dir: Path, clock: ManualClock) -> Path:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("k", rate=3, per="1h")
        limiter.limit("t:*", rate=3, per="1h")
        assert limiter.allow_all(["k", "t:1"])
        limiter.compact()
        assert limiter.allow("k")
    return data_dir


# ---- Following ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["always", "batch"])
def test_following_another_process(
    data_dir: Path, start: Callable[..., Writer], sync: flint.Sync
) -> None:
    writer = start(sync)
    with Limiter.open_readonly(data_dir) as follower:
        assert total(follower, "k:*") == 0
        for count in (1, 2, 3):
            writer.run("assert limiter.allow('k:1')")
            assert total(follower, "k:1") == count - 1
            follower.refresh()
            assert total(follower, "k:1") == count
            assert follower.peek("k:1").remaining == 1000 - count
        writer.run("limiter.limit('new', rate=1, per='1h')")
        asyncio.run(follower.arefresh())
        assert [limit["key"] for limit in follower.list()] == ["k:*", "new"]
        assert follower.info()["limits"] == 2
        assert follower.info()["counters"] == 1
        assert [limit["key"] for limit in follower.top("allowed")] == ["k:1"]
        writer.run("limiter.remove('new'); limiter.remove('k:*')")
        follower.refresh()
        assert follower.list(counters=True) == []
        writer.run("limiter.flush()")  # what is in the ring alone is no history yet
        assert len(follower.history("k:1")) == 3
        assert [e["type"] for e in follower.history(newest_first=True, limit=1)] == [
            "LIMIT_REMOVED"
        ]


def test_following_over_rotation_and_compaction(
    data_dir: Path, start: Callable[..., Writer]
) -> None:
    writer = start()
    writer.run("limiter.limit('k:*', rate=100_000, per='1h')")
    follower = Limiter.open_readonly(data_dir)
    for step in range(1, 13):
        writer.run("for number in range(3000): limiter.check(f'k:{number % 3}')")
        if step % 3 == 0:
            writer.run("limiter.compact()")
        follower.refresh()
        assert total(follower, "k:*") == 3000 * step
    writer.run("limiter.flush()")
    assert (data_dir / "flint.snapshot").exists()
    assert flint.doctor(data_dir)["ok"]


def test_following_over_restart_and_kill(data_dir: Path, start: Callable[..., Writer]) -> None:
    writer = start()
    writer.run("assert limiter.allow('k:1')")
    follower = Limiter.open_readonly(data_dir)
    writer.close()
    follower.refresh()
    assert total(follower, "k:1") == 1
    writer = start()
    writer.run("assert limiter.allow('k:1')")
    follower.refresh()
    assert total(follower, "k:1") == 2
    writer.run("assert limiter.allow('k:1')")
    writer.kill()
    follower.refresh()
    assert total(follower, "k:1") == 3
    writer = start()
    writer.run("assert limiter.allow('k:1')")
    follower.refresh()
    assert total(follower, "k:1") == 4


def test_following_a_directory_that_is_empty_at_first(data_dir: Path) -> None:
    data_dir.mkdir()
    with Limiter.open_readonly(data_dir) as follower:
        assert follower.list() == []
        with Limiter(data_dir) as limiter:
            limiter.limit("k", rate=1, per="1h")
            assert limiter.allow("k")
            follower.refresh()
        assert total(follower, "k") == 1


def test_time_goes_on_as_for_the_writer(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("k", rate=10, per="10s")
        assert limiter.allow("k", 10)
        with Limiter.open_readonly(data_dir, clock=clock) as follower:
            for second in range(1, 4):
                clock.advance(1)
                assert follower.peek("k").remaining == limiter.peek("k").remaining == second


def test_it_takes_no_lock(filled: Path, clock: ManualClock) -> None:
    with (
        Limiter.open_readonly(filled, clock=clock) as one,
        Limiter(filled, clock=clock) as limiter,
        Limiter.open_readonly(filled, clock=clock) as two,
    ):
        assert limiter.allow("k")
        for follower in (one, two):
            follower.refresh()
            assert total(follower, "k") == 3


# ---- Reading only ------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Limiter], object]] = {
    "allow": lambda limiter: limiter.allow("k"),
    "allow_inline": lambda limiter: limiter.allow("new", rate=1, per="1h"),
    "check": lambda limiter: limiter.check("t:2"),
    "allow_all": lambda limiter: limiter.allow_all(["k"]),
    "check_all": lambda limiter: limiter.check_all(["k", "t:1"]),
    "acquire": lambda limiter: limiter.acquire("k", timeout=60),
    "limit": lambda limiter: limiter.limit("new", rate=1, per="1h"),
    "limit_same": lambda limiter: limiter.limit("k", rate=3, per="1h"),
    "limit_if_absent": lambda limiter: limiter.limit("k", rate=3, per="1h", if_absent=True),
    "limit_many": lambda limiter: limiter.limit_many([("new", 1, "1h")]),
    "remove": lambda limiter: limiter.remove("k"),
    "reset": lambda limiter: limiter.reset("k"),
    "reset_template": lambda limiter: limiter.reset("t:*"),
    "flush": lambda limiter: limiter.flush(),
    "compact": lambda limiter: limiter.compact(),
    "compact_soon": lambda limiter: limiter.compact(wait=False),
    "decorator": lambda limiter: limiter.rate_limit("new", rate=1, per="1h"),
    "decorated": lambda limiter: limiter.rate_limit(lambda: "k", rate=1, per="1h")(int)(),
    "aallow": lambda limiter: asyncio.run(limiter.aallow("k")),
    "acheck": lambda limiter: asyncio.run(limiter.acheck("k")),
    "aallow_all": lambda limiter: asyncio.run(limiter.aallow_all(["k"])),
    "acheck_all": lambda limiter: asyncio.run(limiter.acheck_all(["k"])),
    "aacquire": lambda limiter: asyncio.run(limiter.aacquire("k", timeout=60)),
    "alimit": lambda limiter: asyncio.run(limiter.alimit("new", rate=1, per="1h")),
    "aremove": lambda limiter: asyncio.run(limiter.aremove("k")),
    "areset": lambda limiter: asyncio.run(limiter.areset("k")),
    "aflush": lambda limiter: asyncio.run(limiter.aflush()),
    "acompact": lambda limiter: asyncio.run(limiter.acompact()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_would_change_something(
    filled: Path, clock: ManualClock, change: Callable[[Limiter], object]
) -> None:
    with Limiter.open_readonly(filled, clock=clock) as follower:
        before = follower.list(counters=True)
        with pytest.raises(ReadOnlyError, match="reading only") as caught:
            change(follower)
        assert isinstance(caught.value, flint.FlintError)
        assert follower.list(counters=True) == before
        assert follower.info()["undecided"] == 0


def test_nothing_is_created_or_changed(filled: Path, clock: ManualClock) -> None:
    before = tree(filled)
    with Limiter.open_readonly(filled, clock=clock) as follower:
        follower.refresh()
        assert follower.peek("k").remaining == 1
        assert follower.peek("t:9")
        assert len(follower.history()) == 4
        assert follower.info()["read_only"] == 1
        assert follower.doctor()["ok"]
    assert tree(filled) == before
    with Limiter(filled) as limiter:
        assert limiter.info()["read_only"] == 0
        with pytest.raises(ValueError, match="opened for reading"):
            limiter.refresh()


def test_a_directory_that_may_only_be_read(filled: Path) -> None:
    """As another user if this is root, who may write everywhere."""
    script = """
import os, sys, flint, flint._local.history
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with flint.Limiter.open_readonly(sys.argv[1]) as follower:
    follower.refresh()
    print(follower.status("k")["total_allowed"], len(follower.history()), follower.doctor()["ok"])
try:
    flint.Limiter(sys.argv[1])
except flint.FlintPermissionError:
    print("but not written")
"""
    with tempfile.TemporaryDirectory() as root:  # pytest's own is closed to others
        Path(root).chmod(0o755)
        data = Path(shutil.copytree(filled, Path(root, "data")))
        for path in data.iterdir():
            path.chmod(0o444)
        data.chmod(0o555)
        before = tree(data)
        done = subprocess.run(
            [sys.executable, "-c", script, str(data)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert tree(data) == before
        data.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 4 True\nbut not written\n"


# ---- What cannot be opened ---------------------------------------------------------------------


def test_memory() -> None:
    with pytest.raises(UnsupportedError, match="in memory there are no files"):
        Limiter.open_readonly(":memory:")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FlintOSError, match="No such file or directory"):
        Limiter.open_readonly(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    with pytest.raises(FlintOSError, match="there is no log of Flint in") as caught:
        Limiter.open_readonly(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_directory_of_flint_0_2() -> None:
    with pytest.raises(UnsupportedError, match="opening it for writing converts it"):
        Limiter.open_readonly(GOLDEN / "v0.2" / "log-only")


def test_damage(filled: Path) -> None:
    log = filled / "flint.aof"
    os.truncate(log, log.stat().st_size - 200)
    with pytest.raises(flint.CorruptionError, match="a seal covers") as caught:
        Limiter.open_readonly(filled)
    assert caught.value.segment == "flint.aof"


@pytest.mark.parametrize("open_it", [Limiter, Limiter.open_readonly])
def test_damaged_history_is_warned_of(filled: Path, clock: ManualClock, open_it: Any) -> None:
    [old, *_] = sorted(filled.glob("flint.aof.*"))
    content = bytearray(old.read_bytes())
    content[70] ^= 1
    old.write_bytes(content)
    with pytest.warns(FlintWarning, match="history in .* is damaged") as caught:
        limiter = open_it(filled, clock=clock)
    assert caught[0].filename == __file__
    assert limiter.info()["damaged_history"] == 1
    assert limiter.peek("k").remaining == 1
    limiter.close()


def test_a_directory_that_goes_away(filled: Path, clock: ManualClock) -> None:
    with Limiter.open_readonly(filled, clock=clock) as follower:
        for path in filled.iterdir():
            path.unlink()
        filled.rmdir()
        with pytest.raises(flint.FlintError):
            follower.refresh()
        assert follower.peek("k").remaining == 1


def test_repr_and_close(filled: Path) -> None:
    follower = Limiter.open_readonly(filled)
    follower.close()
    follower.close()
    for call in (follower.refresh, follower.list, lambda: follower.peek("k"), follower.info):
        with pytest.raises(flint.ClosedError):
            call()
    assert "closed" in repr(follower)
