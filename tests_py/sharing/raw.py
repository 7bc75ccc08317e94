"""The socket of a shared directory, byte by byte."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

GREET, DESCRIBE = 1, 2
MAGIC = 0x544E4C46


def connect(directory: Path) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(30)
    stream.connect(str(directory / "flint.sock"))
    return stream


def message(function: int, body: bytes = b"") -> bytes:
    return struct.pack("<II", 4 + len(body), function) + body


def greeting(version: bytes, sync: int = 0, layout: int = 0, magic: int = MAGIC) -> bytes:
    body = struct.pack("<IIQ", magic, sync, layout) + struct.pack("<I", len(version)) + version
    return message(GREET, body)


def receive(stream: socket.socket) -> bytes:
    """The rest of what is sent until the other side closes."""
    received = b""
    while part := stream.recv(65536):
        received += part
    return received


def reply(stream: socket.socket) -> tuple[int, bytes]:
    """The status code of a reply and what stands behind it."""
    header = stream.recv(8, socket.MSG_WAITALL)
    size, code = struct.unpack("<Ii", header)
    return code, stream.recv(size - 4, socket.MSG_WAITALL) if size > 4 else b""


def error(body: bytes) -> str:
    """The message of an error's body."""
    segment_bytes = struct.unpack_from("<I", body, 20)[0]
    return body[28 + segment_bytes :].decode()


def describe(directory: Path) -> list[list[str]]:
    with connect(directory) as stream:
        stream.sendall(message(DESCRIBE))
        code, body = reply(stream)
    assert code == 0
    return [line.split() for line in body[4:].decode().splitlines()]


def owner_pid(directory: Path) -> int:
    return int(describe(directory)[0][1])


def kill_owner(directory: Path, number: int = signal.SIGKILL) -> int:
    pid = owner_pid(directory)
    os.kill(pid, number)
    return pid


# ---- An owner of another kind ------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """As by an owner, whoever that is."""
    path.mkdir()
    with (path / "flint.lock").open("w") as file:
        folder = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


@contextlib.contextmanager
def foreign_owner(path: Path, answer: bytes) -> Iterator[None]:
    """Has the directory, and answers whatever it is asked in one way."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                with stream:
                    stream.recv(4096)
                    stream.sendall(answer)

    with locked(path), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "flint.sock"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
