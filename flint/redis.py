"""A limiter that lives in Redis or Valkey: `flint.RedisLimiter`. The extra `redis` brings what it
needs: redis-py."""

from __future__ import annotations

import operator
import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

try:
    import redis
except ImportError:
    raise ImportError('flint.redis needs redis-py: pip install "flint-limiter[redis]"') from None

from flint._redis import clients
from flint._redis.clients import Client, Replicas
from flint._redis.place import RedisPlace
from flint._redis.questions import RedisQuestions
from flint._surface.arguments import refusal, seconds_to_ns
from flint.errors import UnsupportedError

if TYPE_CHECKING:
    from typing import NoReturn, SupportsIndex
    from urllib.parse import SplitResult

    from flint._surface.arguments import Seconds
    from flint._surface.types import OnError

__all__ = ["RedisLimiter"]

_KEEPS_NO_LOG = (
    "limits in Redis have no log of Flint: history, doctor and compact are for a data directory "
    "(flint.Limiter) and a Flint server"
)
_UNREADABLE = (
    "the URL of Redis cannot be read: it begins with redis://, rediss:// or unix://, has options "
    "that redis-py knows, and characters such as / and # in a password are written %2F and %23"
)
_NAME = re.compile(r"[^\s{}]{1,255}")
_MOST_TIMEOUT_NS = 86_400 * 1_000_000_000
_MOST_REPLICAS = 1000


class RedisLimiter(RedisPlace):
    """Rate limits that live in a Redis or Valkey, for any number of processes and machines.

    `server` is a URL (`redis://user@host:6379/0`, `rediss://` for TLS, `unix://` for a socket; what
    redis-py reads of its query it reads here), or a client of redis-py: a `redis.Redis`, one that a
    `Sentinel` has made, a `RedisCluster`, or the same of `redis.asyncio`, which serves calls with
    await. With a URL, connections are made when they are needed and kept, for threads and for each
    event loop; nothing is connected to until the first call. A client stays its owner's, and its
    own time-outs and retries hold: a check that it sends twice may count twice. Redis 5 or newer.

    All keys begin with `namespace`, 1 to 255 characters without blanks and braces, and hold `tag`
    (the namespace again by default) in braces, so that those of one namespace live together in one
    slot of a cluster.

    `timeout` is the most seconds that is waited for an answer, or for a connection, from 1 ns to a
    day. `on_error` is what a check answers when Redis cannot be reached, takes too long, or cannot
    decide now (its memory is full, it is a replica): `"raise"` FlintConnectionError, or `"allow"`
    or `"deny"`, with a result that is `undecided`. Of a server that is away the calls of the next
    second learn at once, without asking; then one of them asks again. With `min_replicas` a change
    is answered when so many replicas have it; with fewer, that is an error too.

    `totals` keeps how often limits have admitted and denied, for `status` and `top`; each admission
    under a template then writes one more value. A denial writes nothing; its count is told with the
    key's next admission, or after some seconds, or by `flush` and `close`.

    The calls are those of `flint.Limiter`, with the same answers and exceptions; a bad argument is
    refused before anything is sent. A Redis that has been emptied is told again what this limiter
    has configured. Any thread and any event loop may use it. It cannot be pickled.
    """

    def __init__(
        self,
        server: Any,
        *,
        namespace: str = "flint",
        tag: str | None = None,
        timeout: Seconds = 0.1,
        on_error: OnError = "raise",
        min_replicas: SupportsIndex = 0,
        totals: bool = False,
    ) -> None:
        _check_name("namespace", namespace)
        _check_name("tag", namespace if tag is None else tag)
        if on_error not in ("raise", "allow", "deny"):
            kind = ValueError if isinstance(on_error, str) else TypeError
            raise kind(refusal("on_error", "'raise', 'allow' or 'deny'", on_error))
        if not isinstance(totals, bool):
            raise TypeError(refusal("totals", "a bool", totals))
        timeout_s = seconds_to_ns("timeout", timeout, 1, _MOST_TIMEOUT_NS) / 1e9
        replicas = Replicas(_count("min_replicas", min_replicas), timeout_s)
        self._client, self._loop_client = _clients(server, replicas, timeout_s)
        if replicas.least and isinstance(server, (redis.RedisCluster, redis.asyncio.RedisCluster)):
            raise UnsupportedError(
                "min_replicas is for one server and its replicas; for a cluster give a client of "
                "the node where the namespace is, or leave it out"
            )
        self._shown = _shown(server)
        self.namespace = namespace
        questions = RedisQuestions(namespace, namespace if tag is None else tag, totals)
        self._reach_store(questions, timeout_s, on_error)

    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<flint.RedisLimiter {self._shown} namespace {self.namespace!r}{closed}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a RedisLimiter cannot be pickled; make another with the same arguments")

    # ---- What Redis keeps ----------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """`engine_time_ns`: the server's time."""
        return {"engine_time_ns": self._ask(self._questions.now())}

    def history(self, *_: Any, **__: Any) -> NoReturn:
        """Raises UnsupportedError: Redis keeps counters, not what happened one by one."""
        raise UnsupportedError(_KEEPS_NO_LOG)

    def doctor(self) -> NoReturn:
        """Raises UnsupportedError: there is no directory to verify."""
        raise UnsupportedError(_KEEPS_NO_LOG)

    def compact(self) -> NoReturn:
        """Raises UnsupportedError: there is no log."""
        raise UnsupportedError(_KEEPS_NO_LOG)


def _check_name(name: str, value: object) -> None:
    allowed = "1 to 255 characters without blanks and braces"
    if not isinstance(value, str):
        raise TypeError(refusal(name, "a str", value))
    if not _NAME.fullmatch(value):
        raise ValueError(refusal(name, allowed, value))


def _count(name: str, value: SupportsIndex) -> int:
    allowed = f"an integer from 0 to {_MOST_REPLICAS}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(refusal(name, allowed, value))
    if not 0 <= operator.index(value) <= _MOST_REPLICAS:
        raise ValueError(refusal(name, allowed, value))
    return operator.index(value)


def _clients(server: object, replicas: Replicas, timeout_s: float) -> tuple[Any, Any]:
    """What asks for threads and for event loops."""
    from flint._redis import aio

    if isinstance(server, str):
        own = _own_client(server, timeout_s)
        make = partial(aio.client_of, server, timeout_s)
        return (
            Client(own, replicas, is_own=True),
            aio.LoopClient(make, replicas, is_own=True),
        )
    if isinstance(server, (redis.Redis, redis.RedisCluster)):
        return Client(server, replicas, is_own=False), None
    if isinstance(server, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        return None, aio.LoopClient(lambda: server, replicas, is_own=False)
    kinds = "a URL or a client of redis-py"
    raise TypeError(refusal("server", kinds, server))


def _own_client(url: str, timeout_s: float) -> Any:
    """What redis-py says of a URL may hold a part of the password, and is not told."""
    try:
        if not _is_torn(urlsplit(url)):
            return clients.client_of(url, timeout_s)
    except (ValueError, TypeError):
        pass
    raise ValueError(_UNREADABLE)


def _is_torn(parts: SplitResult) -> bool:
    """Whether a character of the password has ended what should hold it."""
    if parts.scheme == "unix":
        return bool(parts.netloc) and not parts.netloc.endswith("@")
    no_options = [one for one in parts.query.split("&") if "=" not in one]
    return "@" in "".join((parts.path, parts.fragment, *no_options))


def _shown(server: object) -> str:
    """Where it is, without what may be of a password."""
    if not isinstance(server, str):
        return type(server).__name__
    parts = urlsplit(server)
    user, _, host = parts.netloc.rpartition("@")
    is_certain = bool(user) or "@" not in parts.query
    return repr(f"{parts.scheme}://{host + parts.path if is_certain else '...'}")
