"""Rates as people write them.

>>> import flint.rates
>>> rate = flint.rates.parse("5 per 10 seconds")
>>> rate.rate, rate.per_ns, str(rate)
(5, 10000000000, '5/10s')

A rate is a whole number, `/` or `per`, and a period: a unit (`minute`), a number of them (`10
seconds`, `5m`) or a sum (`1h30m`); a number without a unit is seconds. Units are ns, us, ms, s, m,
h, d and w, also in full, singular or plural, and month (30 days) and year (12 months, 360 days: so
does the library limits count them; `365d` is a year of the calendar). `burst 20` behind it is the
most that may be used at once, `using gcra` the algorithm. Several are separated by `;`, as in
`5/minute; 100/hour`; `,` and `|` do as well. Capitals are read like small letters.

Wherever a limit is accepted, so is such a text or a Rate: `limit(key, "100/minute")`, `check(key,
limit="5/minute; 100/hour")`, `rate_limit(key, "10/s")`.

Counters of several limits of one key: `limit` names each by its period, "per minute", "per hour"
(and a second of the same period "per minute 2"), so that a changed rate finds what was used. A
`check(key, limit=...)` that carries several along counts under `counter_key(limit, key)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._surface.rate import Rate, Several, canonical, parse, parse_many, read_rates

if TYPE_CHECKING:
    from flint._surface.rate import RateLike

__all__ = ["Rate", "canonical", "counter_key", "parse", "parse_many"]


def counter_key(limit: RateLike, key: str) -> str:
    """The key under which a check of `key` that carries `limit` along is counted: what `status`,
    `history`, `reset` and `top` call it. One limit is counted under the key itself, several under
    their text and the key: "5/minute; 100/hour @ user:1"."""
    rates = read_rates(limit, {})
    return key if len(rates) == 1 else Several(rates).prefix + key
