"""A process that shares a directory: `python member.py DIR SYNC ...`, driven by lines of Python
that it is sent, each of which it answers with one line of JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import flint

DEADLINE_S = 300


class Member:
    """The other side of it. `expression` of `ask` sees the limiter as `limiter`."""

    def __init__(self, directory: Path, sync: str = "always", **options: Any) -> None:
        command = [sys.executable, __file__, str(directory), sync, json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, expression: str) -> Any:
        self.send(expression)
        return self.answer()

    def send(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Ends the process, and so the wait, where there is none for minutes."""
        assert self.process.stdout is not None
        ends = threading.Timer(DEADLINE_S, self.process.kill)
        ends.start()
        line = self.process.stdout.readline()
        ends.cancel()
        return json.loads(line)

    def stop(self) -> None:
        """Until SIGCONT; it has come to a stop when this returns."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def __enter__(self) -> Self:
        assert self.ask("'ready'") == "ready"
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> None:
    # An owner that has no processor for a while is not one that is stopped.
    options = {"answer_timeout": "5m", **json.loads(sys.argv[3])}
    limiter = flint.Limiter(sys.argv[1], sync=sys.argv[2], shared=True, **options)
    for line in sys.stdin:
        try:
            answer = eval(line, {"limiter": limiter, "flint": flint, "time": time})
        except Exception as error:
            answer = [type(error).__name__, str(error)]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
