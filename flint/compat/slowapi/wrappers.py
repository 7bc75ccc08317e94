"""slowapi's limits, and what limits has of them: the text, and a rate for Flint."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from flint._surface.arguments import refusal
from flint._surface.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.requests import Request

    from flint._surface.types import Algorithm

    Text: TypeAlias = str | Callable[..., str]

_NS = 1_000_000_000
# As limits counts them.
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 360 * 86_400,
}
_ONE = re.compile(r"\s*([0-9]+)\s*(?:/|per)\s*([0-9]+)?\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)
ALGORITHMS: dict[str, Algorithm] = {
    "fixed-window": "fixed_window_counter",
    "moving-window": "sliding_window_log",
    "sliding-window-counter": "sliding_window_counter",
}


@dataclass(frozen=True)
class RateLimitItem:
    """`amount` requests in `multiples` of a `granularity`, "minute" and its like."""

    amount: int
    multiples: int
    granularity: str

    def get_expiry(self) -> int:
        """The length of the window, in seconds."""
        return _SECONDS[self.granularity] * self.multiples

    def rate(self, algorithm: Algorithm) -> Rate:
        """As Flint counts it. Raises ValueError for numbers that no limit can have."""
        return Rate(self.amount, self.get_expiry() * _NS, None, algorithm)

    def __lt__(self, other: RateLimitItem) -> bool:
        return _SECONDS[self.granularity] < _SECONDS[other.granularity]

    def __str__(self) -> str:
        return f"{self.amount} per {self.multiples} {self.granularity}"


def parse_many(text: object) -> list[RateLimitItem]:
    """Reads "5/minute; 100 per 2 hours". Raises ValueError for another text."""
    parts = re.split("[,;|]", text) if isinstance(text, str) else []
    found = []
    for part in parts:
        one = _ONE.fullmatch(part)
        granularity = one[3].lower().removesuffix("s") if one else ""
        if one is None or granularity not in _SECONDS:
            break
        item = RateLimitItem(int(one[1]), int(one[2] or 1), granularity)
        item.rate("fixed_window_counter")  # raises for numbers that no limit can have
        found.append(item)
    if not parts or len(found) < len(parts):
        raise ValueError(refusal("a limit", '"5/minute", "5 per 2 hours" or several', text))
    return found


@dataclass(frozen=True)
class Limit:
    """One limit, and whom it is for."""

    limit: RateLimitItem
    key_func: Callable[..., str]
    scope: str
    per_method: bool = False
    methods: Sequence[str] | None = None
    error_message: Text | None = None
    exempt_when: Callable[..., bool] | None = None
    cost: int | Callable[..., int] = 1
    override_defaults: bool = True

    def is_exempt(self, request: Request) -> bool:
        """Whether `exempt_when` says so, which may take the request."""
        if self.exempt_when is None:
            return False
        takes_it = len(inspect.signature(self.exempt_when).parameters) == 1
        return bool(self.exempt_when(request) if takes_it else self.exempt_when())

    def is_for(self, request: Request) -> bool:
        """Whether the request is limited by it."""
        if self.methods is not None and request.method.lower() not in self.methods:
            return False
        return not self.is_exempt(request)

    def key(self, request: Request) -> str:
        """Whose request it is."""
        return asked(self.key_func, request)


@dataclass(frozen=True)
class LimitGroup:
    """What one text, or a callable that returns one, says; `about` are the fields of each limit."""

    provider: Text
    key_func: Callable[..., str]
    about: dict[str, Any]
    scope: Text | None = None

    def limits(self, request: Request | None = None, endpoint: str = "") -> Iterator[Limit]:
        """Its limits, for a request where the text is known then only."""
        provider, scope = self.provider, self.scope
        if callable(provider):
            takes_key = "key" in inspect.signature(provider).parameters
            text = provider(asked(self.key_func, request)) if takes_key else provider()
        else:
            text = provider
        named = scope(endpoint) if callable(scope) else scope
        for item in parse_many(text):
            yield Limit(item, self.key_func, named or "", **self.about)


def asked(key_func: Callable[..., str], request: Request | None) -> str:
    """What a key function returns, which may take the request."""
    if "request" in inspect.signature(key_func).parameters:
        return key_func(request)
    return key_func()
