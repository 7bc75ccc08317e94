"""fluxlimit's exceptions."""

from __future__ import annotations


class FluxlimitError(Exception):
    """The root of fluxlimit's exceptions."""


class BackendError(FluxlimitError):
    """The place where limits are counted cannot be used."""


class ConfigurationError(FluxlimitError):
    """A rule is missing or cannot be, or the limiter is not connected."""


class RateLimitExceeded(FluxlimitError):  # noqa: N818 - its name
    """A check was denied; `retry_after` is in seconds."""

    def __init__(self, key: str, limit: str, retry_after: float) -> None:
        self.key = key
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(
            f"Rate limit exceeded for key '{key}' (limit: {limit}). Retry after {retry_after:.1f}s."
        )
