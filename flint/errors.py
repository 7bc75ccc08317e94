"""Flint's exceptions. `FlintError` is the root of all but the two that every Python program knows:
`ValueError` and `TypeError` for bad arguments, raised before anything is counted or written.

What Flint 0.2 raised as a RuntimeError is one still."""

from __future__ import annotations

import sys

from flint import _native

__all__ = [
    "ClosedError",
    "ConfigError",
    "CorruptionError",
    "DiskFullError",
    "FlintConnectionError",
    "FlintError",
    "FlintOSError",
    "FlintPermissionError",
    "FlintServerError",
    "FlintWarning",
    "ForkedError",
    "HistoryGoneError",
    "LockedError",
    "NotConfiguredError",
    "PoisonedError",
    "RateError",
    "RateLimitExceeded",
    "ReadOnlyError",
    "TableFullError",
    "UnsupportedError",
]

_SHOWN_CHARACTERS = 120  # of a key, as in the extension


class FlintError(Exception):
    """The root of Flint's errors; raised itself only for a defect of Flint."""


class NotConfiguredError(FlintError, RuntimeError):
    """Neither a limit nor a template covers the key."""


class LockedError(FlintError, RuntimeError):
    """Another limiter, in this process or another, has the data directory open."""


class ClosedError(FlintError, RuntimeError):
    """The limiter has been closed, perhaps while the call was waiting."""


class ForkedError(FlintError, RuntimeError):
    """The limiter belongs to the parent of this forked process; open one here, or share it
    (`shared=True`)."""


class UnsupportedError(FlintError, RuntimeError):
    """The file system cannot lock, a newer Flint wrote the directory, a database has no schema of
    Flint, or the place where limits live cannot do what was asked."""


class FlintOSError(FlintError, OSError, RuntimeError):
    """The system reported an error for a file; `errno` holds its number if there is one."""


class FlintPermissionError(FlintOSError, PermissionError):
    """The system refuses access to the data directory or one of its files, or a database to its
    schema."""


class DiskFullError(FlintOSError):
    """There is no room to record something, so it has not happened; it works again with room."""


class PoisonedError(FlintOSError):
    """A write or sync of the log failed, so nothing can be recorded until the directory is opened
    again. Reading goes on. Whether an admission that fails so is counted then is unknown."""


class CorruptionError(FlintError, RuntimeError):
    """The data directory is damaged. `segment`, `offset` and `sequence` say where: the file's name,
    the byte in it and the number of the record."""

    def __init__(
        self,
        message: str,
        segment: str | None = None,
        offset: int | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(message)
        self.segment = segment
        self.offset = offset
        self.sequence = sequence


class HistoryGoneError(FlintError):
    """What history was to go on from is not kept any more."""


class TableFullError(FlintError):
    """A key is new, and as many as `max_keys` allows are in use."""


class ReadOnlyError(FlintError):
    """The limiter was opened by `Limiter.open_readonly`, and the call would change something."""


class RateError(FlintError, ValueError):
    """A rate string cannot be read. `text` is the string and `position` the index of the character
    that is wrong; the message shows both."""

    def __init__(self, message: str, text: str = "", position: int = 0) -> None:
        super().__init__(message, text, position)
        self.text = text
        self.position = position

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigError(FlintError, ValueError):
    """The configuration file says something that cannot be. `path`, `line` (from 1; 0 where it is
    about the file as a whole) and `key` ("limits.user:*") tell where."""

    def __init__(self, message: str, path: str = "", line: int = 0, key: str = "") -> None:
        super().__init__(message, path, line, key)
        self.path = path
        self.line = line
        self.key = key

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: " if self.line else f"{self.path}: " if self.path else ""
        return f"{where}{self.args[0]}"


class FlintServerError(FlintError, RuntimeError):
    """A Flint server has answered that it cannot do what was asked: `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"Flint server error {self.status}: {self.message}"


class FlintConnectionError(FlintError, RuntimeError):
    """A Flint server or a database could not be reached or cannot decide now, or the process that
    owns a shared directory has not answered in time."""


class RateLimitExceeded(FlintError):  # noqa: N818 - the name that Flint has always had
    """A decorated function was not called because its limit is used up.

    `key`, `cost`, `remaining`, `reset_at` and `algorithm` are those of the `Result`; `retry_after`
    is the time in seconds until the same cost would be admitted. A program may also raise one of
    its own with nothing but a message; then they are empty or 0.
    """

    def __init__(
        self,
        key: str,
        cost: int | None = None,
        remaining: int = 0,
        reset_at: str = "",
        algorithm: str = "",
        retry_after: float = 0.0,
    ) -> None:
        if cost is None:
            super().__init__(key)
        else:
            super().__init__(key, cost, remaining, reset_at, algorithm, retry_after)
        self.key = "" if cost is None else key
        self.cost = cost or 0
        self.remaining = remaining
        self.reset_at = reset_at
        self.algorithm = algorithm
        self.retry_after = retry_after

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])
        return (
            f"rate limit exceeded for {shown(self.key)}: "
            f"cost {self.cost}, {self.remaining} left, retry after {self.retry_after:.6g} s"
        )


def shown(key: str) -> str:
    """A key for people: what cannot be printed is escaped, and the end of a long one left out."""
    start = key[:_SHOWN_CHARACTERS]
    if not start.isprintable():
        start = repr(start)[1:-1]
    return start if len(key) <= _SHOWN_CHARACTERS else start + "..."


class FlintWarning(UserWarning):
    """Flint works, but something about its surroundings deserves a look."""


_native.set_errors(sys.modules[__name__])
