"""Other limiters on the storage that they bring and on Flint's: one peer, the same work.

A side's store is "memory", the URL of a Redis, or "flint": a directory in batch mode.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from loops import Target
from targets_web import Fast, OfDjango, OfFlask, module, versions

KEYS = [f"user:{number}" for number in range(1000)]
RATE = 10_000  # a second and key: everything is let in


class Storage:
    """What is said to a peer of where it counts."""

    def __init__(self, store: str, directory: str | None = None) -> None:
        self.store = store
        self.directory = directory
        self.is_flint = store == "flint"
        self.has_redis = store.startswith("redis")

    def of_limits(self) -> dict[str, Any]:
        """For who takes a storage of limits."""
        if not self.is_flint:
            uri = self.store if self.has_redis else "memory://"
            return {"storage_uri": uri}
        module("flint.plugins.limits")
        return {"storage_uri": f"flint://{self.directory}", "storage_options": {"sync": "batch"}}

    def cache(self) -> dict[str, Any]:
        """A cache of Django's."""
        backends = "django.core.cache.backends"
        if self.is_flint:
            return {
                "BACKEND": "flint.plugins.django_cache.CounterCache",
                "LOCATION": self.directory,
                "OPTIONS": {"sync": "batch"},
            }
        if self.has_redis:
            return {"BACKEND": f"{backends}.redis.RedisCache", "LOCATION": self.store}
        return {"BACKEND": f"{backends}.locmem.LocMemCache"}


class Direct(Target):
    """A peer that is called without an application; `peer` names the method that makes it."""

    def __init__(self, peer: str, store: str, directory: str | None = None) -> None:
        super().__init__()
        self.storage = Storage(store, directory)
        self.allow: Callable[[str], bool] = getattr(self, peer)()
        self.keys: Iterator[str] = itertools.cycle(KEYS)

    def run(self, calls: int) -> dict[str, Any]:
        allow, allowed = self.allow, 0
        started = time.perf_counter_ns()
        for key in itertools.islice(self.keys, calls):
            if allow(key):
                allowed += 1
        ns = time.perf_counter_ns() - started
        return {"ns": ns, "calls": calls, "allowed": allowed, "denied": calls - allowed}

    def limits_of(self, strategy: str) -> Callable[[str], bool]:
        self.versions = versions(("limits",))
        said = self.storage.of_limits()
        options = said.get("storage_options", {})
        storage = module("limits.storage").storage_from_string(said["storage_uri"], **options)
        limiter = getattr(module("limits.strategies"), strategy)(storage)
        limit = module("limits").parse(f"{RATE}/second")
        return lambda key: bool(limiter.hit(limit, key))

    def limits_fixed(self) -> Callable[[str], bool]:
        return self.limits_of("FixedWindowRateLimiter")

    def limits_moving(self) -> Callable[[str], bool]:
        return self.limits_of("MovingWindowRateLimiter")

    def pyrate(self) -> Callable[[str], bool]:
        """Its bucket limits all together, whatever the item's name is."""
        self.versions = versions(("pyrate-limiter",))
        peer: Any = module("pyrate_limiter")
        rates = [peer.Rate(RATE * len(KEYS), 1000)]
        if self.storage.is_flint:
            kind: Any = module("flint.plugins.pyrate_limiter").FlintBucket
            bucket = kind(rates, self.storage.directory, sync="batch")
        elif self.storage.has_redis:
            client = module("redis").Redis.from_url(self.storage.store)
            bucket = peer.RedisBucket.init(rates, client, "bench")
        else:
            bucket = peer.InMemoryBucket(rates)
        limiter = peer.Limiter(bucket)
        return lambda key: bool(limiter.try_acquire(key, blocking=False))

    def throttled_of(self, using: str) -> Callable[[str], bool]:
        self.versions = versions(("throttled-py",))
        peer: Any = module("throttled")
        if self.storage.is_flint:
            kind: Any = module("flint.plugins.throttled").FlintStore
            store = kind(self.storage.directory, {"sync": "batch"})
        elif self.storage.has_redis:
            store = peer.RedisStore(server=self.storage.store)
        else:
            store = peer.MemoryStore(options={"MAX_SIZE": 2 * len(KEYS)})
        limiter = peer.Throttled(using=using, quota=peer.rate_limiter.per_sec(RATE), store=store)
        return lambda key: not limiter.limit(key).limited

    def throttled_token_bucket(self) -> Callable[[str], bool]:
        return self.throttled_of("token_bucket")

    def throttled_gcra(self) -> Callable[[str], bool]:
        return self.throttled_of("gcra")


class SlowApi(Fast):
    def __init__(self, store: str, directory: str | None = None) -> None:
        self.storage = Storage(store, directory)
        super().__init__("slowapi_on", RATE, directory=directory)

    def slowapi_on(self) -> None:
        slowapi: Any = module("slowapi")
        address = module("slowapi.util").get_remote_address
        limiter = slowapi.Limiter(key_func=address, **self.storage.of_limits())
        self.app.state.limiter = limiter
        self.route(limiter.limit(f"{10**9}/day")(self.endpoint()))


class FlaskLimiter(OfFlask):
    def __init__(self, store: str, directory: str | None = None) -> None:
        self.storage = Storage(store, directory)
        super().__init__("flask_limiter_on", RATE, directory=directory)

    def flask_limiter_on(self) -> None:
        peer: Any = module("flask_limiter")
        address: Any = module("flask_limiter.util").get_remote_address
        limiter = peer.Limiter(address, app=self.app, **self.storage.of_limits())
        self.app.get("/")(limiter.limit(f"{10**9}/day")(lambda: "hello"))


class InDjango(OfDjango):
    def __init__(self, side: str, store: str, directory: str | None = None) -> None:
        self.storage = Storage(store, directory)
        super().__init__(side, RATE, directory=directory)
        self.versions |= versions(("djangorestframework",))

    def ratelimit(self) -> None:
        def make(view: Callable[[Any], Any]) -> Any:
            limit: Any = module("django_ratelimit.decorators").ratelimit
            return limit(key="ip", rate=f"{10**9}/d")(view)

        self.serve(make, CACHES={"default": self.storage.cache()})

    def throttle(self) -> None:
        """A throttle of Django REST framework; what it has let in stays in a list, so it is few."""
        ours = self.storage.is_flint
        where = {"URL": self.directory, "OPTIONS": {"sync": "batch"}} if ours else None
        cache = Storage("memory").cache() if ours else self.storage.cache()

        def make(_view: Any) -> Any:
            kind: Any = module("flint.django_rest" if ours else "rest_framework.throttling")
            plain: Any = module("rest_framework.response").Response
            renderer: Any = module("rest_framework.renderers").JSONRenderer

            class Home(module("rest_framework.views").APIView):  # type: ignore[misc]
                authentication_classes = ()
                renderer_classes = (renderer,)
                throttle_classes = (kind.AnonRateThrottle,)

                def get(self, _request: Any) -> Any:
                    return plain("hello")

            return Home.as_view()

        rest = {"DEFAULT_THROTTLE_RATES": {"anon": "100/s"}, "UNAUTHENTICATED_USER": None}
        self.serve(make, CACHES={"default": cache}, FLINT=where, REST_FRAMEWORK=rest)
