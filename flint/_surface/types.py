"""The words and dicts that a Limiter takes and returns, for readers and type checkers."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, SupportsIndex, TypeAlias, TypedDict

Algorithm: TypeAlias = Literal[
    "token_bucket",
    "gcra",
    "leaky_bucket",
    "fixed_window_counter",
    "sliding_window_log",
    "sliding_window_counter",
]
Sync: TypeAlias = Literal["always", "batch"]
Role: TypeAlias = Literal["alone", "owner", "client"]
OnError: TypeAlias = Literal["raise", "allow", "deny"]
WhenFull: TypeAlias = Literal["refuse", "evict"]
Mapped: TypeAlias = Literal["auto", "never"]
SystemClock: TypeAlias = Literal["system"]
Total: TypeAlias = Literal["denied", "allowed", "denied_cost", "allowed_cost"]


class ItemDict(TypedDict):
    """One item of `Limiter.check_all`; `cost` is 1 if it is left out."""

    key: str
    cost: NotRequired[SupportsIndex]


Item: TypeAlias = str | tuple[str, SupportsIndex] | list[Any] | ItemDict


class ItemResultDict(TypedDict):
    """The decision about one item of `Limiter.check_all`."""

    key: str
    allowed: bool
    cost: int
    remaining: int
    reset_at: str
    algorithm: Algorithm


class CheckAllDict(TypedDict):
    """What `Limiter.check_all` returns."""

    allowed: bool
    denied_key: str | None
    results: list[ItemResultDict]


class StatusDict(TypedDict):
    """What `Limiter.status` returns, and `list` and `top` for each limit."""

    key: str
    rate: int
    per_millis: int
    algorithm: Algorithm
    remaining: int
    reset_at: str
    total_allowed: int
    total_denied: int
    total_allowed_cost: int
    total_denied_cost: int
    last_allowed_at: str | None
    last_denied_at: str | None
    last_reset_at: str | None
    burst: int
    per_ns: int
    template: bool
    name: str | None
    stack: bool


class InfoDict(TypedDict):
    """What `Limiter.info` returns."""

    sync: Sync
    role: Role
    recovered_records: int
    recovered_ring_records: int
    torn_bytes: int
    snapshot_limits: int
    limits: int
    counters: int
    log_bytes: int
    segments: int
    snapshot_bytes: int
    sequence: int
    appended: int
    durable: int
    syncs: int
    directory_mode: int
    engine_time_ns: int
    converted_events: int
    warnings: int
    undecided: int
    evicted: int
    compactions: int
    compaction_failures: int
    compaction_done_bytes: int
    compaction_total_bytes: int
    history_bytes: int
    damaged_history: int
    read_only: int
    compaction_failure: int
    compaction_retry_at_ns: int
    history_failures: int
    unsynced_events: int
    since_sync_ns: int
    sync_time_ns: int
    poisoned: int


class DamageDict(TypedDict):
    """The first damage that `doctor` found."""

    message: str
    segment: str
    offset: int
    sequence: int


class DoctorDict(TypedDict):
    """What `doctor` returns. `history_events` counts the events in all segments, `records` those in
    the log behind the snapshot, `ring_records` the ones of these that only the ring has, `seals`
    the SHA-256 digests that were compared, and `aof_bytes` the bytes of all segments."""

    ok: bool
    limits: int
    history_events: int
    aof_bytes: int
    snapshot_exists: bool
    counters: int
    records: int
    ring_records: int
    segments: int
    history_segments: int
    snapshot_bytes: int
    seals: int
    torn_bytes: int
    findings: list[str]
    damage: DamageDict | None


class HistoryConfigDict(TypedDict):
    """The limit of a `LIMIT_CONFIGURED`; `name` where it has one, `burst` where it is not the
    rate, `per_ns` where the period is not whole milliseconds, `inline` where checks carried the
    limit with them and it took other values, `stack` where limits of shorter templates hold too."""

    key: str
    rate: int
    per_millis: int
    algorithm: Algorithm
    name: NotRequired[str]
    burst: NotRequired[int]
    per_ns: NotRequired[int]
    inline: NotRequired[bool]
    stack: NotRequired[bool]


class HistoryItemDict(TypedDict):
    """One item of an `ALLOW_ALL`; `name` where its limit has one."""

    key: str
    cost: int
    name: NotRequired[str]


class HistoryDict(TypedDict):
    """One event of `Limiter.history`. `LIMIT_CONFIGURED` has `config` alone, `ALLOW_ALL` has
    `items` and `at`, the others `key` and `at`, `ALLOW` and `DENY` also `cost`; a `DENY` that
    stands for several has their `count` and, beside the last one's time, the first one's."""

    type: Literal["LIMIT_CONFIGURED", "LIMIT_REMOVED", "ALLOW", "ALLOW_ALL", "DENY", "RESET"]
    key: NotRequired[str]
    name: NotRequired[str]
    at: NotRequired[str]
    cost: NotRequired[int]
    count: NotRequired[int]
    first_at: NotRequired[str]
    config: NotRequired[HistoryConfigDict]
    items: NotRequired[list[HistoryItemDict]]
