"""Rate limit headers, whatever the policy's name and the limit are."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flint._web.headers import limit_headers, retry_after_s

# RFC 8941: a string, and parameters that are integers of 15 digits at most.
FIELD = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"((?:;[a-z]=\d{1,15})*)')
SECOND = 1_000_000_000


def result(**values: Any) -> Any:
    usual = {"limit": 5, "remaining": 2, "reset_after_ns": 1, "reset_at_ns": 1, "allowed": True}
    return SimpleNamespace(**{**usual, "retry_after_ns": 0, **values})


def ietf(name: str, found: Any, window_s: int | None = 60) -> dict[str, str]:
    return dict(limit_headers("ietf", found, name, window_s))


@given(st.text(), st.integers(1, 2**62), st.integers(0, 2**62), st.integers(0, 2**62))
def test_any_name_and_number(name: str, limit: int, remaining: int, after_ns: int) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # no policy has such a name
    found = result(limit=limit, remaining=remaining, reset_after_ns=after_ns, reset_at_ns=after_ns)
    for _, value in limit_headers("both", found, name, limit):
        value.encode("ascii")
        assert FIELD.fullmatch(value) or value.isdigit()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("all", '"all"'),
        ("a b", '"a b"'),
        ('a"b', '"a\\"b"'),
        ("a\\", '"a\\\\"'),
        ("größe", '"gr%C3%B6%C3%9Fe"'),
        ("限", '"%E9%99%90"'),
    ],
)
def test_names(name: str, shown: str) -> None:
    assert ietf(name, result()) == {
        "RateLimit-Policy": f"{shown};q=5;w=60",
        "RateLimit": f"{shown};r=2;t=1",
    }


def test_seconds_are_rounded_up_and_no_denial_has_none() -> None:
    assert retry_after_s(result(allowed=False, retry_after_ns=1)) == 1
    assert retry_after_s(result(allowed=False, retry_after_ns=0)) == 1
    assert retry_after_s(result(allowed=False, retry_after_ns=SECOND + 1)) == 2
    assert retry_after_s(result(allowed=False, retry_after_ns=5 * SECOND)) == 5
    assert retry_after_s(result(allowed=True)) == 0


def test_styles() -> None:
    legacy = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]
    drafts = ["RateLimit-Policy", "RateLimit"]
    for style, names in (("legacy", legacy), ("ietf", drafts), ("both", legacy + drafts)):
        assert [name for name, _ in limit_headers(style, result(), "all", None)] == names
    assert limit_headers("none", result(), "all", None) == []
