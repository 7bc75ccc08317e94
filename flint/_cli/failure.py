"""How a command fails: the exit codes, and the errors that are the command's own."""

from __future__ import annotations

OK = 0
ERROR = 1
USAGE = 2
DENIED = 3
UNREACHABLE = 4


class UsageError(Exception):
    """The command line cannot be meant so."""


class CommandError(Exception):
    """What was asked for cannot be done."""

    def __init__(self, message: str, code: int = ERROR) -> None:
        super().__init__(message)
        self.code = code
