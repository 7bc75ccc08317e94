"""Runs the command `flint` as its users do: into a pipe, in a process, on a terminal."""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PACKAGE_ROOT

from flint._cli.main import main

Run = Callable[..., tuple[int, str, str]]

SETTINGS = ("FLINT_DATA_DIR", "FLINT_URL", "FLINT_CONFIG", "NO_COLOR", "COLUMNS", "LINES")
CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\].*?\x07)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_process(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line here: its exit code, what it prints, what it says on standard error."""

    def run_line(*words: str) -> tuple[int, str, str]:
        try:
            code = main(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_line


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**kept, "PYTHONPATH": str(PACKAGE_ROOT), "TERM": "xterm-256color", **more}


def start(*words: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    """The command in a process, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "flint", *words],
        env=environment(**more),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


class Terminal:
    """A program on a terminal of so many columns and 24 lines."""

    def __init__(self, columns: int, argv: list[str], cwd: Path, **more: str) -> None:
        self.said = ""
        # Of its size before the program starts, which may ask at once.
        self._fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            argv,
            env=environment(**more),
            cwd=cwd,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, text: str) -> str:
        """What has been said up to `text`, which is taken away."""
        while text not in self.said:
            more = self._read()
            assert more, f"ended before it said {text!r}: {self.said!r}"
            self.said += more
        before, _, self.said = self.said.partition(text)
        return before + text

    def end(self) -> tuple[int, str]:
        """Waits for the end: the exit code, and all that has been said and not been taken."""
        while more := self._read():
            self.said += more
        os.close(self._fd)
        return self._process.wait(), self.said.replace("\r\n", "\n")

    def _read(self) -> str:
        data = b""
        while True:
            try:
                data += os.read(self._fd, 65536)
            except OSError:  # nobody has the other side open any more
                return data.decode("utf-8", "replace")
            try:
                return data.decode()
            except UnicodeDecodeError:  # half a character
                continue


def on_terminal(columns: int, *words: str, cwd: Path, **more: str) -> tuple[int, str]:
    return Terminal(columns, [sys.executable, "-m", "flint", *words], cwd, **more).end()


def cells(text: str) -> int:
    """The width of a line on a terminal, told apart from that of the library which drew it."""
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) > 0 for one in text)


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every verb that does something, groups left out."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for verb in group.choices.values():
            yield from verbs(verb)
