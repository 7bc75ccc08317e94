"""What stands before an application: its policies, and the shortest way to a decision by them.

Most requests meet one policy with fixed limits and cost that counts by the client's address, and
are let in. What is known of such a policy before any request is made ready once; a request then
takes one call of the limiter, and what the limiter says is all that is left of it. Every other
request takes the long way, `decide_all`.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from flint._native import Result
from flint._surface.aio import AsyncSurface
from flint._surface.rate import Rate
from flint._web import decision
from flint._web.decision import Ask, Verdict
from flint._web.headers import (
    encoded,
    encoded_legacy_headers,
    legacy_headers,
    limit_headers,
)
from flint._web.keys import plain, route_prefix, whose_address, window_ns
from flint._web.policy import Policy, units
from flint._web.several import adecide_all, decide_all
from flint.errors import FlintError, NotConfiguredError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flint._surface.decisions import Decisions
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import Several
    from flint._web.request import Request

    # Who observes the limiter, and when the decision began, in ns of perf_counter_ns.
    _Begun: TypeAlias = tuple[Decisions, int]

# What an answer of `Gate.acheck` is unless it has to be awaited.
DECIDED = (Result, Verdict)
_ACHECK = AsyncSurface.acheck
_LONGEST_PEER = 64  # characters; no address with its scope is longer


class Gate:
    """The policies that are decided together. `make` makes a Request of what a framework has; where
    it may have to wait for who has logged in, `amake` does so in an event loop. Any thread."""

    def __init__(
        self,
        policies: tuple[Policy, ...],
        make: Callable[[Any], Request],
        amake: Callable[[Any], Awaitable[Request]] | None = None,
    ) -> None:
        self.policies = policies
        self.policy = policy = policies[0]
        self._make = make
        self._amake = amake
        self._address = policy.address
        self._is_peer = policy.address.is_peer  # whatever the headers say
        limit = policy.fixed
        self._limit = limit if isinstance(limit, Rate) else None
        self.is_shown = policy.headers != "none"  # whether `headers` says anything
        self._set: str | None = None  # of several limits, what their counters begin with
        self._is_quick = len(policies) == 1 and _is_quick(policy)
        if self._is_quick and limit is not None:
            self._cost = units("cost", policy.cost)
            self._prefix = policy.prefix
            if not isinstance(limit, Rate):
                # Several limits are those of a template, which is there after the first request.
                self._set = limit.prefix
                self._prefix = limit.prefix + policy.prefix
            is_by_route = policy.scope == "route"
            self._before = None if is_by_route else f"{self._prefix}web {plain(policy.scope)} "
            self._show(limit)

    def _show(self, limit: Rate | Several) -> None:
        """Choose how the headers are made."""
        policy = self.policy
        name = cast("str", policy.name)

        def headers(result: Result) -> list[tuple[str, str]]:
            window = window_ns(limit, result.name)
            window_s = None if window is None else -(-window // 1_000_000_000)
            return limit_headers(policy.headers, result, name, window_s)

        legacy = policy.headers == "legacy"
        self.headers = legacy_headers if legacy else headers
        self.encoded_headers = (
            encoded_legacy_headers if legacy else lambda result: encoded(headers(result))
        )

    # ---- One request ----

    def check(
        self,
        limiter: AnyLimiter,
        native: Any,
        method: str,
        peer: str | None,
        route: str | None = None,
    ) -> Result | Verdict:
        """Decide about a request. The limiter's result means that it is let in and nothing is left
        to do but to show `headers`; a verdict means what it says. May wait for the disk."""
        decisions = getattr(limiter, "_decisions", None)
        begun = None if decisions is None else (decisions, perf_counter_ns())
        key = self._key(limiter, native, method, peer, route)
        if key is None:
            return decide_all(limiter, self.policies, self._make(native))
        try:
            result = limiter.check(key, self._cost, limit=self._limit)
        except NotConfiguredError:
            return decide_all(limiter, self.policies, self._make(native))
        except Exception as error:
            return self._failed(native, key, error, begun)
        if result.allowed and not result.undecided:
            if begun is not None:
                self._tell(begun, "allowed")
            return result
        return self._judged(native, key, result, begun)

    def acheck(
        self,
        limiter: Any,
        native: Any,
        method: str,
        peer: str | None,
        route: str | None = None,
    ) -> Any:
        """`check` without blocking the event loop. What is not one of `DECIDED` is to be awaited
        at once, and is one then."""
        decisions = getattr(limiter, "_decisions", None)
        begun = None if decisions is None else (decisions, perf_counter_ns())
        key = self._key(limiter, native, method, peer, route)
        if key is None or type(limiter).acheck is not _ACHECK:
            return self._long_way(limiter, native)
        try:
            decided = limiter._check_now(key, self._cost, limit=self._limit)
        except NotConfiguredError:
            return self._long_way(limiter, native)
        except Exception as error:
            return self._failed(native, key, error, begun)
        if decided is None:
            return self._long_way(limiter, native)
        result, ticket = decided
        if ticket:
            return self._when_durable(limiter, native, key, result, ticket, begun)
        if result.allowed and not result.undecided:
            if begun is not None:
                self._tell(begun, "allowed")
            return result
        return self._judged(native, key, result, begun)

    def _key(
        self, limiter: Any, native: Any, method: str, peer: str | None, route: str | None
    ) -> str | None:
        """The counter's key; None for what takes the long way: preflights, and all requests while
        the set-up is still looked at, or several limits may not all be configured."""
        address = self._address
        if self._set is not None and self._set not in getattr(limiter, "_whole", ()):
            return None
        if not self._is_quick or method == "OPTIONS" or address.unchecked:
            return None
        before = self._before
        if before is None:
            before = route_prefix(self._prefix, method, route)
        if self._is_peer and peer and len(peer) <= _LONGEST_PEER:
            return before + whose_address(peer, address.ipv6_prefix)
        return f"{before}ip:{plain(address.of(self._make(native)) or 'unknown')}"

    # ---- What is not as usual ----

    async def _long_way(self, limiter: AnyLimiter, native: Any) -> Verdict:
        request = self._make(native) if self._amake is None else await self._amake(native)
        return await adecide_all(limiter, self.policies, request)

    async def _when_durable(
        self, limiter: Any, native: Any, key: str, result: Result, ticket: int, begun: _Begun | None
    ) -> Result | Verdict:
        try:
            await limiter._await_durable(ticket)
        except Exception as error:
            return self._failed(native, key, error, begun)
        if result.allowed and not result.undecided:
            self._tell(begun, "allowed")
            return result
        return self._judged(native, key, result, begun)

    def _judged(self, native: Any, key: str, result: Result, begun: _Begun | None) -> Verdict:
        ask = Ask(key, self._cost, self.policy.fixed)
        verdict = decision._judge(self.policy, self._make(native), ask, result)
        self._tell(begun, decision._result(verdict))
        return verdict

    def _failed(self, native: Any, key: str, error: Exception, begun: _Begun | None) -> Verdict:
        ask = Ask(key, self._cost, self.policy.fixed)
        try:
            verdict = decision._failed(self.policy, self._make(native), ask, error)
        except FlintError:
            self._tell(begun, "error_raised")
            raise
        self._tell(begun, decision._result(verdict))
        return verdict

    def _tell(self, begun: _Begun | None, result: str) -> None:
        """Whoever observes the limiter."""
        if begun is not None:
            decision._count(begun[0], self.policy, result, begun[1])


def _is_quick(policy: Policy) -> bool:
    """Whether nothing has to be asked about a request but its address and its route."""
    return (
        policy.fixed is not None
        and policy.parts == ("ip",)
        and not callable(policy.cost)
        and units("cost", policy.cost) <= decision._most(policy.fixed)
        and policy.when is None
        and policy.methods is None
        and not (policy.exempt or policy.safe_networks or policy.blocked_networks)
    )
