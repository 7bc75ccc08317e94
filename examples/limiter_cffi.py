"""limiter.c through cffi: five requests a minute for every user, remembered in a directory.

    pip install cffi
    python limiter_cffi.py /tmp/limits && python limiter_cffi.py /tmp/limits

The declarations are read from the header. Of the flint package this uses only their places.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cffi

import flint

CHECKS, MOST_LISTED, MAX_UINT64, MS_NS = 7, 16, 2**64 - 1, 10**6

header = Path(flint.get_include(), "flint_limiter.h").read_text("utf-8")
constants = dict(re.findall(r"^#define FLINT_LIMITER_(\w+) (\d+)\b", header, re.MULTILINE))
# cffi knows no preprocessor.
for remark in (r"/\*.*?\*/", r"#ifdef __cplusplus.*?#endif", r"^#.*?$", r"\bFLINT_LIMITER_API\b"):
    header = re.sub(remark, "", header, flags=re.DOTALL | re.MULTILINE)
ffi = cffi.FFI()
ffi.cdef(header)
library = ffi.dlopen(str(Path(flint.get_library_dir(), "libflint_limiter.so.1")))


def constant(name: str) -> int:
    return int(constants[name])


def structure(name: str, **fields: object) -> cffi.FFI.CData:
    """A structure of the header: zeros, but for its size in front and what is given."""
    made = ffi.new(f"flint_limiter_{name}*")
    for field, value in {"struct_size": ffi.sizeof(made[0]), **fields}.items():
        setattr(made, field, value)
    return made


def call(name: str, *arguments: object) -> None:
    """Calls a function of the library; ends the program when it fails."""
    error = structure("error")
    if getattr(library, f"flint_limiter_{name}")(*arguments, error) != constant("OK"):
        sys.exit(f"{name}: {ffi.string(error.message).decode()}")


def configure_users(limiter: cffi.FFI.CData) -> None:
    kind = constant("KIND_TEMPLATE")  # a counter for every key that starts with it
    key = ffi.from_buffer(b"user:")
    config = structure("config", kind=kind, key=key, key_bytes=len(key), rate=5)
    config.per_ns, config.algorithm = 60_000 * MS_NS, constant("TOKEN_BUCKET")
    call("limit", limiter, config, 0, ffi.NULL)


def check_user(limiter: cffi.FFI.CData, key: bytes) -> int:
    """Returns at once; what it has written is on disk when its ticket is."""
    result = structure("result")
    call("check", limiter, key, len(key), 1, constant("NO_SYNC"), ffi.NULL, result)
    decision = "allowed" if result.allowed else "denied"
    print(f"{key.decode()}: {decision}, {result.remaining} remaining,", end=" ")
    print(f"retry after {-(-result.retry_after_ns // MS_NS)} ms")
    return int(result.ticket)


def show_limits(limiter: cffi.FFI.CData) -> None:
    page, count = ffi.new("flint_limiter_status_info[]", MOST_LISTED), ffi.new("uint64_t*")
    text = ffi.new("char[]", constant("MIN_TEXT_BYTES"))  # for the keys
    for status in page:
        status.struct_size = ffi.sizeof(status)
    start = ffi.NULL, 0, 0, constant("ALL_COUNTERS")
    call("list", limiter, *start, page, len(page), ffi.sizeof(page[0]), text, len(text), count)
    for status in page[0 : count[0]]:
        key = ffi.unpack(status.key, status.key_bytes).decode()
        key += "*" if status.kind == constant("KIND_TEMPLATE") else ""
        print(f"{key}: {status.rate} every {status.per_ns // MS_NS} ms,", end=" ")
        print(f"{status.total_allowed} allowed, {status.total_denied} denied")


def main(directory: bytes) -> None:
    handle = ffi.new("flint_limiter**")
    call("open", directory, len(directory), ffi.NULL, handle)
    limiter = handle[0]
    configure_users(limiter)
    tickets = [check_user(limiter, b"user:42") for _ in range(CHECKS)]
    call("wait", limiter, max(tickets), MAX_UINT64)  # a denial's ticket is 0
    print("everything is on disk")
    show_limits(limiter)
    call("close", handle)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    main(sys.argv[1].encode())
