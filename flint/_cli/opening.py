"""Opening the limits of a command: to look at them, or to change them."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any

from flint._cli.failure import ERROR, UNREACHABLE, CommandError
from flint._cli.progress import waiting
from flint._local.sharing import describe
from flint._places import connect, is_served, without_password
from flint.errors import FlintOSError, LockedError, UnsupportedError
from flint.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    from flint._cli.context import Context
    from flint.shared import SharedLimiter

    Opened: TypeAlias = Limiter | SharedLimiter

MEMORY = ":memory:"
# A server may have to read or write much before it answers; Ctrl-C ends the wait.
_TIMEOUT_S = 600


def server(context: Context) -> SharedLimiter | None:
    """The server that the command is about, if it is about one."""
    place = context.settings.place
    if not is_served(place.target):
        return None
    found: Any = connect(place.target, timeout=_TIMEOUT_S, **place.options)
    limiter: SharedLimiter = found
    return limiter


def directory(context: Context) -> str:
    """The data directory that the command is about."""
    target = context.settings.place.target
    if is_served(target):
        raise CommandError(
            f"this reads the files themselves, and {without_password(target)} is a server: run it "
            "where the files are, with --data-dir; it works beside the server"
        )
    if target == MEMORY:
        raise CommandError("what is in the memory of another program cannot be seen from here")
    return target


@contextlib.contextmanager
def reading(context: Context) -> Iterator[Opened]:
    """The limits, to look at: those of a server, or of a directory as `reading_files` does."""
    shared = server(context)
    if shared is None:
        with reading_files(context) as limiter:
            yield limiter
    else:
        with shared:
            yield shared


@contextlib.contextmanager
def reading_files(context: Context) -> Iterator[Limiter]:
    """The limits of a directory: without a lock, also beside the program that uses them."""
    path = directory(context)
    with waiting("opening the log"):
        limiter = open_to_read(path)
    with limiter:
        yield limiter


def open_to_read(path: str) -> Limiter:
    try:
        return Limiter.open_readonly(path)
    except FlintOSError as error:
        if error.errno == errno.ENOENT:
            raise missing(path) from None
        raise
    except UnsupportedError as error:
        raise CommandError(
            f"{error}. Looking changes nothing; a verb that writes, such as `flint log compact`, "
            "converts a directory of Flint 0.1 or 0.2"
        ) from None


@contextlib.contextmanager
def writing(
    context: Context, before: Callable[[Opened], object], create: bool = False
) -> Iterator[Opened]:
    """The limits, to change them. `before` is tried first on limits that are only looked at, so
    that what would be refused leaves the directory as it was. With `create` a directory that is
    not there is made, and `before` is tried in memory; a server is then simply asked."""
    shared = server(context)
    if shared is not None:
        with shared:
            if not create:
                before(shared)
            yield shared
        return
    path = directory(context)
    with waiting("opening the log"):
        options = context.settings.place.options
        try_first(path, before, create, options)
        limiter = open_to_write(path, options)
    with limiter:
        yield limiter


def open_to_write(path: str, options: Mapping[str, Any]) -> Limiter:
    """A directory, which is shared if the program that owns it shares it."""
    try:
        return Limiter(path, **options)
    except LockedError as error:
        owner = describe(path)
        if owner is not None:
            return Limiter(path, **{**options, "shared": True, "sync": owner["sync"]})
        raise CommandError(
            f"{error}. Verbs that only look work beside it (`limit status`, `limit list`, "
            "`top --watch`, `doctor`); to change something, do it in that program, let it share "
            "the directory (flint.Limiter(path, shared=True)), or stop it first",
            UNREACHABLE,
        ) from None


def try_first(
    path: str, before: Callable[[Opened], object], create: bool, options: Mapping[str, Any]
) -> None:
    if create:
        with Limiter(MEMORY, **options) as scratch:
            before(scratch)
        return
    try:
        limiter = Limiter.open_readonly(path)
    except UnsupportedError:  # of Flint 0.1 or 0.2: opening to write converts it
        return
    except FlintOSError as error:
        if error.errno == errno.ENOENT:
            raise missing(path) from None
        raise
    with limiter:
        before(limiter)


def missing(path: str) -> CommandError:
    return CommandError(
        f"there is no data directory {path!r}: `flint limit add` makes one, and --data-dir or "
        "FLINT_DATA_DIR names another",
        ERROR,
    )
