"""Throttles for Django REST framework that survive a restart, for periods of any length.

    # settings.py
    FLINT = {"URL": "data/limits"}
    REST_FRAMEWORK = {
        "DEFAULT_THROTTLE_CLASSES": ["flint.django_rest.UserRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"user": "100/minute; 1000/day", "anon": "20/5m"},
    }

The classes have the names of the framework's own and take their places; a class of one's own sets
`rate`, or `scope` and its rate in the settings. The extra `flint-limiter[django-rest]` brings what
this module needs.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

try:
    from rest_framework.settings import api_settings
    from rest_framework.throttling import BaseThrottle
except ImportError:
    raise ImportError(
        'flint.django_rest needs Django REST framework: pip install "flint-limiter[django-rest]"'
    ) from None

from flint._web.decision import decide
from flint.django import limiter, policy_of, request_of

if TYPE_CHECKING:
    from flint._web.policy import Policy

__all__ = ["AnonRateThrottle", "RateThrottle", "ScopedRateThrottle", "UserRateThrottle"]

_SECOND_NS = 1_000_000_000


class RateThrottle(BaseThrottle):  # type: ignore[misc]
    """Limits each client's address to `rate`, in words, or to the rate that the settings have for
    `scope`; None is no limit. Views of one scope share a counter. A denial is the framework's own
    answer: 429 with Retry-After. Raises ValueError, at the first request, for a rate that cannot be
    read, and KeyError for a scope without one."""

    rate: str | None = None
    scope: str | None = None
    key: Any = "ip"
    _wait_s: float | None = None

    def allow_request(self, request: Any, view: Any) -> bool:
        """Whether the request is let in; takes the units if it is."""
        del view  # for those whose scope it has
        rate = self.rate
        if rate is None and self.scope is not None:
            rate = api_settings.DEFAULT_THROTTLE_RATES[self.scope]
        if rate is None:
            return True
        policy = _policy(rate, self.key, self.scope or type(self).__qualname__)
        verdict = decide(limiter(), policy, request_of(request._request, request.user))
        wait_ns = 0 if verdict.result is None else verdict.result.retry_after_ns
        self._wait_s = None if verdict.allowed else wait_ns / _SECOND_NS
        return verdict.allowed

    def wait(self) -> float | None:
        """Seconds until the request would be let in, after a denial."""
        return self._wait_s


class AnonRateThrottle(RateThrottle):
    """Limits who has not logged in, by address."""

    scope: str | None = "anon"

    def allow_request(self, request: Any, view: Any) -> bool:
        if request.user is not None and request.user.is_authenticated:
            return True
        return super().allow_request(request, view)


class UserRateThrottle(RateThrottle):
    """Limits each user, and who has not logged in by address."""

    scope: str | None = "user"
    key = "user"


class ScopedRateThrottle(UserRateThrottle):
    """Limits views by their `throttle_scope`; without one they are not limited."""

    scope = None

    def allow_request(self, request: Any, view: Any) -> bool:
        self.scope = getattr(view, "throttle_scope", None)
        return self.scope is None or super().allow_request(request, view)


@functools.lru_cache(maxsize=1024)
def _policy(rate: str, key: Any, scope: str) -> Policy:
    return policy_of(rate, {"key": key, "scope": f"rest {scope}"})
