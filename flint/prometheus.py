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
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from flint._metrics import (
    BOUNDS_S,
    LIMIT_METRICS,
    MAX_SERIES,
    STORAGE_METRICS,
    Reading,
    Series,
    check_series,
    configured,
    read,
)
from flint._surface.decisions import observe
from flint._surface.observed import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric
    from prometheus_client.registry import Collector

    from flint._metrics import KeyLabel
    from flint._surface.decisions import Numbers
    from flint._surface.protocol import AnyLimiter
    from flint._surface.types import StatusDict
else:
    Collector = object  # what prometheus_client's registries take for one

__all__ = [
    "CONTENT_TYPE",
    "OPENMETRICS_CONTENT_TYPE",
    "FlintCollector",
    "add_prometheus_route",
    "observed",
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
    return _page(configured(limiter), prefix, include_key_label, key_label_func, openmetrics)


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
        limits = await in_thread(configured, limiter)
        page = _page(limits, prefix, include_key_label, key_label_func, openmetrics)
        media = OPENMETRICS_CONTENT_TYPE if openmetrics else CONTENT_TYPE
        return Response(page.encode(), headers={"content-type": media, "vary": "Accept"})

    app.add_route(path, flint_metrics, methods=["GET"], include_in_schema=False)


class FlintCollector(Collector):
    """All that a limiter counts, for a registry of prometheus_client:

        REGISTRY.register(FlintCollector(limiter))

    There are the limits and their totals under the names of `prometheus_metrics`, the health of the
    storage, and the decisions, by policy and result, with how long they took; docs/metrics.md has
    all of them. Decisions are counted from now on: those of the web frameworks' skins by their
    policies, and those of the limiters that `observed` returns.

    `prefix` begins every name; collectors of several limiters in one registry need one each.
    `include_key_label=True` tells limits by their keys, `key_label_func(key)` says what stands
    there instead; by default limits of one algorithm and name are summed. There are at most
    `max_series` series of limits; the limits that came later are summed in one whose labels say
    "other".

    A limiter that cannot be asked, since it is closed or its server is away, makes no scrape fail:
    `flint_up` is 0, and what it counted is missing.
    Any thread may collect, also while another does. It takes time in proportion to the limits.

    Raises ImportError without prometheus_client, and TypeError or ValueError for a bad argument.
    """

    def __init__(
        self,
        limiter: AnyLimiter,
        *,
        prefix: str = "flint",
        include_key_label: bool = False,
        key_label_func: KeyLabel | None = None,
        max_series: int = MAX_SERIES,
    ) -> None:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "FlintCollector requires the optional dependency: "
                'pip install "flint-limiter[prometheus]"'
            ) from error
        _check_prefix(prefix)
        self._limiter = limiter
        self._prefix = prefix
        self._series = Series(include_key_label, key_label_func, check_series(max_series))
        self._decisions = observe(limiter)

    def describe(self) -> Iterator[Metric]:
        """The metrics without their values: to register is not to collect."""
        return self._metrics(Reading(False, {}, {}), {})

    def collect(self) -> Iterator[Metric]:
        """The metrics. Raises what `key_label_func` raises."""
        return self._metrics(read(self._limiter, self._series), self._decisions.snapshot())

    def _metrics(self, found: Reading, decisions: dict[str, Numbers]) -> Iterator[Metric]:
        up = self._metric("up", "gauge", "1 when the limiter could be asked.")
        up.add_sample(up.name, {}, int(found.up))
        yield up
        for limit_metric in LIMIT_METRICS:
            kind = "info" if limit_metric.name == "limit_info" else limit_metric.kind
            metric = self._metric(limit_metric.name, kind, limit_metric.text)
            for labels, same in found.limits.items():
                value = limit_metric.merge([limit_metric.value(limit) for limit in same])
                metric.add_sample(f"{self._prefix}_{limit_metric.name}", dict(labels), value)
            yield metric
        for storage_metric in STORAGE_METRICS:
            metric = self._metric(storage_metric.name, storage_metric.kind, storage_metric.text)
            if storage_metric in found.storage:
                name = f"{self._prefix}_{storage_metric.name}"
                metric.add_sample(name, {}, found.storage[storage_metric])
            yield metric
        yield from self._of_decisions(decisions)

    def _of_decisions(self, decisions: dict[str, Numbers]) -> Iterator[Metric]:
        from prometheus_client.core import HistogramMetricFamily
        from prometheus_client.utils import floatToGoString

        counted = self._metric("decisions_total", "counter", "Decisions by policy and result.")
        timed = HistogramMetricFamily(
            f"{self._prefix}_decision_duration_seconds",
            "How long decisions took.",
            labels=["policy"],
            unit="seconds",
        )
        for policy, numbers in decisions.items():
            for result, number in numbers.results.items():
                labels = {"policy": policy, "result": result}
                counted.add_sample(f"{self._prefix}_decisions_total", labels, number)
            bounds = [*map(floatToGoString, BOUNDS_S), "+Inf"]
            buckets = list(zip(bounds, accumulate(numbers.buckets), strict=True))
            timed.add_metric([policy], buckets, numbers.sum_ns / 1_000_000_000)
        yield counted
        yield timed

    def _metric(self, name: str, kind: str, text: str) -> Metric:
        from prometheus_client import Metric

        name, kind = _declared(f"{self._prefix}_{name}", kind, openmetrics=True)
        unit = next((unit for unit in ("bytes", "seconds") if name.endswith(f"_{unit}")), "")
        return Metric(name, text, kind, unit)


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
    grouped = Series(include_key_label, key_label_func).of(limits)
    series = [("{" + ",".join(map(_label, labels)) + "}", same) for labels, same in grouped.items()]
    lines = []
    for metric in LIMIT_METRICS:
        name, kind = _declared(f"{prefix}_{metric.name}", metric.kind, openmetrics)
        lines += [f"# HELP {name} {metric.text}", f"# TYPE {name} {kind}"]
        for labels_text, same in series:
            value = metric.merge([metric.value(limit) for limit in same])
            lines.append(f"{prefix}_{metric.name}{labels_text} {value}")
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
