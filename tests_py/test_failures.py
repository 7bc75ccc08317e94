"""Failures produced for real: system calls that fail, files cut or removed, disks that are full.

Each case runs as a process of its own, in a new directory. A test holds what it meets against
docs/failures.md, and

    python tests_py/test_failures.py

runs all of them and writes the table of that page.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import flint

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "failures.md"
BEGIN, END = "<!-- begin: tests_py/test_failures.py -->", "<!-- end -->"
HEADER = "| failure | how it is produced | what is raised | its message | afterwards |"

# What every child starts with. `meets` makes the call that is to fail and tells of it; what the
# child does then is the check of the table's last column.
PRELUDE = '''
import contextlib, ctypes, json, os, resource, shutil, subprocess, sys, textwrap
import warnings
from pathlib import Path
import flint
from flint import Limiter, FlintOSError, PoisonedError, DiskFullError, CorruptionError

TOP = Path(sys.argv[1])
DATA = TOP / "data"
PR_SET_PTRACER, ANY = 0x59616D61, ctypes.c_ulong(-1)
ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # where only parents may trace

def meets(call):
    try:
        call()
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
        return error
    sys.exit("nothing failed")

def sees(text):
    """Where nothing is raised."""
    print(json.dumps(["nothing", text]), flush=True)

def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    sys.exit(f"no {kind.__name__}")

@contextlib.contextmanager
def system_calls(*strace_options):
    """Meanwhile they fail as the options say."""
    print(json.dumps(strace_options), flush=True)
    assert sys.stdin.readline() == "go\\n"
    yield
    print(json.dumps([]), flush=True)
    assert sys.stdin.readline() == "go\\n"

def fill(limiter):
    limiter.limit("api", rate=10, per="365d")
    limiter.limit("used up", rate=1, per="365d")
    assert limiter.allow("api") and limiter.allow("used up")

def opened(**options):
    limiter = Limiter(DATA, **options)
    fill(limiter)
    return limiter

def still_reads(limiter, least=1):
    """An admission that failed may be counted in memory: nobody knows whether it is on disk."""
    allowed = limiter.status("api")["total_allowed"]
    assert least <= allowed <= least + 1
    assert limiter.peek("api").remaining == 10 - allowed
    assert len(limiter.list()) == 2
    assert not limiter.allow("used up")

def stays_poisoned(limiter):
    raises(PoisonedError, lambda: limiter.allow("api"))
    raises(PoisonedError, lambda: limiter.limit("new", rate=1, per="1h"))
    raises(PoisonedError, limiter.close)
    assert limiter.closed

def reopens(least=1):
    """With everything that was answered, and nobody knows what of the rest."""
    with Limiter(DATA) as limiter:
        assert limiter.status("api")["total_allowed"] >= least
        assert not limiter.allow("used up")
        assert limiter.allow("api")

def killed(script):
    """Runs in a process that is killed at its end."""
    start = "import os, sys, flint\\nDATA = sys.argv[1]\\n"
    end = "\\nos.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", start + textwrap.dedent(script) + end, str(DATA)])
    assert done.returncode == -9

def files():
    """All but who opened it last."""
    names = [path for path in DATA.iterdir() if path.name != "flint.lock"]
    return {path.name: path.read_bytes() for path in names}

def meets_damage():
    """Opening fails and changes nothing; doctor says the same; so does opening to read."""
    before = files()
    error = meets(lambda: Limiter(DATA))
    assert type(error) is CorruptionError
    assert files() == before
    assert str(raises(CorruptionError, lambda: Limiter.open_readonly(DATA))) == str(error)
    report = flint.doctor(DATA)
    assert not report["ok"] and report["damage"]["message"] == str(error)
    assert files() == before
    return error

def fill_disk():
    with open(TOP / "ballast", "wb", buffering=0) as ballast:
        with contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))

def make_room():
    (TOP / "ballast").unlink()
'''


class Case(NamedTuple):
    failure: str
    produced: str
    afterwards: str
    raised: str
    words: str
    script: str
    needs_disk: bool = False  # one of its own, in a name space of its own


READS = "denials and reads are still answered"
POISONED = (
    f"every change raises the same, {READS}, nothing is tried again; opened anew, all that was "
    "answered is there"
)

CASES = {
    "sync": Case(
        'a sync fails, `sync="always"`',
        "`strace`, `fdatasync` gives EIO",
        POISONED,
        "PoisonedError",
        "could not be written and the limiter stopped: cannot sync",
        """
        limiter = opened()
        with system_calls("-e", "inject=fdatasync:error=EIO"):
            error = meets(lambda: limiter.allow("api"))
        assert error.errno == 5
        still_reads(limiter)
        stays_poisoned(limiter)
        reopens()
        """,
    ),
    "sync_batch": Case(
        'a sync fails, `sync="batch"`',
        "`strace`, `fdatasync` gives EIO; `flush()`",
        POISONED,
        "PoisonedError",
        "could not be written and the limiter stopped: cannot sync",
        """
        limiter = opened(sync="batch", flush_every_ms=3_600_000, flush_every_events=2**32)
        with system_calls("-e", "inject=fdatasync:error=EIO"):
            meets(limiter.flush)
        still_reads(limiter)
        stays_poisoned(limiter)
        reopens()
        """,
    ),
    "write": Case(
        "a write fails",
        "`strace`, `pwrite64` gives EIO",
        POISONED,
        "PoisonedError",
        "could not be written and the limiter stopped: cannot write",
        """
        limiter = opened()
        with system_calls("-e", "inject=pwrite64:error=EIO"):
            error = meets(lambda: limiter.allow("api"))
        assert error.errno == 5
        still_reads(limiter)
        stays_poisoned(limiter)
        reopens()
        """,
    ),
    "short_write": Case(
        "a write is short, and what is left of it fails",
        "`RLIMIT_FSIZE` in the middle of the next record",
        POISONED,
        "PoisonedError",
        "cannot write",
        """
        limiter = opened(flush_every_ms=3_600_000)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        end = 4096 + limiter.info()["durable"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (end + 16, hard))
        meets(lambda: limiter.allow("api"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        log = (DATA / "flint.aof").read_bytes()
        assert any(log[end : end + 16]) and not any(log[end + 16 :])
        still_reads(limiter)
        stays_poisoned(limiter)
        reopens()
        """,
    ),
    "interrupted": Case(
        "a system call is interrupted, then the disk fails",
        "`strace`, the first `pwrite64` gives EINTR, then `fdatasync` EIO",
        f"the write was repeated, the sync was not; {READS}",
        "PoisonedError",
        "cannot sync",
        """
        limiter = opened()
        with system_calls("-e", "inject=pwrite64:error=EINTR:when=1"):
            assert limiter.allow("api")
        with system_calls("-e", "inject=fdatasync:error=EIO"):
            meets(lambda: limiter.allow("api"))
        still_reads(limiter, 2)
        stays_poisoned(limiter)
        reopens(2)
        """,
    ),
    "lying_disk": Case(
        "the disk says that it has written, and has not",
        "`strace`, `pwrite64` writes nothing and says that it has; closed, opened",
        "nothing is changed; what was answered is lost, and that is noticed",
        "CorruptionError",
        "a record that a seal covers",
        """
        limiter = opened()
        with system_calls("-e", "inject=pwrite64:retval=8"):
            assert limiter.allow("api")
        assert limiter.allow("api")
        limiter.close()
        error = meets_damage()
        assert error.segment == "flint.aof" and error.offset > 4096 and error.sequence > 0
        """,
    ),
    "open_sync": Case(
        "a sync fails while a directory is opened",
        "`strace`, `fsync` gives EIO",
        "opened again it works, with all that was there",
        "FlintOSError",
        "cannot sync",
        """
        opened().close()
        with system_calls("-e", "inject=fsync:error=EIO"):
            error = meets(lambda: Limiter(DATA))
        assert error.errno == 5
        reopens()
        """,
    ),
    "compaction_sync": Case(
        "the snapshot cannot be synced",
        "`strace`, `fsync` of `flint.snapshot.tmp` gives EIO; `compact()`",
        'everything goes on; `info()["compaction_failures"]` is 1; the next compaction works',
        "FlintOSError",
        "cannot sync",
        """
        limiter = opened()
        path = str(DATA / "flint.snapshot.tmp")
        with system_calls("-P", path, "-e", "inject=fsync,fdatasync:error=EIO"):
            meets(limiter.compact)
        assert not (DATA / "flint.snapshot").exists()
        assert limiter.info()["compaction_failures"] == 1
        [finding] = limiter.doctor()["findings"]
        assert finding.startswith("the last compaction failed, so the log grows; it is tried again")
        assert limiter.allow("api")
        limiter.compact()
        assert limiter.doctor()["findings"] == []
        assert limiter.info()["compactions"] >= 1
        assert (DATA / "flint.snapshot").exists()
        limiter.close()
        reopens(2)
        """,
    ),
    "closed_descriptors": Case(
        "the program closes its descriptors, as daemons do, and opens other files",
        "`dup2` over every descriptor of the directory's files; `flush()`",
        "the other files stay as they are and stay open. Denials and reads are still answered; "
        "what was decided since the last sync is lost, unless the ring still has it",
        "PoisonedError",
        "has been closed by this program",
        """
        limiter = opened(sync="batch", flush_every_ms=3_600_000)
        limiter.flush()
        theirs = TOP / "theirs"
        theirs.write_bytes(b"precious" * 1000)
        taken = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith(str(DATA)):
                    other = os.open(theirs, os.O_RDWR)
                    os.dup2(other, int(name))
                    os.close(other)
                    taken.append(int(name))
        assert len(taken) >= 3
        assert limiter.allow("api")
        meets(limiter.flush)
        still_reads(limiter)
        raises(PoisonedError, limiter.close)
        assert theirs.read_bytes() == b"precious" * 1000
        for fd in taken:
            assert os.fstat(fd).st_ino == theirs.stat().st_ino
        """,
    ),
    "descriptors": Case(
        "no file can be opened: too many are",
        "`RLIMIT_NOFILE`",
        "a limiter that is open goes on deciding",
        "FlintOSError",
        "Too many open files",
        """
        limiter = opened()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        meets(lambda: Limiter(TOP / "other"))
        still_reads(limiter)
        assert limiter.allow("api")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        limiter.close()
        reopens(2)
        """,
    ),
    # ---- Files under a live limiter ------------------------------------------------------------
    "ring_cut": Case(
        "`flint.ring` is cut short under a limiter",
        "`truncate` to 4,096 bytes",
        f"the process lives, every change raises the same, {READS}. While the machine runs, "
        "opening raises CorruptionError: nothing tells what the ring had held",
        "PoisonedError",
        "flint.ring was cut short or its disk failed while it was in use",
        """
        limiter = opened()
        os.truncate(DATA / "flint.ring", 4096)
        meets(lambda: limiter.allow("api"))
        still_reads(limiter)
        stays_poisoned(limiter)
        assert "flint.ring is missing" in str(raises(CorruptionError, lambda: Limiter(DATA)))
        """,
    ),
    "ring_cut_without_guard": Case(
        "the same after another handler for SIGBUS was installed, as `faulthandler.enable()` does",
        "`faulthandler.enable()` after opening; a child cuts the ring",
        "cut short now, the process dies of SIGBUS, as the child did. Enabled before opening, "
        "the handler is kept and called for faults elsewhere, and the row above holds",
        "nothing",
        "`info()` has 8 in its `warnings`",
        """
        import faulthandler, signal
        faulthandler.enable()
        limiter = opened()
        assert limiter.info()["warnings"] & 8 == 0
        faulthandler.disable()
        faulthandler.enable()
        found = limiter.info()["warnings"]
        assert found & 8
        child = '''if True:
            import faulthandler, os, sys, flint
            limiter = flint.Limiter(sys.argv[1])
            limiter.limit("api", rate=5, per="1h")
            if sys.argv[2] == "after": faulthandler.enable(file=open(os.devnull, "w"))
            os.truncate(sys.argv[1] + "/flint.ring", 4096)
            try:
                limiter.allow("api")
            except flint.PoisonedError:
                os._exit(7)
        '''
        for when, code in (("before", 7), ("after", -signal.SIGBUS)):
            options = [] if when == "after" else ["-X", "faulthandler"]
            done = subprocess.run([sys.executable, *options, "-c", child, str(TOP / when), when])
            assert done.returncode == code, (when, done.returncode)
        sees(f"`info()` has {found} in its `warnings`")
        """,
    ),
    "ring_cut_allow": Case(
        'the same with `on_error="allow"`, then `flush()`',
        "`truncate` to 4,096 bytes",
        "checks are allowed, `result.undecided` is true, and they are counted in "
        '`info()["undecided"]`',
        "PoisonedError",
        "flint.ring was cut short",
        """
        limiter = opened(on_error="allow")
        os.truncate(DATA / "flint.ring", 4096)
        result = limiter.check("api")
        assert result and result.undecided
        assert limiter.allow("api") and limiter.info()["undecided"] == 2
        meets(limiter.flush)
        still_reads(limiter)
        raises(PoisonedError, limiter.close)
        """,
    ),
    "ring_cut_never": Case(
        '`flint.ring` is cut short, `mapped="never"`',
        "`truncate` to 0 bytes; killed, opened",
        "the limiter itself notices nothing; closed it would have lost nothing",
        "CorruptionError",
        "flint.ring is missing or damaged, and the log was not closed",
        """
        killed('''
            limiter = flint.Limiter(DATA, mapped="never")
            limiter.limit("api", rate=10, per="1h")
            os.truncate(DATA + "/flint.ring", 0)
            assert limiter.allow("api")
        ''')
        meets_damage()
        """,
    ),
    "ring_removed": Case(
        "`flint.ring` is removed under a limiter that is then killed",
        "`unlink`; SIGKILL; opened",
        "nothing is changed. Had it been closed, nothing would be missing",
        "CorruptionError",
        "flint.ring is missing or damaged, and the log was not closed",
        """
        limiter = opened()
        (DATA / "flint.ring").unlink()
        assert limiter.allow("api")
        limiter.close()
        reopens(2)
        shutil.rmtree(DATA)
        killed('''
            limiter = flint.Limiter(DATA)
            limiter.limit("api", rate=10, per="1h")
            os.unlink(DATA + "/flint.ring")
            assert limiter.allow("api")
        ''')
        meets_damage()
        """,
    ),
    "log_cut_live": Case(
        "`flint.aof` is cut short under a limiter",
        "`truncate` to 4,096 bytes, of more than a block behind that; closed, opened",
        "until it is closed it goes on deciding; opening then changes nothing",
        "CorruptionError",
        "flint.aof is missing or empty",
        """
        limiter = opened()
        # More than a block, since the last one is written whole again and then nothing is lost.
        for rate in range(1, 40):
            limiter.limit("other", rate=rate, per="1h")
        limiter.remove("other")
        os.truncate(DATA / "flint.aof", 4096)
        assert limiter.allow("api")
        still_reads(limiter, 2)
        limiter.close()
        meets_damage()
        """,
    ),
    "log_removed_live": Case(
        "`flint.aof` is removed under a limiter",
        "`unlink`; `compact()`, which begins another segment",
        f"until another segment is needed it goes on deciding; then {READS}; opening raises "
        "CorruptionError",
        "PoisonedError",
        "cannot link",
        """
        limiter = opened()
        (DATA / "flint.aof").unlink()
        assert limiter.allow("api")
        meets(limiter.compact)
        still_reads(limiter, 2)
        raises(PoisonedError, lambda: limiter.allow("api"))
        raises(FlintOSError, limiter.close)
        raises(CorruptionError, lambda: Limiter(DATA))
        """,
    ),
    "directory_removed": Case(
        "the directory is removed under a limiter",
        "`rm -r`; `compact()`",
        "it goes on deciding, at least until another segment is needed. What it decided is lost "
        "with its files",
        "FlintOSError",
        "No such file or directory",
        """
        limiter = opened()
        shutil.rmtree(DATA)
        assert limiter.allow("api")
        raises(FlintOSError, limiter.history)
        meets(limiter.compact)
        assert limiter.allow("api")
        still_reads(limiter, 3)
        assert not DATA.exists()
        """,
    ),
    "snapshot_removed_live": Case(
        "`flint.snapshot` is removed under a limiter",
        "`unlink` with `history_max_bytes=0`; `compact()`",
        "it goes on deciding; opening it raises CorruptionError",
        "CorruptionError",
        "or the snapshot is missing",
        """
        limiter = opened(history_max_bytes=0)
        limiter.compact()
        (DATA / "flint.snapshot").unlink()
        assert limiter.allow("api")
        meets(limiter.compact)
        assert limiter.allow("api")
        still_reads(limiter, 3)
        limiter.close()
        raises(CorruptionError, lambda: Limiter(DATA))
        """,
    ),
    # ---- Files of a directory that nobody has open ---------------------------------------------
    "log_removed": Case(
        "`flint.aof` is removed from a directory",
        "`unlink`; opened",
        "nothing is changed; put back, it opens",
        "CorruptionError",
        "the log segment flint.aof is missing",
        """
        limiter = opened()
        limiter.compact()
        limiter.close()
        (DATA / "flint.aof").rename(TOP / "kept")
        meets_damage()
        (TOP / "kept").rename(DATA / "flint.aof")
        reopens()
        """,
    ),
    "segment_removed": Case(
        "an older segment that is still needed is removed",
        "`unlink`; opened",
        "nothing is changed; put back, it opens",
        "CorruptionError",
        "log segment number 1 or the snapshot is missing",
        """
        limiter = opened(sync="batch", segment_bytes=262_144)
        limiter.limit("many", rate=2**40, per="1h")
        for _ in range(100_000):
            limiter.allow("many")
            if list(DATA.glob("flint.aof.[0-9]*")):
                break
        limiter.close()
        [old] = DATA.glob("flint.aof.[0-9]*")
        kept = old.rename(TOP / "kept")
        error = meets_damage()
        assert error.segment == "flint.aof" and error.sequence > 1
        kept.rename(old)
        reopens()
        """,
    ),
    "snapshot_removed": Case(
        "the snapshot is removed, and history is not kept",
        "`unlink`; opened",
        "nothing is changed; put back, it opens",
        "CorruptionError",
        "or the snapshot is missing",
        """
        limiter = opened(history_max_bytes=0)
        limiter.compact()
        limiter.close()
        (DATA / "flint.snapshot").rename(TOP / "kept")
        meets_damage()
        (TOP / "kept").rename(DATA / "flint.snapshot")
        reopens()
        """,
    ),
    "snapshot_damaged": Case(
        "a byte of the snapshot changes",
        "another digit in it; opened",
        "nothing is changed",
        "CorruptionError",
        "its SHA-256 does not match",
        """
        limiter = opened()
        limiter.compact()
        limiter.close()
        path = DATA / "flint.snapshot"
        path.write_bytes(path.read_bytes().replace(b'"rate":10', b'"rate":90'))
        error = meets_damage()
        assert error.segment == "flint.snapshot"
        """,
    ),
    "byte_damaged": Case(
        "a byte of the log changes",
        "one bit in it; opened",
        "nothing is changed",
        "CorruptionError",
        "a record that a seal covers",
        """
        opened().close()
        path = DATA / "flint.aof"
        content = bytearray(path.read_bytes())
        content[4096 + 300] ^= 1
        path.write_bytes(content)
        error = meets_damage()
        assert error.segment == "flint.aof" and 4096 < error.offset <= 4096 + 300
        """,
    ),
    "segment_cut": Case(
        "a segment is cut short",
        "`truncate` by 200 bytes; opened",
        "nothing is changed",
        "CorruptionError",
        "a record that a seal covers",
        """
        opened().close()
        path = DATA / "flint.aof"
        os.truncate(path, path.stat().st_size - 200)
        error = meets_damage()
        assert error.segment == "flint.aof" and error.offset > 4096 and error.sequence > 1
        """,
    ),
    "no_log": Case(
        "a directory in which nothing of Flint is, or no more",
        "`doctor`, `open_readonly`",
        "nothing is changed. An empty directory opens for reading: a limiter may begin in it",
        "FlintOSError",
        "there is no log of Flint in",
        """
        DATA.mkdir()
        (DATA / "passwd").write_text("root")
        meets(lambda: Limiter.open_readonly(DATA))
        meets(lambda: flint.doctor(DATA))
        assert [path.name for path in DATA.iterdir()] == ["passwd"]
        """,
    ),
    "mixed_segments": Case(
        "a segment of another directory",
        "copied from there; opened",
        "nothing is changed",
        "CorruptionError",
        "belongs to another data directory",
        """
        for path in (TOP / "other", DATA):
            with Limiter(path) as limiter:
                fill(limiter)
                limiter.compact()
        shutil.copy(TOP / "other" / "flint.aof", DATA / "flint.aof")
        error = meets_damage()
        assert error.segment == "flint.aof"
        """,
    ),
    "mixed_snapshots": Case(
        "the snapshot of another directory",
        "copied from there; opened",
        "nothing is changed",
        "CorruptionError",
        "belongs to another data directory",
        """
        for path in (TOP / "other", DATA):
            with Limiter(path) as limiter:
                fill(limiter)
                limiter.compact()
        shutil.copy(TOP / "other" / "flint.snapshot", DATA / "flint.snapshot")
        meets_damage()
        """,
    ),
    "mixed_rings": Case(
        "the ring of another directory, after a kill",
        "SIGKILL; copied from there; opened",
        "nothing is changed; its own put back, it opens",
        "CorruptionError",
        "flint.ring is missing or damaged, and the log was not closed",
        """
        with Limiter(TOP / "other") as limiter:
            fill(limiter)
        killed('''
            limiter = flint.Limiter(DATA, sync="batch", flush_every_ms=3_600_000)
            limiter.limit("api", rate=10, per="1h")
            limiter.limit("used up", rate=1, per="1h")
            assert limiter.allow_all(["api", "used up"])
        ''')
        shutil.copy(DATA / "flint.ring", TOP / "kept")
        shutil.copy(TOP / "other" / "flint.ring", DATA / "flint.ring")
        meets_damage()
        shutil.copy(TOP / "kept", DATA / "flint.ring")
        reopens()
        """,
    ),
    "history_damaged": Case(
        "a segment kept for history alone is damaged",
        "another byte in its header; opened with `-W error`",
        "a warning, no error: limits are all there, history is incomplete, `doctor` says where",
        "FlintWarning",
        "history in",
        """
        limiter = opened()
        limiter.compact()
        limiter.close()
        [old] = DATA.glob("flint.aof.*")
        content = bytearray(old.read_bytes())
        content[70] ^= 1
        old.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            meets(lambda: Limiter(DATA))
        assert flint.doctor(DATA)["damage"]["segment"] == old.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reopens()
        """,
    ),
    # ---- Disks ---------------------------------------------------------------------------------
    "disk_full_open": Case(
        "the disk is full when a directory is made",
        "a `tmpfs` of 8 MiB, filled",
        "with room it works",
        "DiskFullError",
        "No space left on device",
        """
        fill_disk()
        error = meets(lambda: Limiter(DATA))
        assert error.errno == 28
        make_room()
        opened().close()
        reopens()
        """,
        needs_disk=True,
    ),
    "disk_full": Case(
        "the disk is full when the log needs another segment",
        "a `tmpfs` of 8 MiB, filled, then given room again",
        "nothing has changed; kept history went first; denials are answered, and admissions "
        "again when there is room; after reopening all are there",
        "DiskFullError",
        "what could not be recorded has not happened, and it works again when there is room",
        """
        limiter = opened(sync="batch", segment_bytes=262144, ring_bytes=262144)
        limiter.limit("*", rate=1, per="365d")
        limiter.compact()
        assert limiter.info()["history_bytes"] > 0
        fill_disk()
        admitted = 0
        def check_until_it_fails():
            global admitted
            while True:
                limiter.check(f"{admitted:01000}")
                admitted += 1
        error = meets(check_until_it_fails)
        assert type(error) is DiskFullError and admitted > 0
        assert limiter.info()["history_bytes"] == 0
        assert limiter.info()["undecided"] == 0
        assert not limiter.allow("used up") and not limiter.allow(f"{0:01000}")
        assert limiter.peek(f"{admitted:01000}"), "the failed admission was counted"
        assert len(limiter.list()) == 3
        make_room()
        while True:  # room is looked for now and then; until produce ends it
            with contextlib.suppress(DiskFullError):
                assert limiter.allow(f"{admitted:01000}")
                break
        limiter.close()
        with Limiter(DATA) as limiter:
            assert limiter.status("*")["total_allowed"] == admitted + 1
            assert not limiter.allow("used up")
        """,
        needs_disk=True,
    ),
    "disk_full_deny": Case(
        'the same with `on_error="deny"`, then `limit()`',
        "a `tmpfs` of 8 MiB, filled",
        "checks are denied, `result.undecided` is true; other changes raise",
        "DiskFullError",
        "what could not be recorded has not happened, and it works again when there is room",
        """
        limiter = opened(sync="batch", segment_bytes=262144, ring_bytes=262144, on_error="deny")
        limiter.limit("*", rate=1, per="365d")
        fill_disk()
        number = 0
        while not limiter.check(f"{number:01000}").undecided:
            number += 1
        assert number > 0 and limiter.info()["undecided"] == 1
        result = limiter.check(f"{number:01000}")
        assert not result and result.undecided
        def configure():
            for number in range(1000):
                limiter.limit(f"{number:01000}", rate=2, per="1h")
        meets(configure)
        assert not limiter.allow("used up")
        """,
        needs_disk=True,
    ),
    "disk_full_compaction": Case(
        "the disk is full when the log is compacted",
        "a `tmpfs` of 8 MiB, filled; `compact()`",
        "everything goes on, and the next compaction works",
        "DiskFullError",
        "space",
        """
        limiter = opened(segment_bytes=262144, ring_bytes=262144)
        fill_disk()
        meets(limiter.compact)
        assert limiter.allow("api")
        still_reads(limiter, 2)
        make_room()
        while True:  # room is looked for now and then; until produce ends it
            with contextlib.suppress(DiskFullError):
                limiter.compact()
                break
        limiter.close()
        reopens(2)
        """,
        needs_disk=True,
    ),
    "disk_readonly": Case(
        "the file system can only be read",
        "a `tmpfs`, mounted anew with `ro`; opened",
        "`open_readonly` and `doctor` work there",
        "FlintPermissionError",
        "Read-only file system",
        """
        opened().close()
        subprocess.run(["mount", "-o", "remount,ro", str(TOP)], check=True)
        error = meets(lambda: Limiter(DATA))
        assert error.errno == 30
        with Limiter.open_readonly(DATA) as follower:
            assert follower.status("api")["total_allowed"] == 1
            follower.refresh()
            assert follower.doctor()["ok"]
        """,
        needs_disk=True,
    ),
    "torn": Case(
        "the log's last record was torn by a power loss",
        "SIGKILL under a boot id that is mounted over the kernel's; the last bytes and the ring "
        "wiped; opened under the kernel's",
        "what is left of it is cut and kept as `flint.torn.<position>`, and all before it is "
        "there. With the boot id that it was written under, the same is damage: CorruptionError",
        "nothing",
        "torn_bytes",
        """
        boot_id = TOP / "boot_id"
        boot_id.write_text("01234567-89ab-cdef-0123-456789abcdef")
        kernel = "/proc/sys/kernel/random/boot_id"
        subprocess.run(["mount", "--bind", str(boot_id), kernel], check=True)
        killed('''
            limiter = flint.Limiter(DATA)
            limiter.limit("api", rate=10, per="365d")
            limiter.limit("used up", rate=1, per="365d")
            assert limiter.allow("api") and limiter.allow("used up")
            limiter.limit("torn", rate=1, per="365d")
        ''')
        path = DATA / "flint.aof"
        log = path.read_bytes()
        end = len(log.rstrip(bytes(1)))
        log = log[: end - 128] + bytes(len(log) - end + 128)  # a seal and more
        path.write_bytes(log)
        ring = (DATA / "flint.ring").read_bytes()
        (DATA / "flint.ring").write_bytes(ring[:4096] + bytes(len(ring) - 4096))
        before = files()
        killed('''
            try:
                flint.Limiter(DATA)
            except flint.CorruptionError as error:
                assert "although the machine has been running since" in str(error)
            else:
                sys.exit("opened")
        ''')
        assert files() == before
        subprocess.run(["umount", kernel], check=True)
        assert flint.doctor(DATA)["torn_bytes"] > 0
        limiter = Limiter(DATA)
        assert limiter.info()["torn_bytes"] > 0
        [torn] = DATA.glob("flint.torn.*")
        assert torn.stat().st_size == limiter.info()["torn_bytes"]
        sees(f"`info()` has a `torn_bytes` of {torn.stat().st_size}")
        assert limiter.status("torn") is None
        assert limiter.status("api")["total_allowed"] == 1
        assert not limiter.allow("used up")
        """,
        needs_disk=True,
    ),
}


# ---- Running them ------------------------------------------------------------------------------


class CannotProduceError(Exception):
    """This machine does not let the failure be produced."""


class Tracer:
    """strace, on a process that is waiting for it."""

    def __init__(self, pid: int, options: list[str]) -> None:
        command = ["strace", "-f", "-p", str(pid), "-o", "/dev/null", *options]
        # A sanitizer that is loaded first is meant for Python.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        try:
            self.process = subprocess.Popen(
                command, env=environment, stderr=subprocess.PIPE, text=True
            )
        except FileNotFoundError:
            raise CannotProduceError("strace is not installed") from None
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        while said and " attached" not in said:
            if "ptrace" in said or "Operation not permitted" in said:
                self.stop()
                raise CannotProduceError(f"strace may not trace here: {said.strip()}")
            said = self.process.stderr.readline()
        assert said, f"{command} ended"

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
MOUNT = 'mount -t tmpfs -o size=8m tmpfs "$1" && shift && exec "$@"'


# Whether what the kernel tells can be hidden too.
PROBE = 'touch "$1/boot_id" && mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id'


@functools.cache
def why_no_disk() -> str:
    """Empty where a file system can be mounted in a name space of its own."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    with tempfile.TemporaryDirectory() as top:
        command = [*NAMESPACE, "sh", "-ec", MOUNT, "sh", top, "sh", "-ec", PROBE, "sh", top]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode != 0 else ""


def command_of(case: Case, top: Path) -> list[str]:
    script = PRELUDE + textwrap.dedent(case.script)
    command = [sys.executable, "-c", script, str(top)]
    if not case.needs_disk:
        return command
    if why_no_disk():
        raise CannotProduceError(f"no file system can be mounted here: {why_no_disk()}")
    return [*NAMESPACE, "sh", "-ec", MOUNT, "sh", str(top), *command]


def produce(case: Case, top: Path) -> tuple[str, str]:
    """Runs a case; returns the name and the message of what it met."""
    process = subprocess.Popen(
        command_of(case, top),
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = threading.Timer(120, process.kill)
    end.start()
    try:
        return converse(process, case)
    finally:
        end.cancel()
        process.kill()
        process.communicate()


def converse(process: subprocess.Popen[str], case: Case) -> tuple[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    met: tuple[str, str] | None = None
    tracer: Tracer | None = None
    for line in process.stdout:
        said = json.loads(line)
        if len(said) == 2 and not said[0].startswith("-"):
            met = (said[0], said[1])
            continue
        if said:
            tracer = Tracer(process.pid, said)
        elif tracer is not None:
            tracer.stop()
        process.stdin.write("go\n")
        process.stdin.flush()
    _, complaint = process.communicate()
    assert (process.returncode, complaint) == (0, ""), f"{case.failure}: {complaint}"
    assert met is not None
    return met


# ---- The page ----------------------------------------------------------------------------------


def shown(message: str, top: Path) -> str:
    """A message as the page shows it, for a data directory named `data`."""
    return message.replace(f"{top}/", "").replace(str(top), ".")


def normalised(message: str) -> str:
    """Offsets and record numbers depend on when what was synced."""
    return re.sub(r"\d+", "N", message)


def row(case: Case, raised: str, message: str) -> str:
    cells = [case.failure, case.produced, f"`{raised}`", message, case.afterwards]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table(rows: list[str]) -> str:
    return "\n".join([HEADER, "|---|---|---|---|---|", *rows])


def rows_of_page() -> dict[str, list[str]]:
    """The cells of each row, by the first one."""
    text = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == HEADER
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines[1:]]
    return {cells[0]: cells for cells in rows}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_failure(case: Case, tmp_path: Path) -> None:
    try:
        raised, message = produce(case, tmp_path)
    except CannotProduceError as reason:
        pytest.skip(str(reason))
    assert raised == case.raised
    assert case.words in message
    met = row(case, raised, normalised(shown(message, tmp_path)))
    expected = rows_of_page()[case.failure]
    expected[3] = normalised(expected[3])
    assert met == f"| {' | '.join(expected)} |"


def test_the_page_has_every_case_in_order() -> None:
    assert list(rows_of_page()) == [case.failure for case in CASES.values()]


def produce_all() -> Iterator[str]:
    for case in CASES.values():
        with tempfile.TemporaryDirectory() as top:
            raised, message = produce(case, Path(top))
            line = row(case, raised, shown(message, Path(top)))
        print(line, flush=True)
        yield line


def main() -> None:
    print(HEADER)
    made = table(list(produce_all()))
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
