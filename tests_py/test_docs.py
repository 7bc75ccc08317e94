"""What docs/format.md shows is what the files hold, as a reader of its own sees them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from format_reader import HEADER_BYTES, DamageError, Directory, Field, crc32c, uses

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "format.md").read_text("utf-8")
GOLDEN = ROOT / "tests_c" / "golden"
EXAMPLE = GOLDEN / "v1.1" / "example"
# Those of programs that were killed, so that the ring has some of the records.
KILLED = ("batch-killed", "first-uses", "named-limits")

DUMP = re.compile(r"\$ od -A x -t x1z -v -j (\d+) -N (\d+) (\S+)$")
ROW = re.compile(r"\| 0x([0-9a-f]+) \| (\d+) \| ([^|]+) \| ([^|]*) \|")


def dumps() -> list[tuple[str, range, list[tuple[int, int, str, str]]]]:
    """Each hex dump of the page: file, bytes, and the rows of the table behind it."""
    found: list[tuple[str, range, list[tuple[int, int, str, str]]]] = []
    for line in PAGE.splitlines():
        dump = DUMP.match(line)
        row = ROW.match(line)
        if dump:
            first, size = int(dump[1]), int(dump[2])
            found.append((dump[3], range(first, first + size), []))
        elif row:
            found[-1][2].append((int(row[1], 16), int(row[2]), row[3], row[4]))
    return found


def row_of(field: Field, offset: int) -> tuple[int, int, str, str]:
    value = str(field.value)
    if "CRC" in field.name:
        value = f"0x{field.value:08x}"
    elif "generation" in field.name:
        value = f"0x{field.value:016x}"
    return offset + field.at, field.size, field.name, value


def all_rows(directory: Directory) -> dict[str, list[tuple[int, int, str, str]]]:
    """What the tables of the page should say, by file."""
    log_magic = (0, 32, "magic", r"flint log 1, not Flint 0.2 JSON\n")
    ring_magic = (0, 32, "magic", r"flint ring 1\n, and zeros")
    ring = directory.ring.fields
    rows = {"flint.ring": [ring_magic, *(row_of(field, 0) for field in ring)]}
    for segment in directory.segments:
        rows[segment.name] = [log_magic, *(row_of(field, 0) for field in segment.fields)]
        for record in segment.records:
            offset = segment.offset(record.position)
            rows[segment.name] += [row_of(field, offset) for field in record.fields]
    return rows


def test_commands_print_what_the_page_shows() -> None:
    boxes = re.findall(r"```console\n\$ (.*)\n((?:.*\n)*?)```\n", PAGE)
    assert len(boxes) > 20
    for command, shown in boxes:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=EXAMPLE,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.rstrip("\n") + "\n" == shown, command


def test_tables_are_what_the_reader_reads() -> None:
    shown: dict[str, list[tuple[int, int, str, str]]] = {}
    for name, span, rows in dumps():
        assert all(at in span and at + size <= span.stop for at, size, _, _ in rows)
        shown.setdefault(name, []).extend(rows)
    assert shown == all_rows(Directory(EXAMPLE))


def test_every_byte_of_the_log_is_shown() -> None:
    for segment in Directory(EXAMPLE).segments:
        shown = {at for name, span, _ in dumps() for at in span if name == segment.name}
        assert {at for at, byte in enumerate(segment.data) if byte} <= shown


def test_first_crcs_are_computed_as_the_page_says() -> None:
    data = (EXAMPLE / "flint.aof.00000000000000000001").read_bytes()
    generation = data[0x60:0x68]
    assert f"crc32c of `{generation.hex(' ')}` | 0x{crc32c(generation):08x} |" in PAGE
    crc = crc32c(generation)
    lower = int.from_bytes(generation[:4], "little")
    for begin, end, row in (
        (0x1004, 0x1038, "| xor 0x{lower:08x} | 0x{seed:08x} |"),
        (0x103C, 0x1080, "| record 2: 0x{crc:08x} xor 0x{lower:08x} | 0x{seed:08x} |"),
    ):
        seed = crc ^ lower
        assert row.format(crc=crc, lower=lower, seed=seed) in PAGE
        crc = crc32c(data[begin:end], seed)
        shown = f"crc32c of 0x{begin:04x} to 0x{end - 1:04x}, going on from that | 0x{crc:08x} |"
        assert shown in PAGE


def test_the_reader_knows_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the algorithm's catalogues
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283


# ---- Every golden directory, chain, seals and all --------------------------------------------


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("v1*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_golden_directories_hold_what_the_format_says(path: Path) -> None:
    directory = Directory(path)
    assert directory.segments[0].values["segment number"] == 1
    assert directory.seals >= len(directory.segments)
    assert directory.snapshot or path.name == "skewed-times"  # which was never compacted
    assert (directory.ring_records > 0) == (path.name in KILLED)


@pytest.mark.parametrize("name", ["always-closed", "always-killed", "batch-closed", "batch-killed"])
def test_the_reader_counts_what_the_engine_counts(name: str) -> None:
    totals: Counter[tuple[str, str]] = Counter()
    for key, kind, count, cost in uses(Directory(GOLDEN / "v1" / name)):
        totals[key, kind] += count
        totals[key, kind + " cost"] += cost
    expected = (GOLDEN / "v1" / name / "expected.txt").read_text("utf-8")
    line = r"^(\S+) kind 0 .* allowed (\d+) cost (\d+) .*\n  .* denied (\d+)"
    exact = re.findall(line, expected, re.M)
    assert len(exact) == 42
    for key, allowed, cost, denied in exact:
        assert totals[key, "ALLOW"] == int(allowed)
        assert totals[key, "ALLOW cost"] == int(cost)
        assert totals[key, "DENY"] == int(denied)


def test_the_reader_finds_every_changed_byte(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(EXAMPLE, directory)
    path = directory / "flint.aof.00000000000000000001"
    whole = path.read_bytes()
    for at in [*range(116), *range(HEADER_BYTES, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamageError):
            Directory(directory)
