"""`flint.toml`: where limits are kept, which there are, and rates that have names.

>>> import flint.config
>>> config = flint.config.parse('[limits]\\n"user:*" = "100/minute"\\n')
>>> config.limits
[{'key': 'user:*', 'rate': '100/minute'}]

`from_config` (also `flint.from_config`) opens the limiter that the file describes and configures
it. docs/config.md describes the file; `TEMPLATE` is one with every section explained.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import threading
import tomllib
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flint._places import beside, connect, is_served
from flint._surface.rate import Rate, read_rates
from flint.errors import ClosedError, ConfigError, FlintError
from flint.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flint._surface.protocol import AnyLimiter

__all__ = ["TEMPLATE", "Config", "Watch", "check", "find", "from_config", "load", "parse"]

WATCH_INTERVAL_S = 1.0
_LONGEST_SOCKET_BYTES = 107  # of a path, without the zero behind it
_LARGEST_BYTES = 16 * 1024 * 1024

TEMPLATE = """\
# The configuration of Flint. `flint config check` says what is wrong with it.
# It is looked for in this order: the path that is given, FLINT_CONFIG, ./flint.toml, and the table
# [tool.flint] of ./pyproject.toml.

[storage]
# Where the limits live: a directory (one that is not absolute begins beside this file), ":memory:",
# or a server, "http://host:7878", of which timeout and on_error are the options.
url = ".flint"

# "always": an admission is answered when it is on disk. "batch": when it survives the end of the
# process; it is on disk soon after.
sync = "always"

# Every other option of flint.Limiter may stand here by its name, for example:
# max_keys = 1_000_000
# when_full = "evict"
# on_error = "allow"
# history_max_age = "30d"

[limits]
# A key, or with * at its end every key that begins so, and its rate. Several rates of a key are
# separated by semicolons and decided together.
# "user:*" = "100/minute"
# "login:*" = "5/minute; 50/day"
# "search" = "10/s burst 20"
# "mail:*" = { rate = 30, per = "1h", algorithm = "sliding_window_log" }
# "admin:*" = "relaxed"

[rates]
# Rates that have a name, to be used above, and in the program:
# @limiter.rate_limit("login", rate="strict_login")
# strict_login = "5/5m"
# relaxed = "1000/minute"

[server]
# For `flint server start`, which takes [limits] as well, and of [storage] how it syncs:
# bind = "127.0.0.1:7878"
# redis_bind = "127.0.0.1:7879"
# token_file = "/run/secrets/flint-token"
"""

_STORAGE = {
    name
    for name in inspect.signature(Limiter.__init__).parameters
    if name not in ("self", "data_dir")
}
_SERVED = {"timeout", "on_error"}  # of flint.SharedLimiter
_IN_DATABASE = {*_SERVED, "schema", "sync"}  # of flint.PostgresLimiter
_IN_REDIS = {*_SERVED, "namespace", "tag", "min_replicas", "totals"}  # of flint.RedisLimiter
_LIMIT = {"rate", "per", "per_ns", "burst", "algorithm", "template", "name", "stack"}
_RATE = {"rate", "per", "burst", "algorithm"}
_SERVER = {"bind", "redis_bind", "token", "token_file"}
_SECTIONS = {"storage": {*_STORAGE, "url"}, "server": _SERVER, "limits": None, "rates": None}
_NO_RATE = 'rate is missing, as in { rate = 100, per = "1m" }'
_RATE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

_log = logging.getLogger("flint.config")


class Config:
    """What a file says. `path` is the file; `url` and `options` are for `flint.connect`; `limits`
    for `limit_many`; `rates` the named rates; `server` the section of that name."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.url = ".flint"
        self.options: dict[str, Any] = {}
        self.limits: list[dict[str, Any]] = []
        self.rates: dict[str, tuple[Rate, ...]] = {}
        self.server: dict[str, Any] = {}

    @property
    def place(self) -> str:
        """`url` for who does not stand beside the file."""
        return beside(str(Path(self.path).absolute().parent), self.url)

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<flint.config.Config {self.path!r}>"


# ---- Finding -----------------------------------------------------------------------------------


def find(path: str | os.PathLike[str] | None = None) -> Path | None:
    """The file that holds: `path`, what the environment variable FLINT_CONFIG names, ./flint.toml,
    or ./pyproject.toml if it has a table [tool.flint]; None where there is none of these. The first
    two must exist."""
    asked = path if path is not None else os.environ.get("FLINT_CONFIG") or None
    if asked is not None:
        found = Path(asked)
        if not found.is_file():
            who = "" if path is not None else " (FLINT_CONFIG names it)"
            raise ConfigError(f"there is no such file{who}", str(found))
        return found
    if Path("flint.toml").is_file():
        return Path("flint.toml")
    project = Path("pyproject.toml")
    if project.is_file() and "flint" in _document(project).get("tool", {}):
        return project
    return None


def load(path: str | os.PathLike[str] | None = None) -> Config:
    """What the file says that `find` finds. Raises ConfigError for the first thing in it that is
    wrong, and where there is no file."""
    found = find(path)
    if found is None:
        raise ConfigError(
            "there is no configuration: neither a path was given nor FLINT_CONFIG is set, and here "
            "is no flint.toml, nor a pyproject.toml with [tool.flint]. `flint init` writes one"
        )
    return parse(_text(found), str(found))


def check(path: str | os.PathLike[str] | None = None) -> list[ConfigError]:
    """Everything in the file that is wrong, in order of lines; nothing is opened or written."""
    try:
        found = find(path)
        if found is None:
            load(path)
            return []
        return _Reader(_text(found), str(found)).read()[1]
    except ConfigError as error:
        return [error]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError("a configuration has at most 16 MiB", str(path))
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("it is not UTF-8 text", str(path), line) from None


def _document(path: Path) -> dict[str, Any]:
    return _toml(_text(path), str(path))


def _toml(text: str, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r" \(at line (\d+), column \d+\)", message)
        line = int(place[1]) if place else text.count("\n") + 1
        raise ConfigError(f"this is not TOML: {message}", path, line) from None


def parse(text: str, path: str = "flint.toml") -> Config:
    """What a text says, which `path` names in errors. In a pyproject.toml it is the table
    [tool.flint]. Raises ConfigError for the first thing that is wrong."""
    config, errors = _Reader(text, path).read()
    if errors:
        raise errors[0]
    return config


# ---- Reading -----------------------------------------------------------------------------------

_KEY = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_KEYS})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")


def _path_of(keys: str) -> tuple[str, ...]:
    """The parts of a dotted key."""
    parts: list[str] = []
    table: Any = tomllib.loads(f"{keys} = 0")
    while isinstance(table, dict):
        ((name, table),) = table.items()
        parts.append(name)
    return tuple(parts)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every key that begins one, and of every header."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if header := _HEADER.match(line):
                table = _path_of(header[1])
                found.setdefault(table, number)
            elif assignment := _ASSIGNMENT.match(line):
                whole = table + _path_of(assignment[1])
                for depth in range(len(table) + 1, len(whole) + 1):
                    found.setdefault(whole[:depth], number)
        except tomllib.TOMLDecodeError:
            continue  # inside a text of several lines
    return found


class _Reader:
    """Reads one text, and collects what is wrong."""

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._errors: list[ConfigError] = []
        is_project = Path(path).name == "pyproject.toml"
        self._root: tuple[str, ...] = ("tool", "flint") if is_project else ()
        self._line_of = _lines(text)
        self.config = Config(path)

    def read(self) -> tuple[Config, list[ConfigError]]:
        table: Any = _toml(self._text, self._path)
        for name in self._root:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        for section in self._known((), table, set(_SECTIONS)):
            value = table[section]
            if not isinstance(value, dict):
                self._wrong((section,), f"{section} must be a table: [{section}]")
                table[section] = {}
        self._storage(table.get("storage", {}))
        self._rates(table.get("rates", {}))
        self._limits(table.get("limits", {}))
        self._server(table.get("server", {}))
        self._errors.sort(key=lambda error: error.line)
        return self.config, self._errors

    def _wrong(self, where: tuple[str, ...], message: str) -> None:
        line = 0
        for depth in range(len(where), 0, -1):
            line = self._line_of.get((*self._root, *where[:depth]), 0)
            if line:
                break
        key = ".".join(where)
        self._errors.append(ConfigError(f"{key}: {message}", self._path, line, key))

    def _known(self, where: tuple[str, ...], table: dict[str, Any], known: set[str]) -> list[str]:
        """The keys of a table that may stand there."""
        for key in table.keys() - known:
            from difflib import get_close_matches

            near = get_close_matches(key, sorted(known), 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(known))
            self._wrong((*where, key), f"there is no such key; {hint}")
        return [key for key in table if key in known]

    def _storage(self, table: dict[str, Any]) -> None:
        url = table.get("url", self.config.url)
        served = isinstance(url, str) and is_served(url)
        known = _SERVED if served else _STORAGE
        if served and url.lower().startswith("postgres"):
            known = _IN_DATABASE
        if served and url.lower().startswith("redis"):
            known = _IN_REDIS
        keys = self._known(("storage",), table, {*known, "url"})
        if isinstance(url, str) and url:
            self.config.url = url
        else:
            self._wrong(("storage", "url"), f"it must be a path or a URL, not {url!r}")
        options = {key: table[key] for key in keys if key != "url"}
        self.config.options = options
        if served:
            self._server_options(url, options)
            return
        # The engine judges them, in memory, so that nothing is written.
        sync = {"sync": options["sync"]} if options.get("sync") in ("always", "batch") else {}
        for key, value in options.items():
            self._try(("storage", key), partial(_open, {**sync, key: value}))
        if not self._errors:
            self._try(("storage",), partial(_open, options))

    def _server_options(self, url: str, options: dict[str, Any]) -> None:
        """Nothing is asked yet."""
        self._try(("storage", "url"), partial(_reach, url, {}))
        for key, value in options.items() if not self._errors else ():
            self._try(("storage", key), partial(_reach, url, {key: value}))

    def _try(self, where: tuple[str, ...], call: Callable[[], object]) -> None:
        try:
            call()
        except (TypeError, ValueError, FlintError) as error:
            self._wrong(where, str(error))

    def _rates(self, table: dict[str, Any]) -> None:
        for name, value in table.items():
            where = ("rates", name)
            if not _RATE_NAME.fullmatch(name):
                self._wrong(where, "a name is a letter, then letters, digits, _, - and .")
                continue

            def read(name: str = name, value: Any = value) -> None:
                table = value if isinstance(value, dict) else None
                rates = read_rates(value, {}) if table is None else _of_table(table, name)
                self.config.rates[name] = rates

            if isinstance(value, dict) and "rate" not in value:
                self._wrong(where, _NO_RATE)
            elif not isinstance(value, dict) or self._known(where, value, _RATE) == list(value):
                self._try(where, read)

    def _limits(self, table: dict[str, Any]) -> None:
        with Limiter(":memory:") as scratch:
            scratch._rates = self.config.rates
            for key, value in table.items():
                where = ("limits", key)
                limit = {"rate": value}
                if isinstance(value, dict):
                    if self._known(where, value, _LIMIT) != list(value):
                        continue
                    limit = value
                if "rate" not in limit:
                    self._wrong(where, _NO_RATE)
                    continue
                self._try(where, partial(scratch.limit, key, **limit))
                self.config.limits.append({"key": key, **limit})

    def _server(self, table: dict[str, Any]) -> None:
        for key in self._known(("server",), table, _SERVER):
            value = table[key]
            if not isinstance(value, str) or not value:
                self._wrong(("server", key), f"it must be a text, not {value!r}")
            elif key.endswith("bind") and not _is_endpoint(value):
                self._wrong(("server", key), f"it must be ADDRESS:PORT or unix:PATH, not {value!r}")
            else:
                self.config.server[key] = value


def _is_endpoint(text: str) -> bool:
    """Whether flint-server can listen there, as far as the text says."""
    from socket import AF_INET, AF_INET6, inet_pton

    if text.startswith("unix:"):
        return 0 < len(os.fsencode(text)) - len("unix:") <= _LONGEST_SOCKET_BYTES
    address, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16):
        return False
    is_ipv6 = address.startswith("[") and address.endswith("]")
    try:
        inet_pton(AF_INET6 if is_ipv6 else AF_INET, address.strip("[]") if is_ipv6 else address)
    except (OSError, ValueError):
        return False
    return True


def _open(options: dict[str, Any]) -> None:
    Limiter(":memory:", **options).close()


def _reach(url: str, options: dict[str, Any]) -> None:
    connect(url, **options).close()


def _of_table(value: dict[str, Any], name: str) -> tuple[Rate, ...]:
    """The rates that a table says."""
    words = value.get("rate")
    if words and isinstance(words, (str, list)):
        if "per" in value:
            raise TypeError("a rate in words says the period itself; leave per out")
        return read_rates(words, {}, value.get("algorithm"), value.get("burst"))
    with Limiter(":memory:") as scratch:
        scratch.limit(name, template=False, **value)
        status = scratch.status(name, False)
        assert status is not None
        rate = Rate(status["rate"], status["per_ns"], status["burst"], status["algorithm"])
        return (rate,)


# ---- Using -------------------------------------------------------------------------------------


def from_config(
    path: str | os.PathLike[str] | None = None,
    *,
    watch: bool = False,
    prune: bool = False,
    on_error: Callable[[Exception], object] | None = None,
) -> AnyLimiter:
    """Open the limiter that the configuration file describes, and configure its limits and rates.

    The file is the one at `path`, or else the one that `flint.config.find` finds. Limits that the
    limiter has and the file has not, because they have left it or come from a program, are listed
    in `limiter.not_in_config` and logged ("flint.config"); with `prune` they are removed.

    With `watch` a thread looks every second whether the file has changed, until the limiter is
    closed. A change is applied whole, or not at all: what is wrong with it is logged and given to
    `on_error`, and what held before goes on. [storage] cannot be changed under an open limiter.

    Raises ConfigError for what is wrong with the file, and what opening the limiter raises.
    """
    config = load(path)
    limiter = connect(config.place, **config.options)
    try:
        _apply(limiter, config, prune)
    except BaseException:
        limiter.close()
        raise
    if watch:
        Watch(limiter, config, prune, on_error).start()
    return limiter


def configure(limiter: Any, config: Config, prune: bool) -> list[str]:
    """Configure limits and rates, and return the keys of the limits that are not in the file; with
    `prune` these are removed. All limits are checked before the first takes effect."""
    before = limiter._rates
    limiter._rates = config.rates
    try:
        limiter.limit_many(config.limits)
    except BaseException:
        limiter._rates = before
        raise
    others = _others(limiter, config)
    for key, template in others if prune else ():
        limiter.remove(key, template)
    return [key for key, _ in others]


def _apply(limiter: Any, config: Config, prune: bool) -> None:
    others = configure(limiter, config, prune)
    limiter.not_in_config = () if prune else tuple(others)
    if limiter.not_in_config:
        _log.warning(
            "%s has no limits for %s, which the limiter has; prune removes them",
            config.path,
            ", ".join(limiter.not_in_config),
        )


def _others(limiter: Any, config: Config) -> list[tuple[str, bool]]:
    """The keys of limits that are not in the file, and whether they are templates'."""
    listed = {_shown(limit) for limit in config.limits}
    others = {
        (entry["key"], entry["template"])
        for entry in limiter._list(None)
        if (entry["key"], entry["template"]) not in listed and " @ " not in entry["key"]
    }
    return sorted(others)


def _shown(limit: Mapping[str, Any]) -> tuple[str, bool]:
    """How lists show a limit."""
    key, template = limit["key"], limit.get("template")
    is_template = template or (template is None and key.endswith("*"))
    return (key if not is_template or key.endswith("*") else key + "*"), bool(is_template)


class Watch:
    """Applies a file again when it has changed. `look` looks now; `start` begins to look every
    second, in a thread that ends with the limiter."""

    def __init__(
        self,
        limiter: AnyLimiter,
        config: Config,
        prune: bool = False,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        self._limiter = weakref.ref(limiter)
        self._config = config
        self._prune = prune
        self._on_error = on_error
        self._lock = threading.Lock()
        self._seen = _stamp(config.path)
        self._over = threading.Event()

    def start(self) -> None:
        thread = threading.Thread(target=self._run, name="flint-config", daemon=True)
        thread.start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(WATCH_INTERVAL_S):
            limiter = self._limiter()
            if limiter is None or limiter.closed:
                return
            del limiter
            self.look()

    def look(self) -> bool:
        """Whether the file has changed since and has been applied."""
        with self._lock:
            limiter = self._limiter()
            stamp = _stamp(self._config.path)
            if limiter is None or stamp == self._seen:
                return False
            self._seen = stamp
            try:
                return self._take_over(limiter)
            except ClosedError:
                return False
            except Exception as error:
                _log.error("nothing of the changed configuration was applied: %s", error)
                if self._on_error is not None:
                    self._on_error(error)
                return False

    def _take_over(self, limiter: AnyLimiter) -> bool:
        old, new = self._config, load(self._config.path)
        if new == old:
            return False
        for name in ("url", "options"):
            if getattr(new, name) != getattr(old, name):
                raise ConfigError(
                    "[storage] has changed, which the next start of the program takes over; "
                    "nothing else of the file was applied either",
                    new.path,
                )
        try:
            _apply(limiter, new, self._prune)
        except Exception:
            _apply(limiter, old, False)  # an error of the disk may have come half-way
            raise
        self._config = new
        _log.info("applied %s", new.path)
        return True


def _stamp(path: str) -> tuple[int, ...]:
    """What changes with a file."""
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns
