"""What a server replies by the Redis protocol, in the shapes of `flint.Limiter`. What cannot be
read raises an error of Python's own (KeyError, TypeError, ValueError), which the caller takes for
garbage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint import _native
from flint._surface.recorded import TYPES, event_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flint._surface.types import CheckAllDict, HistoryDict, InfoDict, StatusDict

_KINDS = ("exact", "template", "counter", "inline")
_TYPE_NUMBERS = {name: number for number, name in TYPES.items()}


def _time(at_ns: int) -> str:
    """RFC 3339, with `+00:00`."""
    return _native.Result("t", True, 1, 1, 0, at_ns, 0, 0, "token_bucket").reset_at


def _time_z(at_ns: int) -> str:
    return _time(at_ns).removesuffix("+00:00") + "Z"


def _time_or_none(at_ns: int) -> str | None:
    return _time(at_ns) if at_ns else None


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} where a number is expected")
    return value


def _truth(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r:.40} where a truth is expected")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r:.40} where a text is expected")
    return value


def result(reply: dict[str, Any], key: str, cost: int) -> _native.Result:
    """The decision about `key`."""
    if reply["key"] != key or reply["cost"] != cost:
        raise ValueError("the answer is about another key or cost")
    parts = reply.get("limits", [])
    if len(parts) != reply["limit_count"]:
        raise ValueError("limits are missing")
    if not parts:
        return _result(reply, key, cost, None, None)
    limits = tuple(_result(one, key, cost, one["name"] or None, None) for one in parts)
    return _result(reply, key, cost, limits[_whole(reply["limit_index"])].name, limits)


def _result(
    reply: dict[str, Any],
    key: str,
    cost: int,
    name: str | None,
    parts: tuple[_native.Result, ...] | None,
) -> _native.Result:
    return _native.Result(
        key,
        reply["allowed"],
        cost,
        reply["limit"],
        reply["remaining"],
        reply["reset_at_ns"],
        reply["reset_after_ns"],
        reply["retry_after_ns"],
        reply["algorithm"],
        reply.get("undecided", False),
        name,
        parts,
    )


def check_all(reply: dict[str, Any], items: list[dict[str, Any]]) -> CheckAllDict:
    """The decision about several items."""
    allowed = _truth(reply["allowed"])
    told = reply["results"]
    if not told or len(told) > len(items) or (allowed and len(told) < len(items)):
        raise ValueError("the answer is about other items")
    results: list[Any] = []
    for asked, one in zip(items, told, strict=False):
        decided = _result(one, asked["key"], asked["cost"], None, None)
        if (one["key"], one["cost"]) != (asked["key"], asked["cost"]):
            raise ValueError("the answer is about other keys")
        if decided.allowed != (allowed or len(results) + 1 < len(told)):
            raise ValueError("the answer contradicts itself")
        results.append(
            {
                "key": decided.key,
                "allowed": decided.allowed,
                "cost": decided.cost,
                "remaining": decided.remaining,
                "reset_at": _time_z(decided.reset_at_ns),
                "algorithm": decided.algorithm,
            }
        )
    denied_key = None if allowed else results[-1]["key"]
    return {"allowed": allowed, "denied_key": denied_key, "results": results}


def status(reply: dict[str, Any]) -> StatusDict:
    """One limit."""
    return {
        "key": _text(reply["key"]),
        "rate": _whole(reply["rate"]),
        "per_millis": _whole(reply["per_ns"]) // 1_000_000,
        "algorithm": reply["algorithm"],
        "remaining": _whole(reply["remaining"]),
        "reset_at": _time(reply["reset_at_ns"]),
        "total_allowed": _whole(reply["total_allowed"]),
        "total_denied": _whole(reply["total_denied"]),
        "total_allowed_cost": _whole(reply["total_allowed_cost"]),
        "total_denied_cost": _whole(reply["total_denied_cost"]),
        "last_allowed_at": _time_or_none(reply["last_allowed_at_ns"]),
        "last_denied_at": _time_or_none(reply["last_denied_at_ns"]),
        "last_reset_at": _time_or_none(reply["last_reset_at_ns"]),
        "burst": _whole(reply["burst"]),
        "per_ns": reply["per_ns"],
        "template": _KINDS.index(reply["kind"]) == 1,
        "name": _text(reply["name"]) or None,
        "stack": _truth(reply["stack"]),
    }


def page(reply: list[Any], with_inline: bool) -> tuple[str, list[StatusDict]]:
    """A page of limits, and the cursor of the next, which is empty behind the last."""
    cursor, limits = reply
    found = [status(one) for one in limits if with_inline or one["kind"] != "inline"]
    return _text(cursor), found


def events(reply: list[Any]) -> tuple[int, list[HistoryDict]]:
    """A page of history, and the cursor of the next. Behind the last it has no events."""
    cursor, entries = reply
    found: list[Any] = [event_dict(items) for items in _grouped([_item(one) for one in entries])]
    return _whole(cursor), found


def _item(reply: dict[str, Any]) -> tuple[Any, ...]:
    """An entry of history as the extension gives one."""
    kind = _KINDS.index(reply["kind"])
    key = _text(reply["key"])
    numbers = ("rate", "per_ns", "burst")
    return (
        _whole(reply["sequence"]),
        _TYPE_NUMBERS[reply["type"]],
        _time_z(reply["at_ns"]),
        _time_z(reply["first_at_ns"]),
        _whole(reply["count"]),
        _whole(reply["cost"]),
        key.removesuffix("*") if kind == 1 else key,
        kind,
        *(_whole(reply[name]) for name in numbers),
        reply["algorithm"] or None,
        _whole(reply["item_index"]),
        _whole(reply["item_count"]),
        _text(reply["name"]),
        _truth(reply["stack"]),
    )


def _grouped(items: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """The items of each event."""
    first = 0
    while first < len(items):
        group = items[first : first + items[first][13]]
        if [item[12] for item in group] != list(range(items[first][13])) or not group:
            raise ValueError("an event is not whole")
        yield group
        first += len(group)


def info(reply: dict[str, Any]) -> InfoDict:
    """The figures of the server's limiter."""
    found: Any = {name: _whole(value) for name, value in reply.items()}
    found |= {"sync": ("always", "batch")[found["sync"]], "role": "client"}
    figures: InfoDict = found
    return figures


def done(reply: object) -> None:
    """That something has been done."""
    if reply != "OK":
        raise ValueError("OK is not said")
