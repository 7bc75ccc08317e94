"""Progress on standard error, for what takes longer than a second and only on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from flint._cli.output import have_rich

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    # How much is done, and of how much; a total of 0 says that nobody knows.
    Poll: TypeAlias = Callable[[], tuple[int, int]]

QUIET_S = 1.0
POLL_S = 0.2


@contextlib.contextmanager
def waiting(what: str, poll: Poll | None = None, quiet_s: float = QUIET_S) -> Iterator[None]:
    """Around something that may take long. `poll` is asked from another thread."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or not have_rich():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=show, args=(what, poll, quiet_s, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def show(what: str, poll: Poll | None, quiet_s: float, done: threading.Event) -> None:
    if done.wait(quiet_s):
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        while not done.wait(POLL_S):
            if poll is not None:
                completed, total = poll()
                progress.update(task, completed=completed, total=total or None)
