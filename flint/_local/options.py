"""The options of `flint.Limiter` as the extension takes them."""

from __future__ import annotations

import grp
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex, TypedDict

from flint._surface.arguments import duration_ns, refusal
from flint.errors import FlintOSError

if TYPE_CHECKING:
    from flint._native import Clock
    from flint._surface.arguments import Duration
    from flint._surface.types import Mapped, OnError, Sync, SystemClock, WhenFull

MEMORY = ":memory:"
MOST_FLUSH_MS = 3_600_000
MOST_FLUSH_EVENTS = 2**32
_DEFAULT_FLUSH = 100


class Options(TypedDict, total=False):
    """Lengths of time are nanoseconds unless the name says otherwise. What is left out, or a number
    that is None, is the engine's default."""

    sync: Sync
    flush_every_ms: SupportsIndex
    flush_every_events: SupportsIndex
    segment_bytes: SupportsIndex | None
    ring_bytes: SupportsIndex | None
    clock: Clock | SystemClock | None
    max_unsynced_events: SupportsIndex | None
    max_downtime: SupportsIndex | None
    history_max_bytes: SupportsIndex | None
    history_max_age: SupportsIndex | None
    max_replay_bytes: SupportsIndex | None
    max_keys: SupportsIndex | None
    when_full: WhenFull
    on_error: OnError
    mapped: Mapped
    sync_denials: bool
    lock_timeout: SupportsIndex | None
    file_mode: SupportsIndex | None
    group_plus_1: SupportsIndex | None
    shared: bool
    answer_timeout: SupportsIndex | None


def optional_ns(name: str, length: Duration | None) -> int | None:
    """A length of time, if one is given, in nanoseconds."""
    return None if length is None else duration_ns(name, length)


def manual(clock: Clock | SystemClock | None) -> Clock | None:
    """The clock that replaces the system's, if one does."""
    return None if isinstance(clock, str) else clock


def flush_bound(sync: Sync, value: SupportsIndex, most: int) -> SupportsIndex:
    """`flush_every_ms` or `flush_every_events`. With `sync="always"` they bound only how late
    denials are written, so what Flint 0.2 took and never looked at is brought into today's range:
    0 is the default, and the largest is as good as any that is larger."""
    if sync != "always" or isinstance(value, bool) or not hasattr(value, "__index__"):
        return value
    return min(operator.index(value), most) or _DEFAULT_FLUSH


def group_plus_1(group: str | SupportsIndex | None) -> int | None:
    """A group's id and one, as the extension takes it; a name is looked up."""
    if group is None:
        return None
    if isinstance(group, str):
        try:
            return grp.getgrnam(group).gr_gid + 1
        except KeyError:
            raise ValueError(refusal("group", "the name or the id of a group", group)) from None
    try:
        number = -1 if isinstance(group, bool) else operator.index(group)
    except TypeError:
        raise TypeError(refusal("group", "the name or the id of a group", group)) from None
    if not 0 <= number < 2**32 - 1:
        kind = TypeError if isinstance(group, bool) else ValueError
        raise kind(refusal("group", "the name or the id of a group", group))
    return number + 1


def absolute_path(data_dir: str | os.PathLike[str]) -> str:
    """The path of a data directory, wherever the program goes later; `":memory:"` as it is."""
    path: object = data_dir.__fspath__() if isinstance(data_dir, os.PathLike) else data_dir
    if not isinstance(path, str):
        raise TypeError(refusal("data_dir", "a str or a path-like object of str", data_dir))
    if path == MEMORY:
        return path
    try:
        usable = path != "" and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise ValueError(refusal("data_dir", "a path of the file system or ':memory:'", path))
    try:
        return str(Path(path).absolute())
    except OSError as error:  # a relative path, and the working directory has been deleted
        text = f"cannot open {path}: {error.strerror}"
        raise FlintOSError(error.errno, text) from None
