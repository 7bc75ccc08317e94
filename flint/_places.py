"""Where a limiter can live, by the scheme of its URL. A new kind of place is a line of `PLACES`."""

from __future__ import annotations

import importlib
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from flint._surface.arguments import refusal
from flint.errors import UnsupportedError

if TYPE_CHECKING:
    from flint._surface.protocol import AnyLimiter

# For each scheme the module and the class, which is called with the URL and the options.
PLACES: dict[str, tuple[str, str]] = dict.fromkeys(
    ("http", "https", "http+unix", "flint", "flints", "flint+unix", "unix"),
    ("flint.shared", "SharedLimiter"),
)
PLACES |= dict.fromkeys(("postgresql", "postgres"), ("flint.postgres", "PostgresLimiter"))
PLACES |= dict.fromkeys(("redis", "rediss"), ("flint.redis", "RedisLimiter"))
_NOT_HERE = {"valkey", "valkeys"}
_NOT_HERE |= {"memcached", "memory", "sqlite", "mysql", "mongodb"}
_SOCKET = "unix"  # whose URL is a path that may begin in the current directory
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_USABLE = "a path, a file: URL (file:///var/lib/limits) or ':memory:'"


def connect(url: str | os.PathLike[str], **options: Any) -> AnyLimiter:
    """Open the limiter that lives at `url`: a path, `file:///var/lib/limits` or `":memory:"` is a
    `flint.Limiter`; `http://host:port`, `https://host:port`, `http+unix:///path/of/the/socket`,
    `flint://host:port`, `flints://host:port` or `unix:/path/of/the/socket` is a
    `flint.SharedLimiter`, which asks a Flint server; `postgresql://host/database` is a
    `flint.PostgresLimiter`, `redis://host:6379/0` or `rediss://...` a `flint.RedisLimiter`. Their
    options are keywords. More places may follow.

    >>> with connect(":memory:", max_keys=1000) as limiter:
    ...     limiter.limit("user:*", "100/minute")
    ...     limiter.allow("user:42")
    True

    Raises UnsupportedError for a kind of place that this version does not know, and what opening
    the place raises.
    """
    if not isinstance(url, (str, os.PathLike)):
        raise TypeError(refusal("url", _USABLE, url))
    if isinstance(url, str) and is_served(url):
        module, name = PLACES[url.partition(":")[0].lower()]
        found: AnyLimiter = getattr(importlib.import_module(module), name)(url, **options)
        return found
    from flint.limiter import Limiter

    return Limiter(local_path(url) if isinstance(url, str) else url, **options)


def is_served(url: str) -> bool:
    """Whether a limiter at `url` lives in a server."""
    match = _SCHEME.match(url)
    return match is not None and match[1].lower() in PLACES


def shared_options(url: str, **options: Any) -> dict[str, Any]:
    """The options with which the processes of a machine share the limiter at `url`, where that is a
    directory and the options do not say otherwise."""
    is_directory = not is_served(url) and local_path(url) != ":memory:"
    return {"shared": True, **options} if is_directory else options


def path_or_server(url: str) -> str:
    """The URL of a server as it is, or the path of the data directory at `url`. Raises
    UnsupportedError for every other kind of place."""
    return url if is_served(url) else local_path(url)


def local_path(url: str) -> str:
    """The path of the data directory at `url`, or `":memory:"`. Raises UnsupportedError for every
    other kind of place."""
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    if scheme == "file":
        return _file_path(url)
    if match and (match[2] or scheme in _NOT_HERE or scheme in PLACES):
        known = "".join(f", {name}:{'' if name == _SOCKET else '//'}..." for name in PLACES)
        raise UnsupportedError(
            f"flint {_version()} has no limiter for {scheme}: URLs ({without_password(url)}); use "
            f"{_USABLE}{known}"
        )
    return url


def beside(folder: str, url: str) -> str:
    """What `url` is for who stands in `folder`: a path that is not absolute begins there."""
    match = _SCHEME.match(url)
    if match and match[1].lower() == "file":
        url = _file_path(url)
    elif match and match[1].lower() == _SOCKET:
        return f"{_SOCKET}:{os.path.join(folder, url[match.end(1) + 1 :])}"  # noqa: PTH118
    elif url == ":memory:" or (
        match and (match[2] or match[1].lower() in (_NOT_HERE | set(PLACES)))
    ):
        return url
    return os.path.join(folder, url)  # noqa: PTH118 - a path is a str here


def _file_path(url: str) -> str:
    """The path of a file: URL."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UnsupportedError(
            f"{url} names the machine {parts.netloc!r}, and a data directory is opened on this "
            "one: a file: URL has three slashes before an absolute path, and none before another"
        )
    if parts.query or parts.fragment or not parts.path:
        raise ValueError(
            refusal(
                "url", "file: and a path; options are keywords, and ? and # are %3F and %23", url
            )
        )
    return unquote(parts.path)


def _version() -> str:
    from flint._native import version

    return version


def without_password(url: str) -> str:
    """A URL without what may be of a password; a path as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    login, at, host = rest.rpartition("@")
    if "?" in login:  # which may end the host, or stand in a password
        return f"{scheme}://..."
    place, options, _ = host.partition("?")
    return f"{scheme}://{'...@' * len(at)}{place}{'?...' * len(options)}"[:120]
