"""flux's exceptions."""

from __future__ import annotations


class FluxError(Exception):
    """The root of flux's exceptions."""


class ConnectionError(FluxError):  # noqa: A001 - its name
    """The place where limits are counted cannot be used."""


class RateLimitExceeded(FluxError):  # noqa: N818 - its name
    """A hit was denied; `retry_after` is in seconds."""

    def __init__(self, key: str, retry_after: float = 0, message: str | None = None) -> None:
        self.key = key
        self.retry_after = retry_after
        if message is None:
            message = f"Rate limit exceeded for '{key}'"
            message += f". Retry after {retry_after:.1f}s" if retry_after > 0 else ""
        super().__init__(message)

    def to_headers(self) -> dict[str, str]:
        """Retry-After, and that nothing remains."""
        return {"Retry-After": str(whole(self.retry_after)), "X-RateLimit-Remaining": "0"}


def whole(seconds: float) -> int:
    """Seconds, rounded up: who waits that long is let in."""
    return -int(-seconds // 1)
