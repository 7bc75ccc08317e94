"""What a limiter counts, as a page for Prometheus.

>>> import flint
>>> limiter = flint.Limiter(":memory:")
>>> limiter.limit("mail", "2/hour")
>>> page = prometheus_metrics(limiter)
>>> print(page.splitlines()[5])
flint_limit_rate{key="mail",algorithm="token_bucket"} 2

A sample has the labels `key` and `algorithm`, and `name` where the limit has one. There is one for
every limit and template that has been configured. Counters under templates and limits that came
with a check have none: their keys are the clients', and without bound.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from flint._surface.arguments import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from flint._surface.protocol import AnyLimiter, Place
    from flint._surface.types import StatusDict

    KeyLabel: TypeAlias = Callable[[str], str]
    Labels: TypeAlias = tuple[tuple[str, str], ...]

__all__ = [
    "CONTENT_TYPE",
    "OPENMETRICS_CONTENT_TYPE",
    "add_prometheus_route",
    "prometheus_metrics",
]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


class Routed(Protocol):
    """An application of Starlette or FastAPI."""

    def add_route(
        self,
        path: str,
        route: Callable[..., Any],
        methods: list[str] | None = None,
        name: str | None = None,
        include_in_schema: bool = True,
    ) -> None: ...


def _epoch_seconds(limit: StatusDict) -> int:
    return int(datetime.fromisoformat(limit["reset_at"][:19] + "+00:00").timestamp())


class _Family(NamedTuple):
    """One metric: its value for a limit, and the one value of limits that share their labels."""

    name: str
    kind: str
    text: str
    value: Callable[[StatusDict], int]
    merge: Callable[[Iterable[int]], int]


_FAMILIES = (
    _Family("limit_info", "gauge", "Configured Flint limits.", lambda _: 1, max),
    _Family("limit_rate", "gauge", "Configured rate capacity.", lambda s: s["rate"], sum),
    _Family(
        "limit_per_millis",
        "gauge",
        "Configured limit window in milliseconds.",
        lambda s: s["per_millis"],
        max,
    ),
    _Family(
        "limit_remaining",
        "gauge",
        "Remaining quota in the current window.",
        lambda s: s["remaining"],
        sum,
    ),
    _Family(
        "limit_reset_at_seconds",
        "gauge",
        "Unix timestamp when the current window resets.",
        _epoch_seconds,
        max,
    ),
    _Family(
        "requests_allowed_total",
        "counter",
        "Total allowed checks.",
        lambda s: s["total_allowed"],
        sum,
    ),
    _Family(
        "requests_denied_total", "counter", "Total denied checks.", lambda s: s["total_denied"], sum
    ),
    _Family(
        "request_cost_allowed_total",
        "counter",
        "Total allowed request cost.",
        lambda s: s["total_allowed_cost"],
        sum,
    ),
    _Family(
        "request_cost_denied_total",
        "counter",
        "Total denied request cost.",
        lambda s: s["total_denied_cost"],
        sum,
    ),
)


def prometheus_metrics(
    limiter: AnyLimiter,
    *,
    prefix: str = "flint",
    include_key_label: bool = True,
    key_label_func: KeyLabel | None = None,
    openmetrics: bool = False,
) -> str:
    """Return the limits of a limiter and their totals as a page in Prometheus's text format
    (`CONTENT_TYPE`), or in OpenMetrics 1.0 (`OPENMETRICS_CONTENT_TYPE`).

    `prefix` begins every name. `include_key_label=False` leaves the label `key` out;
    `key_label_func(key)` returns what it says instead of the key. Of limits that have the same
    labels then, rates, remaining units and totals are added up; the period and the time of the
    reset are the largest.

    Any thread may call it. It takes time in proportion to the number of limits. Raises ValueError
    for a prefix that no metric may begin with, TypeError for a label that is no str, and what
    `limiter.list` raises.
    """
    _check_prefix(prefix)
    return _page(_configured(limiter), prefix, include_key_label, key_label_func, openmetrics)


def add_prometheus_route(
    app: Routed,
    limiter: AnyLimiter,
    *,
    path: str = "/metrics",
    prefix: str = "flint",
    include_key_label: bool = True,
    key_label_func: KeyLabel | None = None,
) -> None:
    """Let an application of Starlette or FastAPI answer `GET path` with `prometheus_metrics`, in
    OpenMetrics for who asks for it by `Accept`. FastAPI's schema does not show the route. The event
    loop is not blocked: the limits are listed in a thread. Call it before the application starts.

    Raises ValueError for a prefix that no metric may begin with, and ImportError without Starlette.
    """
    _check_prefix(prefix)
    try:
        from starlette.requests import Request
        from starlette.responses import Response
    except ImportError as error:
        raise ImportError(
            "Flint's Prometheus route requires the optional dependency: "
            'pip install "flint-limiter[fastapi]"'
        ) from error

    from flint._surface.loop import in_thread

    async def flint_metrics(request: Request) -> Response:
        openmetrics = _wants_openmetrics(",".join(request.headers.getlist("accept")))
        limits = await in_thread(_configured, limiter)
        page = _page(limits, prefix, include_key_label, key_label_func, openmetrics)
        media = OPENMETRICS_CONTENT_TYPE if openmetrics else CONTENT_TYPE
        return Response(page.encode(), headers={"content-type": media, "vary": "Accept"})

    app.add_route(path, flint_metrics, methods=["GET"], include_in_schema=False)


def _configured(limiter: AnyLimiter) -> list[StatusDict]:
    """The status of every limit but those that came with checks."""
    return cast("Place", limiter)._list(None)


def _check_prefix(prefix: str) -> None:
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ValueError("Prometheus metric prefix must be a valid metric-name prefix")


def _page(
    limits: Iterable[StatusDict],
    prefix: str,
    include_key_label: bool,
    key_label_func: KeyLabel | None,
    openmetrics: bool,
) -> str:
    grouped: dict[Labels, list[StatusDict]] = {}
    for limit in sorted(limits, key=lambda status: (status["key"], status["name"] or "")):
        labels = _labels(limit, include_key_label, key_label_func)
        grouped.setdefault(labels, []).append(limit)
    series = [("{" + ",".join(map(_label, labels)) + "}", same) for labels, same in grouped.items()]
    lines = []
    for family in _FAMILIES:
        name, kind = _declared(f"{prefix}_{family.name}", family.kind, openmetrics)
        lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {kind}"]
        for labels_text, same in series:
            value = family.merge([family.value(limit) for limit in same])
            lines.append(f"{prefix}_{family.name}{labels_text} {value}")
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _declared(name: str, kind: str, openmetrics: bool) -> tuple[str, str]:
    """Name and type of a family. OpenMetrics declares them without what its samples end with."""
    if openmetrics and kind == "counter":
        return name.removesuffix("_total"), kind
    if openmetrics and name.endswith("_info"):
        return name.removesuffix("_info"), "info"
    return name, kind


def _labels(limit: StatusDict, with_key: bool, key_label_func: KeyLabel | None) -> Labels:
    labels: list[tuple[str, str]] = []
    if with_key:
        key = limit["key"] if key_label_func is None else key_label_func(limit["key"])
        if not isinstance(key, str):
            raise TypeError(refusal("what key_label_func returns", "a str", key))
        # Equal on the page is equal here: a lone surrogate is no character of UTF-8.
        labels.append(("key", key.encode("utf-8", "replace").decode()))
    labels.append(("algorithm", limit["algorithm"]))
    if limit["name"] is not None:
        labels.append(("name", limit["name"]))
    return tuple(labels)


def _label(label: tuple[str, str]) -> str:
    name, value = label
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{escaped}"'


def _wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is named, and nothing says that plain text would be liked better."""
    liked = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for entry in accept.lower().split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        if media not in liked or not _is_known_version(media, parameters):
            continue
        qualities = [part for part in parameters if part.startswith("q=")]
        match = _QUALITY.fullmatch(qualities[0]) if qualities else None
        quality = float(match[1]) if match else float(not qualities)
        liked[media] = max(liked[media], quality)
    openmetrics, plain = liked.values()
    return openmetrics > 0 and openmetrics >= plain


def _is_known_version(media: str, parameters: list[str]) -> bool:
    versions = [part.removeprefix("version=") for part in parameters if part.startswith("version=")]
    return media == "text/plain" or not versions or versions[0] == "1.0.0"
