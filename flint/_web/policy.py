"""`Policy`: everything that is said about limiting requests, whatever the framework."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from flint._surface.arguments import refusal
from flint._surface.rate import Rate, Several, read_one_or_several
from flint._web.address import ClientAddress, network

if TYPE_CHECKING:
    from flint._surface.rate import RateLike
    from flint._surface.types import OnError
    from flint._web.address import Network
    from flint._web.request import Response

Part: TypeAlias = str | Callable[..., Any]
Headers: TypeAlias = Literal["legacy", "ietf", "both", "none"]
# What the parts of a key may be, beside "header:" and a name.
PARTS = ("ip", "user", "route")
_HEADERS = ("legacy", "ietf", "both", "none")
_ON_ERROR = ("raise", "allow", "deny")
_WHEN = ("5xx", "4xx", "failed")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_KEY_FORMS = '"ip", "user", "route", "header:NAME", a callable, or a tuple of these'


def prefix_of(limit: Rate | Several | None) -> str:
    """What stands before the rest of the key of a check that carries these limits."""
    if limit is None:
        return ""
    return f"{limit} @ " if isinstance(limit, Rate) else "@"


@dataclass(frozen=True)
class Policy:
    """How requests are limited. It is checked when it is made: every error names the parameter.

    `limits` is a rate in words ("100/minute", "5/minute; 100/day": all of them hold, and a request
    counts in all or in none), a `flint.rates.Rate`, the name of a rate of the configuration, or
    None: the limits that the limiter has for the key, which is then `scope`, ":" and the parts.

    `key` says whose requests are counted together: "ip" (the client's address; IPv6 by /64),
    "user" (who has logged in, and the address of who has not), "header:X-Api-Key" (its value as a
    hash, and the address of who sends none), "route", a callable that is given the framework's
    request and returns a str or int, or None for a request that is not limited; or a tuple of
    these. `cost` is 1 or more units, or a callable that is given the request.

    `scope` says which requests share a counter: "route" are those of one route's template, any
    other text is a name, so that all policies with this name and the same limits share. The first
    is also the policy's `name` in headers and counts if it has none of its own.

    `when` counts only some responses: "5xx", "4xx", "failed" (400 and above) or a callable that is
    given the response (`status`, `headers(name)`). The request is let in if the units are there;
    they are taken when the response is known. Requests that are under way at the same time do not
    see each other: what is counted never exceeds the limit, but as many more may be let in as were
    under way when the last unit went. A second policy without `when` bounds these.

    `methods` are the ones that are limited (by default all); preflights of CORS never are. `exempt`
    are globs of paths and `safelist` networks that are not limited; `blocklist` are networks that
    are answered with 403. `shadow` decides, counts and reports, and blocks nobody.

    `headers` are "legacy" (X-RateLimit-Limit, -Remaining, -Reset), "ietf" (RateLimit,
    RateLimit-Policy), "both" or "none". A denial has `status_code` and Retry-After, which up to
    `jitter_s` seconds are added to; its body is JSON, with `problem` in the form of RFC 9457, which
    a client may also ask for by Accept. `on_denied` is a callable that is given the request and
    the verdict and returns the framework's response instead.

    `on_error` is for a limiter that cannot decide: "raise", "allow", or "deny" with 503.

    `trusted_proxies` are the networks of proxies whose `forwarded_header` ("x-forwarded-for" or
    "forwarded", the one that they set) is believed, and that alone; `ipv6_prefix` says how many
    bits of an IPv6 address are one client.
    """

    limits: RateLike | None = None
    key: Part | tuple[Part, ...] = "ip"
    cost: int | Callable[..., Any] = 1
    scope: str = "all"
    name: str | None = None
    when: str | Callable[[Response], bool] | None = None
    methods: Iterable[str] | None = None
    exempt: Iterable[str] = ()
    safelist: Iterable[str] = ()
    blocklist: Iterable[str] = ()
    shadow: bool = False
    headers: Headers = "legacy"
    on_error: OnError = "raise"
    status_code: int = 429
    problem: bool = False
    jitter_s: int = 0
    on_denied: Callable[..., Any] | None = None
    trusted_proxies: Iterable[str] = ()
    ipv6_prefix: int = 64
    forwarded_header: str = "x-forwarded-for"

    # Made of the above.
    parts: tuple[Part, ...] = field(init=False, repr=False, compare=False)
    fixed: Rate | Several | None = field(init=False, repr=False, compare=False)
    safe_networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)
    blocked_networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)
    address: ClientAddress = field(init=False, repr=False, compare=False)
    is_called: bool = field(init=False, repr=False, compare=False)
    prefix: str = field(init=False, repr=False, compare=False)  # of the counter's key

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("fixed", _fixed(self.limits))
        put("prefix", prefix_of(self.fixed))
        put("parts", _parts(self.key))
        _check_cost(self.cost)
        _text("scope", self.scope)
        put("name", self.scope if self.name is None else _text("name", self.name))
        _check_when(self.when)
        if self.methods is not None:
            put("methods", frozenset(_methods(self.methods)))
        put("exempt", tuple(_text("exempt", glob) for glob in _many("exempt", self.exempt)))
        put("safe_networks", _networks("safelist", self.safelist))
        put("blocked_networks", _networks("blocklist", self.blocklist))
        put("safelist", tuple(self.safelist))
        put("blocklist", tuple(self.blocklist))
        _bool("shadow", self.shadow)
        _bool("problem", self.problem)
        _one_of("headers", self.headers, _HEADERS)
        _one_of("on_error", self.on_error, _ON_ERROR)
        _integer("status_code", self.status_code, 400, 599)
        _integer("jitter_s", self.jitter_s, 0, 86_400)
        if self.on_denied is not None and not callable(self.on_denied):
            raise TypeError(refusal("on_denied", "a callable or None", self.on_denied))
        proxies = tuple(_many("trusted_proxies", self.trusted_proxies))
        put("trusted_proxies", proxies)
        put("address", ClientAddress(proxies, self.ipv6_prefix, self.forwarded_header))
        put("is_called", callable(self.cost) or any(map(callable, self.parts)))

    def counts(self, response: Response) -> bool:
        """Whether `when` says that this response uses up units."""
        if self.when is None or self.when == "failed":
            return self.when is None or response.status >= 400
        if isinstance(self.when, str):
            return response.status // 100 == int(self.when[0])
        return bool(self.when(response))


def given(
    policy: Policy | None,
    limits: RateLike | None,
    options: dict[str, Any],
    *,
    knows_route: bool = True,
) -> Policy:
    """The policy that a skin is given, whole or in parts. Raises ValueError for one that needs the
    route where it is not known."""
    if policy is not None and (limits is not None or options):
        raise TypeError("policy takes the place of limits and all other options")
    found = Policy(limits, **options) if policy is None else policy
    if not knows_route and (found.scope == "route" or "route" in found.parts):
        raise ValueError(
            "scope and key cannot be 'route' in a middleware, which does not know the route; limit "
            "the routes themselves"
        )
    return found


def given_all(
    policy: Policy | Sequence[Policy] | None,
    limits: RateLike | None,
    options: dict[str, Any],
    *,
    knows_route: bool = True,
) -> tuple[Policy, ...]:
    """The policies that a skin is given, at least one."""
    if policy is None or isinstance(policy, Policy):
        return (given(policy, limits, options, knows_route=knows_route),)
    if not isinstance(policy, (list, tuple)) or not all(isinstance(one, Policy) for one in policy):
        raise TypeError(refusal("policy", "a Policy, or a list or tuple of them", policy))
    if not policy:
        raise ValueError(refusal("policy", "a Policy, or a list or tuple of them", policy))
    for one in policy:
        given(one, limits, options, knows_route=knows_route)
        if len(policy) > 1 and one.shadow:
            raise ValueError(
                "shadow is for a policy that is decided alone; give it a middleware of its own"
            )
    return tuple(policy)


def _fixed(limits: RateLike | None) -> Rate | Several | None:
    """The limits, unless the limiter's configuration has to be asked what a name means."""
    if limits is None or (isinstance(limits, str) and _NAME.fullmatch(limits)):
        return None
    try:
        return read_one_or_several(limits, {})
    except (TypeError, ValueError) as error:
        raise type(error)(f"limits: {error}") from None


def _parts(key: object) -> tuple[Part, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    if not parts:
        raise ValueError(refusal("key", _KEY_FORMS, key))
    return tuple(_part(part) for part in parts)


def _part(part: object) -> Part:
    if callable(part):
        return part
    if not isinstance(part, str):
        raise TypeError(refusal("key", _KEY_FORMS, part))
    if part in PARTS:
        return part
    kind, colon, name = part.partition(":")
    if kind != "header" or not colon or not _TOKEN.fullmatch(name):
        raise ValueError(refusal("key", _KEY_FORMS, part))
    return f"header:{name.lower()}"


def _check_cost(cost: object) -> None:
    if not callable(cost):
        units("cost", cost)


def units(name: str, cost: object) -> int:
    """A number of units that a request costs."""
    if isinstance(cost, bool) or not hasattr(cost, "__index__"):
        raise TypeError(refusal(name, "an integer from 1 to 2**62, or a callable", cost))
    number = operator.index(cost)
    if not 1 <= number <= 2**62:
        raise ValueError(refusal(name, "an integer from 1 to 2**62, or a callable", cost))
    return number


def _check_when(when: object) -> None:
    if when is not None and not callable(when):
        _one_of("when", when, _WHEN)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    kind = ValueError if isinstance(value, str) else TypeError
    if not isinstance(value, str) or value not in allowed:
        raise kind(refusal(name, "one of " + ", ".join(allowed), value))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(refusal(name, "a str", value))
    if not value or not value.isprintable() or len(value) > 255:
        raise ValueError(refusal(name, "1 to 255 characters that can be printed", value))
    return value


def _many(name: str, values: Iterable[str]) -> Iterable[str]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(refusal(name, "a list or tuple of str", values))
    return values


def _methods(methods: Iterable[str]) -> Iterable[str]:
    for method in _many("methods", methods):
        if not isinstance(method, str):
            raise TypeError(refusal("methods", "a list of str", method))
        if not _TOKEN.fullmatch(method):
            raise ValueError(refusal("methods", "names of HTTP methods", method))
        yield method.upper()


def _networks(name: str, networks: Iterable[str]) -> tuple[Network, ...]:
    return tuple(network(name, one) for one in _many(name, networks))


def _bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(refusal(name, "True or False", value))


def _integer(name: str, value: object, low: int, high: int) -> None:
    allowed = f"an integer from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(refusal(name, allowed, value))
    if not low <= value <= high:
        raise ValueError(refusal(name, allowed, value))
