"""Limiter.doctor and flint.doctor: what they say of sound, damaged and busy directories."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import PACKAGE_ROOT

import flint
from flint import Limiter, UnsupportedError
from flint.testing import ManualClock

GOLDEN = Path(__file__).resolve().parent.parent / "tests_c" / "golden"
KEYS = {
    *("ok", "limits", "history_events", "aof_bytes", "snapshot_exists"),
    *("counters", "records", "ring_records", "segments", "history_segments", "snapshot_bytes"),
    *("seals", "torn_bytes", "findings", "damage"),
}


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.iterdir()}


@pytest.fixture
def filled(data_dir: Path, clock: ManualClock) -> Path:
    """Two segments of history, a snapshot, and a log behind it; closed."""
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("exact", rate=10, per="1h")
        limiter.limit("k:*", rate=10, per="1h")
        for number in range(3):
            assert limiter.check_all(["exact", f"k:{number}"])["allowed"]
            if number < 2:
                limiter.compact()
    return data_dir


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def segments(directory: Path) -> list[Path]:
    """Older ones, oldest first."""
    return sorted(directory.glob("flint.aof.*"))


# ---- What it says ------------------------------------------------------------------------------


def test_a_sound_directory(filled: Path) -> None:
    before = contents(filled)
    report = flint.doctor(filled)
    assert contents(filled) == before
    assert set(report) == KEYS
    assert report["ok"] is True
    assert (report["findings"], report["damage"], report["torn_bytes"]) == ([], None, 0)
    assert (report["limits"], report["counters"]) == (2, 3)
    assert report["history_events"] == 2 + 3
    assert (report["segments"], report["history_segments"]) == (1, 2)
    assert report["snapshot_exists"] is True
    assert report["snapshot_bytes"] == (filled / "flint.snapshot").stat().st_size
    assert report["aof_bytes"] == sum(p.stat().st_size for p in filled.glob("flint.aof*"))
    assert report["records"] > 0
    assert report["seals"] > 0
    assert flint.doctor(str(filled)) == report


def test_doctor_of_a_limiter(data_dir: Path) -> None:
    """It syncs first, so that it sees everything."""
    options: dict[str, Any] = {"flush_every_ms": 3_600_000, "flush_every_events": 2**32}
    with Limiter(data_dir, sync="batch", **options) as limiter:
        limiter.limit("k", rate=10, per="1h")
        assert all(limiter.allow("k") for _ in range(10))
        assert flint.doctor(data_dir)["ring_records"] >= 11
        report = limiter.doctor()
        assert set(report) == KEYS
        assert (report["ok"], report["findings"]) == (True, [])
        assert (report["history_events"], report["ring_records"]) == (11, 0)
        assert asyncio.run(limiter.adoctor())["history_events"] == 11
        with Limiter.open_readonly(data_dir) as follower:
            assert follower.doctor()["history_events"] == 11
    with pytest.raises(flint.ClosedError):
        limiter.doctor()


def test_a_directory_of_this_version_kept_in_the_tests() -> None:
    report = flint.doctor(GOLDEN / "v1" / "always-closed")
    assert (report["ok"], report["damage"]) == (True, None)


def test_a_world_writable_directory(filled: Path) -> None:
    filled.chmod(0o777)
    report = flint.doctor(filled)
    assert report["ok"] is True  # it deserves a look and is no damage
    [finding] = report["findings"]
    assert "everybody may write" in finding
    assert str(filled) in finding
    assert "chmod o-w" in finding
    filled.chmod(0o775)
    assert flint.doctor(filled)["findings"] == []


# ---- What it cannot look at --------------------------------------------------------------------


def test_memory() -> None:
    with pytest.raises(UnsupportedError, match="in memory there are no files"):
        flint.doctor(":memory:")
    with pytest.raises(UnsupportedError, match="in memory there are no files"):
        Limiter(":memory:").doctor()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(flint.FlintOSError, match="No such file or directory") as caught:
        flint.doctor(tmp_path / "absent")
    assert str(tmp_path / "absent") in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("look", [Limiter, Limiter.open_readonly, flint.doctor])
def test_a_file_is_no_directory(tmp_path: Path, look: Callable[[Path], object]) -> None:
    """Whatever is asked for it, the error is the same."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(flint.FlintOSError) as caught:
        look(file)
    assert str(caught.value) == f"[Errno {errno.ENOTDIR}] cannot open {file}: Not a directory"


@pytest.mark.parametrize("look", ["Limiter", "Limiter.open_readonly", "doctor"])
def test_in_a_directory_that_was_removed(
    run_python: Callable[..., str], tmp_path: Path, look: str
) -> None:
    script = f"""
import os, sys
import flint
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
try:
    flint.{look}("data")
except flint.FlintOSError as error:
    print(error, end="")
"""
    printed = run_python(script, tmp_path / "gone")
    assert printed == f"[Errno {errno.ENOENT}] cannot open data: No such file or directory"


@pytest.mark.parametrize("name", [None, "passwd", "flint.lock"])
def test_a_directory_without_a_log(tmp_path: Path, name: str | None) -> None:
    """One that was never used, another program's, and one whose files are gone but for the lock."""
    if name is not None:
        (tmp_path / name).write_text("precious")
    before = list(tmp_path.iterdir())
    with pytest.raises(flint.FlintOSError, match="there is no log of Flint in") as caught:
        flint.doctor(tmp_path)
    assert caught.value.errno == errno.ENOENT
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == before


def test_a_directory_in_which_a_limiter_has_only_been_opened(tmp_path: Path) -> None:
    with Limiter(tmp_path):
        assert flint.doctor(tmp_path)["ok"] is True


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(flint.FlintOSError, match="Not a directory"):
        flint.doctor(path)
    assert path.read_text() == "precious"


def test_a_directory_of_flint_0_2() -> None:
    old = GOLDEN / "v0.2" / "log-only"
    before = contents(old)
    with pytest.raises(UnsupportedError, match=r"Flint 0\.1 or 0\.2; opening it for writing"):
        flint.doctor(old)
    assert contents(old) == before


def test_a_directory_without_permission(filled: Path) -> None:
    script = """
import os, sys, flint
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    flint.doctor(sys.argv[1])
except flint.FlintPermissionError as error:
    assert isinstance(error, PermissionError)
    print(error)
"""
    filled.chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(filled)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        filled.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Permission denied" in done.stdout


# ---- Damage ------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 200)


class Harm(NamedTuple):
    file: Callable[[Path], Path]
    do: Callable[[Path], object]
    words: str
    segment: str  # how the name in the report begins


def newest(directory: Path) -> Path:
    return directory / "flint.aof"


def snapshot(directory: Path) -> Path:
    return directory / "flint.snapshot"


HARMS = {
    "log_record": Harm(newest, lambda p: damage(p, 4200), "that a seal covers", "flint.aof"),
    "log_header": Harm(newest, lambda p: damage(p, 70), "header is damaged", "flint.aof"),
    "log_cut": Harm(newest, truncate, "that a seal covers", "flint.aof"),
    "log_missing": Harm(newest, Path.unlink, "flint.aof is missing", ""),
    "history_record": Harm(
        lambda d: segments(d)[1], lambda p: damage(p, 4200), "no valid record", "flint.aof.0"
    ),
    "history_header": Harm(
        lambda d: segments(d)[0], lambda p: damage(p, 70), "cannot be read", "flint.aof.0"
    ),
    "history_cut": Harm(lambda d: segments(d)[1], truncate, "no valid record", "flint.aof.0"),
    "history_missing": Harm(
        lambda d: segments(d)[1], Path.unlink, "is missing, although", "flint.aof"
    ),
    "snapshot_byte": Harm(snapshot, lambda p: damage(p, 300), "SHA-256", "flint.snapshot"),
    "snapshot_cut": Harm(snapshot, truncate, "SHA-256", "flint.snapshot"),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
def test_damage(filled: Path, harm: Harm) -> None:
    path = harm.file(filled)
    harm.do(path)
    before = contents(filled)
    report = flint.doctor(filled)
    assert contents(filled) == before
    assert report["ok"] is False
    found = report["damage"]
    assert found is not None
    assert report["findings"] == [found["message"]]
    assert harm.words in found["message"]
    assert found["segment"].startswith(harm.segment)
    assert set(found) == {"message", "segment", "offset", "sequence"}


def test_damage_is_told_with_its_place(filled: Path) -> None:
    """The first damage, though there is more behind it."""
    first, second = segments(filled)
    damage(second, 4200)
    damage(first, 4200)
    found = flint.doctor(filled)["damage"]
    assert found is not None
    assert found["segment"] == first.name
    assert 4096 <= found["offset"] <= 4200
    assert found["sequence"] >= 1
    assert f"{first.name} at offset {found['offset']}" in found["message"]


def test_a_missing_snapshot(data_dir: Path) -> None:
    """Whose history has gone as well; with it the log would be whole."""
    with Limiter(data_dir, history_max_bytes=0) as limiter:
        limiter.limit("k", rate=10, per="1h")
        assert limiter.allow("k")
        limiter.compact()
    assert flint.doctor(data_dir)["ok"]
    (data_dir / "flint.snapshot").unlink()
    report = flint.doctor(data_dir)
    assert (report["ok"], report["snapshot_exists"]) == (False, False)
    assert "or the snapshot is missing" in report["findings"][0]


def test_a_directory_that_a_killed_process_left(data_dir: Path) -> None:
    """What only the ring has is no damage, unless the ring is gone."""
    script = """
import os, signal, sys, flint
limiter = flint.Limiter(sys.argv[1], sync="batch", flush_every_ms=3_600_000,
                        flush_every_events=2**32)
limiter.limit("k", rate=100, per="1h")
assert all(limiter.allow("k") for _ in range(50))
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    subprocess.run([sys.executable, "-c", script, str(data_dir)], env=environment, check=False)
    before = contents(data_dir)
    report = flint.doctor(data_dir)
    assert (report["ok"], report["findings"]) == (True, [])
    assert report["ring_records"] >= 51
    assert contents(data_dir) == before
    (data_dir / "flint.ring").unlink()
    [finding] = flint.doctor(data_dir)["findings"]
    assert "flint.ring is missing or damaged, and the log was not closed" in finding


# ---- A directory in use ------------------------------------------------------------------------

WRITER = """
import sys, threading, flint
limiter = flint.Limiter(sys.argv[1], sync="batch", segment_bytes=262144, ring_bytes=262144)
limiter.limit("k:*", rate=1000, per="1h")
stop = threading.Event()

def work(thread):
    number = 0
    while not stop.is_set():
        limiter.check(f"k:{thread}:{number % 100}")
        number += 1
        if number % 5000 == 0:
            limiter.compact()

threads = [threading.Thread(target=work, args=[thread]) for thread in range(2)]
for thread in threads:
    thread.start()
print("writing", flush=True)
sys.stdin.readline()
stop.set()
for thread in threads:
    thread.join()
total = limiter.status("k:*")["total_allowed"] + limiter.status("k:*")["total_denied"]
limiter.close()
print(total)
"""


def test_a_directory_that_is_being_written(data_dir: Path) -> None:
    """Segments are rotated, renamed and dropped and snapshots replaced beside it all the time."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data_dir)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    reports = [flint.doctor(data_dir) for _ in range(5)]
    total, _ = writer.communicate("stop\n", timeout=60)
    for report in reports:
        assert (report["damage"], report["findings"], report["ok"]) == (None, [], True)
    assert reports[0]["history_events"] <= reports[-1]["history_events"]
    after = flint.doctor(data_dir)
    assert after["ok"]
    assert after["history_events"] <= 1 + int(total)  # merged denials are one event
