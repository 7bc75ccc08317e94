"""Whether several workers of one server count in memory, each alone."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flint._surface.protocol import AnyLimiter

_MEMORY = ":memory:"
_log = logging.getLogger("flint.web")
_once = threading.Lock()  # held from the first look on
_descriptor = -1  # of the socket that has the name; it ends with the process


def _forget_in_child() -> None:
    """A child is a worker of its own."""
    global _once, _descriptor
    _once = threading.Lock()
    if _descriptor >= 0:
        os.close(_descriptor)
        _descriptor = -1


os.register_at_fork(after_in_child=_forget_in_child)


def look(limiter: AnyLimiter) -> None:
    """Warn, once in a process, if this limiter is in memory and so is that of another worker. To be
    called for a request; from the second call on it does nothing. Any thread.

    A worker takes a name that all children of one parent with one command line have in common. The
    kernel gives it to one of them only, and takes it back when that one ends."""
    global _descriptor
    if getattr(limiter, "data_dir", None) != _MEMORY or not _once.acquire(blocking=False):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taken:
            taken.bind(_name())
            _descriptor = taken.detach()
    except OSError as error:
        # Where there are no such sockets, nothing is known.
        if error.errno == errno.EADDRINUSE:
            _log.warning(
                "flint.W004: another worker process of this server counts in memory as well, so "
                "each of them lets in as much as one should. Let them share a data directory, "
                "flint.Limiter(path, shared=True), or a server; see docs/web.md"
            )


def _name() -> str:
    about = repr((getattr(sys, "argv", None), sys.path, str(Path.cwd())))
    digest = hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"\0flint.W004 {os.getuid()} {os.getppid()} {digest}"
