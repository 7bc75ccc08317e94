"""The lines of a directory that processes share: its owner keeps the order over all of them.

Whoever waits is told by the owner when it is first. One thread of a process speaks with the owner
for all that wait here, on a connection of its own, and ends a second after the last has left. When
the owner is gone those who wait look for another, which takes over; they queue again, in the order
in which they stood here.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import struct
import threading
import time
from typing import TYPE_CHECKING

from flint._local.sharing import connected
from flint._surface.line import Lines, PlaceInLine, Waiter
from flint.errors import FlintConnectionError, UnsupportedError

if TYPE_CHECKING:
    import socket

    from flint import _native

_JOIN, _LEAVE, _PLACE, _HERE = 17, 18, 19, 20
# A message's length and its function; what it tells: code, first, number, units ahead.
_HEAD = struct.Struct("<II")
_TOLD = struct.Struct("<iIQQ")
_IDLE_MS = 1000
_MOST_BYTES = 65536
# For so long, or `answer_timeout` if that is longer, one waits to be told where it stands.
_LONGEST_UNTOLD_S = 10.0
_FULL = (
    "16,384 callers of acquire wait in line for this directory, or for keys of 64 MiB together, "
    "which is the most that its owner keeps the order of; give them a timeout, or let fewer wait"
)


class _Standing:
    """A place in line. Written by the link's thread, but for `asks`."""

    def __init__(self, number: int, waiter: Waiter) -> None:
        self.number = number
        self.waiter = waiter
        self.error: Exception | None = None
        self.asks = False  # it has asked where it stands, to give up
        self.forget_place()

    def forget_place(self) -> None:
        self.since = time.monotonic()  # it has not been told
        self.place: PlaceInLine | None = None


class _Link:
    """What is said to the owner and by it. Its thread alone touches the connection."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._start()

    def _start(self) -> None:
        # What is to be done, by number of the waiter, in its order. It may be added to at any
        # moment: a coroutine that the garbage collector ends leaves its line.
        self._commands: collections.deque[tuple[int, _Standing | None]] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._starting = threading.Lock()
        self._is_running = False
        self._stream: socket.socket | None = None
        self._standing: dict[int, _Standing] = {}
        self._received = bytearray()
        self._to_send = bytearray()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # there was no descriptor left
            os.close(self._wake)

    def forget(self) -> None:
        """In a forked child, where the thread is not: nothing is told to the owner."""
        if self._stream is not None:
            self._stream.close()
        os.close(self._wake)
        self._start()

    # ---- Any thread ----

    def add(self, command: int, standing: _Standing | None) -> None:
        """Have something done; 0 to look at the connection again."""
        self._commands.append((command, standing))
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Make sure that it will be done."""
        with self._starting:
            if not self._is_running:
                threading.Thread(target=self._run, name="flint-line", daemon=True).start()
                self._is_running = True

    # ---- The link's thread ----

    def _run(self) -> None:
        is_idle = False
        try:
            while not (is_idle and self._may_end()):
                self._obey()
                is_idle = not self._wait() and not self._standing
        except Exception as error:  # such as a MemoryError: those who wait raise it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End all that wait here, and the thread; the next to wait starts another."""
        with self._starting:
            failed = [*self._standing.values(), *(standing for _, standing in self._commands)]
            self._standing.clear()
            self._commands.clear()
            self._is_running = False
            self._disconnect()
        for standing in failed:
            if standing is not None:
                standing.error = error
                standing.waiter.sleeper.wake()

    def _wait(self) -> bool:
        """For what is to be done or told, or sent; False when nothing has come."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._stream is not None:
            writes = select.POLLOUT if self._to_send else 0
            poll.register(self._stream, select.POLLIN | writes)
        ready = poll.poll(None if self._standing else _IDLE_MS)
        for fd, events in ready:
            if fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            elif events & ~select.POLLOUT:
                self._receive()
        self._send()
        return bool(ready)

    def _may_end(self) -> bool:
        with self._starting:
            if self._commands:
                return False
            self._is_running = False
            self._disconnect()
            return True

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._received.clear()
        self._to_send.clear()

    def _obey(self) -> None:
        while self._commands:
            command, standing = self._commands.popleft()
            if standing is None:
                continue
            if command == _JOIN:
                self._standing[standing.number] = standing
            elif standing.number not in self._standing:
                continue
            elif command == _LEAVE:
                del self._standing[standing.number]
            self._say(command, standing)
        if self._stream is None and self._standing:
            self._connect()

    def _connect(self) -> None:
        """Once. Where it fails those who wait find out about the owner, and have it tried again."""
        try:
            self._stream = connected(self._directory)
        except OSError:
            return
        self._stream.setblocking(False)
        for standing in self._standing.values():
            self._say(_JOIN, standing)

    def _say(self, command: int, standing: _Standing | None) -> None:
        if self._stream is None:
            return
        body = b"" if standing is None else struct.pack("<Q", standing.number)
        if standing is not None and command == _JOIN:
            key = standing.waiter.key.encode()
            body += struct.pack("<QI", standing.waiter.cost, len(key)) + key
        self._to_send += _HEAD.pack(4 + len(body), command) + body

    def _send(self) -> None:
        if self._stream is None or not self._to_send:
            return
        try:
            sent = self._stream.send(memoryview(self._to_send)[:_MOST_BYTES])
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        del self._to_send[:sent]

    def _receive(self) -> None:
        assert self._stream is not None
        try:
            received = self._stream.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._lose()
            return
        self._received += received
        while len(self._received) >= 4:
            end = 4 + struct.unpack_from("<I", self._received)[0]
            if len(self._received) < end:
                break
            body = bytes(self._received[4:end])
            del self._received[:end]
            self._hear(body)

    def _hear(self, body: bytes) -> None:
        if len(body) != _TOLD.size:  # an error, and the end of the connection
            error = UnsupportedError(f"the owner keeps no line for this process: {_message(body)}")
            for one in self._standing.values():
                one.error = error
            return
        code, first, number, units_ahead = _TOLD.unpack(body)
        standing = self._standing.get(number)
        if number == 0:
            self._say(_HERE, None)
        elif standing is not None:
            if code != 0:
                standing.error = UnsupportedError(_FULL)
            standing.place = PlaceInLine(bool(first), units_ahead)
            if not standing.waiter.sleeper.wake():  # it never runs again
                del self._standing[number]
                self._say(_LEAVE, standing)

    def _lose(self) -> None:
        """The owner is gone."""
        self._disconnect()
        for standing in list(self._standing.values()):
            standing.forget_place()
            if not standing.waiter.sleeper.wake():
                del self._standing[standing.number]


def _message(body: bytes) -> str:
    """Of an error's reply."""
    segment_bytes = struct.unpack_from("<I", body, 24)[0]
    return body[32 + segment_bytes :].decode(errors="replace")


class SharedLines(Lines):
    """`Lines`, the order of which the owner of the directory keeps."""

    def __init__(
        self, clock: _native.Clock | None, directory: str, answer_timeout_ns: int | None
    ) -> None:
        self._directory = directory
        self._answer_timeout_s = (answer_timeout_ns or 0) / 1e9
        self._link = _Link(directory)
        self._standing: dict[Waiter, _Standing] = {}
        self._numbers = 0
        super().__init__(clock)

    def _enter(self, waiter: Waiter) -> None:
        with self._alone():
            self._numbers += 1
            standing = _Standing(self._numbers, waiter)
            self._standing[waiter] = standing
            self._link.add(_JOIN, standing)
        try:
            self._link.run()
        except BaseException:  # there is no room for a thread
            self.leave(waiter)
            raise

    def leave(self, waiter: Waiter) -> None:
        standing = self._standing.pop(waiter, None)
        if standing is not None:
            self._link.add(_LEAVE, standing)

    def look_again(self) -> None:
        for waiter in list(self._standing):
            waiter.sleeper.wake()

    def _place_of(self, waiter: Waiter, gives_up: bool) -> PlaceInLine | None:
        standing = self._standing[waiter]
        if standing.error is not None:
            raise standing.error
        place = standing.place
        if place is None:
            untold_s = time.monotonic() - standing.since
            if untold_s > max(self._answer_timeout_s, _LONGEST_UNTOLD_S):
                raise FlintConnectionError(
                    f"whoever owns {self._directory!r} does not tell who is first in line; it, or "
                    "this process, may have no descriptor left for another connection"
                )
            self._link.add(0, None)  # there is an owner: it has just been asked about the limit
        elif gives_up and not place.is_first and not standing.asks:
            standing.asks = True
            standing.forget_place()
            place = None
            self._link.add(_PLACE, standing)
        return place

    def _forget(self) -> None:
        super()._forget()
        self._standing.clear()
        self._link.forget()
