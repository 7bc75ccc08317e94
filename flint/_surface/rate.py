"""Rates as people write them: "100/minute", "5 per 10 seconds", "10/s burst 20", several as
"5/minute; 100/hour". `flint.rates` shows them to users."""

from __future__ import annotations

import functools
import operator
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict, get_args

from flint._surface.arguments import MAX_NS, refusal
from flint._surface.types import Algorithm
from flint.errors import RateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, SupportsIndex, TypeAlias, TypeGuard

    from flint._surface.arguments import Duration

    RateLike: TypeAlias = "str | Rate | Several | Sequence[str | Rate]"

MAX_RATES = 16  # of one key, as in the engine
_MAX_CHARACTERS = 1024
_MAX_DIGITS = 30
_CACHED = 1024
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
_WINDOWS = ALGORITHMS[3:]
_EXAMPLES = '"100/minute", "5 per 10 seconds", "10/s burst 20" or "5/minute; 100/hour"'

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
# For each unit its length, its name in full, and its others. The first is the one that is printed.
_UNITS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (_DAY_NS, ("d", "day", "days")),
    (3_600 * _SECOND_NS, ("h", "hour", "hours", "hr", "hrs")),
    (60 * _SECOND_NS, ("m", "minute", "minutes", "min", "mins")),
    (_SECOND_NS, ("s", "second", "seconds", "sec", "secs")),
    (1_000_000, ("ms", "millisecond", "milliseconds")),
    (1_000, ("us", "microsecond", "microseconds")),
    (1, ("ns", "nanosecond", "nanoseconds")),
)
# Read, but printed as days: a month has 30 of them and a year 12 months, as limits counts them.
_LONG_UNITS = {
    **dict.fromkeys(("w", "week", "weeks"), 7 * _DAY_NS),
    **dict.fromkeys(("month", "months"), 30 * _DAY_NS),
    **dict.fromkeys(("year", "years"), 360 * _DAY_NS),
}
_UNIT_NS = {name: ns for ns, names in _UNITS for name in names} | _LONG_UNITS
_WORDS = ("per", "burst", "using")

_TOKEN = re.compile(r"\s*(?:([0-9]+)|([A-Za-z_]+)|([/;,|])|(\S))", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


class Rate:
    """A limit without its key: `rate` units per `per_ns` nanoseconds, up to `burst` at once (None:
    as many as the rate), counted by `algorithm`. It cannot be changed, and prints to the text that
    is read as the same: `parse(str(rate)) == rate`. Two of the same meaning are equal.

    Raises TypeError or ValueError for what no limit can have: all three numbers are 1 to 2**62, as
    is the time in nanoseconds in which the burst comes back; the window algorithms take no burst.
    """

    __slots__ = ("algorithm", "burst", "per_ns", "rate", "values")

    rate: int
    per_ns: int
    burst: int | None
    algorithm: Algorithm
    values: tuple[int, int, int | None, Algorithm]  # the four above, as the extension reads them

    def __init__(
        self,
        rate: SupportsIndex,
        per_ns: SupportsIndex,
        burst: SupportsIndex | None = None,
        algorithm: Algorithm = "token_bucket",
    ) -> None:
        whole = _quantity("rate", rate)
        most = whole if burst is None else _quantity("burst", burst)
        if not isinstance(algorithm, str):
            raise TypeError(refusal("algorithm", "one of " + ", ".join(ALGORITHMS), algorithm))
        if algorithm not in ALGORITHMS:
            raise ValueError(refusal("algorithm", "one of " + ", ".join(ALGORITHMS), algorithm))
        if most != whole and algorithm in _WINDOWS:
            raise ValueError(refusal("burst", f"left out with {algorithm}", burst))
        length = _quantity("per_ns", per_ns)
        if -(-most * length // whole) > MAX_NS:
            raise ValueError(
                refusal("burst", "so small that it comes back within 2**62 ns (146 years)", most)
            )
        values = (whole, length, None if most == whole else most, algorithm)
        for name, value in zip(("rate", "per_ns", "burst", "algorithm"), values, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "values", values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Rate cannot be changed: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Rate cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return self.values == other.values if isinstance(other, Rate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.values)

    def __reduce__(self) -> tuple[type[Rate], tuple[Any, ...]]:
        return Rate, self.values

    def __repr__(self) -> str:
        return f"<Rate {str(self)!r}>"

    def __str__(self) -> str:
        burst = "" if self.burst is None else f" burst {self.burst}"
        using = "" if self.algorithm == "token_bucket" else f" using {self.algorithm}"
        return f"{self.rate}/{period_text(self.per_ns)}{burst}{using}"


class LimitDict(TypedDict):
    """One limit of `Limiter.limit_many`, with the parameters of `Limiter.limit`."""

    key: str
    rate: SupportsIndex | RateLike
    per: NotRequired[Duration | None]
    per_ns: NotRequired[SupportsIndex | None]
    algorithm: NotRequired[Algorithm]
    burst: NotRequired[SupportsIndex | None]
    template: NotRequired[bool | None]
    name: NotRequired[str | None]
    stack: NotRequired[bool]


def _quantity(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(refusal(name, "an integer from 1 to 2**62", value))
    number = operator.index(value)
    if not 1 <= number <= MAX_NS:
        raise ValueError(refusal(name, "an integer from 1 to 2**62", value))
    return number


def period_text(per_ns: int) -> str:
    """A length of time as it is printed: "minute", "10s", "1h30m"."""
    parts = []
    for ns, names in _UNITS:
        number, per_ns = divmod(per_ns, ns)
        if number:
            parts.append((number, names))
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1][1]
    return "".join(f"{number}{names[0]}" for number, names in parts)


# ---- Reading -----------------------------------------------------------------------------------


class _Token(NamedTuple):
    text: str
    start: int
    kind: str  # "number", "word", "sign" or "end"

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class _Reader:
    """One text, read from left to right."""

    def __init__(self, text: str, algorithm: Algorithm | None, burst: int | None) -> None:
        self._text = text
        self._algorithm = algorithm
        self._burst = burst
        self._position = 0
        self._taken_end = 0
        self._next = self._token()

    def rates(self) -> tuple[Rate, ...]:
        found = [self._rate()]
        while self._next.kind == "sign" and self._next.text in ";,|":
            self._take()
            if len(found) == MAX_RATES:
                self._refuse(self._next, f"a key has at most {MAX_RATES} limits")
            rate = self._rate()
            if rate not in found:
                found.append(rate)
        if self._next.kind != "end":
            self._refuse(
                self._next, '";" and another rate, "burst" or "using" may stand here, nothing else'
            )
        return tuple(found)

    def _rate(self) -> Rate:
        first = self._next
        rate = self._number("how many units, as in " + _EXAMPLES)
        between = self._take()
        if between.text.lower() not in ("/", "per"):
            self._refuse(between, '"/" or "per" must stand between the number and the period')
        start = self._next.start
        per_ns = self._period()
        if not 1 <= per_ns <= MAX_NS:
            span = _Token(self._text[start : self._taken_end], start, "sign")
            self._refuse(span, "a period is 1 ns to 2**62 ns (146 years)")
        options = self._options()
        burst = options.get("burst", self._burst)
        algorithm = options.get("using", self._algorithm or "token_bucket")
        try:
            return Rate(rate, per_ns, burst, algorithm)
        except ValueError as error:
            text = self._text[first.start : self._taken_end]
            self._refuse(_Token(text, first.start, "sign"), str(error))

    def _number(self, what: str) -> int:
        token = self._take()
        if token.kind != "number":
            self._refuse(token, f"a whole number must stand here: {what}")
        number = int(token.text) if len(token.text) <= _MAX_DIGITS else MAX_NS + 1
        if not 1 <= number <= MAX_NS:
            none = "; who may use nothing at all is for your program to refuse"
            self._refuse(token, "a number is 1 to 2**62" + (none if number == 0 else ""))
        if self._next.text == "." and self._next.start == token.end:
            self._refuse(self._next, "numbers are whole; a part of a unit is written in a smaller")
        return number

    def _period(self) -> int:
        """The sum of what stands here: a unit alone, or numbers that have each a unit behind
        them; a number alone is seconds."""
        if self._next.kind != "number":
            return self._unit()
        per_ns = 0
        while self._next.kind == "number":
            token = self._next
            number = self._number("of units of time")
            is_bare = self._next.kind != "word" or self._next.text.lower() in _WORDS
            if is_bare and per_ns:
                self._refuse(token, "a unit of time is missing behind this number")
            per_ns += number * (_SECOND_NS if is_bare else self._unit())
        return per_ns

    def _unit(self) -> int:
        token = self._take()
        ns = _UNIT_NS.get(token.text.lower())
        if ns is None:
            near = _nearest(token.text.lower(), [name for name in _UNIT_NS if len(name) > 2])
            self._refuse(token, "a unit of time must stand here: ms, s, m, h, d, w, month" + near)
        return ns

    def _options(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._next.kind == "word":
            token = self._take()
            word = token.text.lower()
            if word not in ("burst", "using"):
                near = _nearest(word, _WORDS[1:])
                self._refuse(token, '"burst" and "using" may stand behind a period' + near)
            if word in found:
                self._refuse(token, f'"{word}" is there twice')
            found[word] = self._number("the burst") if word == "burst" else self._algorithm_word()
        return found

    def _algorithm_word(self) -> str:
        token = self._take()
        if token.text.lower() not in ALGORITHMS:
            near = _nearest(token.text.lower(), ALGORITHMS)
            names = ", ".join(ALGORITHMS)
            self._refuse(token, f"the name of an algorithm must stand here: {names}" + near)
        return token.text.lower()

    def _take(self) -> _Token:
        token = self._next
        self._taken_end = token.end
        if token.kind != "end":
            self._next = self._token()
        return token

    def _token(self) -> _Token:
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            return _Token("", len(self._text.rstrip()), "end")
        self._position = match.end()
        kinds = ("number", "word", "sign", "sign")
        group = match.lastindex or 1
        return _Token(match[group], match.start(group), kinds[group - 1])

    def _refuse(self, token: _Token, why: str) -> NoReturn:
        raise RateError(
            f"{why}\n{pointed_at(self._text, token.start, token.end)}", self._text, token.start
        )


def _nearest(word: str, known: Sequence[str]) -> str:
    import difflib  # needed only where something is wrong

    near = difflib.get_close_matches(word, known, 1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _shown(text: str) -> str:
    """What can be printed as it is, the rest escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _columns(text: str) -> int:
    """How wide a terminal shows a text."""
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def pointed_at(text: str, start: int, end: int) -> str:
    """The part of a text around a place in it, and a line that points at the place."""
    first = max(0, start - 60)
    before = ("..." if first else "") + _shown(text[first:start])
    there = _shown(text[start : min(end, start + 40)])
    after = _shown(text[end : end + 20]) if end - start <= 40 else "..."
    marks = "^" * max(1, _columns(there))
    return f"  {before}{there}{after}\n  {' ' * _columns(before)}{marks}"


@functools.lru_cache(maxsize=_CACHED)
def _read(text: str, algorithm: Algorithm | None, burst: int | None) -> tuple[Rate, ...]:
    if len(text) > _MAX_CHARACTERS:
        raise RateError(f"a rate string has at most {_MAX_CHARACTERS} characters", text, 0)
    rates = _Reader(text, algorithm, burst).rates()
    if len(rates) > 1 and burst is not None:
        raise TypeError('burst= goes with one rate; of several, each says "burst" in the text')
    return rates


def parse_many(text: str) -> tuple[Rate, ...]:
    """The rates of a text, which are separated by `;` (or `,` or `|`), in its order; what is there
    twice comes once. Raises RateError, whose message points at what is wrong."""
    if not isinstance(text, str):
        raise TypeError(refusal("a rate", f"a str such as {_EXAMPLES}", text))
    return _read(text, None, None)


def parse(text: str) -> Rate:
    """The rate of a text that has one. Raises RateError, whose message points at what is wrong."""
    rates = parse_many(text)
    if len(rates) > 1:
        raise RateError(f"one rate was asked for, and there are {len(rates)}: {text}", text, 0)
    return rates[0]


def canonical(rates: Sequence[Rate]) -> str:
    """The text of several rates, those of shorter periods first: one text for all that mean the
    same."""
    return "; ".join(map(str, in_order(rates)))


def in_order(rates: Sequence[Rate]) -> list[Rate]:
    return sorted(rates, key=lambda rate: (rate.per_ns, rate.rate, str(rate)))


# ---- Rates as arguments ------------------------------------------------------------------------


class Several:
    """More than one rate for one key: how their counters are called.

    Configured by `limit`, the limits of a key are named by their periods, "per minute", "per 10s",
    so that another rate for the same period finds what was used. Where two have one period, the
    second is "per minute 2". For a check that carries them along they are those of a template,
    whose prefix is their text and " @ "; the key of the counter is that and the key of the check.
    """

    __slots__ = ("limits", "names", "prefix", "rates")

    def __init__(self, rates: Sequence[Rate]) -> None:
        self.rates = in_order(rates)
        self.prefix = canonical(rates) + " @ "
        self.names: list[str] = []
        for rate in self.rates:
            name = f"per {period_text(rate.per_ns)}"
            same = sum(1 for known in self.rates[: len(self.names)] if known.per_ns == rate.per_ns)
            self.names.append(f"{name} {same + 1}" if same else name)
        self.limits = self.configs(self.prefix, True, False)

    def configs(self, key: str, template: bool | None, stack: bool) -> list[LimitDict]:
        """The limits for `limit_many`."""
        return [
            {
                "key": key,
                "rate": rate.rate,
                "per_ns": rate.per_ns,
                "burst": rate.burst,
                "algorithm": rate.algorithm,
                "template": template,
                "name": name,
                "stack": stack,
            }
            for name, rate in zip(self.names, self.rates, strict=True)
        ]


_NAME_OF_SEVERAL = re.compile(r"per (second|[a-z]+|[0-9][0-9a-z]*)( [0-9]+)?")


def names_a_period(name: str | None) -> bool:
    """Whether a limit's name may come from a rate string."""
    return name is not None and _NAME_OF_SEVERAL.fullmatch(name) is not None


@functools.lru_cache(maxsize=_CACHED)
def _several(rates: tuple[Rate, ...]) -> Several:
    return Several(rates)


def is_rate_name(text: str) -> bool:
    """Whether a text can only be the name of a rate."""
    return _NAME.fullmatch(text) is not None


def is_rate_like(value: object) -> TypeGuard[RateLike]:
    """Whether a `rate` says the period too."""
    return isinstance(value, (str, Rate, Several, list, tuple))


def read_rates(
    value: RateLike,
    named: Mapping[str, tuple[Rate, ...]],
    algorithm: Algorithm | None = None,
    burst: SupportsIndex | None = None,
) -> tuple[Rate, ...]:
    """The rates that an argument means: a text, the name of rates that are configured, a Rate, or
    several of these. `algorithm` and `burst` are for texts that do not say their own."""
    if isinstance(value, Several):
        return tuple(value.rates)
    if isinstance(value, Rate):
        if algorithm not in (None, value.algorithm) or burst is not None:
            raise TypeError("a Rate says its own algorithm and burst; leave them out beside it")
        return (value,)
    if isinstance(value, str):
        known = named.get(value)
        if known is not None:
            if algorithm is not None or burst is not None:
                raise TypeError(
                    f"the rate {value!r} of the configuration says its own algorithm and burst; "
                    "leave them out beside it"
                )
            return known
        if is_rate_name(value):
            near = _nearest(value, list(named)) or f"; a rate is written as {_EXAMPLES}"
            raise RateError(f"no rate is named {value!r}{near}", value, 0)
        return _read(value, algorithm, None if burst is None else _quantity("burst", burst))
    if not isinstance(value, (list, tuple)) or not value:
        raise TypeError(refusal("a rate", f"a Rate or a str such as {_EXAMPLES}", value))
    rates = [rate for one in value for rate in read_rates(one, named, algorithm, burst)]
    return tuple(dict.fromkeys(rates))


def read_one_or_several(
    value: RateLike,
    named: Mapping[str, tuple[Rate, ...]],
    algorithm: Algorithm | None = None,
    burst: SupportsIndex | None = None,
) -> Rate | Several:
    if isinstance(value, Several):
        return value
    rates = read_rates(value, named, algorithm, burst)
    if len(rates) > MAX_RATES:
        raise ValueError(f"a key has at most {MAX_RATES} limits, not {len(rates)}")
    return rates[0] if len(rates) == 1 else _several(rates)
