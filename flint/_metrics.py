"""What there is to measure of a limiter, for all who export it: the metrics with their names, and
their values.

A limit is told by labels: its key where that is wanted, its algorithm, and its name if it has one.
Limits that have the same labels are one series.
"""

from __future__ import annotations

import os
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flint._surface.arguments import refusal
from flint._surface.decisions import BOUNDS_NS, OTHER
from flint.errors import FlintError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal, TypeAlias

    from flint._surface.protocol import AnyLimiter, Place
    from flint._surface.types import StatusDict

    Kind: TypeAlias = Literal["gauge", "counter"]
    KeyLabel: TypeAlias = Callable[[str], str]
    Labels: TypeAlias = tuple[tuple[str, str], ...]

BOUNDS_S = tuple(bound / 1_000_000_000 for bound in BOUNDS_NS)
MAX_SERIES = 1000
_NS_PER_SECOND = 1_000_000_000


# ---- Limits ------------------------------------------------------------------------------------


class LimitMetric(NamedTuple):
    """A metric of limits, each of which has one value; `merge` makes one of those of limits that
    share their labels. `name` is Prometheus's, `other_name` and `unit` (of UCUM) OpenTelemetry's,
    which tells two of the same name apart by `result`."""

    name: str
    kind: Kind
    entry: str  # of StatusDict
    merge: Callable[[Iterable[int]], int]
    other_name: str
    unit: str
    result: str
    text: str

    def value(self, limit: StatusDict) -> int:
        if self.entry == "key":
            return 1
        if self.entry == "reset_at":
            at = datetime.fromisoformat(limit["reset_at"][:19] + "+00:00")
            return int(at.timestamp())
        return cast("dict[str, int]", limit)[self.entry]


def _gauge(
    name: str,
    entry: str,
    merge: Callable[[Iterable[int]], int],
    other_name: str,
    unit: str,
    text: str,
) -> LimitMetric:
    return LimitMetric(name, "gauge", entry, merge, other_name, unit, "", text)


def _total(name: str, other_name: str, unit: str, result: str, text: str) -> LimitMetric:
    entry = f"total_{result}" + ("_cost" if "_cost_" in name else "")
    return LimitMetric(name, "counter", entry, sum, other_name, unit, result, text)


LIMIT_METRICS = (
    _gauge("limit_info", "key", max, "limit.info", "1", "Configured Flint limits."),
    _gauge("limit_rate", "rate", sum, "limit.rate", "{unit}", "Configured rate capacity."),
    _gauge(
        *("limit_per_millis", "per_millis", max, "limit.period", "ms"),
        "Configured limit window in milliseconds.",
    ),
    _gauge(
        *("limit_remaining", "remaining", sum, "limit.remaining", "{unit}"),
        "Remaining quota in the current window.",
    ),
    _gauge(
        *("limit_reset_at_seconds", "reset_at", max, "limit.reset_time", "s"),
        "Unix timestamp when the current window resets.",
    ),
    _total("requests_allowed_total", "checks", "{check}", "allowed", "Total allowed checks."),
    _total("requests_denied_total", "checks", "{check}", "denied", "Total denied checks."),
    _total(
        "request_cost_allowed_total", "cost", "{unit}", "allowed", "Total allowed request cost."
    ),
    _total("request_cost_denied_total", "cost", "{unit}", "denied", "Total denied request cost."),
)


def configured(limiter: AnyLimiter) -> list[StatusDict]:
    """The status of every limit but those that came with checks."""
    return cast("Place", limiter)._list(None)


class Series:
    """Limits by their labels. With `most`, the labels that were there first keep their series for
    good, and what comes when there are so many is one more series, whose labels all say "other".

    So a series does not turn into another, with totals that fall, because keys come and go."""

    def __init__(
        self, include_key_label: bool, key_label_func: KeyLabel | None, most: int | None = None
    ) -> None:
        self._include_key_label = include_key_label
        self._key_label_func = key_label_func
        self._most = most
        self._shown: set[Labels] = set()
        self._lock = threading.Lock()

    def of(self, limits: Iterable[StatusDict]) -> dict[Labels, list[StatusDict]]:
        """The limits of each series, in order of their keys."""
        grouped: dict[Labels, list[StatusDict]] = {}
        for limit in sorted(limits, key=lambda status: (status["key"], status["name"] or "")):
            labels = self._labels(limit)
            if self._most is not None:
                labels = self._bounded(labels, self._most)
            grouped.setdefault(labels, []).append(limit)
        return grouped

    def _bounded(self, labels: Labels, most: int) -> Labels:
        with self._lock:
            if labels in self._shown or len(self._shown) < most:
                self._shown.add(labels)
                return labels
        return tuple((name, OTHER) for name, _ in labels if name != "name")

    def _labels(self, limit: StatusDict) -> Labels:
        labels: list[tuple[str, str]] = []
        if self._include_key_label:
            key, say = limit["key"], self._key_label_func
            key = key if say is None else say(key)
            if not isinstance(key, str):
                raise TypeError(refusal("what key_label_func returns", "a str", key))
            # Equal on the page is equal here: a lone surrogate is no character of UTF-8.
            labels.append(("key", key.encode("utf-8", "replace").decode()))
        labels.append(("algorithm", limit["algorithm"]))
        if limit["name"] is not None:
            labels.append(("name", limit["name"]))
        return tuple(labels)


# ---- Storage -----------------------------------------------------------------------------------


class StorageMetric(NamedTuple):
    """A metric of a limiter's storage. Names and units are as for LimitMetric."""

    name: str
    kind: Kind
    entry: str  # of InfoDict, or of what `storage` adds to it
    other_name: str
    unit: str
    text: str


STORAGE_METRICS = (
    StorageMetric("limits", "gauge", "limits", "limits", "{limit}", "Limits and templates."),
    StorageMetric(
        *("counters", "gauge", "counters", "counters", "{counter}"),
        "Keys that have a counter under a template.",
    ),
    StorageMetric(
        *("log_bytes", "gauge", "log_bytes", "log.size", "By"),
        "Size of the log, history included.",
    ),
    StorageMetric(
        *("log_segments", "gauge", "segments", "log.segments", "{segment}"),
        "Files of the log.",
    ),
    StorageMetric(
        *("history_bytes", "gauge", "history_bytes", "history.size", "By"),
        "What of the log is kept for history alone.",
    ),
    StorageMetric(
        *("snapshot_bytes", "gauge", "snapshot_bytes", "snapshot.size", "By"),
        "Size of the snapshot.",
    ),
    StorageMetric(
        *("unsynced_events", "gauge", "unsynced_events", "unsynced_events", "{event}"),
        "Records that are not on disk yet.",
    ),
    StorageMetric(
        *("last_sync_age_seconds", "gauge", "since_sync_ns", "last_sync.age", "s"),
        "Time since the last sync of the log.",
    ),
    StorageMetric("syncs_total", "counter", "syncs", "syncs", "{sync}", "Syncs of the log."),
    StorageMetric(
        *("sync_seconds_total", "counter", "sync_time_ns", "sync.time", "s"),
        "Time that all syncs have taken.",
    ),
    StorageMetric(
        *("log_failed", "gauge", "poisoned", "failed", "1"),
        "1 when the log could not be written, which stops the limiter.",
    ),
    StorageMetric(
        *("compactions_total", "counter", "compactions", "compactions", "{compaction}"),
        "Compactions that have succeeded.",
    ),
    StorageMetric(
        *(
            "compaction_failures_total",
            "counter",
            "compaction_failures",
            "compaction.failures",
            "{compaction}",
        ),
        "Compactions that have failed.",
    ),
    StorageMetric(
        *("compaction_failing", "gauge", "compaction_failing", "compaction.failing", "1"),
        "1 when the last compaction has failed.",
    ),
    StorageMetric(
        *("undecided_total", "counter", "undecided", "undecided", "{check}"),
        "Checks that on_error has answered.",
    ),
    StorageMetric(
        *("evicted_keys_total", "counter", "evicted", "evicted_keys", "{key}"),
        "Keys in use that made room for others.",
    ),
    StorageMetric(
        *("disk_free_bytes", "gauge", "disk_free_bytes", "disk.free", "By"),
        "What is free on the disk of the directory.",
    ),
    StorageMetric(
        *("disk_size_bytes", "gauge", "disk_size_bytes", "disk.size", "By"),
        "Size of the disk of the directory.",
    ),
)


def storage(limiter: AnyLimiter) -> dict[StorageMetric, float]:
    """The values that the limiter has; none for one that keeps its limits elsewhere."""
    info = getattr(limiter, "info", None)
    if info is None:
        return {}
    try:
        found: dict[str, Any] = info()
    except UnsupportedError:
        return {}
    if "compaction_failure" in found:
        found["compaction_failing"] = int(found["compaction_failure"] != 0)
    found |= _disk(getattr(limiter, "data_dir", None))
    metrics = [metric for metric in STORAGE_METRICS if metric.entry in found]
    return {m: found[m.entry] / (_NS_PER_SECOND if m.unit == "s" else 1) for m in metrics}


def _disk(directory: str | None) -> dict[str, int]:
    try:
        disk = os.statvfs(directory or "")
    except OSError:  # in memory, or unmounted
        return {}
    return {
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "disk_size_bytes": disk.f_blocks * disk.f_frsize,
    }


# ---- All of it ---------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What a limiter counts at one moment; nothing where it cannot be asked."""

    up: bool
    limits: dict[Labels, list[StatusDict]]
    storage: dict[StorageMetric, float]


def read(limiter: AnyLimiter, series: Series) -> Reading:
    """Raises only what `key_label_func` raises. Takes time in proportion to the limits."""
    try:
        limits, of_storage = configured(limiter), storage(limiter)
    except FlintError:  # closed, or of the process that has forked this one
        return Reading(False, {}, {})
    return Reading(True, series.of(limits), of_storage)


def check_series(max_series: Any) -> int:
    """The most series of limits. Raises TypeError or ValueError for what is no such number."""
    if isinstance(max_series, bool) or not isinstance(max_series, int):
        raise TypeError(refusal("max_series", "an integer from 1 to 1000000", max_series))
    if not 1 <= max_series <= 1_000_000:
        raise ValueError(refusal("max_series", "an integer from 1 to 1000000", max_series))
    return max_series
