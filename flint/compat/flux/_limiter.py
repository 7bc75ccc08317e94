"""flux's limiter."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import flint.compat.flux._analytics as _analytics
from flint._places import without_password
from flint._rate_limit import default_url
from flint._surface.arguments import scaled_to_ns
from flint._surface.rate import Rate
from flint._web.keys import plain
from flint.compat._place import Place, counter_of
from flint.compat.flux._config import (
    FluxConfig,
    RateLimitPolicy,
    get_config,
    policy_of,
    redis_url,
)
from flint.compat.flux._errors import (
    ConnectionError,  # noqa: A004 - its name
    RateLimitExceeded,
)
from flint.compat.flux._result import RateLimitResult
from flint.errors import FlintError

if TYPE_CHECKING:
    from flint._native import Result
    from flint._surface.protocol import AnyLimiter

_NS = 1_000_000_000
_SCRIPTS = 4


def place_of(config: FluxConfig) -> tuple[str, dict[str, Any]]:
    """Where limits are counted, and with which options: the configuration's URL, else that of
    FLINT_URL or FLINT_DATA_DIR, else the directory .flint."""
    return config.url or default_url(), config.options


def open_place(config: FluxConfig) -> AnyLimiter:
    """The limiter of a configuration. Raises ConnectionError when it cannot be opened."""
    url, options = place_of(config)
    return _opened(url, Place(url, **options))


def _opened(url: str, place: Place) -> AnyLimiter:
    try:
        return place.limiter()
    except (FlintError, OSError) as error:
        raise ConnectionError(f"{without_password(url)} cannot be opened: {error}") from error


class RateLimiter:
    """Limits keys to `requests` in `period` seconds, `burst` at once, by a policy; what is not
    given is the configuration's. `redis_host` and `redis_port` name a Redis to count in, instead of
    the configuration's place. Any thread and coroutine may use it. Raises ValueError or TypeError
    for numbers that no limit can have and for a policy that there is not."""

    def __init__(
        self,
        requests: int | None = None,
        period: float | None = None,
        *,
        burst: int | None = None,
        policy: RateLimitPolicy | str | None = None,
        redis_host: str | None = None,
        redis_port: int | None = None,
        config: FluxConfig | None = None,
    ) -> None:
        self._config = config or get_config()
        if redis_host is not None or redis_port is not None:
            host = redis_host or self._config.redis_host
            url = redis_url(host, redis_port or self._config.redis_port)
            self._config = dataclasses.replace(self._config, url=url, options={})
        defaults = self._config.rate_limit_defaults
        self.requests = requests or defaults.requests
        self.period = period or defaults.period
        # A dataclass whose field is None until it is made.
        self.burst: int = burst or requests or defaults.burst or self.requests
        self.policy = policy_of(policy or self._config.policy)
        self._limit = self._rate()
        url, options = place_of(self._config)
        self._url, self._place = url, Place(url, **options)
        if self._config.analytics_enabled:
            _analytics.start(self._config.analytics_port)

    @classmethod
    def from_config(cls, name: str, config: FluxConfig | None = None) -> RateLimiter:
        """The limiter of `[rate_limits.<name>]`. Raises ValueError where there is none."""
        config = config or get_config()
        if name not in config.rate_limits:
            available = list(config.rate_limits)
            raise ValueError(f"Rate limit config '{name}' not found. Available: {available}")
        said = config.rate_limits[name]
        return cls(
            said.get("requests"),
            said.get("period"),
            burst=said.get("burst"),
            policy=said.get("policy"),
            config=config,
        )

    def _rate(self) -> Rate:
        per_ns = scaled_to_ns(self.period)
        if per_ns is None:
            raise TypeError(f"period must be a number of seconds, not {self.period!r}")
        if self.policy is RateLimitPolicy.FIXED_WINDOW:
            return Rate(self.requests, per_ns, None, "fixed_window_counter")
        return Rate(self.requests, per_ns, self.burst, self.policy.value)

    @property
    def client(self) -> AnyLimiter:
        """The limiter of Flint, opened at the first call. Raises ConnectionError."""
        return _opened(self._url, self._place)

    def counter_key(self, key: str) -> str:
        """The key under which Flint counts: the prefix, the limit, and the key; a long or odd one
        is hashed."""
        return self._config.key_prefix + counter_of(self._limit, plain(str(key)))

    def hit(self, key: str, endpoint: str | None = None) -> RateLimitResult:
        """Takes one unit if it is there. While the place cannot be used, everything is let in, with
        the error on stderr, or, without `fail_silently`, ConnectionError is raised. May wait for
        the disk where the limiter is in always mode."""
        started_s = time.perf_counter()
        try:
            found = self.client.check(self.counter_key(key), limit=self._limit)
        except (FlintError, OSError, ConnectionError) as error:
            return self._failed(error)
        return self._decided(found, endpoint, started_s)

    async def ahit(self, key: str, endpoint: str | None = None) -> RateLimitResult:
        """`hit` as a coroutine, which does not hold the event loop."""
        started_s = time.perf_counter()
        try:
            found = await self.client.acheck(self.counter_key(key), limit=self._limit)
        except (FlintError, OSError, ConnectionError) as error:
            return self._failed(error)
        return self._decided(found, endpoint, started_s)

    check = hit

    def is_allowed(self, key: str) -> bool:
        """Whether a hit was let in."""
        return self.hit(key).allowed

    def require(self, key: str) -> RateLimitResult:
        """A hit; RateLimitExceeded when it is denied."""
        found = self.hit(key)
        if not found.allowed:
            raise RateLimitExceeded(key, found.retry_after or 0)
        return found

    def _failed(self, error: Exception) -> RateLimitResult:
        if not self._config.fail_silently:
            raise ConnectionError(f"Rate limit check failed: {error}") from error
        traceback.print_exception(error, file=sys.stderr)
        return RateLimitResult(True, remaining=1, retry_after=0, limit=self.requests)

    def _decided(self, found: Result, endpoint: str | None, started_s: float) -> RateLimitResult:
        retry_after = float(-(-found.retry_after_ns // _NS))
        if not found.allowed and self._config.jitter_enabled:
            retry_after += random.uniform(0, self._config.jitter_max_ms / 1000)
        answer = RateLimitResult(
            found.allowed,
            found.remaining,
            -(-found.reset_after_ns // _NS),
            retry_after,
            self.requests,
            found.limit - found.remaining,
        )
        if self._config.analytics_enabled:
            took_ms = (time.perf_counter() - started_s) * 1000
            _analytics.stats.record(endpoint or "default", answer, took_ms, self._about())
        return answer

    def _about(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "period": self.period,
            "burst": self.burst,
            "policy": self.policy.value,
        }

    def __repr__(self) -> str:
        return (
            f"RateLimiter(requests={self.requests}, period={self.period}, burst={self.burst}, "
            f"policy={self.policy.value!r})"
        )


def create_limiter(
    name: str | None = None,
    *,
    requests: int | None = None,
    period: float | None = None,
    burst: int | None = None,
    policy: RateLimitPolicy | str | None = None,
) -> RateLimiter:
    """The limiter of a name in the configuration, or of these numbers."""
    if name is not None:
        return RateLimiter.from_config(name)
    return RateLimiter(requests, period, burst=burst, policy=policy)


def preload_scripts(config: FluxConfig | None = None) -> int:
    """Opens the place, so that an error comes now and not at the first hit; returns 4, as many
    scripts as flux has. Raises ConnectionError."""
    config = config or get_config()
    try:
        open_place(config).status("flux")
    except (FlintError, OSError) as error:
        raise ConnectionError(str(error)) from error
    return _SCRIPTS
