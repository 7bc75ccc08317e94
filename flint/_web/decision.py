"""The decision about one request: `decide`, and `adecide` for event loops.

With `when` there is a second step: `settle` (`asettle`) takes the units when the response is known.
"""

from __future__ import annotations

import inspect
import logging
import random
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn, cast

from flint._surface.decisions import decisions_of, result_of
from flint._surface.rate import Rate, Several
from flint._web.answer import answer
from flint._web.headers import limit_headers, retry_after_s
from flint._web.keys import counter_key, identity, limit_of, window_ns
from flint._web.policy import Policy, units
from flint._web.workers import look
from flint.errors import ClosedError, FlintError, ForkedError, NotConfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint._native import Result
    from flint._surface.decisions import Decisions
    from flint._surface.protocol import AnyLimiter, LoopPlace
    from flint._web.request import Request, Response

_log = logging.getLogger("flint.web")
# The program's own mistakes; `on_error` is for what happens to a limiter that is used well.
_MISTAKES = (NotConfiguredError, ClosedError, ForkedError)
_ERROR_RETRY_S = 1
SHADOW_HEADER = "X-RateLimit-Shadow"


@dataclass(slots=True)
class Ask:
    """What to ask the limiter about one request."""

    key: str
    cost: int
    limit: Rate | Several | None


@dataclass(slots=True)
class Verdict:
    """What was decided: when `allowed`, the application answers and `headers` are added to what it
    says; otherwise the answer is `status`, `headers` and `body`.

    `reason` is "allowed", "exempt", "denied", "cost" (more than the limit ever admits), "blocked"
    or "error". `result` is what the limiter said, None where it was not asked or could not decide.
    `shadow` is True for what would not have been allowed without the policy's `shadow`. `pending`
    is what `settle` takes when the response is known, empty where nothing is left to do. `policy`
    is whose verdict it is where there were several.
    """

    allowed: bool
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    result: Result | None = None
    shadow: bool = False
    reason: str = "allowed"
    pending: Sequence[tuple[Policy, Ask]] = ()
    policy: Policy | None = None


# ---- One request -------------------------------------------------------------------------------


def decide(limiter: AnyLimiter, policy: Policy, request: Request) -> Verdict:
    """Decide about a request, in one call of the limiter. May wait for the disk. Raises what the
    policy's callables raise, and TypeError if one of them is a coroutine function."""
    decisions = decisions_of(limiter)
    if decisions is None:
        return _decide(limiter, policy, request)
    begun_ns = perf_counter_ns()
    try:
        verdict = _decide(limiter, policy, request)
    except FlintError:
        _count(decisions, policy, "error_raised", begun_ns)
        raise
    _count(decisions, policy, _result(verdict), begun_ns)
    return verdict


def _decide(limiter: AnyLimiter, policy: Policy, request: Request) -> Verdict:
    verdict = _before(policy, request)
    if verdict is not None:
        return verdict
    called, cost = _call(policy, request)
    if policy.is_called:
        for value in (*called, cost):
            if inspect.isawaitable(value):
                _refuse_awaitable(value)
    ask = _ask(limiter, policy, request, called, cost)
    if not isinstance(ask, Ask):
        return ask
    look = limiter.check if policy.when is None else limiter.peek
    try:
        result = look(ask.key, ask.cost, limit=ask.limit)
    except Exception as error:
        return _failed(policy, request, ask, error)
    if policy.when is not None and _turns_away(result):
        _record_denial(limiter, ask)
    return _judge(policy, request, ask, result)


async def adecide(limiter: AnyLimiter, policy: Policy, request: Request) -> Verdict:
    """`decide` without blocking the event loop. The policy's callables may be coroutine functions;
    others are called in the loop."""
    decisions = decisions_of(limiter)
    if decisions is None:
        return await _adecide(limiter, policy, request)
    begun_ns = perf_counter_ns()
    try:
        verdict = await _adecide(limiter, policy, request)
    except FlintError:
        _count(decisions, policy, "error_raised", begun_ns)
        raise
    _count(decisions, policy, _result(verdict), begun_ns)
    return verdict


async def _adecide(limiter: AnyLimiter, policy: Policy, request: Request) -> Verdict:
    verdict = _before(policy, request)
    if verdict is not None:
        return verdict
    called, cost = _call(policy, request)
    if policy.is_called:
        called = [await value if inspect.isawaitable(value) else value for value in called]
        cost = await cost if inspect.isawaitable(cost) else cost
    ask = _ask(limiter, policy, request, called, cost)
    if not isinstance(ask, Ask):
        return ask
    look = limiter.acheck if policy.when is None else limiter.apeek
    try:
        result = await look(ask.key, ask.cost, limit=ask.limit)
    except Exception as error:
        return _failed(policy, request, ask, error)
    if policy.when is not None and _turns_away(result):
        await _arecord_denial(limiter, ask)
    return _judge(policy, request, ask, result)


def _count(decisions: Decisions, policy: Policy, result: str, begun_ns: int) -> None:
    decisions.add(cast("str", policy.name), result, perf_counter_ns() - begun_ns)


def _result(verdict: Verdict) -> str:
    """What a verdict is counted as."""
    if verdict.shadow:
        return "shadow_denied"
    if verdict.reason == "allowed":
        return result_of(True, verdict.result is not None and verdict.result.undecided)
    if verdict.reason == "error":
        return result_of(verdict.allowed, True)
    return "cost_denied" if verdict.reason == "cost" else verdict.reason


def _before(policy: Policy, request: Request) -> Verdict | None:
    """The verdict about a request for which the limiter need not be asked."""
    if policy.blocked_networks and _is_in(policy.blocked_networks, policy, request):
        return _deny(policy, request, "blocked", 403, None, [])
    methods = cast("frozenset[str] | None", policy.methods)
    if (
        (methods is not None and request.method not in methods)
        or any(fnmatchcase(request.path, glob) for glob in policy.exempt)
        or (policy.safe_networks and _is_in(policy.safe_networks, policy, request))
        or _is_preflight(request)
    ):
        return Verdict(True, 200, reason="exempt")
    return None


def _is_in(networks: tuple[Any, ...], policy: Policy, request: Request) -> bool:
    exact = policy.address.exact(request)
    if exact is None:
        return False
    address = ip_address(exact)
    return any(address in network for network in networks)


def _is_preflight(request: Request) -> bool:
    """Whether a browser only asks what it may ask (CORS)."""
    return (
        request.method == "OPTIONS"
        and bool(request.headers("origin"))
        and bool(request.headers("access-control-request-method"))
    )


def _call(policy: Policy, request: Request) -> tuple[list[Any], Any]:
    """What the callables of the key return, and the cost; some may have to be awaited."""
    if not policy.is_called:
        return [], policy.cost
    native = request.native
    called = [part(native) for part in policy.parts if callable(part)]
    return called, policy.cost(native) if callable(policy.cost) else policy.cost


def _refuse_awaitable(value: Any) -> NoReturn:
    if inspect.iscoroutine(value):
        value.close()
    raise TypeError("key and cost must not be coroutine functions where the framework has no loop")


def _ask(
    limiter: AnyLimiter, policy: Policy, request: Request, called: list[Any], cost: object
) -> Ask | Verdict:
    """What to ask the limiter, or the verdict where there is nothing to ask."""
    if policy.address.unchecked:
        look(limiter)
    whose = identity(policy, request, called)
    if whose is None:
        return Verdict(True, 200, reason="exempt")
    number = cost if cost == 1 and type(cost) is int else units("cost", cost)
    limit = limit_of(limiter, policy)
    ask = Ask(counter_key(policy, limit, request, whose), number, limit)
    if number > 1 and limit is not None and number > _most(limit):
        return _deny(policy, request, "cost", policy.status_code, None, [])
    return ask


def _most(limit: Rate | Several) -> int:
    """The most units that limits can ever admit at once."""
    rates = [limit] if isinstance(limit, Rate) else limit.rates
    return min(rate.rate if rate.burst is None else rate.burst for rate in rates)


# ---- What comes of it --------------------------------------------------------------------------


def _judge(policy: Policy, request: Request, ask: Ask, result: Result) -> Verdict:
    if result.undecided and not result.allowed:  # the limiter's own on_error
        return _unavailable(policy, request)
    headers = _limit_headers(policy, ask, result)
    if not result.allowed:
        return _deny(policy, request, "denied", policy.status_code, result, headers)
    pending = () if policy.when is None or result.undecided else ((policy, ask),)
    return Verdict(True, 200, headers, result=result, pending=pending)


def _limit_headers(policy: Policy, ask: Ask, result: Result) -> list[tuple[str, str]]:
    if policy.headers == "none" or result.undecided:
        return []
    window = window_ns(ask.limit, result.name)
    window_s = None if window is None else -(-window // 1_000_000_000)
    return limit_headers(policy.headers, result, cast("str", policy.name), window_s)


def _turns_away(result: Result) -> bool:
    """A look takes and records nothing; a request that it turned away is to be seen in history."""
    return not result.allowed and not result.undecided


def _record_denial(limiter: AnyLimiter, ask: Ask) -> None:
    try:
        cast("LoopPlace", limiter)._refuse(ask.key, ask.cost, limit=ask.limit)
    except Exception as error:
        _not_recorded(error)


async def _arecord_denial(limiter: AnyLimiter, ask: Ask) -> None:
    try:
        await cast("LoopPlace", limiter)._arefuse(ask.key, ask.cost, limit=ask.limit)
    except Exception as error:
        _not_recorded(error)


def _not_recorded(error: Exception) -> None:
    _log.warning("a denial has not been recorded: %s", error)


def _deny(
    policy: Policy,
    request: Request,
    reason: str,
    status: int,
    result: Result | None,
    headers: list[tuple[str, str]],
) -> Verdict:
    """The verdict about a request that is not to be let in, or would not be but for `shadow`."""
    if policy.shadow:
        headers = [*headers, (SHADOW_HEADER, reason)] if policy.headers != "none" else []
        return Verdict(True, 200, headers, result=result, shadow=True, reason=reason)
    more: dict[str, Any] = {}
    if reason in ("denied", "error"):
        retry_s = _ERROR_RETRY_S if result is None else max(retry_after_s(result), 1)
        retry_s += random.randint(0, policy.jitter_s) if policy.jitter_s else 0
        headers = [*headers, ("Retry-After", str(retry_s))]
        more = {"retry_after": retry_s}
    kind, body = answer(request, reason, status, policy.problem, more)
    headers = [*headers, ("Content-Type", kind), ("Content-Length", str(len(body)))]
    return Verdict(False, status, headers, body, result, reason=reason)


def _unavailable(policy: Policy, request: Request) -> Verdict:
    return _deny(policy, request, "error", 503, None, [])


def _failed(policy: Policy, request: Request, ask: Ask, error: Exception) -> Verdict:
    """What `on_error` says about a limiter that has raised."""
    if isinstance(error, ValueError) and not isinstance(error, FlintError) and ask.cost > 1:
        # Key and limits have been read: it is the cost that is beyond a limit set elsewhere.
        return _deny(policy, request, "cost", policy.status_code, None, [])
    is_mistake = not isinstance(error, FlintError) or isinstance(error, _MISTAKES)
    if policy.on_error == "raise" or is_mistake:
        raise error
    _log.error("policy %r could not decide: %s", policy.name, error)
    if policy.on_error == "allow":
        return Verdict(True, 200, reason="error")
    return _unavailable(policy, request)


# ---- When the response is known ----------------------------------------------------------------


def settle(limiter: AnyLimiter, verdict: Verdict, response: Response) -> None:
    """Take the units of a request whose response `when` counts, and bring the verdict's headers up
    to date. To be called before the response is sent. A limiter that fails then is logged and
    counted: the response goes out."""
    pending, verdict.pending = verdict.pending, ()
    for policy, ask in pending:
        try:
            if policy.counts(response):
                result = limiter.check(ask.key, ask.cost, limit=ask.limit)
                _settled(limiter, policy, verdict, ask, result)
        except Exception as error:
            _not_settled(limiter, policy, error)


async def asettle(limiter: AnyLimiter, verdict: Verdict, response: Response) -> None:
    """`settle` without blocking the event loop."""
    pending, verdict.pending = verdict.pending, ()
    for policy, ask in pending:
        try:
            if policy.counts(response):
                result = await limiter.acheck(ask.key, ask.cost, limit=ask.limit)
                _settled(limiter, policy, verdict, ask, result)
        except Exception as error:
            _not_settled(limiter, policy, error)


def _settled(
    limiter: AnyLimiter, policy: Policy, verdict: Verdict, ask: Ask, result: Result
) -> None:
    decisions = decisions_of(limiter)
    if decisions is not None and not result.allowed:
        decisions.add(cast("str", policy.name), "settle_denied")
    # Of several policies the headers stay those of the one that has the least left.
    shown = verdict.result
    is_shown = verdict.policy is None or verdict.policy is policy
    if is_shown or shown is None or result.remaining < shown.remaining:
        verdict.result = result
        verdict.headers = _limit_headers(policy, ask, result)


def _not_settled(limiter: AnyLimiter, policy: Policy, error: Exception) -> None:
    decisions = decisions_of(limiter)
    if decisions is not None:
        decisions.add(cast("str", policy.name), "settle_failed")
    _log.error("policy %r could not count a response: %s", policy.name, error)
