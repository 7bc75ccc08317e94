"""`flint.opentelemetry`: all that a limiter counts, as OpenTelemetry's own readers see it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flint
from flint._metrics import BOUNDS_S, LIMIT_METRICS, STORAGE_METRICS
from flint._surface.decisions import BOUNDS_NS, observe
from flint._web.decision import adecide, decide
from flint._web.policy import Policy
from flint.opentelemetry import Instrumentation, instrument, observed
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


class Exported:
    """What is exported of limiters."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def instrument(self, limiter: Any, **options: Any) -> Instrumentation:
        return instrument(limiter, meter_provider=self.provider, **options)

    def metrics(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        scopes = (
            [scope for of in data.resource_metrics for scope in of.scope_metrics] if data else []
        )
        assert {scope.scope.name for scope in scopes} <= {"flint"}
        return [metric for scope in scopes for metric in scope.metrics]

    def points(self) -> dict[tuple[str, ...], Any]:
        """Each point, by the metric's name and the values of its attributes, in order of their
        names. Names are behind `rate_limiting.`."""
        found = {}
        for metric in self.metrics():
            for point in metric.data.data_points:
                attributes = (point.attributes[name] for name in sorted(point.attributes))
                found[(metric.name.removeprefix("rate_limiting."), *attributes)] = point
        return found

    def values(self) -> dict[tuple[str, ...], Any]:
        points = self.points().items()
        return {name: point.value for name, point in points if hasattr(point, "value")}


@pytest.fixture
def exported() -> Exported:
    return Exported()


def test_limits(limiter: flint.Limiter, exported: Exported) -> None:
    exported.instrument(limiter)
    limiter.limit("a", rate=5, per="10s", algorithm="fixed_window_counter")
    limiter.limit("b", rate=2, per="1m", algorithm="fixed_window_counter")
    assert [limiter.allow(key, 2) for key in "aaab"] == [True, True, False, True]
    found = exported.values()
    named = {name[0]: value for name, value in found.items() if name[0].startswith("limit.")}
    assert named == {
        "limit.info": 1,
        "limit.rate": 7,
        "limit.period": 60_000,
        "limit.remaining": 1,
        "limit.reset_time": 1_700_000_060,
    }
    fixed = "fixed_window_counter"
    assert (found["checks", fixed, "allowed"], found["checks", fixed, "denied"]) == (3, 1)
    assert (found["cost", fixed, "allowed"], found["cost", fixed, "denied"]) == (6, 2)
    limiter.check("b")
    assert exported.values()["checks", fixed, "denied"] == 2  # each collection is read anew


def test_keys_and_the_bound_of_series(limiter: flint.Limiter, exported: Exported) -> None:
    exported.instrument(
        limiter, include_key_label=True, key_label_func=lambda key: f"k{key}", max_series=1
    )
    for key in "abc":
        limiter.limit(key, "5/minute")
    found = exported.values()
    rates = {name[1:]: value for name, value in found.items() if name[0] == "limit.rate"}
    assert rates == {("token_bucket", "ka"): 5, ("other", "other"): 10}


def test_storage(tmp_path: Path, exported: Exported) -> None:
    with flint.Limiter(tmp_path / "d", sync="batch", flush_every_ms=3_600_000) as limiter:
        exported.instrument(limiter)
        limiter.limit("a", "5/minute")
        limiter.flush()
        assert limiter.allow("a")
        found, info = exported.values(), limiter.info()
        assert found[("up",)] == 1
        assert found[("storage.unsynced_events",)] == info["unsynced_events"] == 1
        assert found[("storage.sync.time",)] == info["sync_time_ns"] / 1e9 > 0
        assert {name for name, *_ in found if name.startswith("storage.")} == {
            f"storage.{metric.other_name}" for metric in STORAGE_METRICS
        }


def test_decisions(limiter: flint.Limiter, exported: Exported) -> None:
    exported.instrument(limiter)
    decisions = observe(limiter)
    for result, took_ns in (("allowed", BOUNDS_NS[0]), ("allowed", BOUNDS_NS[-1] + 1)):
        decisions.add("p", result, took_ns)
    decisions.add("p", "settle_denied")
    limiter.limit("a", "1/minute")
    observed(limiter, "mail").check("a")
    points = exported.points()
    assert points["requests", "p", "allowed"].value == 2
    assert points["requests", "p", "settle_denied"].value == 1
    assert points["requests", "mail", "allowed"].value == 1
    duration = points["decision.duration", "p"]
    assert tuple(duration.explicit_bounds) == BOUNDS_S
    assert tuple(duration.bucket_counts) == (1, *[0] * (len(BOUNDS_S) - 1), 1)
    assert duration.sum == pytest.approx(sum((BOUNDS_NS[0], BOUNDS_NS[-1] + 1)) / 1e9)


def test_units_and_kinds(limiter: flint.Limiter, exported: Exported) -> None:
    exported.instrument(limiter)
    limiter.limit("a", "5/minute")
    found = {metric.name: metric for metric in exported.metrics()}
    for metric in (*LIMIT_METRICS, *STORAGE_METRICS):
        inner = "storage." if metric in STORAGE_METRICS else ""
        shown = found.get(f"rate_limiting.{inner}{metric.other_name}")
        if shown is None:
            assert metric.name.startswith("disk_")  # there is none
            continue
        assert shown.unit == metric.unit
        assert getattr(shown.data, "is_monotonic", False) == (metric.kind == "counter")


def test_several_limiters(limiter: flint.Limiter, exported: Exported) -> None:
    exported.instrument(limiter, name="web")
    with flint.Limiter(":memory:") as other:
        exported.instrument(other, name="mail")
        other.limit("a", "5/minute")
        observed(other, "p").check("a")
        found = exported.values()
    assert (found["storage.limits", "web"], found["storage.limits", "mail"]) == (0, 1)
    assert found["requests", "mail", "p", "allowed"] == 1


def test_a_limiter_that_is_closed(exported: Exported) -> None:
    limiter = flint.Limiter(":memory:")
    exported.instrument(limiter)
    limiter.close()
    assert exported.values() == {("up",): 0}


def test_the_end_of_an_instrumentation(limiter: flint.Limiter, exported: Exported) -> None:
    instrumentation = exported.instrument(limiter)
    limiter.limit("a", "5/minute")
    seen = observed(limiter, "p")
    seen.check("a")
    instrumentation.close()
    instrumentation.close()
    seen.check("a")
    assert exported.values() == {("requests", "p", "allowed"): 1}


class Request(SimpleNamespace):
    method = "GET"
    path = route = "/"
    peer = "203.0.113.7"
    user = None

    def headers(self, _: str) -> list[str]:
        return []


@pytest.mark.parametrize("span_events", [True, False])
def test_a_denial_is_an_event_of_the_span(
    limiter: flint.Limiter, exported: Exported, span_events: bool
) -> None:
    exported.instrument(limiter, span_events=span_events)
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("test")
    request: Any = Request()
    policy = Policy("1/minute", name="search")
    for number in range(2):
        with tracer.start_as_current_span(f"request {number}"):
            decide(limiter, policy, request)

    async def in_a_task() -> None:
        with tracer.start_as_current_span("request in a task"):
            await adecide(limiter, policy, request)

    asyncio.run(in_a_task())
    decide(limiter, policy, request)  # in no span
    first, *others = spans.get_finished_spans()
    assert first.events == ()
    event = {"rate_limiting.policy": "search", "rate_limiting.result": "denied"}
    for span in others:
        assert [(found.name, dict(found.attributes or {})) for found in span.events] == [
            ("rate_limiting.denied", event)
        ] * span_events
    assert len(others) == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_series": 0}, ValueError, "max_series must be"),
        ({"name": 5}, TypeError, "name must be a str or None, not 5"),
    ],
)
def test_bad_arguments(
    limiter: flint.Limiter, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        instrument(limiter, **options)


def test_without_a_provider_nothing_is_exported(limiter: flint.Limiter) -> None:
    instrument(limiter)
    limiter.limit("a", "5/minute")
    assert observed(limiter, "p").allow("a")


def test_without_opentelemetry() -> None:
    script = """
import sys
sys.modules["opentelemetry"] = None
try:
    import flint.opentelemetry
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (
        "flint.opentelemetry requires the optional dependency: "
        'pip install "flint-limiter[opentelemetry]"\n',
        "",
    )
