"""The keys of counters: what the program and the client say, so that equal is equal and nothing
else is."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, Any

from flint._surface.arguments import refusal
from flint._surface.rate import Rate, Several, read_one_or_several
from flint._web.address import address_of
from flint._web.policy import prefix_of

if TYPE_CHECKING:
    from flint._surface.rate import RateLike
    from flint._web.policy import Part, Policy
    from flint._web.request import Request

# What stands in a key as it is. Everything else is hashed, which "#" begins.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@/{}<>=+~-]{1,128}", re.ASCII)
_REMEMBERED = 4096


def plain(value: str) -> str:
    """A value as a part of a key."""
    return value if _PLAIN.fullmatch(value) else hashed(value)


def hashed(value: str) -> str:
    """A value that no log should show, or that is long or odd."""
    return "#" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def identity(policy: Policy, request: Request, called: list[Any]) -> str | None:
    """Whose request it is: a part of the counter's key. `called` is what the callables of the key
    returned, in order. None is for a request that is not limited."""
    parts = []
    returned = iter(called)
    for part in policy.parts:
        if callable(part):
            value = next(returned)
            if value is None:
                return None
            parts.append(of_callable(value))
        else:
            parts.append(_built_in(part, policy, request))
    return " ".join(parts)


def of_callable(value: object) -> str:
    """What a callable of the key has returned, as a part of the key."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(refusal("what key returns", "a str, an int or None", value))
    return "key:" + plain(str(value))


def _built_in(part: Part, policy: Policy, request: Request) -> str:
    if part == "route":
        return "route:" + plain(request.route or "-")
    if part == "user":
        user = request.user
        if user is not None:
            return "user:" + plain(user)
    elif part != "ip":
        name = str(part).removeprefix("header:")
        values = request.headers(name)
        if values:
            return f"{name}:" + hashed(", ".join(values))
    return "ip:" + plain(policy.address.of(request) or "unknown")


def limit_of(limiter: Any, policy: Policy) -> Rate | Several | None:
    """The limits that a check carries along; None if those that the limiter has hold."""
    if policy.fixed is not None or policy.limits is None:
        return policy.fixed
    named: RateLike = policy.limits
    return read_one_or_several(named, limiter._rates)


def counter_key(
    policy: Policy, limit: Rate | Several | None, request: Request | None, whose: str
) -> str:
    """The key to check; without a request the scope is a name. One limit puts its text before it,
    so that other limits are other counters and a program's template of `web` does not cover a
    client's key. Several do that themselves, but are asked for without it first: those of the key
    would hold, so it begins with an @."""
    scope = policy.scope if policy.scope != "route" else _route(request)
    if limit is None:
        return f"{scope}:{whose}"
    scope = scope if policy.scope == "route" else plain(scope)
    rest = f"web {scope} {whose}"
    if limit is policy.fixed:
        return policy.prefix + rest
    return prefix_of(limit) + rest


def _route(request: Request | None) -> str:
    if request is None:
        raise RuntimeError("scope='route' needs a request")
    method = "GET" if request.method == "HEAD" else plain(request.method)
    return f"{method} {plain(request.route or '-')}"


@functools.lru_cache(maxsize=_REMEMBERED)
def route_prefix(prefix: str, method: str, route: str | None) -> str:
    """What stands before whose request it is, in the key of a limit for each route."""
    method = "GET" if method == "HEAD" else plain(method)
    return f"{prefix}web {method} {plain(route or '-')} "


@functools.lru_cache(maxsize=_REMEMBERED)
def whose_address(peer: str, ipv6_prefix: int) -> str:
    """Whose request it is that comes from a peer which is no proxy."""
    return "ip:" + plain(address_of(peer, ipv6_prefix) or "unknown")


def window_ns(limit: Rate | Several | None, name: str | None) -> int | None:
    """The period of the limit of that name; None where the check did not carry it along."""
    if isinstance(limit, Rate):
        return limit.per_ns
    if limit is not None and name in limit.names:
        return limit.rates[limit.names.index(name)].per_ns
    return None


_WHOSE = re.compile(r":(?=(?:ip|user|key|route):)")


def route_of(key: str) -> str:
    """The route, or the scope, in a key that `counter_key` has made; of another key what stands
    before its first colon."""
    _, made, rest = key.replace(" @ @web ", " @ web ", 1).partition(" @ web ")
    if not made:
        parts = _WHOSE.split(key, maxsplit=1)
        return parts[0] if len(parts) > 1 else key.partition(":")[0]
    words = rest.split(" ", 2)
    # A route is its method and its template; what says whose a request is begins with a name.
    return " ".join(words[:2]) if len(words) > 2 and words[1][0] in "/-#" else words[0]
