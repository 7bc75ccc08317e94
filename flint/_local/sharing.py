"""Who shares a data directory, as its owner tells it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, TypedDict

from flint.errors import FlintConnectionError

if TYPE_CHECKING:
    from flint._surface.types import Sync

_DESCRIBE = 2
_LONGEST_ADDRESS = 107
_MOST_BYTES = 1 << 20
_TIMEOUT_S = 2.0
_MOST = 2**63  # of a number


class ClientDict(TypedDict):
    """One connection. A process has one for each of its threads that have been asking at a time."""

    pid: int
    since_ns: int
    requests: int


class WaitingDict(TypedDict):
    """A process whose callers of `acquire` stand in line, and how many they are."""

    pid: int
    since_ns: int
    callers: int


class SharingDict(TypedDict):
    """`takeover_ns` is how long nobody had owned the directory before; 0: it was opened."""

    pid: int
    version: str
    sync: Sync
    since_ns: int
    takeover_ns: int
    clients: list[ClientDict]
    waiting: list[WaitingDict]


def describe(directory: str) -> SharingDict | None:
    """Who owns a directory and who is connected; None where nobody shares it now. Raises OSError
    and, where the owner does not answer, FlintConnectionError."""
    try:
        with connected(directory) as stream:
            stream.sendall(struct.pack("<II", 4, _DESCRIBE))
            size, code = struct.unpack("<Ii", _exactly(stream, 8))
            if code != 0 or not 8 <= size <= _MOST_BYTES:
                raise ValueError
            return _read(_exactly(stream, size - 4)[4:].decode())
    except (FileNotFoundError, ConnectionError):
        return None
    except ValueError:
        raise FlintConnectionError(
            f"what owns {directory!r} does not tell who shares it, or in a way that this version "
            "of Flint does not know"
        ) from None
    except TimeoutError:
        raise FlintConnectionError(
            f"the process that owns {directory!r} does not answer; it may be stopped"
        ) from None


def connected(directory: str) -> socket.socket:
    """A connection to the owner of a directory. Raises OSError, and TimeoutError after 2 s."""
    path = os.fsencode(directory) + b"/flint.sock"
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as failing:
        if len(path) > _LONGEST_ADDRESS:
            folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            path = b"/proc/self/fd/%d/flint.sock" % folder
        stream = failing.enter_context(socket.socket(socket.AF_UNIX))
        stream.settimeout(_TIMEOUT_S)
        stream.connect(path)
        failing.pop_all()
        return stream


def _exactly(stream: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = stream.recv(size - len(received))
        if not part:
            raise ConnectionRefusedError
        received += part
    return received


def _read(text: str) -> SharingDict:
    """A newer owner may say more, in each line and in others."""
    lines = [line.split(" ") for line in text.splitlines()] or [[]]
    what, *numbers, version, sync = lines[0][:6]
    if what != "owner":
        raise ValueError
    pid, since_ns, takeover_ns = map(_number, numbers)
    found: SharingDict = {
        "pid": pid,
        "version": version,
        "sync": "always" if sync == "always" else "batch",
        "since_ns": since_ns,
        "takeover_ns": takeover_ns,
        "clients": [],
        "waiting": [],
    }
    for line in lines[1:]:
        if line[0] == "client":
            pid, since_ns, requests = map(_number, line[1:4])
            found["clients"].append({"pid": pid, "since_ns": since_ns, "requests": requests})
        elif line[0] == "line":
            pid, since_ns, callers = map(_number, line[1:4])
            found["waiting"].append({"pid": pid, "since_ns": since_ns, "callers": callers})
    return found


def _number(word: str) -> int:
    number = int(word)
    if not 0 <= number < _MOST:
        raise ValueError
    return number
