"""Rate limit headers: those of Flint 0.2, and those of draft-ietf-httpapi-ratelimit-headers-11,
which are structured fields (RFC 8941)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from flint._native import Result

_MOST = 999_999_999_999_999  # an integer of a structured field has 15 digits at most
# What a string of a structured field may hold as it is.
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def retry_after_s(result: Result) -> int:
    """Whole seconds until the same cost would be admitted, rounded up; 1 at least on a denial."""
    return max(-(-result.retry_after_ns // 1_000_000_000), 0 if result.allowed else 1)


def quoted(name: str) -> str:
    """A name as a string of a structured field; what has no place in one is percent-encoded."""
    plain = quote(name, safe=_PRINTABLE)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def legacy_headers(result: Result) -> list[tuple[str, str]]:
    """The headers of Flint 0.2."""
    return [
        ("X-RateLimit-Limit", f"{result.limit}"),
        ("X-RateLimit-Remaining", f"{result.remaining}"),
        ("X-RateLimit-Reset", f"{result.reset_at_ns // 1_000_000_000}"),
    ]


def encoded_legacy_headers(result: Result) -> list[tuple[bytes, bytes]]:
    """The same as ASGI has them."""
    return [
        (b"x-ratelimit-limit", b"%d" % result.limit),
        (b"x-ratelimit-remaining", b"%d" % result.remaining),
        (b"x-ratelimit-reset", b"%d" % (result.reset_at_ns // 1_000_000_000)),
    ]


def encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def limit_headers(
    style: str, result: Result, policy_name: str, window_s: int | None
) -> list[tuple[str, str]]:
    """The headers that say what is left."""
    found = legacy_headers(result) if style in ("legacy", "both") else []
    if style in ("ietf", "both"):
        name = quoted(policy_name)
        reset_s = min(-(-result.reset_after_ns // 1_000_000_000), _MOST)
        window = "" if window_s is None else f";w={min(window_s, _MOST)}"
        found += [
            ("RateLimit-Policy", f"{name};q={min(result.limit, _MOST)}{window}"),
            ("RateLimit", f"{name};r={min(result.remaining, _MOST)};t={reset_s}"),
        ]
    return found
