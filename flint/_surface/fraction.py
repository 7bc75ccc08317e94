"""Rates that come as floats, from limiters that count in them."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

_SIMPLE = 1_000_000  # the largest denominator of a fraction that someone has meant
_FINEST = 1_000_000_000


@functools.lru_cache(maxsize=1024)
def meant(number: float) -> Fraction:
    """The simple fraction that a number came from, as 1/28800 for 3 / 86400, where there is one,
    else the nearest with a denominator of up to 10**9. 0 for what is not finite."""
    written = Fraction(str(number)) if math.isfinite(number) else Fraction(0)
    simple = written.limit_denominator(_SIMPLE)
    return simple if float(simple) == number else written.limit_denominator(_FINEST)
