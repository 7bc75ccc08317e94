"""fluxlimit's metrics for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
except ImportError:
    raise ImportError(
        "prometheus-client required. Install with: pip install flint-limiter[prometheus]"
    ) from None

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class RateLimitMetrics:
    """Counts checks, in the default registry or in `registry`."""

    def __init__(
        self, prefix: str = "fluxlimit", registry: CollectorRegistry | None = None
    ) -> None:
        where = registry or REGISTRY
        self.requests = Counter(
            f"{prefix}_requests", "Checks, by rule and result", ["rule", "result"], registry=where
        )
        self.duration = Histogram(
            f"{prefix}_check_duration_seconds", "How long a check takes", ["rule"], registry=where
        )
        self.remaining = Gauge(
            f"{prefix}_remaining", "What the last check of a rule left", ["rule"], registry=where
        )

    def record_check(
        self, rule: str, key: str, allowed: bool, latency: float, remaining: int | None = None
    ) -> None:
        """Count a check that took `latency` seconds. `key` becomes no label: there is no bound on
        how many there are."""
        del key
        self.requests.labels(rule, "allowed" if allowed else "denied").inc()
        self.duration.labels(rule).observe(latency)
        if remaining is not None:
            self.remaining.labels(rule).set(remaining)
