"""What is printed as JSON: the shapes of Flint 0.2, key by key. What that version had no words for
follows them, and only where there is something to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flint._native import Result
    from flint._surface.types import CheckAllDict, DoctorDict, StatusDict

_STATUS = (
    "key",
    "rate",
    "per_millis",
    "algorithm",
    "remaining",
    "reset_at",
    "total_allowed",
    "total_denied",
    "total_allowed_cost",
    "total_denied_cost",
    "last_allowed_at",
    "last_denied_at",
    "last_reset_at",
)
_CHECK = ("key", "allowed", "cost", "remaining", "reset_at", "algorithm")
_TOP = ("key", "total_allowed", "total_denied")
_DOCTOR = ("ok", "limits", "history_events", "aof_bytes", "snapshot_exists")


def zulu(value: object) -> object:
    """A time in UTC as Flint 0.2 ends it; anything else as it is."""
    return f"{value[:-6]}Z" if isinstance(value, str) and value.endswith("+00:00") else value


def status_shape(status: StatusDict) -> dict[str, Any]:
    fields: dict[str, Any] = dict(status)
    shape = {name: zulu(fields[name]) if name.endswith("_at") else fields[name] for name in _STATUS}
    if status["burst"] != status["rate"]:
        shape["burst"] = status["burst"]
    if status["per_ns"] % 1_000_000:
        shape["per_ns"] = status["per_ns"]
    return shape | {name: fields[name] for name in ("template", "name", "stack") if fields[name]}


def check_shape(result: Result) -> dict[str, Any]:
    shape = {name: getattr(result, name) for name in _CHECK}
    shape["reset_at"] = zulu(result.reset_at)
    return shape | ({"name": result.name} if result.name is not None else {})


def check_all_shape(answer: CheckAllDict) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for one in answer["results"]:
        fields: dict[str, Any] = dict(one)
        first = {name: fields.pop(name) for name in _CHECK}
        results.append(first | {"reset_at": zulu(one["reset_at"])} | fields)
    return {"allowed": answer["allowed"], "denied_key": answer["denied_key"], "results": results}


def top_shape(status: StatusDict) -> dict[str, Any]:
    fields: dict[str, Any] = dict(status)
    shape = {name: fields[name] for name in _TOP}
    return shape | ({"name": status["name"]} if status["name"] is not None else {})


def doctor_shape(found: DoctorDict) -> dict[str, Any]:
    fields: dict[str, Any] = dict(found)
    shape = {name: fields[name] for name in _DOCTOR}
    return shape | {name: fields[name] for name in ("findings", "damage") if fields[name]}
