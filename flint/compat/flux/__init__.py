"""flux's surface on Flint: `from flint.compat import flux`.

>>> from flint.compat.flux import FluxConfig, RateLimiter
>>> limiter = RateLimiter(2, 60, policy="token_bucket", config=FluxConfig(url=":memory:"))
>>> [limiter.hit("alice").allowed for _ in range(3)]
[True, True, False]

It counts where `[flint] url` of flux.toml says, which `flint.connect` opens: a directory, a Flint
server, Redis, PostgreSQL. Other entries of `[flint]` are options for it. Without it, that is the
Redis whose `host` or `port` stands in `[redis]`, then FLINT_URL or FLINT_DATA_DIR, else the
directory .flint. A directory is shared by all processes of the machine (`shared = false` gives it
to one alone).

What flux-limiter 0.1.19 does otherwise:

- Its numbers: `remaining` of gcra is always the limit, that of the leaky bucket counts up, that of
  the fixed window is 0; `reset_after` of a denied fixed window is a place in a line. Here
  `remaining` is what is left, `reset_after` the time until all is free again, `retry_after` the
  time until one unit is, both in seconds and rounded up, and `usage` the burst less what remains.
- Above 1000 requests a second its gcra limits nothing, since its interval is whole milliseconds.
  Here rates are exact.
- Its jitter is added to `remaining` as well. Here to the `retry_after` of denials alone. Headers
  round it up, so that nobody comes back too early.
- Two limiters with different limits write over each other's state of one key. Here each limit has
  counters of its own. Two functions of one name share a limit there. Here the name is the full one,
  with the module; a name that is given is shared, as there.
- It believes X-Forwarded-For of Django requests. Here an address is that of the connection; give
  `key=` where a proxy stands before the application.
- A TypeError inside `key(request)` makes it call `key()`. Here what `key` takes is looked at.
- In a program that has Starlette installed, a denied plain function returns a response there. Here
  the answer fits the request, and RateLimitExceeded is raised where there is none.
- `is_allowed`, `check`, `require` and `repr` are not part of its class by an error. Here they are,
  and `ahit` for coroutines, which its decorator holds up while it waits.
- A file that is no TOML, an entry of a wrong type and an unknown policy are passed over there,
  which lets other limits hold than were written. Here they raise FluxError, and ValueError
  ("Invalid policy name: x") where a policy is an argument.
- The file that its `init` writes has the jitter in a table where it is not read. Here it is read in
  both.
- With `fail_silently`, which is on unless it is set, everything is let in while the place cannot be
  used, as there; numbers that no limit can have raise ValueError all the same.
- Analytics are kept in Redis there. Here each process counts for itself, the first one that is
  given the port answers, and `analytics_stream`, `_retention` and `_sample_rate` have no effect;
  `flint top` and `flint.prometheus` tell of all processes.
- `RedisClient` is None, and limiters have no `metrics_client` and no `script`. `client` is Flint's
  limiter.

`python -m flint.compat.flux init`, `clear` and `monitor` are its commands. The decorator
answers in the framework that the request is from. A Redis needs the extra `flint-limiter[redis]`,
PostgreSQL `[postgres]`; nothing else needs one.
"""

from __future__ import annotations

from flint.compat.flux._analytics import AnalyticsServer, StatsProvider
from flint.compat.flux._config import (
    FluxConfig,
    RateLimitDefaults,
    RateLimitPolicy,
    get_config,
    load_config,
    reload_config,
)
from flint.compat.flux._decorator import generate_identity, get_ip, rate_limit
from flint.compat.flux._errors import (
    ConnectionError,  # noqa: A004 - its name
    FluxError,
    RateLimitExceeded,
)
from flint.compat.flux._limiter import RateLimiter, create_limiter, preload_scripts
from flint.compat.flux._result import RateLimitResult

__version__ = "0.1.19"
RedisClient = None

__all__ = [
    "AnalyticsServer",
    "ConnectionError",
    "FluxConfig",
    "FluxError",
    "RateLimitDefaults",
    "RateLimitExceeded",
    "RateLimitPolicy",
    "RateLimitResult",
    "RateLimiter",
    "RedisClient",
    "StatsProvider",
    "__version__",
    "create_limiter",
    "generate_identity",
    "get_config",
    "get_ip",
    "load_config",
    "preload_scripts",
    "rate_limit",
    "reload_config",
]
