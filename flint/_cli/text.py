"""What is written for people: keys that cannot move the cursor, times as people say them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_SHORT_S = 10  # below this, tenths of a second are shown


def shown(text: str) -> str:
    """`text` with everything escaped that is not a visible character or a space: control
    characters, marks of direction, joiners, what no font has. As in a Python string."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def shown_lines(text: str) -> str:
    """The same for a message of several lines."""
    return "\n".join(shown(line) for line in text.split("\n"))


def length(seconds: float) -> str:
    """A length of time with its two largest units: "3.5 s", "2 m 5 s", "3 d"."""
    if seconds < _SHORT_S:
        return f"{max(seconds, 0):.1f}".removesuffix(".0") + " s"
    left = round(seconds)
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def period(ns: int) -> str:
    """The period of a limit, exactly: "1m", "1h30m", "500ms", "7ns"."""
    for size, unit in ((1_000_000, "ms"), (1_000, "us"), (1, "ns")):
        if ns % 1_000_000_000 and ns % size == 0:
            return f"{ns // size}{unit}"
    left = ns // 1_000_000_000
    text = ""
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def rate(rate: int, per_ns: int, burst: int) -> str:
    """A limit in a few words."""
    more = f" burst {burst:,}" if burst != rate else ""
    return f"{rate:,} per {period(per_ns)}{more}"


def moment_s(at: str) -> float:
    """An RFC 3339 time as seconds since 1970."""
    head, _, zone = at.replace("Z", "+00:00").partition("+")
    seconds, _, fraction = head.partition(".")
    whole = datetime.fromisoformat(f"{seconds}+{zone}").timestamp()
    return whole + float(f"0.{fraction or 0}")


def ago(at: str | None, now_s: float) -> str:
    """A time that is over, as seen from now."""
    if at is None:
        return "never"
    return f"{length(max(now_s - moment_s(at), 0))} ago"


def ahead(at: str, now_s: float) -> str:
    """A time to come, as seen from now."""
    left = moment_s(at) - now_s
    return "now" if left <= 0 else f"in {length(left)}"


def clock(at: str) -> str:
    """An RFC 3339 time in UTC without its fraction, for columns."""
    return datetime.fromtimestamp(moment_s(at), UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Bytes, as people say them."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:,.1f} GiB"


def as_json(value: object, indent: int | None = 2) -> str:
    """JSON as Flint 0.2 writes it."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def safe_json(text: str) -> str:
    """JSON for a terminal: what `shown` would escape is escaped in JSON's way."""
    return "".join(
        one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text
    )
