"""slowapi's exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from flint.compat.slowapi.wrappers import Limit


class RateLimitExceeded(HTTPException):
    """A limit denied a request; its `detail` is the limit's `error_message`, or the limit."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        message = limit.error_message() if callable(limit.error_message) else limit.error_message
        super().__init__(429, message or str(limit.limit))
