"""flux's configuration: flux.toml."""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from flint.compat.flux._errors import FluxError

_PLACES = ("flux.toml", "config/flux.toml")


class RateLimitPolicy(Enum):
    """How a limit decides."""

    GCRA = "gcra"
    TOKEN_BUCKET = "token_bucket"
    LEAKY_BUCKET = "leaky_bucket"
    FIXED_WINDOW = "fixed_window"


def policy_of(value: RateLimitPolicy | str) -> RateLimitPolicy:
    """A policy, by its name in any case. Raises ValueError for another name."""
    if isinstance(value, RateLimitPolicy):
        return value
    try:
        return RateLimitPolicy[str(value).upper()]
    except KeyError:
        raise ValueError(f"Invalid policy name: {value}") from None


@dataclass
class RateLimitDefaults:
    """The numbers of a limiter that is given none."""

    requests: int = 100
    period: float = 60
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.burst is None:
            self.burst = self.requests


@dataclass
class FluxConfig:
    """What flux.toml says. `url` and `options` are Flint's: where `flint.connect` opens the
    limiter, and with what; a Redis that the file names is that place where it names no other. What
    is said of connections, logs and the events' stream is read and has no effect."""

    redis_host: str = "127.0.0.1"
    redis_port: int = 6379
    pool_size: int = 5
    timeout_ms: int = 200
    key_prefix: str = "flux:"
    log_file: str = "flux_debug.log"
    fail_silently: bool = True
    console_logging: bool = False
    policy: RateLimitPolicy = RateLimitPolicy.GCRA
    rate_limit_defaults: RateLimitDefaults = field(default_factory=RateLimitDefaults)
    rate_limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    jitter_enabled: bool = False
    jitter_max_ms: int = 1000
    analytics_enabled: bool = False
    analytics_port: int = 4444
    analytics_stream: str = "flux:events"
    analytics_retention: int = 100_000
    analytics_sample_rate: float = 1.0
    url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


# The field of each entry, by its table. The file that flux generates has the jitter's in the wrong
# table; they hold there too.
_JITTER = {"jitter_enabled": "jitter_enabled", "jitter_max_ms": "jitter_max_ms"}
_ENTRIES = {
    "redis": {
        "host": "redis_host",
        "port": "redis_port",
        "pool_size": "pool_size",
        "timeout_ms": "timeout_ms",
    },
    "flux": {
        **{name: name for name in ("key_prefix", "log_file", "fail_silently", "console_logging")},
        **_JITTER,
    },
    "analytics": {
        **{
            name: f"analytics_{name}"
            for name in ("enabled", "port", "stream", "retention", "sample_rate")
        },
        **_JITTER,
    },
}
_DEFAULTS = ("requests", "period", "burst")


def load_config(path: str | os.PathLike[str] | None = None) -> FluxConfig:
    """The configuration of a file: this one, that of FLUX_CONFIG, ./flux.toml or
    ./config/flux.toml. Without any file the defaults, and a warning on stderr. Raises FluxError for
    a file that is no TOML or says what cannot be."""
    named = path or os.environ.get("FLUX_CONFIG")
    candidates = [Path(named)] if named else [Path(place) for place in _PLACES]
    found = next((one for one in candidates if one.is_file()), None)
    if found is None:
        print(
            f"[flux] [warning] Configuration file '{candidates[0]}' not found. Using defaults.",
            file=sys.stderr,
        )
        return FluxConfig()
    try:
        return _read(tomllib.loads(found.read_text("utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise FluxError(f"{found}: {error}") from None


def _read(said: dict[str, Any]) -> FluxConfig:
    config = FluxConfig()
    for table, entries in _ENTRIES.items():
        for name, value in said.get(table, {}).items():
            if name in entries:
                _set(config, entries[name], f"[{table}] {name}", value)
    limits = dict(said.get("rate_limit", {}))
    if "policy" in limits:
        config.policy = policy_of(limits["policy"])
    given = {name: limits[name] for name in _DEFAULTS if name in limits}
    config.rate_limit_defaults = RateLimitDefaults(**given)
    config.rate_limits = said.get("rate_limits", {})
    for name, limit in config.rate_limits.items():
        if not isinstance(limit, dict):
            raise TypeError(f"[rate_limits] {name} must be a table")
        if "policy" in limit:
            policy_of(limit["policy"])
    place = dict(said.get("flint", {}))
    named = {"host", "port"} & said.get("redis", {}).keys()
    redis = redis_url(config.redis_host, config.redis_port) if named else None
    config.url = place.pop("url", redis)
    config.options = place
    return config


def redis_url(host: str, port: int) -> str:
    """The URL of a Redis server."""
    return f"redis://{f'[{host}]' if ':' in host else host}:{port}"


def _set(config: FluxConfig, name: str, shown: str, value: Any) -> None:
    """Sets a field to a value of the type that it has."""
    kind = type(getattr(config, name))
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{shown} must be of type {kind.__name__}, not {value!r}")
    setattr(config, name, value)


_config: FluxConfig | None = None


def get_config() -> FluxConfig:
    """The configuration of this process, read at the first call."""
    global _config
    if _config is None:
        _config = load_config()
    return _config


def reload_config() -> FluxConfig:
    """Reads it again; limiters that are there keep what they have."""
    global _config
    _config = load_config()
    return _config


# What `init` writes.
TEMPLATE = """\
# Where Flint counts: a directory, which all processes of this machine share, or a URL of
# flint.connect, such as redis://127.0.0.1:6379. Other entries of this table are its options.
[flint]
url = "data/limits"

[flux]
key_prefix = "flux:"
# Let everything in, and say so on stderr, while the place cannot be used.
fail_silently = true
# Add up to so many milliseconds to the retry_after of denials, so that clients do not come back
# together.
jitter_enabled = false
jitter_max_ms = 1000

[analytics]
enabled = false
port = 4444

# Of limiters that say no numbers of their own. policy: gcra, token_bucket, leaky_bucket or
# fixed_window. period: in seconds.
[rate_limit]
policy = "gcra"
requests = 100
period = 60
burst = 100

[rate_limits.default]
requests = 100
period = 60

[rate_limits.strict]
requests = 5
period = 60
burst = 5
policy = "fixed_window"

[rate_limits.high_throughput]
requests = 1000
period = 1
burst = 2000
policy = "token_bucket"
"""
