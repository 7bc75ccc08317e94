"""The shape of a recorded event."""

from __future__ import annotations

from typing import Any

TYPES = {
    5: "LIMIT_CONFIGURED",
    6: "LIMIT_REMOVED",
    8: "ALLOW",
    9: "ALLOW_ALL",
    10: "DENY",
    11: "RESET",
}
_TEMPLATE, INLINE = 1, 3


def _shown(key: str, kind: int) -> str:
    return key + "*" if kind == _TEMPLATE else key


def event_dict(items: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The dict of one event from its items, which are as the extension returns them."""
    _, number, at, first_at, count, cost, key, kind, *numbers = items[0]
    rate, per_ns, burst, algorithm, _, _, limit, stack = numbers
    named = {"name": limit} if limit else {}
    name = TYPES[number]
    if name == "ALLOW_ALL":
        shown = [
            {"key": item[6], "cost": item[5]} | ({"name": item[14]} if item[14] else {})
            for item in items
        ]
        return {"type": name, "items": shown, "at": at}
    if name == "LIMIT_CONFIGURED":
        config = {
            "key": _shown(key, kind),
            "rate": rate,
            "per_millis": per_ns // 1_000_000,
            "algorithm": algorithm,
            **named,
        }
        if kind == INLINE:
            config["inline"] = True
        if burst != rate:
            config["burst"] = burst
        if per_ns % 1_000_000:
            config["per_ns"] = per_ns
        if stack:
            config["stack"] = True
        return {"type": name, "config": config}
    found: dict[str, Any] = {"type": name, "key": _shown(key, kind), **named, "at": at}
    if name in ("ALLOW", "DENY"):
        found["cost"] = cost
    if count > 1:
        found["count"] = count
        found["first_at"] = first_at
    return found
