"""Several policies about one request, all or nothing: it counts in each of them or in none.

Those with `when` are looked at first, and take their units when the response is known, if it counts
for them. The others take theirs only where each of all has let the request in.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from flint._surface.decisions import decisions_of
from flint._surface.rate import Rate, Several
from flint._surface.several import note_whole
from flint._web import decision
from flint._web.decision import Ask, Verdict, adecide, decide
from flint.errors import FlintError, NotConfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint._native import Result
    from flint._surface.decisions import Decisions
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import LimitDict
    from flint._surface.types import CheckAllDict
    from flint._web.policy import Policy
    from flint._web.request import Request

# What each policy asks, with the key that check_all is given.
AskOf = tuple["Policy", Ask, str]
Asks = list[AskOf]


def decide_all(limiter: AnyLimiter, policies: Sequence[Policy], request: Request) -> Verdict:
    """Decide about a request by one policy or more; the verdict says whose it is. Where there are
    several, what the headers say of the nearest is asked for in a call of its own."""
    if len(policies) == 1:
        return decide(limiter, policies[0], request)
    asks: Asks = []
    for policy in policies:
        called, cost = _call(policy, request)
        for value in (*called, cost):
            if inspect.isawaitable(value):
                decision._refuse_awaitable(value)
        verdict = _add(asks, limiter, policy, request, called, cost)
        if verdict is not None:
            return _counted(limiter, [policy], verdict)
    if not asks:
        return Verdict(True, 200, reason="exempt")
    now, later = _split(asks)
    try:
        looks = [limiter.peek(ask.key, ask.cost, limit=ask.limit) for _, ask, _ in later]
        refused = _refused(later, looks)
        if refused is not None:
            if decision._turns_away(refused[1]):
                decision._record_denial(limiter, refused[0][1])
            return _turned_away(limiter, request, *refused)
        if not now:
            return _let_in(limiter, asks, [*zip(later, looks, strict=True)])
        items = [(key, ask.cost) for _, ask, key in now]
        partial = _perhaps_partial(limiter, now)
        if partial:
            limiter.limit_many(_templates(partial), if_absent=True)
            _note_whole(limiter, partial)
        try:
            answer = limiter.check_all(items)
        except NotConfiguredError:
            limiter.limit_many(_templates(now), if_absent=True)
            answer = limiter.check_all(items)
        nearest = _nearest(now, answer)
        result = limiter.peek(nearest[2], nearest[1].cost)
    except Exception as error:
        return _failed(limiter, request, asks, error)
    if not answer["allowed"]:
        return _denied(limiter, request, nearest, result)
    return _let_in(limiter, asks, [(nearest, result), *zip(later, looks, strict=True)])


async def adecide_all(limiter: AnyLimiter, policies: Sequence[Policy], request: Request) -> Verdict:
    """`decide_all` without blocking the event loop."""
    if len(policies) == 1:
        return await adecide(limiter, policies[0], request)
    asks: Asks = []
    for policy in policies:
        called, cost = _call(policy, request)
        called = [await value if inspect.isawaitable(value) else value for value in called]
        cost = await cost if inspect.isawaitable(cost) else cost
        verdict = _add(asks, limiter, policy, request, called, cost)
        if verdict is not None:
            return _counted(limiter, [policy], verdict)
    if not asks:
        return Verdict(True, 200, reason="exempt")
    now, later = _split(asks)
    try:
        looks = [await limiter.apeek(ask.key, ask.cost, limit=ask.limit) for _, ask, _ in later]
        refused = _refused(later, looks)
        if refused is not None:
            if decision._turns_away(refused[1]):
                await decision._arecord_denial(limiter, refused[0][1])
            return _turned_away(limiter, request, *refused)
        if not now:
            return _let_in(limiter, asks, [*zip(later, looks, strict=True)])
        items = [(key, ask.cost) for _, ask, key in now]
        partial = _perhaps_partial(limiter, now)
        if partial:
            await limiter.alimit_many(_templates(partial), if_absent=True)
            _note_whole(limiter, partial)
        try:
            answer = await limiter.acheck_all(items)
        except NotConfiguredError:
            await limiter.alimit_many(_templates(now), if_absent=True)
            answer = await limiter.acheck_all(items)
        nearest = _nearest(now, answer)
        result = await limiter.apeek(nearest[2], nearest[1].cost)
    except Exception as error:
        return _failed(limiter, request, asks, error)
    if not answer["allowed"]:
        return _denied(limiter, request, nearest, result)
    return _let_in(limiter, asks, [(nearest, result), *zip(later, looks, strict=True)])


def _call(policy: Policy, request: Request) -> tuple[list[Any], Any]:
    """What the callables of a policy return, unless it does not limit the request."""
    if decision._before(policy, request) is not None:
        return [], policy.cost if not callable(policy.cost) else 1
    return decision._call(policy, request)


def _add(
    asks: Asks,
    limiter: AnyLimiter,
    policy: Policy,
    request: Request,
    called: list[Any],
    cost: object,
) -> Verdict | None:
    """Add what a policy asks, or return the verdict of one that has decided already."""
    verdict = decision._before(policy, request)
    ask = verdict or decision._ask(limiter, policy, request, called, cost)
    if isinstance(ask, Verdict):
        ask.policy = policy
        return None if ask.reason == "exempt" else ask
    # One limit goes with its check; here it is a template's, as several limits of a key are.
    prefix = "" if ask.limit is None or isinstance(ask.limit, Rate) else ask.limit.prefix
    key = prefix + ask.key
    for index, (other, _, same) in enumerate(asks):
        if key == same:  # equal policies have one counter; what counts at once counts anyway
            if policy.when is None and other.when is not None:
                asks[index] = (policy, ask, key)
            return None
    asks.append((policy, ask, key))
    return None


def _split(asks: Asks) -> tuple[Asks, Asks]:
    """What takes its units now, and what takes them when the response is known."""
    return (
        [one for one in asks if one[0].when is None],
        [one for one in asks if one[0].when is not None],
    )


def _refused(later: Asks, looks: Sequence[Result]) -> tuple[AskOf, Result] | None:
    """The first that would not let the request in, and what the limiter said."""
    for one, look in zip(later, looks, strict=True):
        if not look.allowed:
            return one, look
    return None


def _perhaps_partial(limiter: AnyLimiter, asks: Asks) -> Asks:
    """Those with a set of limits that this process has not configured: a crash may have kept the
    first of its limits only, and a check would take that for the set."""
    whole: set[str] | None = getattr(limiter, "_whole", None)
    return [
        one
        for one in asks
        if whole is not None and isinstance(one[1].limit, Several)
        if one[1].limit.prefix not in whole
    ]


def _note_whole(limiter: Any, asks: Asks) -> None:
    for _, ask, _ in asks:
        note_whole(limiter._whole, cast("Several", ask.limit))


def _templates(asks: Asks) -> list[LimitDict]:
    found: list[LimitDict] = []
    for _, ask, _ in asks:
        if isinstance(ask.limit, Rate):
            rate, per_ns, burst, algorithm = ask.limit.values
            prefix = f"{ask.limit} @ "
            one: Any = {"rate": rate, "per_ns": per_ns, "burst": burst, "algorithm": algorithm}
            found.append(cast("LimitDict", {"key": prefix, "template": True, **one}))
        elif ask.limit is not None:
            found += ask.limit.limits
    return list({(one["key"], one.get("name")): one for one in found}.values())


def _nearest(asks: Asks, answer: CheckAllDict) -> tuple[Policy, Ask, str]:
    """The one that denied, or of what was let in the one with the least left."""
    results = answer["results"]
    if not answer["allowed"]:
        return asks[len(results) - 1]
    return asks[min(range(len(results)), key=lambda index: results[index]["remaining"])]


def _let_in(limiter: AnyLimiter, asks: Asks, said: list[tuple[AskOf, Result]]) -> Verdict:
    """`said` is what the limiter said of those that may be shown, and of all with `when`."""
    (policy, ask, _), result = min(said, key=lambda one: one[1].remaining)
    headers = decision._limit_headers(policy, ask, result)
    verdict = Verdict(True, 200, headers, result=result, policy=policy)
    verdict.pending = [
        (policy, ask)
        for (policy, ask, _), result in said
        if policy.when is not None and not result.undecided
    ]
    return _counted(limiter, [policy for policy, _, _ in asks], verdict)


def _turned_away(limiter: AnyLimiter, request: Request, one: AskOf, result: Result) -> Verdict:
    """By a policy that was only looked at."""
    policy = one[0]
    if result.undecided:  # the limiter's own on_error
        verdict = decision._unavailable(policy, request)
        verdict.policy = policy
        return _counted(limiter, [policy], verdict)
    return _denied(limiter, request, one, result)


def _denied(limiter: AnyLimiter, request: Request, one: AskOf, result: Result) -> Verdict:
    policy, ask, _ = one
    headers = decision._limit_headers(policy, ask, result)
    verdict = decision._deny(policy, request, "denied", policy.status_code, result, headers)
    verdict.policy = policy
    return _counted(limiter, [policy], verdict)


def _failed(limiter: AnyLimiter, request: Request, asks: Asks, error: Exception) -> Verdict:
    policy, ask, _ = max(asks, key=lambda one: one[1].cost)
    try:
        verdict = decision._failed(policy, request, ask, error)
    except FlintError:
        decisions = decisions_of(limiter)
        if decisions is not None:
            decisions.add(cast("str", policy.name), "error_raised")
        raise
    verdict.policy = policy
    return _counted(limiter, [policy], verdict)


def _counted(limiter: AnyLimiter, policies: Sequence[Policy], verdict: Verdict) -> Verdict:
    decisions: Decisions | None = decisions_of(limiter)
    if decisions is not None:
        for policy in policies:
            decisions.add(cast("str", policy.name), decision._result(verdict))
    return verdict
