"""Arguments that Python reads before the extension does: lengths of time, and the limits of
`limit_many`. Every error names the parameter, its value and what is allowed."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

from flint import _native

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

    Seconds: TypeAlias = SupportsIndex | float | Fraction | Decimal
    Duration: TypeAlias = str | timedelta | Seconds
    Moment: TypeAlias = datetime | Seconds

MAX_NS = 2**62
MAX_ITEMS = 1024  # of one check_all

_NS_PER_SECOND = 1_000_000_000
_UNITS_NS = {
    "ms": 1_000_000,
    "": _NS_PER_SECOND,
    "s": _NS_PER_SECOND,
    "m": 60 * _NS_PER_SECOND,
    "h": 3_600 * _NS_PER_SECOND,
    "d": 86_400 * _NS_PER_SECOND,
}
_TEXT = re.compile(r"([0-9]{1,30})(ms|s|m|h|d|)", re.ASCII)
_PER_FORMS = (
    "digits with ms, s, m, h or d, a timedelta, or a number of seconds, from 1 ns to 2**62 ns"
)
_LATEST_NS = 2**63 - 1
_MOMENTS = (
    "a datetime with a time zone or a number of seconds since 1970, from 0 to 9223372036 (the year "
    "2262)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def refusal(name: str, allowed: str, value: object) -> str:
    """The message for an argument that is not what is allowed."""
    try:
        shown = repr(value)
    except Exception:
        shown = f"a value of {type(value)!r}"
    if len(shown) > 120:
        shown = shown[:120] + "..."
    return f"{name} must be {allowed}, not {shown}"


def scaled_to_ns(value: object) -> int | None:
    """Seconds as nanoseconds, rounded half to even when a fraction of one is left; None when the
    value is no number at all. Raises ValueError or OverflowError when it is not finite."""
    if isinstance(value, bool):
        return None
    if hasattr(value, "__index__"):
        return operator.index(value) * _NS_PER_SECOND
    ratio = getattr(value, "as_integer_ratio", None)
    if ratio is None:
        return None
    numerator, denominator = ratio()
    whole, rest = divmod(numerator * _NS_PER_SECOND, denominator)
    up = 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1)
    return int(whole + up)


def seconds_to_ns(name: str, value: Seconds, low_ns: int, high_ns: int) -> int:
    """A finite number of seconds (an integer, float, Fraction or Decimal, never a bool) as
    nanoseconds from `low_ns` to `high_ns`."""
    allowed = f"a number of seconds, with {low_ns} to {high_ns} ns"
    try:
        ns = scaled_to_ns(value)
    except (ValueError, OverflowError):
        raise ValueError(refusal(name, allowed, value)) from None
    if ns is None:
        raise TypeError(refusal(name, allowed, value))
    if not low_ns <= ns <= high_ns:
        raise ValueError(refusal(name, allowed, value))
    return ns


@functools.lru_cache(maxsize=256)
def _text_ns(text: str) -> int:
    """Digits and a unit as nanoseconds; 0 when they are no such thing."""
    match = _TEXT.fullmatch(text.strip())
    return int(match[1]) * _UNITS_NS[match[2]] if match else 0


def per_to_ns(per: Duration) -> int:
    """The `per` of a limit as nanoseconds, from 1 to 2**62."""
    return duration_ns("per", per)


def duration_ns(name: str, value: Duration) -> int:
    """A length of time as nanoseconds, from 1 to 2**62.

    A str is ASCII digits followed by ms, s, m, h or d (nothing means seconds), perhaps between
    white space. A timedelta is exact. Numbers are seconds, converted exactly and rounded to the
    nearest nanosecond.
    """
    ns: int | None
    if isinstance(value, str):
        ns = _text_ns(value)
    elif isinstance(value, timedelta):
        ns = ((value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds) * 1_000
    else:
        try:
            ns = scaled_to_ns(value)
        except (ValueError, OverflowError):
            ns = 0
    if ns is None:
        raise TypeError(refusal(name, _PER_FORMS, value))
    if not 1 <= ns <= MAX_NS:
        raise ValueError(refusal(name, _PER_FORMS, value))
    return ns


def moment_ns(name: str, moment: Moment | None) -> int:
    """A point in time as nanoseconds since 1970; 0 for None."""
    if moment is None:
        return 0
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(refusal(name, "a datetime with a time zone", moment))
        ns: int | None = max((moment - _EPOCH) // timedelta(microseconds=1) * 1000, 0)
    else:
        try:
            ns = scaled_to_ns(moment)
        except (ValueError, OverflowError):
            ns = -1
    if ns is None:
        raise TypeError(refusal(name, _MOMENTS, moment))
    if not 0 <= ns <= _LATEST_NS:
        raise ValueError(refusal(name, _MOMENTS, moment))
    return ns


def optional_most(name: str, value: SupportsIndex | None) -> int | None:
    """The most of something, if that is given: an integer from 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(refusal(name, "an integer from 0", value))
    most = operator.index(value)
    if most < 0:
        raise ValueError(refusal(name, "an integer from 0", value))
    return most


def period_ns(per: Duration | None, per_ns: SupportsIndex | None) -> SupportsIndex:
    """The one that is given of `per` and `per_ns`, in nanoseconds."""
    if per is not None and per_ns is None:
        return per_to_ns(per)
    if per_ns is not None and per is None:
        return per_ns
    raise TypeError("either per or per_ns must be given, and not both")


def check_limits(limits: object) -> None:
    """What holds the limits of limit_many; the extension reads the limits themselves."""
    if isinstance(limits, (str, bytes, dict)) or not isinstance(limits, Iterable):
        raise TypeError(refusal("limits", "a list or other iterable of limits", limits))


# The extension calls it for the limits of `check` and `limit_many`.
_native.set_per_to_ns(per_to_ns)
