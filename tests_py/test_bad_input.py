"""Every bad argument is refused with an error that names the parameter, its value and what is
allowed, before anything is written."""

from __future__ import annotations

import datetime
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_failures import why_no_disk

import flint
from flint import Limiter
from flint.testing import ManualClock

MOST = 2**62


class FailingIndex:
    def __index__(self) -> int:
        raise ZeroDivisionError


class FailingRepr:
    def __repr__(self) -> str:
        raise ZeroDivisionError


class Bad(NamedTuple):
    """A call that fails; `words` are in the message, the value's repr usually among them."""

    error: type[Exception]
    words: tuple[str, ...]
    call: Callable[[Limiter], object]


# ---- Tables ------------------------------------------------------------------------------------

KEY_RULE = ("key", "65,535", "white space")
LENGTH_RULE = ("key", "65,535")

# What no call takes as a key, whatever it does with it.
BAD_KEYS: list[tuple[str, type[Exception], tuple[str, ...], Any]] = [
    ("none", TypeError, ("key must be a str", "None"), None),
    ("int", TypeError, ("key must be a str", "7"), 7),
    ("bytes", TypeError, ("key must be a str", "b'api'"), b"api"),
    ("not_utf8", TypeError, ("key must be a str", r"b'\xff'"), b"\xff"),
    ("bytearray", TypeError, ("key must be a str", "bytearray"), bytearray(b"api")),
    ("list", TypeError, ("key must be a str", "['api']"), ["api"]),
    ("failing_repr", TypeError, ("key must be a str", "FailingRepr"), FailingRepr()),
    ("lone_surrogate", ValueError, ("key must be text", "surrogates", r"'\ud800'"), "\ud800"),
    ("undecodable", ValueError, ("key must be text", "surrogates", r"'caf\udce9'"), "caf\udce9"),
    ("empty", ValueError, KEY_RULE, ""),
    ("blank", ValueError, KEY_RULE, "   "),
    ("blank_control", ValueError, KEY_RULE, "\t\r\n\v\f"),
    ("blank_unicode", ValueError, KEY_RULE, "\u00a0\u3000"),
    ("too_long", ValueError, LENGTH_RULE, "k" * 65_536),
    ("too_long_in_bytes", ValueError, LENGTH_RULE, "é" * 32_768),
]

KEY_CALLS: dict[str, Callable[[Limiter, Any], object]] = {
    "allow": lambda limiter, key: limiter.allow(key),
    "check": lambda limiter, key: limiter.check(key, 1),
    "check_inline": lambda limiter, key: limiter.check(key, rate=1, per="1m"),
    "peek": lambda limiter, key: limiter.peek(key=key),
    "allow_all": lambda limiter, key: limiter.allow_all([(key, 1)]),
    "check_all": lambda limiter, key: limiter.check_all([{"key": key}]),
    "check_all_pair": lambda limiter, key: limiter.check_all([[key, 1]]),
    "limit": lambda limiter, key: limiter.limit(key, rate=1, per="1m"),
    "limit_many": lambda limiter, key: limiter.limit_many([("new", 1, 1), (key, 1, "1m")]),
    "remove": lambda limiter, key: limiter.remove(key),
    "reset": lambda limiter, key: limiter.reset(key),
    "status": lambda limiter, key: limiter.status(key),
    "rate_limit": lambda limiter, key: limiter.rate_limit(key, rate=1, per="1m"),
}

WRONG_TYPES: list[tuple[str, Any]] = [
    ("float", 1.0),
    ("bool", True),
    ("str", "1"),
    ("decimal", Decimal(1)),
    ("fraction", Fraction(1)),
    ("complex", 1j),
]
WRONG_NUMBERS: list[tuple[str, Any]] = [
    ("zero", 0),
    ("negative", -1),
    ("over", MOST + 1),
    ("over_64_bits", 2**64 + 1),
    ("far_over", 10**40),
    ("far_under", -(10**40)),
]

QUANTITY_CALLS: dict[str, tuple[str, Callable[[Limiter, Any], object]]] = {
    "limit_rate": ("rate", lambda limiter, value: limiter.limit("new", rate=value, per="1m")),
    "limit_burst": (
        "burst",
        lambda limiter, value: limiter.limit("new", rate=1, per="1m", burst=value),
    ),
    "limit_per_ns": ("per_ns", lambda limiter, value: limiter.limit("new", rate=1, per_ns=value)),
    "many_rate": ("rate", lambda limiter, value: limiter.limit_many([("new", value, "1m")])),
    "many_burst": (
        "burst",
        lambda limiter, value: limiter.limit_many(
            [{"key": "new", "rate": 1, "per": "1m", "burst": value}]
        ),
    ),
    "inline_rate": ("rate", lambda limiter, value: limiter.allow("new", rate=value, per="1m")),
    "inline_burst": (
        "burst",
        lambda limiter, value: limiter.peek("new", rate=1, per="1m", burst=value),
    ),
    "allow_cost": ("cost", lambda limiter, value: limiter.allow("api", value)),
    "check_cost": ("cost", lambda limiter, value: limiter.check("api", cost=value)),
    "peek_cost": ("cost", lambda limiter, value: limiter.peek("api", value)),
    "pair_cost": ("cost", lambda limiter, value: limiter.check_all(["other", ("api", value)])),
    "dict_cost": (
        "cost",
        lambda limiter, value: limiter.allow_all([{"key": "api", "cost": value}]),
    ),
    "rate_limit_cost": (
        "cost",
        lambda limiter, value: limiter.rate_limit("api", rate=1, per="1m", cost=value),
    ),
    "top_limit": ("limit", lambda limiter, value: limiter.top(limit=value)),
}
# Where None means that nothing was given.
NONE_IS_FINE = {"limit_burst", "limit_per_ns", "many_burst", "inline_rate", "inline_burst"}
ZERO_IS_FINE = {"top_limit"}

PER_FORMS = ("per must be digits with ms, s, m, h or d, a timedelta, or a number of seconds",)
BAD_PERS: list[tuple[type[Exception], Any]] = [
    (ValueError, "0s"),
    (ValueError, "0"),
    (ValueError, "000ms"),
    (ValueError, "1x"),
    (ValueError, "-1m"),
    (ValueError, "+1m"),
    (ValueError, "9223372036854775807d"),
    (ValueError, "4611686019s"),
    (ValueError, "53376d"),
    (ValueError, "1" * 5_000),
    (ValueError, ""),
    (ValueError, " "),
    (ValueError, " m "),
    (ValueError, "1 m"),
    (ValueError, "1\tm"),
    (ValueError, "1M"),
    (ValueError, "1min"),
    (ValueError, "1.5s"),
    (ValueError, "1e3"),
    (ValueError, "m"),
    (ValueError, "1m30s"),
    (ValueError, "\u0661m"),  # a digit, but not an ASCII one
    (ValueError, "1_000"),
    (ValueError, "1\0m"),
    (ValueError, "\ud800"),
    (ValueError, 0),
    (ValueError, -1),
    (ValueError, 2**62),
    (ValueError, 10**400),
    (ValueError, 0.0),
    (ValueError, -0.5),
    (ValueError, 1e-10),
    (ValueError, 1e300),
    (ValueError, float("inf")),
    (ValueError, float("-inf")),
    (ValueError, float("nan")),
    (ValueError, Decimal("NaN")),
    (ValueError, Decimal("Infinity")),
    (ValueError, Fraction(1, 10**10)),
    (ValueError, Fraction(2**62 + 1, 10**9)),
    (ValueError, datetime.timedelta(0)),
    (ValueError, datetime.timedelta(seconds=-1)),
    (ValueError, datetime.timedelta.max),
    (TypeError, True),
    (TypeError, False),
    (TypeError, b"1m"),
    (TypeError, ["1m"]),
    (TypeError, ("1", "m")),
    (TypeError, datetime.time(1)),
    (TypeError, 1j),
    (TypeError, FailingRepr()),
]
PER_CALLS: dict[str, Callable[[Limiter, Any], object]] = {
    "limit": lambda limiter, per: limiter.limit("new", rate=1, per=per),
    "limit_many": lambda limiter, per: limiter.limit_many([("newer", 1, "1m"), ("new", 1, per)]),
    "check": lambda limiter, per: limiter.check("new", rate=1, per=per),
    "rate_limit": lambda limiter, per: limiter.rate_limit("new", rate=1, per=per),
    "rate_limit_callable": lambda limiter, per: limiter.rate_limit(str, rate=1, per=per),
}

ALGORITHM_RULE = ("algorithm must be 'token_bucket', 'gcra', ", " or 'sliding_window_counter'")
BAD_ALGORITHMS: list[tuple[type[Exception], Any]] = [
    (ValueError, "bucket"),
    (ValueError, ""),
    (ValueError, "GCRA"),
    (ValueError, "gcra "),
    (ValueError, "gcra\0"),
    (ValueError, "\ud800"),
    (TypeError, 1),
    (TypeError, b"gcra"),
    (TypeError, True),
]
ALGORITHM_CALLS: dict[str, Callable[[Limiter, Any], object]] = {
    "limit": lambda limiter, value: limiter.limit("new", rate=1, per=1, algorithm=value),
    "limit_many": lambda limiter, value: limiter.limit_many([("new", 1, 1, value)]),
    "check": lambda limiter, value: limiter.check("new", rate=1, per=1, algorithm=value),
    "rate_limit": lambda limiter, value: limiter.rate_limit("new", rate=1, per=1, algorithm=value),
}

ITEM_FORMS = "a key, (key, cost), [key, cost] or {'key': key, 'cost': cost}"
LIMIT_FORMS = "(key, rate, per), (key, rate, per, algorithm) or (key, rate, per, algorithm, burst)"


def call(function: Callable[[Any], object]) -> Callable[[Limiter], object]:
    """A call that no type checker would let pass."""
    return function


OTHERS: dict[str, Bad] = {
    # The limit named "api" has a burst of 5.
    "cost_over_burst": Bad(ValueError, ("cost", "5", "6"), lambda limiter: limiter.allow("api", 6)),
    "peek_cost_over_burst": Bad(
        ValueError, ("cost", "5", "6"), lambda limiter: limiter.peek("api", 6)
    ),
    "item_cost_over_burst": Bad(
        ValueError, ("cost", "5", "6"), lambda limiter: limiter.check_all(["other", ("api", 6)])
    ),
    "inline_cost_over_burst": Bad(
        ValueError, ("cost", "2", "3"), lambda limiter: limiter.check("new", 3, rate=2, per=1)
    ),
    "window_burst": Bad(
        ValueError,
        ("burst", "2"),
        lambda limiter: limiter.limit(
            "new", rate=1, per=1, burst=2, algorithm="sliding_window_log"
        ),
    ),
    "burst_lasts_too_long": Bad(
        ValueError,
        ("burst", "per", "rate"),
        lambda limiter: limiter.limit("new", rate=1, per="1d", burst=2**60),
    ),
    "many_second_is_bad": Bad(
        ValueError,
        ("limits[1]: rate must be an integer from 1 to", "0"),
        lambda limiter: limiter.limit_many([("first", 1, 1), ("second", 0, 1)]),
    ),
    "neither_per": Bad(
        TypeError, ("per or per_ns",), call(lambda limiter: limiter.limit("new", rate=1))
    ),
    "both_pers": Bad(
        TypeError, ("per or per_ns",), lambda limiter: limiter.limit("new", rate=1, per=1, per_ns=1)
    ),
    "no_rate": Bad(TypeError, ("rate",), call(lambda limiter: limiter.limit("new", per="1m"))),
    "inline_without_per": Bad(
        TypeError, ("rate and per",), lambda limiter: limiter.check("api", rate=1)
    ),
    "inline_without_rate": Bad(
        TypeError, ("rate and per",), lambda limiter: limiter.check("api", per="1m")
    ),
    "inline_burst_alone": Bad(
        TypeError, ("rate and per",), lambda limiter: limiter.allow("api", burst=1)
    ),
    "inline_algorithm_alone": Bad(
        TypeError, ("rate and per",), lambda limiter: limiter.peek("api", algorithm="gcra")
    ),
    "inline_bad_though_unused": Bad(
        ValueError, ("rate", "0"), lambda limiter: limiter.check("api", rate=0, per="1m")
    ),
    "template_word": Bad(
        TypeError,
        ("template must be True, False or None", "'yes'"),
        call(lambda limiter: limiter.limit("new", rate=1, per=1, template="yes")),
    ),
    "template_number": Bad(
        TypeError,
        ("template must be True, False or None", "1"),
        call(lambda limiter: limiter.status("api", template=1)),
    ),
    "if_absent_number": Bad(
        TypeError,
        ("if_absent must be True or False", "1"),
        call(lambda limiter: limiter.limit("new", rate=1, per=1, if_absent=1)),
    ),
    "if_absent_none": Bad(
        TypeError,
        ("if_absent must be True or False", "None"),
        call(lambda limiter: limiter.limit_many([("new", 1, 1)], if_absent=None)),
    ),
    "counters_number": Bad(
        TypeError,
        ("counters must be True or False", "1"),
        call(lambda limiter: limiter.list(counters=1)),
    ),
    "items_empty": Bad(
        ValueError, ("items must hold 1 to 1024 items", "0"), lambda limiter: limiter.check_all([])
    ),
    "items_duplicate": Bad(
        ValueError, ("items", "api"), lambda limiter: limiter.check_all(["api", "other", "api"])
    ),
    "items_with_long_keys": Bad(
        ValueError,
        ("items", "65,535"),
        lambda limiter: limiter.check_all(["a" * 40_000, "b" * 40_000]),
    ),
    "items_duplicate_in_other_forms": Bad(
        ValueError,
        ("items", "api"),
        lambda limiter: limiter.allow_all([("api", 1), {"key": "api"}]),
    ),
    "items_str": Bad(
        TypeError, ("items must be a list", "'api'"), call(lambda limiter: limiter.allow_all("api"))
    ),
    "items_dict": Bad(
        TypeError,
        ("items must be a list", "{'key': 'api'}"),
        call(lambda limiter: limiter.check_all({"key": "api"})),
    ),
    "items_none": Bad(
        TypeError, ("items must be a list", "None"), call(lambda limiter: limiter.check_all(None))
    ),
    "items_number": Bad(
        TypeError, ("items must be a list", "3"), call(lambda limiter: limiter.check_all(3))
    ),
    "item_number": Bad(
        TypeError,
        ("items[1]: ", ITEM_FORMS, "5"),
        call(lambda limiter: limiter.check_all(["api", 5])),
    ),
    "item_set": Bad(
        TypeError, ("items[0]: ", ITEM_FORMS), call(lambda limiter: limiter.check_all([{"api"}]))
    ),
    "item_single": Bad(
        ValueError, ("items[0]: ", ITEM_FORMS), call(lambda limiter: limiter.check_all([("api",)]))
    ),
    "item_triple": Bad(
        ValueError,
        ("items[0]: ", ITEM_FORMS),
        call(lambda limiter: limiter.check_all([["api", 1, 1]])),
    ),
    "item_without_key": Bad(
        ValueError,
        ("items[0]: ", ITEM_FORMS),
        call(lambda limiter: limiter.check_all([{"cost": 1}])),
    ),
    "item_with_more": Bad(
        ValueError,
        ("items[0]: ", ITEM_FORMS, "'price'"),
        call(lambda limiter: limiter.check_all([{"key": "api", "price": 1}])),
    ),
    "item_cost_none": Bad(
        TypeError,
        ("items[0]: cost must be an integer", "None"),
        call(lambda limiter: limiter.check_all([{"key": "api", "cost": None}])),
    ),
    "limits_str": Bad(
        TypeError,
        ("limits must be a list", "'api'"),
        call(lambda limiter: limiter.limit_many("api")),
    ),
    "limits_dict": Bad(
        TypeError,
        ("limits must be a list", "'rate'"),
        call(lambda limiter: limiter.limit_many({"key": "api", "rate": 1, "per": 1})),
    ),
    "limits_none": Bad(
        TypeError, ("limits must be a list", "None"), call(lambda limiter: limiter.limit_many(None))
    ),
    "limit_str": Bad(
        TypeError, ("limits[0]: ", LIMIT_FORMS), call(lambda limiter: limiter.limit_many(["api"]))
    ),
    "limit_pair": Bad(
        ValueError, ("limits[0]: ", LIMIT_FORMS), lambda limiter: limiter.limit_many([("new", 1)])
    ),
    "limit_six": Bad(
        ValueError,
        ("limits[0]: ", LIMIT_FORMS),
        lambda limiter: limiter.limit_many([("new", 1, 1, "gcra", 1, True)]),
    ),
    "limit_without_rate": Bad(
        ValueError,
        ("limits[0]: ", "'rate'"),
        call(lambda limiter: limiter.limit_many([{"key": "new", "per": 1}])),
    ),
    "limit_with_more": Bad(
        ValueError,
        ("limits[1]: ", "'cost'"),
        call(
            lambda limiter: limiter.limit_many(
                [("new", 1, 1), {"key": "new", "rate": 1, "per": 1, "cost": 1}]
            )
        ),
    ),
    "limit_without_per": Bad(
        TypeError,
        ("limits[0]: ", "per or per_ns"),
        lambda limiter: limiter.limit_many([{"key": "new", "rate": 1}]),
    ),
    "top_by": Bad(
        ValueError,
        ("by must be 'denied', 'allowed', 'denied_cost' or 'allowed_cost'", "'cost'"),
        call(lambda limiter: limiter.top("cost")),
    ),
    "top_by_none": Bad(
        TypeError, ("by must be 'denied'", "None"), call(lambda limiter: limiter.top(None))
    ),
    "top_limit": Bad(
        ValueError,
        ("limit must be an integer from 0 to 65536", "65537"),
        lambda limiter: limiter.top(limit=65_537),
    ),
    "no_key": Bad(TypeError, ("allow()", "'key'"), call(lambda limiter: limiter.allow())),
    "cost_alone": Bad(TypeError, ("check()", "'key'"), call(lambda limiter: limiter.check(cost=1))),
    "too_many_positions": Bad(
        TypeError, ("allow()", "2", "3"), call(lambda limiter: limiter.allow("api", 1, 1))
    ),
    "unknown_keyword": Bad(
        TypeError, ("peek()", "'kost'"), call(lambda limiter: limiter.peek("api", kost=1))
    ),
    "key_twice": Bad(
        TypeError, ("check()", "'key'"), call(lambda limiter: limiter.check("api", key="api"))
    ),
    "rate_limit_key": Bad(
        TypeError,
        ("key must be a str", "5"),
        call(lambda limiter: limiter.rate_limit(5, rate=1, per=1)),
    ),
    "rate_limit_cost_over_burst": Bad(
        ValueError,
        ("cost", "1", "6"),
        lambda limiter: limiter.rate_limit("api", rate=1, per=1, cost=6),
    ),
    "rate_limit_callable_cost_over_burst": Bad(
        ValueError,
        ("cost", "1", "6"),
        lambda limiter: limiter.rate_limit(str, rate=1, per=1, cost=6),
    ),
}


def bind(use: Callable[[Limiter, Any], object], value: object) -> Callable[[Limiter], object]:
    return lambda limiter: use(limiter, value)


def all_cases() -> Iterator[tuple[str, Bad]]:
    """The tables multiplied out, each with its name."""
    for name, error, words, key in BAD_KEYS:
        for where, use in KEY_CALLS.items():
            if where == "status" and words is KEY_RULE:
                continue  # see test_status_of_what_is_no_key
            yield (
                f"key-{name}-{where}",
                Bad(error, words, bind(use, key)),
            )
    for where, (parameter, use) in QUANTITY_CALLS.items():
        least = 0 if where in ZERO_IS_FINE else 1
        words = (f"{parameter} must be an integer from {least} to ",)
        for name, value in WRONG_TYPES:
            yield (
                f"{where}-{name}",
                Bad(
                    TypeError,
                    (*words, f"not {value!r}"),
                    bind(use, value),
                ),
            )
        for name, value in WRONG_NUMBERS:
            if value == 0 and where in ZERO_IS_FINE:
                continue
            yield (
                f"{where}-{name}",
                Bad(
                    ValueError,
                    (*words, f"not {value!r}"),
                    bind(use, value),
                ),
            )
        yield (
            f"{where}-digits",
            Bad(
                ValueError,
                (*words, "<class 'int'>"),  # too long for a repr
                bind(use, 10**5_000),
            ),
        )
        if where not in NONE_IS_FINE:
            yield (
                f"{where}-none",
                Bad(TypeError, (*words, "not None"), bind(use, None)),
            )
    for where, use in PER_CALLS.items():
        for number, (error, per) in enumerate(BAD_PERS):
            yield (
                f"per-{number}-{where}",
                Bad(error, PER_FORMS, bind(use, per)),
            )
    for where, use in ALGORITHM_CALLS.items():
        for number, (error, value) in enumerate(BAD_ALGORITHMS):
            yield (
                f"algorithm-{number}-{where}",
                Bad(
                    error,
                    (*ALGORITHM_RULE, f"not {value!r}"),
                    bind(use, value),
                ),
            )
    yield from OTHERS.items()


CASES = dict(all_cases())


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    clock = ManualClock(1_700_000_000)
    with Limiter(tmp_path_factory.mktemp("victim"), sync="batch", clock=clock) as limiter:
        limiter.limit("api", rate=5, per="1h")
        limiter.limit("other", rate=5, per="1h")
        limiter.check("api")
        yield limiter


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_arguments(victim: Limiter, case: Bad) -> None:
    before = (victim.history(), victim.list(counters=True))
    with pytest.raises((TypeError, ValueError)) as caught:
        case.call(victim)
    assert type(caught.value) is case.error, caught.value
    message = str(caught.value)
    assert [word for word in case.words if word not in message] == [], message
    assert len(message) < 600
    assert (victim.history(), victim.list(counters=True)) == before


def test_status_of_what_is_no_key(victim: Limiter) -> None:
    """A key that cannot have a limit is a mistake, unlike one that has none."""
    for _, error, words, key in BAD_KEYS:
        with pytest.raises(error) as caught:
            victim.status(key)
        assert [word for word in words if word not in str(caught.value)] == []


def test_an_error_in_index_passes(victim: Limiter) -> None:
    with pytest.raises(ZeroDivisionError):
        victim.allow("api", FailingIndex())
    with pytest.raises(ZeroDivisionError):
        victim.limit("new", rate=1, per=FailingIndex())


def test_an_error_in_an_iterator_passes(victim: Limiter) -> None:
    def items() -> Iterator[str]:
        yield "api"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        victim.check_all(items())


def test_a_list_that_changes_while_it_is_read(victim: Limiter) -> None:
    items: list[Any] = ["other", None]

    class Changing:
        def __index__(self) -> int:
            items.clear()
            return 1

    items[1] = ["api", Changing()]
    assert victim.check_all(items)["allowed"]


def test_limits_that_change_while_they_are_read(victim: Limiter) -> None:
    limits: list[Any] = []

    class Changing:
        def __index__(self) -> int:
            for limit in limits:
                limit.clear()
            limits.clear()
            return 7

    # Keys that nothing else holds.
    limits += [["".join(("li", "st")), Changing(), "1m"], {"key": "".join(("di", "ct"))}]
    with pytest.raises(ValueError, match=r"^limits\[1\]: a limit must be .*, not {}$"):
        victim.limit_many(limits)
    limits.append({"key": "".join(("di", "ct")), "rate": Changing(), "per": "".join(("1", "h"))})
    victim.limit_many(limits)
    assert [(entry["key"], entry["rate"]) for entry in victim.list() if entry["rate"] == 7] == [
        ("dict", 7)
    ]


# ---- Opening -----------------------------------------------------------------------------------


OPEN_CASES: dict[str, tuple[type[Exception], tuple[str, ...], dict[str, Any]]] = {
    "dir_none": (TypeError, ("data_dir must be a str", "None"), {"data_dir": None}),
    "dir_int": (TypeError, ("data_dir must be a str", "3"), {"data_dir": 3}),
    "dir_bytes": (TypeError, ("data_dir must be a str", "b'data'"), {"data_dir": b"data"}),
    "dir_empty": (ValueError, ("data_dir must be a path", "''"), {"data_dir": ""}),
    "dir_nul": (ValueError, ("data_dir must be a path", r"'a\x00b'"), {"data_dir": "a\0b"}),
    "dir_surrogate": (ValueError, ("data_dir must be a path", r"\ud800"), {"data_dir": "\ud800"}),
    "sync_word": (ValueError, ("sync must be 'always' or 'batch'", "'never'"), {"sync": "never"}),
    "sync_none": (TypeError, ("sync must be 'always' or 'batch'", "None"), {"sync": None}),
    "sync_bool": (TypeError, ("sync must be 'always' or 'batch'", "True"), {"sync": True}),
    "clock": (TypeError, ("clock must be a flint.testing.ManualClock", "5"), {"clock": 5}),
    "clock_word": (ValueError, ("clock must be 'system'", "'tsc'"), {"clock": "tsc"}),
    "ring_power": (ValueError, ("ring_bytes", "power of two", "600000"), {"ring_bytes": 600_000}),
    "unknown": (TypeError, ("max_key",), {"max_key": 1}),
}
SIZES = {
    "flush_every_ms": (1, 3_600_000),
    "flush_every_events": (1, 2**32),
    "segment_bytes": (256 * 1024, 2**30),
    "ring_bytes": (256 * 1024, 64 * 2**20),
    "max_unsynced_events": (1, 2**32),
    "history_max_bytes": (0, MOST),
    "max_replay_bytes": (2**20, MOST),
    "max_keys": (1, MOST),
}
for name, (low, high) in SIZES.items():
    rule = f"{name} must be an integer from {low} to {high}, not "
    for number in (-1, low - 1, high + 1, 2**70):
        # With sync="always" others than negative ones are taken; see test_options.py.
        sync = {"sync": "batch"} if name.startswith("flush") else {}
        OPEN_CASES[f"{name}_{number}"] = (ValueError, (f"{rule}{number}",), {name: number, **sync})
    for wrong in (1.0, True, "1"):
        OPEN_CASES[f"{name}_{wrong!r}"] = (TypeError, (f"{rule}{wrong!r}",), {name: wrong})
WORDS = {
    "when_full": "'refuse' or 'evict'",
    "on_error": "'raise', 'allow' or 'deny'",
    "mapped": "'auto' or 'never'",
    "sync_denials": "True or False",
}
for name, words in WORDS.items():
    rule = f"{name} must be {words}, not "
    for wrong in (None, 1, "yes"):
        kind = ValueError if wrong == "yes" and name != "sync_denials" else TypeError
        OPEN_CASES[f"{name}_{wrong!r}"] = (kind, (f"{rule}{wrong!r}",), {name: wrong})
for name in ("max_downtime", "history_max_age"):
    for number, (kind, per) in enumerate(BAD_PERS):
        rule = PER_FORMS[0].replace("per", name, 1)
        OPEN_CASES[f"{name}_per{number}"] = (kind, (rule,), {name: per})
# What open_readonly takes of them it refuses in the same words.
READONLY_NAMES = {"data_dir", "clock", "max_downtime"}
READONLY_CASES = {
    name: case
    for name, case in OPEN_CASES.items()
    if case[2].keys() <= READONLY_NAMES or name == "unknown"
}


@pytest.mark.parametrize(("error", "words", "options"), OPEN_CASES.values(), ids=OPEN_CASES.keys())
def test_bad_options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    words: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError)) as caught:
        Limiter(**options)
    assert type(caught.value) is error
    assert [word for word in words if word not in str(caught.value)] == [], caught.value
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words", "options"), READONLY_CASES.values(), ids=READONLY_CASES.keys()
)
def test_bad_options_of_open_readonly(
    tmp_path: Path,
    error: type[Exception],
    words: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Limiter.open_readonly(**{"data_dir": tmp_path, **options})
    assert type(caught.value) is error
    assert [word for word in words if word not in str(caught.value)] == [], caught.value
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["dir_none", "dir_int", "dir_bytes", "dir_empty", "dir_nul"])
def test_bad_paths_of_doctor(name: str) -> None:
    error, words, options = OPEN_CASES[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        flint.doctor(options["data_dir"])
    assert type(caught.value) is error
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    for data_dir in [path, path / "below"]:
        with pytest.raises(flint.FlintOSError, match="Not a directory") as caught:
            Limiter(data_dir)
        assert str(path) in str(caught.value)
    assert path.read_text() == "precious"


def test_a_locked_directory(data_dir: Path, run_python: Callable[..., str]) -> None:
    script = """
import sys, flint
try:
    flint.Limiter(sys.argv[1])
except flint.LockedError as error:
    print(error)
"""
    with Limiter(data_dir) as limiter:
        limiter.limit("api", rate=1, per="1m")
        message = run_python(script, data_dir)
        assert "already locked" in message
        assert str(data_dir) in message
        assert limiter.allow("api")


def test_a_directory_without_permission(tmp_path: Path) -> None:
    """As another user if this is root, who may write everywhere."""
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o555)
    script = """
import os, sys, flint
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    flint.Limiter(sys.argv[1])
except flint.FlintPermissionError as error:
    assert isinstance(error, PermissionError) and isinstance(error, flint.FlintError)
    print(error.errno, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(parent / "data")],
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    parent.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    number, message = done.stdout.split(maxsplit=1)
    assert int(number) == errno.EACCES
    assert str(tmp_path) in message


FULL_DISK = """
import errno, os, sys, time, flint

data_dir = sys.argv[1]
def fill(name):
    with open(name, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC

fill(f"{data_dir}/ballast")
try:
    flint.Limiter(f"{data_dir}/data")
except flint.DiskFullError as error:
    assert isinstance(error, OSError) and error.errno == errno.ENOSPC, error
    assert isinstance(error, flint.FlintError) and data_dir in str(error), error
else:
    sys.exit("opened on a full disk")
os.remove(f"{data_dir}/ballast")

with flint.Limiter(f"{data_dir}/data", segment_bytes=262144, ring_bytes=262144) as limiter:
    limiter.limit("*", rate=1, per="365d")
    limiter.check("first")
    fill(f"{data_dir}/ballast")
    admitted = 0
    try:
        while admitted < 100_000:
            limiter.check(f"{admitted:01000}")
            admitted += 1
    except flint.DiskFullError:
        pass
    else:
        sys.exit("went on with a full disk")
    assert not limiter.allow("first")
    assert limiter.peek(f"{admitted:01000}"), "the failed admission was counted"
    os.remove(f"{data_dir}/ballast")
    deadline = time.monotonic() + 30
    while True:  # room is looked for now and then
        try:
            assert limiter.check(f"{admitted:01000}")
            break
        except flint.DiskFullError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
with flint.Limiter(f"{data_dir}/data") as limiter:
    assert not limiter.allow("first")
    assert not limiter.allow(f"{admitted:01000}")
    assert limiter.allow("another")
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system of its own, in a mount name space that ends with the process."""
    if why_no_disk():
        pytest.skip(f"no file system can be mounted here: {why_no_disk()}")
    mount = 'mount -t tmpfs -o size=8m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    isolate = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*isolate, "sh", "-ec", mount, "sh", str(tmp_path), sys.executable, FULL_DISK],
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- Clocks and results ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words", "use"),
    [
        (TypeError, "epoch_s must be a number of seconds.*'1'", lambda clock: clock.__init__("1")),
        (TypeError, "epoch_s .*True", lambda clock: clock.set(True)),
        (TypeError, "epoch_s .*None", lambda clock: clock.set(None)),
        (ValueError, "epoch_s .*-1", lambda clock: clock.set(-1)),
        (ValueError, "epoch_s .*nan", lambda clock: clock.set(float("nan"))),
        (ValueError, "epoch_s .*inf", lambda clock: clock.set(float("inf"))),
        (ValueError, "epoch_s .*4611686019", lambda clock: clock.set(4_611_686_019)),
        (TypeError, "seconds must be a number .*'1s'", lambda clock: clock.advance("1s")),
        (ValueError, "seconds .*1e\\+300", lambda clock: clock.advance(1e300)),
        (ValueError, "by_ns must leave the clock between .*at 5", lambda clock: clock.advance(-1)),
        (ValueError, "by_ns must leave", lambda clock: clock.advance_ns(2**62)),
        (TypeError, "now_ns must be an integer .*1.0", lambda clock: clock.set_ns(1.0)),
        (TypeError, "now_ns must be an integer .*False", lambda clock: clock.set_ns(False)),
        (ValueError, "now_ns must be .*-1", lambda clock: clock.set_ns(-1)),
        (ValueError, "now_ns must be", lambda clock: clock.set_ns(2**62 + 1)),
        (ValueError, "by_ns must be an integer", lambda clock: clock.advance_ns(2**62 + 1)),
        (ValueError, "by_ns must be an integer", lambda clock: clock.advance_ns(-(2**64))),
    ],
)
def test_bad_times(error: type[Exception], words: str, use: Callable[[Any], object]) -> None:
    clock = ManualClock(0)
    clock.set_ns(5)
    with pytest.raises(error, match=words):
        use(clock)
    assert clock.now_ns == 5


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "9 to 12 arguments", ()),
        (TypeError, "key must be a str", (1, True, 1, 1, 1, 1, 1, 1, "gcra")),
        (TypeError, "allowed must be True or False", ("a", 1, 1, 1, 1, 1, 1, 1, "gcra")),
        (ValueError, "cost must be an integer", ("a", True, -1, 1, 1, 1, 1, 1, "gcra")),
        (TypeError, "reset_at_ns must be", ("a", True, 1, 1, 1, 1.0, 1, 1, "gcra")),
        (ValueError, "retry_after_ns must be", ("a", True, 1, 1, 1, 1, 1, 2**63, "gcra")),
        (ValueError, "algorithm must be", ("a", True, 1, 1, 1, 1, 1, 1, "x")),
    ],
)
def test_bad_results(error: type[Exception], words: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(error, match=words):
        flint.Result(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        flint.Result(key="a")  # type: ignore[call-arg]
