"""What a server answers, in the shapes of `flint.Limiter`. What cannot be read raises an error of
Python's own (KeyError, TypeError, ValueError), which the caller takes for garbage."""

from __future__ import annotations

import re
from calendar import timegm
from typing import TYPE_CHECKING, Any

from flint import _native
from flint._surface.findings import findings

if TYPE_CHECKING:
    from flint._surface.types import CheckAllDict, DoctorDict, HistoryDict, InfoDict, StatusDict

_NS_PER_SECOND = 1_000_000_000
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.A)


def time_ns(text: str) -> int:
    """RFC 3339 in UTC as nanoseconds since 1970."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"no time: {text!r:.100}")
    parts = tuple(int(part) for part in match.groups()[:6])
    return timegm((*parts, 0, 0, 0)) * _NS_PER_SECOND + int((match[7] or "0").ljust(9, "0"))


def _plus(text: str) -> str:
    """A time as results and statuses show it."""
    return text[:-1] + "+00:00" if text.endswith("Z") else text


def _plus_or_none(text: str | None) -> str | None:
    return None if text is None else _plus(text)


def result(answer: dict[str, Any], key: str, cost: int) -> _native.Result:
    """The decision about `key`."""
    parts = answer.get("results") or []
    if len(parts) == 1 and parts[0].get("name") is None:
        parts = []  # of a limit without a name, `answer` says everything
    limits = tuple(_result(one, key, cost) for one in parts)
    return _result(answer, key, cost, limits or None)


def _result(
    answer: dict[str, Any],
    key: str,
    cost: int,
    parts: tuple[_native.Result, ...] | None = None,
) -> _native.Result:
    if answer.get("key", key) != key or answer.get("cost", cost) != cost:
        raise ValueError("the answer is about another key or cost")
    return _native.Result(
        key,
        answer["allowed"],
        cost,
        answer["limit"],
        answer["remaining"],
        time_ns(answer["reset_at"]),
        answer["reset_after_ns"],
        answer["retry_after_ns"],
        answer["algorithm"],
        answer.get("undecided", False),
        answer.get("name"),
        parts,
    )


def check_all(answer: dict[str, Any], keys: list[str]) -> CheckAllDict:
    """The decision about several items."""
    allowed = answer["allowed"]
    results: list[Any] = [
        {
            "key": str(one["key"]),
            "allowed": bool(one["allowed"]),
            "cost": int(one["cost"]),
            "remaining": int(one["remaining"]),
            "reset_at": str(one["reset_at"]),
            "algorithm": one["algorithm"],
        }
        for one in answer["results"]
    ]
    if not isinstance(allowed, bool) or [one["key"] for one in results] != keys[: len(results)]:
        raise ValueError("the answer is about other keys")
    return {"allowed": allowed, "denied_key": answer["denied_key"], "results": results}


def status(answer: dict[str, Any]) -> StatusDict:
    """One limit."""
    return {
        "key": answer["key"],
        "rate": answer["rate"],
        "per_millis": answer["per_millis"],
        "algorithm": answer["algorithm"],
        "remaining": answer["remaining"],
        "reset_at": _plus(answer["reset_at"]),
        "total_allowed": answer["total_allowed"],
        "total_denied": answer["total_denied"],
        "total_allowed_cost": answer["total_allowed_cost"],
        "total_denied_cost": answer["total_denied_cost"],
        "last_allowed_at": _plus_or_none(answer["last_allowed_at"]),
        "last_denied_at": _plus_or_none(answer["last_denied_at"]),
        "last_reset_at": _plus_or_none(answer["last_reset_at"]),
        "burst": answer.get("burst", answer["rate"]),
        "per_ns": answer.get("per_ns", answer["per_millis"] * 1_000_000),
        "template": answer.get("template", False),
        "name": answer.get("name"),
        "stack": answer.get("stack", False),
    }


def statuses(answer: list[dict[str, Any]]) -> list[StatusDict]:
    return [status(one) for one in answer]


def doctor(answer: dict[str, Any]) -> DoctorDict:
    """What the server has found in its directory."""
    # Servers of Flint 0.2 say less.
    said = {"damage": None, "torn_bytes": 0, "directory_mode": 0, **answer}
    told = findings(said, "the server's directory")
    fields = ("limits", "history_events", "aof_bytes", "counters", "records", "ring_records")
    more = ("segments", "history_segments", "snapshot_bytes", "seals", "torn_bytes")
    found: Any = {name: int(said.get(name, 0)) for name in (*fields, *more)}
    found |= {name: said[name] for name in ("ok", "snapshot_exists", "damage")}
    found["findings"] = told
    report: DoctorDict = found
    return report


def info(answer: dict[str, Any]) -> InfoDict:
    """The figures of the server's limiter."""
    found: Any = {"role": "client", **answer}
    figures: InfoDict = found
    return figures


# The fields of events, of their limits and of their items, in the order in which they are told.
_EVENT = ("type", "config", "items", "key", "name", "at", "cost", "count", "first_at")
_CONFIG = ("key", "rate", "per_millis", "algorithm", "name", "burst", "per_ns", "stack")
_ITEM = ("key", "cost", "name")


def events(answer: list[dict[str, Any]]) -> list[HistoryDict]:
    """History."""
    return [_event(one) for one in answer]


def _event(answer: dict[str, Any]) -> HistoryDict:
    event: Any = _in_order(answer, _EVENT)
    if not isinstance(event["type"], str):
        raise TypeError("an event without a type")
    if "config" in event:
        event["config"] = _in_order(event["config"], _CONFIG)
    if "items" in event:
        event["items"] = [_in_order(item, _ITEM) for item in event["items"]]
    found: HistoryDict = event
    return found


def _in_order(values: dict[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in order if name in values}
