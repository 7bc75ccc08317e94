"""The Redis protocol's third version, as one who asks needs it: requests to write, replies to read.
Pure: no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from flint._remote.http import GarbageError
from flint.errors import FlintServerError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

# Of one reply, in all its depth: a page may have 1,000 keys, each as long as any.
MOST_BYTES = 128 * 2**20
MOST_VALUES = 2**18
_MOST_DEPTH = 8
_MOST_LINE_BYTES = 16 * 1024
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,9}")
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,19}")
_END = b"\r\n"
_NO_FLINT = (
    "what answers there speaks the Redis protocol and is no Flint server; `flint server start "
    "--redis-bind` starts one"
)


class Refusal(NamedTuple):
    """A reply that is an error: its first word, which is the code, and what is said behind it."""

    code: str
    message: str


class _More:
    """What `Reader.read` returns when the reply is not whole."""

    __slots__ = ()


MORE: Final = _More()


def encoded(words: Iterable[bytes]) -> bytes:
    """A request."""
    given = tuple(words)
    return b"*%d\r\n%b" % (len(given), encoded_words(given))


def encoded_words(words: Iterable[bytes]) -> bytes:
    """A part of a request."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def greeting(token: str | None) -> bytes:
    """The first request on a connection."""
    secret = [] if token is None else [b"AUTH", b"default", token.encode("ascii")]
    return encoded([b"HELLO", b"3", *secret])


def read_greeting(reply: Any) -> None:
    """Raise what is wrong with the token, or UnsupportedError where no Flint answers."""
    if isinstance(reply, Refusal) and reply.code in ("NOAUTH", "WRONGPASS"):
        raise FlintServerError(401, reply.message)
    if not isinstance(reply, dict) or reply.get("server") != "flint":
        raise UnsupportedError(_NO_FLINT)


class _Open:
    """An array or a map whose values are coming."""

    __slots__ = ("is_map", "left", "values")

    def __init__(self, left: int, is_map: bool) -> None:
        self.left = left
        self.is_map = is_map
        self.values: list[Any] = []

    def whole(self) -> Any:
        if not self.is_map:
            return self.values
        names = self.values[::2]
        if not all(type(name) is str for name in names):
            raise GarbageError("the answer has a map whose names are no text")
        found = dict(zip(names, self.values[1::2], strict=True))
        if len(found) != len(names):
            raise GarbageError("the answer has a map with a name that is there twice")
        return found


class Reader:
    """Reads replies, as None, bool, int, str, Refusal, list and dict. Strict: numbers have no sign
    but `-` and no zeros in front, lines end by CR LF, and what Flint's server does not send is
    refused with GarbageError; then nothing more can be read. It holds no more than has come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # so much of the buffer has been read
        self._open: list[_Open] = []
        self._values = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come that has not been read."""
        return len(self._buffer) == self._at and not self._open

    def feed(self, data: bytes) -> None:
        """More bytes of the connection. What has been given out as replies is let go."""
        if not self._open and self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data
        if len(self._buffer) > MOST_BYTES:
            raise GarbageError(f"the answer is longer than {MOST_BYTES} bytes")

    def read(self) -> Any:
        """The next reply, or MORE."""
        while True:
            value = self._value()
            if value is MORE:
                return MORE
            if isinstance(value, _Open):
                if value.left:
                    self._open.append(value)
                    continue
                value = value.whole()
            while self._open:
                inner = self._open[-1]
                inner.values.append(value)
                inner.left -= 1
                if inner.left:
                    break
                value = self._open.pop().whole()
            else:
                self._values = 0
                return value

    def _value(self) -> Any:
        """One value that holds no other, or an _Open."""
        buffer, start = self._buffer, self._at
        end = buffer.find(_END, start, start + _MOST_LINE_BYTES)
        if end < 0:
            if len(buffer) - start >= _MOST_LINE_BYTES:
                raise GarbageError("the answer is not the Redis protocol: a line has no end")
            return MORE
        mark, rest = buffer[start], bytes(buffer[start + 1 : end])
        if mark == 0x24:  # $
            begin = end + 2
            behind = begin + self._length(rest, MOST_BYTES)
            if len(buffer) < behind + 2:
                return MORE
            if buffer[behind : behind + 2] != _END:
                raise GarbageError("the answer is not the Redis protocol: a text has another end")
            value: Any = _decoded(buffer[begin:behind])
            self._at = behind + 2
        else:
            value = self._of_line(mark, rest)
            self._at = end + 2
        self._values += 1
        if self._values > MOST_VALUES:
            raise GarbageError(f"the answer has more than {MOST_VALUES} values")
        return value

    def _of_line(self, mark: int, rest: bytes) -> Any:
        if mark in b":(":
            if not _NUMBER.fullmatch(rest):
                raise _not_resp(mark, rest)
            return int(rest)
        if mark == 0x23 and rest in (b"t", b"f"):  # #
            return rest == b"t"
        if mark == 0x5F and not rest:  # _
            return None
        if mark == 0x2B:  # +
            return _decoded(rest)
        if mark == 0x2D:  # -
            code, _, message = _decoded(rest).partition(" ")
            return Refusal(code, message)
        if mark in b"*%":
            if len(self._open) == _MOST_DEPTH:
                raise GarbageError(f"the answer is deeper than {_MOST_DEPTH} levels")
            is_map = mark == 0x25
            return _Open(self._length(rest, MOST_VALUES) * (2 if is_map else 1), is_map)
        raise _not_resp(mark, rest)

    @staticmethod
    def _length(digits: bytes, most: int) -> int:
        if not _LENGTH.fullmatch(digits) or int(digits) > most:
            raise GarbageError(f"the answer has a part of {digits[:40]!r} bytes or values")
        return int(digits)


def _decoded(data: bytes | bytearray) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise GarbageError("the answer has a text that is not UTF-8") from None


def _not_resp(mark: int, rest: bytes) -> GarbageError:
    line = bytes([mark]) + rest[:60]
    return GarbageError(f"the answer is not the Redis protocol: {line!r}")
