"""What a limiter counts, for OpenTelemetry.

    instrumentation = flint.opentelemetry.instrument(limiter)

The names follow those that ASP.NET has for its rate limits; docs/metrics.md has all of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError(
        "flint.opentelemetry requires the optional dependency: "
        'pip install "flint-limiter[opentelemetry]"'
    ) from error

from flint._metrics import (
    BOUNDS_S,
    LIMIT_METRICS,
    MAX_SERIES,
    STORAGE_METRICS,
    LimitMetric,
    Series,
    StorageMetric,
    check_series,
    read,
)
from flint._native import version
from flint._surface.arguments import refusal
from flint._surface.decisions import observe
from flint._surface.observed import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

    from flint._metrics import KeyLabel, Reading
    from flint._surface.protocol import AnyLimiter

    Attributes: TypeAlias = dict[str, str]
    Observe: TypeAlias = Callable[[Reading], Iterable[Observation]]

__all__ = ["Instrumentation", "instrument", "observed"]

_DENIALS = {"denied", "shadow_denied", "cost_denied", "blocked", "error_denied"}


class Instrumentation:
    """What `instrument` has begun."""

    def __init__(self, limiter: AnyLimiter, series: Series, name: str | None, events: bool) -> None:
        self._limiter: AnyLimiter | None = limiter
        self._series = series
        self._always: Attributes = {} if name is None else {"rate_limiting.limiter": name}
        self._events = events
        self._decisions = observe(limiter)
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._has_read: set[str] = set()

    def close(self) -> None:
        """Observe the limiter no more. Its metrics end; what was counted stays exported."""
        self._decisions.forget(self._tell)
        self._limiter = None

    def _start(self, meter: Meter) -> None:
        self._requests = meter.create_counter(
            "rate_limiting.requests", "{request}", "Decisions by policy and result."
        )
        self._duration = meter.create_histogram(
            "rate_limiting.decision.duration",
            "s",
            "How long decisions took.",
            explicit_bucket_boundaries_advisory=BOUNDS_S,
        )
        self._create(meter, "gauge", "up", "1", "1 when the limiter could be asked.", self._up)
        for name in dict.fromkeys(metric.other_name for metric in LIMIT_METRICS):
            same = [metric for metric in LIMIT_METRICS if metric.other_name == name]
            text = same[0].text if len(same) == 1 else f"Total {name} by result."
            self._create(meter, same[0].kind, name, same[0].unit, text, self._of_limits(same))
        for metric in STORAGE_METRICS:
            name = f"storage.{metric.other_name}"
            observe_it = self._of_storage(metric)
            self._create(meter, metric.kind, name, metric.unit, metric.text, observe_it)
        self._decisions.listen(self._tell)

    def _create(
        self, meter: Meter, kind: str, name: str, unit: str, text: str, observe_it: Observe
    ) -> None:
        def call(_: CallbackOptions) -> Iterable[Observation]:
            found = self._read(name)
            return () if found is None else observe_it(found)

        create = {
            "gauge": meter.create_observable_gauge,
            "counter": meter.create_observable_counter,
        }
        create[kind](f"rate_limiting.{name}", [call], unit, text)

    def _read(self, instrument: str) -> Reading | None:
        """What the limiter counts, None when this is over. All instruments are asked one after
        the other: it is read anew when one of them is asked for a second time."""
        with self._lock:
            limiter = self._limiter
            if limiter is None:
                return None
            if self._reading is None or instrument in self._has_read:
                self._has_read.clear()
                self._reading = read(limiter, self._series)
            self._has_read.add(instrument)
            return self._reading

    def _up(self, found: Reading) -> Iterable[Observation]:
        return [metrics.Observation(int(found.up), self._always)]

    def _of_limits(self, same: list[LimitMetric]) -> Observe:
        def observe_them(found: Reading) -> Iterable[Observation]:
            for labels, limits in found.limits.items():
                said = {f"rate_limiting.{label}": value for label, value in labels}
                for metric in same:
                    value = metric.merge([metric.value(limit) for limit in limits])
                    result = {"rate_limiting.result": metric.result} if metric.result else {}
                    yield metrics.Observation(value, {**self._always, **said, **result})

        return observe_them

    def _of_storage(self, metric: StorageMetric) -> Observe:
        def observe_it(found: Reading) -> Iterable[Observation]:
            if metric in found.storage:
                yield metrics.Observation(found.storage[metric], self._always)

        return observe_it

    def _tell(self, policy: str, result: str, took_ns: int | None) -> None:
        of_policy = {**self._always, "rate_limiting.policy": policy}
        attributes = {**of_policy, "rate_limiting.result": result}
        self._requests.add(1, attributes)
        if took_ns is not None:
            self._duration.record(took_ns / 1_000_000_000, of_policy)
        if self._events and result in _DENIALS:
            trace.get_current_span().add_event("rate_limiting.denied", attributes)


def instrument(
    limiter: AnyLimiter,
    *,
    name: str | None = None,
    meter_provider: MeterProvider | None = None,
    include_key_label: bool = False,
    key_label_func: KeyLabel | None = None,
    max_series: int = MAX_SERIES,
    span_events: bool = True,
) -> Instrumentation:
    """Export what a limiter counts, from now on: its limits and their totals, the health of its
    storage, and the decisions, by policy and result, with how long they took. Decisions are those
    of the web frameworks' skins, by their policies, and those of the limiters that `observed`
    returns.

    `name` is the attribute `rate_limiting.limiter` of everything; several limiters of a program
    need one each. The global provider is used unless there is a `meter_provider`.
    `include_key_label=True` tells limits by their keys (`rate_limiting.key`),
    `key_label_func(key)` says what stands there instead; by default limits of one algorithm and
    name are summed. There are at most `max_series` series of limits; the limits that came later are
    summed in one whose attributes say "other". `span_events` adds the event `rate_limiting.denied`
    to the current span when a request is denied.

    A limiter that cannot be asked, since it is closed or its server is away, is no error:
    `rate_limiting.up` is 0 then, and what it counted is missing. The limiter is read when the
    metrics are, in time in proportion to its limits.

    Raises TypeError or ValueError for a bad argument.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(refusal("name", "a str or None", name))
    series = Series(include_key_label, key_label_func, check_series(max_series))
    begun = Instrumentation(limiter, series, name, span_events)
    provider: Any = metrics.get_meter_provider() if meter_provider is None else meter_provider
    scope = {} if name is None else {"rate_limiting.limiter": name}
    begun._start(provider.get_meter("flint", version, attributes=scope))
    return begun
