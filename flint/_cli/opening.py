"""Opening the limits of a command: to look at them, or to change them."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from flint._cli.failure import ERROR, UNREACHABLE, CommandError
from flint._cli.progress import waiting
from flint.errors import FlintOSError, LockedError, UnsupportedError
from flint.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flint._cli.context import Context

MEMORY = ":memory:"


def directory(context: Context) -> str:
    """The data directory that the command is about."""
    target = context.settings.place.target
    if target == MEMORY:
        raise CommandError("what is in the memory of another program cannot be seen from here")
    return target


@contextlib.contextmanager
def reading(context: Context) -> Iterator[Limiter]:
    """The limits, to look at: without a lock, also beside the program that uses them."""
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
    context: Context, before: Callable[[Limiter], object], create: bool = False
) -> Iterator[Limiter]:
    """The limits, to change them. `before` is tried first on limits that are only looked at, so
    that what would be refused leaves the directory as it was. With `create` a directory that is
    not there is made, and `before` is tried in memory."""
    path = directory(context)
    with waiting("opening the log"):
        try_first(path, before, create)
        try:
            limiter = Limiter(path)
        except LockedError as error:
            raise CommandError(
                f"{error}. Verbs that only look work beside it (`limit status`, `limit list`, "
                "`top --watch`, `doctor`); to change something, do it in that program, or stop it "
                "first",
                UNREACHABLE,
            ) from None
    with limiter:
        yield limiter


def try_first(path: str, before: Callable[[Limiter], object], create: bool) -> None:
    if create:
        with Limiter(MEMORY) as scratch:
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
