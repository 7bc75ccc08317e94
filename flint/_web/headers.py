"""Rate limit headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flint._native import Result


def retry_after_s(result: Result) -> int:
    """Whole seconds until the same cost would be admitted, rounded up."""
    return -(-result.retry_after_ns // 1_000_000_000)


def limit_headers(
    style: str, result: Result, policy_name: str, window_s: int | None
) -> list[tuple[str, str]]:
    """The headers that say what is left."""
    found: list[tuple[str, str]] = []
    if style in ("legacy", "both"):
        found += [
            ("X-RateLimit-Limit", str(result.limit)),
            ("X-RateLimit-Remaining", str(result.remaining)),
            ("X-RateLimit-Reset", str(result.reset_at_ns // 1_000_000_000)),
        ]
    if style in ("ietf", "both"):
        reset_s = -(-result.reset_after_ns // 1_000_000_000)
        window = "" if window_s is None else f";w={window_s}"
        found += [
            ("RateLimit-Policy", f'"{policy_name}";q={result.limit}{window}'),
            ("RateLimit", f'"{policy_name}";r={result.remaining};t={reset_s}'),
        ]
    return found
