"""A log as JSON lines of Flint 0.2, which that version reads, and from which today's makes a
directory again.

Each line is one of Flint 0.2 to the last byte, checksum and all, as far as that version can say
what happened. Where it cannot, the line goes on with `"exact"`, which says the rest, and
`"exact_checksum"`, the SHA-256 of all that stands before it. Flint 0.2 ignores both; today's Flint
reads them when it converts the lines. What Flint 0.2 makes of what it did not know:

- gcra and leaky_bucket are its token_bucket, sliding_window_counter is its fixed_window_counter;
  a burst is the rate; a period is rounded up to whole milliseconds.
- A template is a limit of its own, named with its asterisk. The uses of keys under it, and of keys
  with an inline limit, are in the history, but limit nothing. An inline limit that took other
  values is a limit from then on.
- A limit with a name is a limit of its own, named `key#name`.
- That a limit stacks means nothing.
- The removal of a limit is its reset.
- Merged denials are one denial of all of their cost.

Times are the wall clock's, because Flint 0.2 knew no other: where it was set forward, read again
that time has passed.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from flint._local import history
from flint._surface.recorded import INLINE, TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from flint._native import LimiterBase
    from flint._surface.types import StatusDict

_EXACT, _TEMPLATE, _COUNTER = range(3)
_NS_PER_MS = 1_000_000
_MOST_MS = 2**62 // _NS_PER_MS
# What stands for an algorithm that Flint 0.2 did not know.
_SUBSTITUTES = {
    "gcra": "token_bucket",
    "leaky_bucket": "token_bucket",
    "sliding_window_counter": "fixed_window_counter",
}
_START_OF_TIME = "1970-01-01T00:00:00Z"

# rate, per_ns, burst, algorithm, stack
_Config = tuple[int, int, int, str, bool]


def _config(item: tuple[Any, ...]) -> _Config:
    rate, per_ns, burst, algorithm = item[8:12]
    return rate, per_ns, burst, algorithm, item[15]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _closed(text: str, field: str) -> str:
    """A JSON object with the checksum of its bytes as one more field."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]},"{field}":"{digest}"}}'


def _line(at: str, event: dict[str, Any], exact: dict[str, Any]) -> str:
    line = _closed(_json({"version": 1, "ts": at, "event": event}), "checksum")
    if exact:
        line = _closed(f'{line[:-1]},"exact":{_json(exact)}}}', "exact_checksum")
    return line + "\n"


def _shown(key: str, template: bool, name: str) -> str:
    """What a limit is called in Flint 0.2, where each has a key of its own."""
    return key + "*" * template + (f"#{name}" if name else "")


def _named(name: str) -> dict[str, Any]:
    return {"name": name} if name else {}


def _configured(at: str, key: str, kind: int, name: str, config: _Config) -> str:
    rate, per_ns, burst, algorithm, stack = config
    known = _SUBSTITUTES.get(algorithm, algorithm)
    exact: dict[str, Any] = {}
    if kind == _TEMPLATE:
        exact["kind"] = "template"
    elif kind == INLINE:
        exact["kind"] = "inline"
    if known != algorithm:
        exact["algorithm"] = algorithm
    if per_ns % _NS_PER_MS or per_ns // _NS_PER_MS > _MOST_MS:
        exact["per_ns"] = per_ns
    if burst != rate:
        exact["burst"] = burst
    if stack:
        exact["stack"] = True
    exact |= _named(name)
    per_millis = min(-(-per_ns // _NS_PER_MS), _MOST_MS)
    shown_key = _shown(key, kind == _TEMPLATE, name)
    shown = {"key": shown_key, "rate": rate, "per_millis": per_millis, "algorithm": known}
    return _line(at, {"type": "LIMIT_CONFIGURED", "config": shown}, exact)


class _Dump:
    """What the lines written so far have said of limits, so that each can be read after them."""

    def __init__(self, now: list[StatusDict]) -> None:
        # By key or prefix, and name.
        self.limits: set[tuple[str, str]] = set()
        self.templates: dict[tuple[str, str], _Config] = {}
        self.prefix_lengths: list[int] = []  # longest first
        self.last_at = _START_OF_TIME
        # Limits there are now of which no line has told yet.
        self.untold: dict[tuple[str, bool, str], _Config] = {}
        for limit in now:
            template = limit["template"]
            key = limit["key"][:-1] if template else limit["key"]
            numbers = (limit["rate"], limit["per_ns"], limit["burst"], limit["algorithm"])
            self.untold[key, template, limit["name"] or ""] = (*numbers, limit["stack"])

    def lines(self, items: list[tuple[Any, ...]]) -> Iterator[str]:
        _, number, at, first_at, count, cost, key, kind = items[0][:8]
        name = items[0][14]
        happened = TYPES[number]
        self.last_at = at = at if at > _START_OF_TIME[:4] else _START_OF_TIME
        if happened == "LIMIT_CONFIGURED":
            yield self._configure(at, key, kind, name, _config(items[0]))
        elif happened in ("LIMIT_REMOVED", "RESET"):
            yield self._end(happened, at, key, kind, name)
        else:
            yield from self._introduce(at, items)
            exact = [self._kind(item) for item in items]
            if happened == "ALLOW_ALL":
                keys = [_shown(item[6], False, item[14]) for item in items]
                shown = [{"key": k, "cost": item[5]} for k, item in zip(keys, items, strict=True)]
                event = {"type": happened, "items": shown, "at": at}
                yield _line(at, event, {"items": exact} if any(exact) else {})
                return
            if count > 1:
                exact[0] |= {"count": count, "first_at": first_at}
            event = {"type": happened, "key": _shown(key, False, name), "at": at, "cost": cost}
            yield _line(at, event, exact[0])

    def remaining(self) -> Iterator[str]:
        """Limits that were configured before what is kept of the history, and not used since."""
        for (key, template, name), config in self.untold.items():
            yield _configured(self.last_at, key, _TEMPLATE if template else _EXACT, name, config)

    def _configure(self, at: str, key: str, kind: int, name: str, config: _Config) -> str:
        self.untold.pop((key, kind == _TEMPLATE, name), None)
        if kind == _TEMPLATE:
            self.templates[key, name] = config
            self._index_lengths()
        elif kind == _EXACT:
            self.limits.add((key, name))
        return _configured(at, key, kind, name, config)

    def _end(self, happened: str, at: str, key: str, kind: int, name: str) -> str:
        exact: dict[str, Any] = {}
        if happened == "LIMIT_REMOVED":
            exact["type"] = happened
            self.untold.pop((key, kind == _TEMPLATE, name), None)
            if kind == _TEMPLATE:
                self.templates.pop((key, name), None)
                self._index_lengths()
            else:
                self.limits.discard((key, name))
        if kind == _TEMPLATE:
            exact["kind"] = "template"
        shown = _shown(key, kind == _TEMPLATE, name)
        return _line(at, {"type": "RESET", "key": shown, "at": at}, exact | _named(name))

    def _index_lengths(self) -> None:
        self.prefix_lengths = sorted({len(prefix) for prefix, _ in self.templates}, reverse=True)

    def _introduce(self, at: str, items: list[tuple[Any, ...]]) -> Iterator[str]:
        """Limits that were configured before what is kept of the history."""
        for item in items:
            key, kind = item[6:8]
            if kind == _EXACT and (key, item[14]) not in self.limits:
                yield self._configure(at, key, kind, item[14], _config(item))

    def _kind(self, item: tuple[Any, ...]) -> dict[str, Any]:
        key, kind, rate, per_ns, burst, algorithm = item[6:12]
        name = item[14]
        if kind == _EXACT:
            return _named(name)
        self.untold.pop((key, False, name), None)
        if kind == _COUNTER:
            fitting = (key[:length] for length in self.prefix_lengths if length <= len(key))
            prefix = next((prefix for prefix in fitting if (prefix, name) in self.templates), None)
            known = None if prefix is None else self.templates[prefix, name][:4]
            if prefix is not None and known == (rate, per_ns, burst, algorithm):
                return {"kind": "counter", "prefix": len(prefix.encode())} | _named(name)
        # Also a counter whose template was configured before what is kept of the history.
        config = {"rate": rate, "per_ns": per_ns, "burst": burst, "algorithm": algorithm}
        return {"kind": "inline", **config}


def dump(limiter: LimiterBase, file: TextIO) -> int:
    """Write what history is kept to `file`, oldest first, and return the number of lines. `file` is
    open for text in UTF-8. The lines are a `flint.aof` of Flint 0.2: a directory that has nothing
    but that opens, and is converted, with the same limits, history and totals."""
    state = _Dump(limiter._list(False))
    count = 0
    for items in history.recorded(limiter, None, None, False, 0, 0):
        for line in state.lines(items):
            file.write(line)
            count += 1
    for line in state.remaining():
        file.write(line)
        count += 1
    return count
