"""flux's result."""

from __future__ import annotations

from dataclasses import dataclass

from flint.compat.flux._errors import whole


@dataclass
class RateLimitResult:
    """A decision. `reset_after` and `retry_after` are seconds from now, rounded up; `usage` is how
    much of the burst is in use."""

    allowed: bool
    remaining: int = 0
    reset_after: int | None = None
    retry_after: float | None = None
    limit: int = 0
    usage: int = 0

    def to_headers(self) -> dict[str, str]:
        """X-RateLimit-Limit, -Remaining and -Reset, a length of time; Retry-After of a denial."""
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.remaining)),
        }
        if self.reset_after is not None:
            headers["X-RateLimit-Reset"] = str(self.reset_after)
        if not self.allowed and self.retry_after is not None:
            headers["Retry-After"] = str(whole(self.retry_after))
        return headers
