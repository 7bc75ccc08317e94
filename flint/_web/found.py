"""A request that `flint.rate_limit` has found, and how its framework is answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flint._surface.protocol import AnyLimiter
    from flint._web.decision import Verdict
    from flint._web.policy import Policy
    from flint._web.request import Request


class Found(ABC):
    """Each framework's skin has one of its own."""

    _request: Request

    def request(self, policy: Policy) -> Request:
        """The request, with what the policy wants to know of it."""
        del policy
        return self._request

    async def arequest(self, policy: Policy) -> Request:
        """The same, without blocking the event loop."""
        return self.request(policy)

    @property
    @abstractmethod
    def limiter(self) -> AnyLimiter | None:
        """The application's; None if it has none."""

    @abstractmethod
    def denied(self, verdict: Verdict) -> Any:
        """The framework's own answer, which is returned or raised."""

    @abstractmethod
    def allowed(self, verdict: Verdict, answer: Any) -> Any:
        """What the function has returned, with the verdict's headers."""
