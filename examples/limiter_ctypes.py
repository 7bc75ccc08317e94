"""limiter.c through ctypes: five requests a minute for every user, remembered in a directory.

    python limiter_ctypes.py /tmp/limits && python limiter_ctypes.py /tmp/limits

Of the flint package this uses only the library's place.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import byref, c_char, c_uint32, c_uint64, c_void_p
from pathlib import Path

import flint

KIND_TEMPLATE, TOKEN_BUCKET, NO_SYNC, ALL_COUNTERS = 1, 1, 2, 16
CHECKS, MOST_LISTED, MIN_TEXT_BYTES, MAX_UINT64, MS_NS = 7, 16, 65536, 2**64 - 1, 10**6
library = ctypes.CDLL(str(Path(flint.get_library_dir(), "libflint_limiter.so.1")))


def structure(declarations: str, **arrays: type) -> type[ctypes.Structure]:
    """A structure of "type name name, type name" as the header has it, then arrays."""
    groups = (declaration.split() for declaration in declarations.split(","))
    fields = [(name, getattr(ctypes, f"c_{kind}")) for kind, *names in groups for name in names]
    return type("Structure", (ctypes.Structure,), {"_fields_": [*fields, *arrays.items()]})


Error = structure(
    "uint32 struct_size, int32 code system_errno, uint32 reserved, uint64 offset sequence",
    segment=c_char * 64,
    message=c_char * 1024,
)
Config = structure(
    "uint32 struct_size kind, char_p key, uint64 key_bytes rate per_ns burst,"
    "uint32 algorithm reserved"
)
Result = structure(
    "uint32 struct_size allowed algorithm reserved, uint64 cost limit remaining,"
    "int64 reset_at_ns, uint64 reset_after_ns retry_after_ns ticket"
)
StatusInfo = structure(
    "uint32 struct_size kind, void_p key, uint64 key_bytes rate per_ns burst,"
    "uint32 algorithm reserved, uint64 remaining, int64 reset_at_ns,"
    "uint64 total_allowed total_denied total_allowed_cost total_denied_cost,"
    "int64 last_allowed_at_ns last_denied_at_ns last_reset_at_ns, uint64 counters"
)


def call(name: str, *arguments: object) -> None:
    """Calls a function of the library; ends the program when it fails."""
    error = Error(ctypes.sizeof(Error))
    if library[f"flint_limiter_{name}"](*arguments, byref(error)) != 0:
        sys.exit(f"{name}: {error.message.decode()}")


def check_user(limiter: c_void_p, key: bytes) -> int:
    """Returns at once; what it has written is on disk when its ticket is."""
    result, size, cost = Result(ctypes.sizeof(Result)), c_uint64(len(key)), c_uint64(1)
    call("check", limiter, key, size, cost, c_uint32(NO_SYNC), None, byref(result))
    decision = "allowed" if result.allowed else "denied"
    print(f"{key.decode()}: {decision}, {result.remaining} remaining,", end=" ")
    print(f"retry after {-(-result.retry_after_ns // MS_NS)} ms")
    return int(result.ticket)


def show_limits(limiter: c_void_p) -> None:
    page, count = (StatusInfo * MOST_LISTED)(), c_uint64()
    text = ctypes.create_string_buffer(MIN_TEXT_BYTES)  # for the keys
    for status in page:
        status.struct_size = ctypes.sizeof(StatusInfo)
    start = None, c_uint64(0), c_uint32(0), c_uint32(ALL_COUNTERS)
    sizes = c_uint64(MOST_LISTED), c_uint64(ctypes.sizeof(StatusInfo))
    call("list", limiter, *start, page, *sizes, text, c_uint64(len(text)), byref(count))
    for status in page[: count.value]:
        key = ctypes.string_at(status.key, status.key_bytes).decode()
        key += "*" if status.kind == KIND_TEMPLATE else ""
        print(f"{key}: {status.rate} every {status.per_ns // MS_NS} ms,", end=" ")
        print(f"{status.total_allowed} allowed, {status.total_denied} denied")


def main(directory: bytes) -> None:
    limiter = c_void_p()
    call("open", directory, c_uint64(len(directory)), None, byref(limiter))
    users = Config(ctypes.sizeof(Config), KIND_TEMPLATE, b"user:", 5)
    users.rate, users.per_ns, users.algorithm = 5, 60_000 * MS_NS, TOKEN_BUCKET
    call("limit", limiter, byref(users), c_uint32(0), None)
    tickets = [check_user(limiter, b"user:42") for _ in range(CHECKS)]
    call("wait", limiter, c_uint64(max(tickets)), c_uint64(MAX_UINT64))  # a denial's ticket is 0
    print("everything is on disk")
    show_limits(limiter)
    call("close", byref(limiter))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    main(sys.argv[1].encode())
