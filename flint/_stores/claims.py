"""The limits that decided, as a store tells of them, and what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flint import _native
from flint._remote.standing import ALGORITHMS, Config, Standing, State

if TYPE_CHECKING:
    from flint._stores.templates import Template
    from flint._surface.types import StatusDict

EXACT, TEMPLATE, COUNTER, INLINE = range(4)
# What may be wrong with a decision.
FINE, OLD_TEMPLATES, NOT_CONFIGURED, TOO_MANY, WRONG_COST = range(5)
_MOST_NS = 2**63 - 1


class Totals(NamedTuple):
    """What has happened to a limit. Times are 0 for never."""

    allowed: int = 0
    denied: int = 0
    allowed_cost: int = 0
    denied_cost: int = 0
    last_allowed_ns: int = 0
    last_denied_ns: int = 0
    last_reset_ns: int = 0


class Claim(NamedTuple):
    """A limit or counter of a key, and what it has decided. `position` is where the store has it:
    what stands for the key there, and the name."""

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

    def is_forgettable(self) -> bool:
        """Whether it counts as not being there."""
        return self.kind != EXACT and self.standing.is_fresh()

    def result(self, key: str, cost: int, allowed: bool) -> _native.Result:
        """What is told of this limit alone."""
        standing = self.standing
        remaining, reset_after_ns, retry_after_ns = standing.told(cost, allowed)
        return _native.Result(
            key,
            allowed,
            cost,
            standing.config.burst,
            remaining,
            min(standing.now_ns + reset_after_ns, _MOST_NS),
            reset_after_ns,
            retry_after_ns,
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
