"""Reads a data directory as cpp_core/storage/FORMAT.md describes it, and checks all that it says.

Written from that page alone, so that the page is known to be enough, and slow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

HEADER_BYTES = 4096
MAGIC = b"flint log 1, not Flint 0.2 JSON\n"
RING_MAGIC = b"flint ring 1\n".ljust(32, b"\0")
TYPES = {
    1: "START",
    2: "FOOTER",
    3: "SEAL",
    4: "CLOCK",
    5: "LIMIT_CONFIGURED",
    6: "LIMIT_REMOVED",
    7: "KEY",
    8: "ALLOW",
    9: "ALLOW_ALL",
    10: "DENY",
    11: "RESET",
    16: "KEY_ALLOW",
}
COUNTER = 2  # kind of a limit: a counter under a template


class DamageError(Exception):
    """What the directory says does not hold."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise DamageError(what)


@cache
def crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def crc32c(data: bytes, seed: int = 0) -> int:
    """The CRC-32C of what had the CRC `seed`, followed by `data`."""
    table = crc_table()
    crc = seed ^ 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ---- Fields ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """Some bytes of a file, or of a record, and what they say."""

    at: int
    size: int
    name: str
    value: int | str


class Cursor:
    """Takes fields from bytes, one behind the other, and notes them."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at
        self.fields: list[Field] = []

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        require(len(taken) == size, "a field that is cut short")
        self.at += size
        return taken

    def number(self, name: str, size: int, signed: bool = False) -> int:
        value = int.from_bytes(self.take(size), "little", signed=signed)
        self.note(name, size, value)
        return value

    def hexadecimal(self, name: str, size: int) -> str:
        value = self.take(size).hex()
        self.note(name, size, value)
        return value

    def text(self, name: str, size: int) -> str:
        value = self.take(size).decode()
        self.note(name, size, value)
        return value

    def note(self, name: str, size: int, value: int | str) -> None:
        self.fields.append(Field(self.at - size, size, name, value))

    def zeros(self, size: int) -> None:
        require(not any(self.take(size)), "bytes that are not zero")

    def values(self) -> dict[str, Any]:
        return {field.name: field.value for field in self.fields}


def read_clock_pair(cursor: Cursor) -> None:
    for name in ("engine time", "boot clock", "wall clock"):
        cursor.number(name, 8, signed=True)


def read_config(cursor: Cursor) -> None:
    for name in ("rate", "per_ns", "burst"):
        cursor.number(name, 8)
    cursor.number("algorithm", 1)


def read_name(cursor: Cursor, size: int) -> None:
    if size > 0:
        cursor.text("name", size)


def read_keyed(cursor: Cursor) -> None:
    cursor.number("kind", 1)
    name_size = cursor.number("name length", 1)
    cursor.number("bits", 1)
    size = cursor.number("key length", 4)
    cursor.text("key", size)
    read_name(cursor, name_size)


def read_key(cursor: Cursor) -> None:
    read_config(cursor)
    cursor.number("kind", 1)
    name_size = cursor.number("name length", 1)
    cursor.number("bits", 1)
    size = cursor.number("key length", 4)
    cursor.number("template prefix length", 4)
    cursor.zeros(4)
    cursor.text("key", size)
    read_name(cursor, name_size)


def read_key_allow(cursor: Cursor) -> None:
    cursor.number("time", 8)
    cursor.number("cost", 8)
    size = cursor.number("key length", 4)
    require(cursor.number("template prefix length", 4) <= size, "a prefix longer than its key")
    cursor.text("key", size)


def read_seal(cursor: Cursor) -> None:
    start = cursor.at
    for name in ("generation", "begin", "end"):
        cursor.number(name, 8)
    cursor.hexadecimal("SHA-256", 32)
    read_clock_pair(cursor)
    computed = crc32c(cursor.data[start : cursor.at])
    require(cursor.number("CRC32C of the seal", 4) == computed, "the CRC of a seal is wrong")
    cursor.zeros(4)


def read_start(cursor: Cursor) -> None:
    for name in ("position", "previous segment", "previous generation"):
        cursor.number(name, 8)
    cursor.number("CRC taken over", 4)
    cursor.zeros(4)


def read_allow_all(cursor: Cursor) -> None:
    cursor.number("time", 8)
    count = cursor.number("count", 4)
    cursor.zeros(4)
    for i in range(count):
        cursor.number(f"id {i}", 4)
        cursor.zeros(4)
        cursor.number(f"cost {i}", 8)


def read_payload(kind: str, cursor: Cursor) -> None:
    if kind == "START":
        read_start(cursor)
    elif kind == "FOOTER":
        cursor.number("next generation", 8)
        cursor.number("next segment", 8)
    elif kind == "SEAL":
        read_seal(cursor)
    elif kind == "CLOCK":
        read_clock_pair(cursor)
        cursor.hexadecimal("boot id", 16)
        if cursor.at < len(cursor.data):  # Flint 1.0.0 wrote none
            cursor.number("floor", 8)
    elif kind == "LIMIT_CONFIGURED":
        cursor.number("time", 8)
        read_config(cursor)
        read_keyed(cursor)
    elif kind in ("LIMIT_REMOVED", "RESET"):
        cursor.number("time", 8)
        cursor.zeros(1)
        read_keyed(cursor)
    elif kind == "KEY":
        read_key(cursor)
    elif kind == "KEY_ALLOW":
        read_key_allow(cursor)
    elif kind == "ALLOW_ALL":
        read_allow_all(cursor)
    else:
        cursor.number("time", 8)
        cursor.number("cost", 8)
        if kind == "DENY" and cursor.at < len(cursor.data):
            cursor.number("count", 8)
            cursor.number("first time", 8)


# ---- Records and segments ----------------------------------------------------------------------


@dataclass
class Record:
    position: int
    data: bytes
    fields: list[Field]
    values: dict[str, Any]

    @property
    def end(self) -> int:
        return self.position + len(self.data)

    @property
    def kind(self) -> str:
        return TYPES[self.values["type"]]


def parse_record(data: bytes, seed: int, sequence: int, position: int) -> Record | None:
    """The record at the start of `data` if it continues the chain."""
    size = int.from_bytes(data[4:8], "little")
    if size < 24 or size > len(data) or size % 8:
        return None
    cursor = Cursor(data[:size])
    crc = cursor.number("CRC32C", 4)
    if crc != crc32c(data[4:size], seed):
        return None
    cursor.number("length", 4)
    if cursor.number("sequence number", 8) != sequence:
        return None
    kind = cursor.number("type", 1)
    cursor.number("flags", 1)
    cursor.zeros(2)
    cursor.number("id", 4)
    require(kind in TYPES, f"a record of type {kind}")
    read_payload(TYPES[kind], cursor)
    cursor.zeros(size - cursor.at)
    return Record(position, data[:size], cursor.fields, cursor.values())


@dataclass
class Segment:
    name: str
    data: bytes
    fields: list[Field]
    values: dict[str, Any]
    records: list[Record] = field(default_factory=list)

    @property
    def generation(self) -> int:
        return int(self.values["generation"])

    @property
    def start(self) -> int:
        return self.records[0].position

    def offset(self, position: int) -> int:
        return HEADER_BYTES + position - self.start


def read_segment_header(path: Path) -> Segment:
    data = path.read_bytes()
    cursor = Cursor(data)
    require(cursor.take(32) == MAGIC, f"{path.name}: not a segment")
    require(cursor.number("format version", 4) == 1, "another format version")
    require(cursor.number("header bytes", 4) == HEADER_BYTES, "a header of another size")
    cursor.number("compatible features", 8)
    cursor.number("read-only compatible features", 8)
    require(cursor.number("incompatible features", 8) == 0, "a feature that is not known")
    cursor.hexadecimal("directory id", 16)
    for name in ("segment number", "writer epoch", "generation", "capacity"):
        cursor.number(name, 8)
    computed = crc32c(data[: cursor.at])
    require(cursor.number("CRC32C", 4) == computed, "the CRC of a segment's header is wrong")
    cursor.zeros(HEADER_BYTES - cursor.at)
    return Segment(path.name, data, cursor.fields, cursor.values())


@dataclass
class Ring:
    fields: list[Field]
    values: dict[str, Any]
    data: bytes

    def read(self, position: int) -> bytes:
        at = position % len(self.data)
        return self.data[at:] + self.data[:at]


def read_ring_owner(cursor: Cursor) -> None:
    for name in ("owner's number", "owner's generation", "owner's position"):
        cursor.number(name, 8)
    computed = crc32c(cursor.data[: cursor.at])
    require(
        cursor.number("CRC32C with the owner", 4) == computed,
        "the CRC of the ring's owner is wrong",
    )


def read_ring(path: Path) -> Ring:
    data = path.read_bytes()
    cursor = Cursor(data)
    require(cursor.take(32) == RING_MAGIC, "not a ring")
    require(cursor.number("format version", 4) == 1, "another format version")
    require(cursor.number("header bytes", 4) == HEADER_BYTES, "a header of another size")
    cursor.hexadecimal("directory id", 16)
    size = cursor.number("data bytes", 8)
    computed = crc32c(data[: cursor.at])
    require(cursor.number("CRC32C", 4) == computed, "the CRC of the ring's header is wrong")
    cursor.zeros(4)
    if any(data[cursor.at : HEADER_BYTES]):
        read_ring_owner(cursor)
    cursor.zeros(HEADER_BYTES - cursor.at)
    require(len(data) == HEADER_BYTES + size, "a ring of another size")
    return Ring(cursor.fields, cursor.values(), data[HEADER_BYTES:])


# ---- The directory -----------------------------------------------------------------------------


class Directory:
    """A log from its first segment to its last record, all of it checked."""

    def __init__(self, path: Path) -> None:
        found = [read_segment_header(name) for name in sorted(path.glob("flint.aof*"))]
        self.by_generation = {segment.generation: segment for segment in found}
        self.ring = read_ring(path / "flint.ring")
        self.ring_records = 0
        self.seals = 0
        self.segments: list[Segment] = []
        self._read_log(min(found, key=lambda segment: int(segment.values["segment number"])))
        ids = {segment.values["directory id"] for segment in found}
        require(ids == {self.ring.values["directory id"]}, "files of several directories")
        self._check_seals()
        self.snapshot: dict[str, Any] = {}
        if (path / "flint.snapshot").exists():
            self._read_snapshot((path / "flint.snapshot").read_bytes())

    def records(self) -> Iterator[tuple[Segment, Record]]:
        for segment in self.segments:
            for record in segment.records:
                yield segment, record

    def _read_log(self, segment: Segment) -> None:
        position, sequence = 0, 0
        before: Segment | None = None
        while True:
            self._read_segment(segment, position, sequence)
            self.segments.append(segment)
            self._check_start(segment, before)
            last = segment.records[-1]
            position, sequence = last.end, last.values["sequence number"]
            before = segment
            following = self._successor(segment)
            if following is None:
                return
            segment = following

    def _read_segment(self, segment: Segment, position: int, sequence: int) -> None:
        """Each record is from the segment or, where that does not continue the chain, the ring."""
        start = position
        crc = crc32c(segment.generation.to_bytes(8, "little"))
        while True:
            seed = crc ^ (segment.generation & 0xFFFFFFFF)
            rest = segment.data[HEADER_BYTES + position - start :]
            record = parse_record(rest, seed, sequence + 1, position)
            if record is None:
                record = parse_record(self.ring.read(position), seed, sequence + 1, position)
                if record is None:
                    break
                self.ring_records += 1
            segment.records.append(record)
            position, sequence, crc = record.end, sequence + 1, record.values["CRC32C"]
            if record.kind == "FOOTER":
                break
        require(bool(segment.records), f"{segment.name}: no record at its start")

    def _successor(self, segment: Segment) -> Segment | None:
        """Named by the footer; else the segment, if any, that took over when it was opened."""
        last = segment.records[-1]
        if last.kind == "FOOTER":
            require(last.values["next generation"] in self.by_generation, "a footer alone")
            return self.by_generation[last.values["next generation"]]
        for other in self.by_generation.values():
            cursor = Cursor(other.data[HEADER_BYTES + 24 :])
            if any(cursor.data[:32]) and other.data[HEADER_BYTES + 16] == 1:
                read_start(cursor)
                if cursor.values()["previous generation"] == segment.generation:
                    return other
        return None

    def _check_start(self, segment: Segment, before: Segment | None) -> None:
        start = segment.records[0]
        require(start.kind == "START", f"{segment.name}: it does not begin with START")
        require(start.values["position"] == start.position, "a START at another position")
        if before is None:
            require(start.values["previous segment"] == 0, "the first segment is missing")
            return
        require(start.values["previous generation"] == before.generation, "another predecessor")
        require(
            start.values["CRC taken over"] == before.records[-1].values["CRC32C"],
            "a START that takes over another record",
        )

    def _check_seals(self) -> None:
        for _, record in self.records():
            if record.kind != "SEAL":
                continue
            sealed = self.by_generation[record.values["generation"]]
            begin, end = record.values["begin"], record.values["end"]
            require(sealed.start <= begin < end <= record.position, "a seal of another range")
            data = sealed.data[sealed.offset(begin) : sealed.offset(end)]
            require(
                hashlib.sha256(data).hexdigest() == record.values["SHA-256"],
                f"{sealed.name}: not the bytes that were sealed",
            )
            self.seals += 1

    def _read_snapshot(self, data: bytes) -> None:
        body = data[: data.rindex(b',"sha256":')]
        self.snapshot = json.loads(data)
        require(
            hashlib.sha256(body).hexdigest() == self.snapshot["sha256"],
            "the snapshot's SHA-256 is wrong",
        )
        require(len(self.snapshot["limits"]) == self.snapshot["count"], "limits are missing")
        require(
            self.snapshot["directory_id"] == self.ring.values["directory id"],
            "a snapshot of another directory",
        )
        covered = [
            record
            for _, record in self.records()
            if record.values["sequence number"] == self.snapshot["sequence"]
        ]
        require(len(covered) == 1, "a snapshot of a record that is not there")
        require(covered[0].end == self.snapshot["position"], "a snapshot of another position")
        require(covered[0].values["CRC32C"] == self.snapshot["crc"], "a snapshot of another log")


def prefix_of(values: dict[str, Any]) -> bytes:
    prefix: bytes = values["key"].encode()[: values["template prefix length"]]
    return prefix


def uses(directory: Directory) -> Iterator[tuple[str, str, int, int]]:
    """(key, ALLOW or DENY, count, cost) of every use, with the names that KEY records give."""
    names: dict[int, str] = {}
    templates: set[bytes] = set()
    for _, record in directory.records():
        values = record.values
        if record.kind == "START":
            names, templates = {}, set()
        elif record.kind == "KEY":
            names[values["id"]] = values["key"]
            if values["kind"] == COUNTER and not values["name length"]:
                templates.add(prefix_of(values))
        elif record.kind == "KEY_ALLOW":
            require(prefix_of(values) in templates, "a key under a template that has no KEY")
            names[values["id"]] = values["key"]
            yield values["key"], "ALLOW", 1, values["cost"]
        elif record.kind in ("ALLOW", "DENY"):
            yield names[values["id"]], record.kind, values.get("count", 1), values["cost"]
        elif record.kind == "ALLOW_ALL":
            for i in range(values["count"]):
                yield names[values[f"id {i}"]], "ALLOW", 1, values[f"cost {i}"]
