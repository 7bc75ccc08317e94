"""The options of `flint.Limiter` as the extension takes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex, TypedDict

from flint._surface.arguments import duration_ns, refusal

if TYPE_CHECKING:
    from flint._native import Clock
    from flint._surface.arguments import Duration
    from flint._surface.types import Mapped, OnError, Sync, WhenFull

MEMORY = ":memory:"


class Options(TypedDict, total=False):
    """Lengths of time are nanoseconds unless the name says otherwise. What is left out, or a number
    that is None, is the engine's default."""

    sync: Sync
    flush_every_ms: SupportsIndex
    flush_every_events: SupportsIndex
    segment_bytes: SupportsIndex | None
    ring_bytes: SupportsIndex | None
    clock: Clock | None
    max_unsynced_events: SupportsIndex | None
    max_downtime: SupportsIndex | None
    history_max_bytes: SupportsIndex | None
    history_max_age: SupportsIndex | None
    max_keys: SupportsIndex | None
    when_full: WhenFull
    on_error: OnError
    mapped: Mapped
    sync_denials: bool


def optional_ns(name: str, length: Duration | None) -> int | None:
    """A length of time, if one is given, in nanoseconds."""
    return None if length is None else duration_ns(name, length)


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
    return str(Path(path).absolute())
