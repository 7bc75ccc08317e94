"""The limits that decided, as PostgreSQL tells of them, and what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flint import _native
from flint._postgres.wire import binary, integer
from flint._remote.standing import ALGORITHMS, Config, Standing, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint._postgres.templates import Template
    from flint._postgres.wire import Row
    from flint._surface.types import StatusDict

EXACT, TEMPLATE, COUNTER, INLINE = range(4)
FINE, OLD_TEMPLATES, NOT_CONFIGURED, TOO_MANY, WRONG_COST = range(5)
_MOST_NS = 2**63 - 1
# Columns of flint.claim: what is told of a decision, and of a status. Fewer are read faster.
DECIDED = (
    *("id", "name", "kind", "template_id", "status", "item", "stack", "allows"),
    *("algorithm", "rate", "per_ns", "burst", "state1", "state2", "state3"),
    *("now_ns", "last_ns", "log_units", "log_entries", "oldest_ns", "leaves_ns"),
)
ALL = (
    *DECIDED,
    *("long_key", "allowed", "denied", "allowed_cost", "denied_cost"),
    *("last_allowed_ns", "last_denied_ns", "last_reset_ns"),
)


class Totals(NamedTuple):
    """What has happened to a limit. Times are 0 for never."""

    allowed: int = 0
    denied: int = 0
    allowed_cost: int = 0
    denied_cost: int = 0
    last_allowed_ns: int = 0
    last_denied_ns: int = 0
    last_reset_ns: int = 0

    @classmethod
    def read(cls, values: Sequence[bytes | None]) -> Totals:
        """From seven columns."""
        return cls(*map(integer, values))


class Claim(NamedTuple):
    """A row of the type flint.claim. Of one that decided the key is its id."""

    key: bytes
    name: bytes
    kind: int | None
    template_id: int
    stack: bool
    totals: Totals
    status: int
    item: int
    allows: bool
    standing: Standing
    position: tuple[bytes, bytes]

    @classmethod
    def read(cls, row: Row) -> Claim:
        """From the columns `DECIDED`, or all of `ALL`."""
        identity, name = binary(row[0]), binary(row[1])
        number, status, item = map(integer, row[3:6])
        algorithm, rate, per_ns, burst, *state = map(integer, row[8:15])
        now_ns, last_ns, units, entries, oldest_ns, leaves_ns = map(integer, row[15:21])
        first, second, third = state
        if algorithm == 5 and first == 0:  # one entry that is nowhere else
            units = second if last_ns > now_ns - per_ns else 0
            entries, oldest_ns = min(units, 1), last_ns
        now_ns = max(now_ns, last_ns)
        if algorithm <= 3:
            kept = State(at_ns=first, fraction=second)
        elif algorithm == 4:
            kept = State(at_ns=first, used=second)
        elif algorithm == 5:
            # Every entry is of one unit at least, so that the oldest has to leave for one.
            leaving = (entries, oldest_ns, leaves_ns or oldest_ns)
            kept = State(last_ns, 0, 0, units, 0, *leaving)
        else:
            kept = State(window=first, used=third, previous=second)
        standing = Standing(Config(algorithm, rate, per_ns, burst), kept, now_ns)
        is_whole = len(row) > len(DECIDED)
        return cls(
            binary(row[21]) if is_whole and row[21] is not None else identity,
            name,
            None if row[2] is None else int(row[2]),
            number,
            row[6] == b"t",
            Totals.read(row[22:29]) if is_whole else Totals(),
            status,
            item,
            row[7] == b"t",
            standing,
            (identity, name),
        )

    def is_forgettable(self) -> bool:
        """Whether it counts as not being there."""
        return self.kind != EXACT and self.standing.is_fresh()

    def result(self, key: str, cost: int, allowed: bool) -> _native.Result:
        """What is told of this limit alone."""
        standing = self.standing
        after_ns = standing.reset_after_ns()
        return _native.Result(
            key,
            allowed,
            cost,
            standing.config.burst,
            standing.remaining(),
            min(standing.now_ns + after_ns, _MOST_NS),
            after_ns,
            0 if allowed else standing.retry_after_ns(cost),
            ALGORITHMS[standing.config.algorithm - 1],
            False,
            self.name.decode() or None,
        )


def decisive(claims: list[Claim], cost: int) -> int:
    """The limit that stands for all: of those that deny the cost the one that will do so longest,
    otherwise the one that has the least left."""
    waits = [one.standing.retry_after_ns(cost) for one in claims]
    if any(waits):
        return waits.index(max(waits))
    left = [one.standing.remaining() for one in claims]
    return left.index(min(left))


def result(claims: list[Claim], key: str, cost: int, allowed: bool, by: int) -> _native.Result:
    """The decision about one key. `by` is the cost by which the limit is found that stands for
    all."""
    if len(claims) == 1 and not claims[0].name:
        return claims[0].result(key, cost, allowed)
    parts = tuple(one.result(key, cost, one.allows) for one in claims)
    whole = claims[decisive(claims, by)]
    told = whole.result(key, cost, allowed)
    return _native.Result(
        key,
        allowed,
        cost,
        told.limit,
        told.remaining,
        told.reset_at_ns,
        told.reset_after_ns,
        told.retry_after_ns,
        told.algorithm,
        False,
        told.name,
        parts,
    )


def time_text(at_ns: int) -> str:
    """A time as results show it."""
    return _native.Result("t", True, 1, 1, 0, at_ns, 0, 0, "token_bucket").reset_at


def _stamp(at_ns: int) -> str | None:
    return time_text(at_ns) if at_ns else None


def status(
    key: str, name: bytes, config: Config, standing: Standing, totals: Totals, **rest: Any
) -> StatusDict:
    """A limit as a dict. `rest`: template and stack."""
    reset_at_ns = min(standing.now_ns + standing.reset_after_ns(), _MOST_NS)
    return {
        "key": key,
        "rate": config.rate,
        "per_millis": config.per_ns // 1_000_000,
        "algorithm": ALGORITHMS[config.algorithm - 1],
        "remaining": standing.remaining(),
        "reset_at": time_text(reset_at_ns),
        "total_allowed": totals.allowed,
        "total_denied": totals.denied,
        "total_allowed_cost": totals.allowed_cost,
        "total_denied_cost": totals.denied_cost,
        "last_allowed_at": _stamp(totals.last_allowed_ns),
        "last_denied_at": _stamp(totals.last_denied_ns),
        "last_reset_at": _stamp(totals.last_reset_ns),
        "burst": config.burst,
        "per_ns": config.per_ns,
        "template": rest["template"],
        "name": name.decode() or None,
        "stack": rest["stack"],
    }


def status_of_claim(claim: Claim) -> StatusDict:
    """A limit or counter of a key."""
    standing = claim.standing
    return status(
        claim.key.decode(),
        claim.name,
        standing.config,
        standing,
        claim.totals,
        template=False,
        stack=claim.stack,
    )


def status_of_template(template: Template, totals: Totals, now_ns: int) -> StatusDict:
    """A template. Nothing of it is used, and it is as it will be."""
    shown = template.prefix.decode() + "*"
    found = status(
        shown,
        template.name,
        template.config,
        Standing(template.config, State(), now_ns),
        totals,
        template=True,
        stack=template.stack,
    )
    return {**found, "reset_at": time_text(now_ns)}
