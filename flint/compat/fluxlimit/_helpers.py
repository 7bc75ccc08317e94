"""What the middlewares have in common."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from flint.compat.fluxlimit._algorithms import LimitResult
    from flint.compat.fluxlimit._errors import RateLimitExceeded

    class Headers(Protocol):
        def __setitem__(self, name: str, value: str, /) -> None: ...


def should_skip_path(path: str, skip_paths: Iterable[str] | None) -> bool:
    """Whether the path is one of these, or begins as one that ends in `*`."""
    return any(
        path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
        for pattern in skip_paths or ()
    )


def apply_rate_limit_headers(headers: Headers, result: LimitResult, *, cost: int = 1) -> None:
    """Set X-RateLimit-Limit, -Remaining and -Reset."""
    headers["X-RateLimit-Limit"] = str(result.remaining + cost)
    headers["X-RateLimit-Remaining"] = str(max(0, result.remaining))
    headers["X-RateLimit-Reset"] = str(int(time.time() + result.reset_after))


def default_exceeded_payload(exc: RateLimitExceeded) -> dict[str, Any]:
    """The body of a denial."""
    never = math.isinf(exc.retry_after)
    return {
        "error": "Rate limit exceeded",
        "retry_after": None if never else round(exc.retry_after, 1),
        "limit": exc.limit,
    }


def retry_after_headers(exc: RateLimitExceeded) -> dict[str, str]:
    """Retry-After in whole seconds, unless it never comes."""
    return {} if math.isinf(exc.retry_after) else {"Retry-After": str(int(exc.retry_after) + 1)}
