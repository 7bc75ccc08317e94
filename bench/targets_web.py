"""Applications that say hello, bare and behind limiters, called in process without a server.

Each limiter stands where its documentation puts it: as a dependency, decorator or middleware, one
limit for each client's address. All requests are one client's. Flint is found beside this folder,
so that all sides run with the same framework in one environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import io
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from loops import Target

ALLOWED, DENIED = 10**9, 10  # a day: every request is let in, or all but ten are not
SECOND_MS = 1000
DAY_MS = 86_400 * SECOND_MS
TOO_MANY = 429
CONCURRENT = 50

sys.path.append(str(Path(__file__).resolve().parent.parent))


def module(name: str) -> Any:
    return importlib.import_module(name)


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def flint_limiter(place: str, directory: str | None) -> Any:
    """`place` is memory, or how the directory is synced."""
    flint = module("flint")
    return flint.Limiter(":memory:") if place == "memory" else flint.Limiter(directory, sync=place)


def said_by_hand(state: Any) -> dict[str, str]:
    """The headers that Flint sets, as throttled-py knows them."""
    return {
        "X-RateLimit-Limit": str(state.limit),
        "X-RateLimit-Remaining": str(state.remaining),
        "X-RateLimit-Reset": str(int(time.time() + state.reset_after)),
    }


class Web(Target):
    """An application; `side` names the method that makes it."""

    distributions: tuple[str, ...] = ()

    def __init__(
        self, side: str, rate: int, place: str = "batch", directory: str | None = None
    ) -> None:
        super().__init__()
        self.rate = rate
        self.place = place
        self.directory = directory
        self.limiter: Any = None
        self.versions = versions(self.distributions)
        getattr(self, side)()

    def open(self) -> Any:
        self.limiter = flint_limiter(self.place, self.directory)
        return self.limiter

    def close(self) -> None:
        if self.limiter is not None:
            self.limiter.close()

    def answer(self, calls: int, ns: int, statuses: list[int]) -> dict[str, Any]:
        denied = statuses.count(TOO_MANY)
        if set(statuses) - {200, TOO_MANY}:
            raise RuntimeError(f"answers were {sorted(set(statuses))}")
        if self.limiter is not None and self.place != "memory":
            self.limiter.flush()
        return {"ns": ns, "calls": calls, "allowed": calls - denied, "denied": denied}


# ---- ASGI: FastAPI -----------------------------------------------------------------------------


class Fast(Web):
    distributions = ("fastapi", "slowapi", "fastapi-limiter", "throttled-py")

    def __init__(self, *args: Any, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.app = module("fastapi").FastAPI()
        self.served: Any = self.app
        super().__init__(*args, **options)

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        super().close()

    def endpoint(self) -> Callable[..., Awaitable[Any]]:
        plain_text: Any = module("starlette.responses").PlainTextResponse

        async def hello(request: Any) -> Any:  # noqa: ARG001 - slowapi wants it
            return plain_text("hello")

        hello.__annotations__["request"] = module("starlette.requests").Request
        hello.__annotations__["return"] = plain_text
        return hello

    def route(self, endpoint: Any, dependency: Any = None) -> None:
        depends = [] if dependency is None else [module("fastapi").Depends(dependency)]
        self.app.get("/", dependencies=depends)(endpoint)

    def bare(self) -> None:
        self.route(self.endpoint())

    def dependency(self) -> None:
        self.app.state.limiter = self.open()
        self.route(self.endpoint(), module("flint.fastapi").RateLimit(f"{self.rate}/day"))

    def dependency_without_headers(self) -> None:
        self.app.state.limiter = self.open()
        limit = module("flint.fastapi").RateLimit(f"{self.rate}/day", headers="none")
        self.route(self.endpoint(), limit)

    def middleware(self) -> None:
        self.route(self.endpoint())
        limited: Any = module("flint.asgi").RateLimitMiddleware
        self.served = limited(self.app, self.open(), f"{self.rate}/day")

    def middleware_without_headers(self) -> None:
        self.route(self.endpoint())
        limited: Any = module("flint.asgi").RateLimitMiddleware
        self.served = limited(self.app, self.open(), f"{self.rate}/day", headers="none")

    def slowapi(self) -> None:
        slowapi: Any = module("slowapi")
        limiter = slowapi.Limiter(key_func=module("slowapi.util").get_remote_address)
        self.app.state.limiter = limiter
        kind: Any = module("slowapi.errors").RateLimitExceeded
        self.app.add_exception_handler(kind, slowapi._rate_limit_exceeded_handler)
        self.route(limiter.limit(f"{self.rate}/day")(self.endpoint()))

    def fastapi_limiter(self) -> None:
        """Over PyrateLimiter in memory, whose list of a longer time would only grow."""
        pyrate: Any = module("pyrate_limiter")
        length_ms = SECOND_MS if self.rate == ALLOWED else DAY_MS
        limiter = pyrate.Limiter(pyrate.Rate(self.rate, length_ms))
        depends: Any = module("fastapi_limiter.depends")
        self.route(self.endpoint(), depends.RateLimiter(limiter=limiter))

    def throttled(self) -> None:
        limit, failed = self.by_hand(), module("fastapi").HTTPException

        async def limited(request: Any) -> None:
            if (await limit(request.client.host)).limited:
                raise failed(TOO_MANY)

        limited.__annotations__["request"] = module("starlette.requests").Request
        self.route(self.endpoint(), limited)

    def throttled_with_headers(self) -> None:
        limit, failed = self.by_hand(), module("fastapi").HTTPException

        async def limited(request: Any, response: Any) -> None:
            found = await limit(request.client.host)
            if found.limited:
                raise failed(TOO_MANY, headers=said_by_hand(found.state))
            response.headers.update(said_by_hand(found.state))

        limited.__annotations__["request"] = module("starlette.requests").Request
        limited.__annotations__["response"] = module("starlette.responses").Response
        self.route(self.endpoint(), limited)

    def by_hand(self) -> Any:
        throttled: Any = module("throttled.asyncio")
        quota = throttled.rate_limiter.per_day(self.rate)
        return throttled.Throttled(quota=quota, store=throttled.MemoryStore()).limit

    async def request(self) -> int:
        status = 0

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("203.0.113.7", 1234),
            "server": ("127.0.0.1", 80),
        }
        await self.served(scope, receive, send)
        return status

    async def in_turn(self, calls: int) -> list[int]:
        return [await self.request() for _ in range(calls)]

    def run(self, calls: int) -> dict[str, Any]:
        started = time.perf_counter_ns()
        statuses = self.loop.run_until_complete(self.in_turn(calls))
        return self.answer(calls, time.perf_counter_ns() - started, statuses)


class Held(Fast):
    """As many requests at a time; the longest time that one step of the event loop took."""

    async def together(self, calls: int) -> list[int]:
        statuses: list[int] = []

        async def client() -> None:
            for _ in range(max(calls // CONCURRENT, 1)):
                statuses.append(await self.request())

        await asyncio.gather(*(client() for _ in range(CONCURRENT)))
        return statuses

    def run(self, calls: int) -> dict[str, Any]:
        longest_ns = 0
        steps: Any = asyncio.Handle
        step, clock = steps._run, time.perf_counter_ns

        def timed(handle: Any) -> None:
            nonlocal longest_ns
            begun_ns = clock()
            step(handle)
            longest_ns = max(longest_ns, clock() - begun_ns)

        steps._run = timed
        started = clock()
        try:
            statuses = self.loop.run_until_complete(self.together(calls))
        finally:
            steps._run = step
        answer = self.answer(len(statuses), clock() - started, statuses)
        return {**answer, "held_ns": longest_ns}


# ---- WSGI: Flask and Django --------------------------------------------------------------------


class Wsgi(Web):
    app: Any

    def request(self) -> int:
        said: list[str] = []

        def start_response(status: str, _headers: Any, _error: Any = None) -> Any:
            said.append(status)

        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "REMOTE_ADDR": "203.0.113.7",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        body = self.app(environ, start_response)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()
        return int(said[0][:3])

    def run(self, calls: int) -> dict[str, Any]:
        started = time.perf_counter_ns()
        statuses = [self.request() for _ in range(calls)]
        return self.answer(calls, time.perf_counter_ns() - started, statuses)


def hello() -> str:
    return "hello"


class OfFlask(Wsgi):
    distributions = ("Flask", "Flask-Limiter", "throttled-py")

    def __init__(self, *args: Any, **options: Any) -> None:
        self.app = module("flask").Flask(__name__)
        super().__init__(*args, **options)

    def bare(self) -> None:
        self.app.get("/")(hello)

    def decorator(self) -> None:
        limits = module("flint.flask").RateLimiter(self.app, self.open())
        self.app.get("/")(limits.limit(f"{self.rate}/day")(hello))

    def decorator_without_headers(self) -> None:
        limits = module("flint.flask").RateLimiter(self.app, self.open(), headers="none")
        self.app.get("/")(limits.limit(f"{self.rate}/day")(hello))

    def flask_limiter(self) -> None:
        peer: Any = module("flask_limiter")
        address: Any = module("flask_limiter.util").get_remote_address
        limiter = peer.Limiter(address, app=self.app, storage_uri="memory://")
        self.app.get("/")(limiter.limit(f"{self.rate}/day")(hello))

    def throttled(self) -> None:
        limit, flask = self.by_hand(), module("flask")

        def limited() -> str:
            if limit(flask.request.remote_addr).limited:
                flask.abort(TOO_MANY)
            return "hello"

        self.app.get("/")(limited)

    def throttled_with_headers(self) -> None:
        limit, flask = self.by_hand(), module("flask")

        def limited() -> Any:
            found = limit(flask.request.remote_addr)
            said = said_by_hand(found.state)
            return ("too many", TOO_MANY, said) if found.limited else ("hello", said)

        self.app.get("/")(limited)

    def by_hand(self) -> Any:
        throttled: Any = module("throttled")
        quota = throttled.rate_limiter.per_day(self.rate)
        return throttled.Throttled(quota=quota, store=throttled.MemoryStore()).limit


class OfDjango(Wsgi):
    distributions = ("Django", "django-ratelimit")

    def __init__(self, *args: Any, **options: Any) -> None:
        self.http = module("django.http")
        super().__init__(*args, **options)

    def serve(self, make: Callable[[Callable[[Any], Any]], Any], **settings: Any) -> None:
        """An application with one view; `make` is called when the settings are there."""
        response = self.http.HttpResponse

        def view(_request: Any) -> Any:
            return response("hello")

        urls: Any = type(sys)("bench_urls")
        sys.modules["bench_urls"] = urls
        module("django.conf").settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF="bench_urls", SECRET_KEY="of a benchmark", **settings
        )
        module("django").setup()
        urls.urlpatterns = [module("django.urls").path("", make(view))]
        self.app = module("django.core.wsgi").get_wsgi_application()

    def bare(self) -> None:
        self.serve(lambda view: view)

    def decorator(self, headers: str = "legacy") -> None:
        said = {"URL": self.directory, "OPTIONS": {"sync": self.place}}
        said = {"URL": ":memory:"} if self.place == "memory" else said
        self.serve(self.limited, FLINT={**said, "HEADERS": headers})
        self.limiter = module("flint.django").limiter()

    def decorator_without_headers(self) -> None:
        self.decorator("none")

    def limited(self, view: Callable[[Any], Any]) -> Any:
        return module("flint.django").ratelimit(f"{self.rate}/day")(view)

    def django_ratelimit(self) -> None:
        def make(view: Callable[[Any], Any]) -> Any:
            limit: Any = module("django_ratelimit.decorators").ratelimit
            return limit(key="ip", rate=f"{self.rate}/d")(view)

        response = self.http.HttpResponse

        def denied(_request: Any, **_error: Any) -> Any:
            return response("too many", status=TOO_MANY)

        self.serve(make)
        urls: Any = sys.modules["bench_urls"]
        urls.handler403 = denied
