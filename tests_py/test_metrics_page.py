"""The tables of docs/metrics.md have every metric and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

import flint
from flint._metrics import LIMIT_METRICS, STORAGE_METRICS
from flint._surface.decisions import RESULTS
from flint.prometheus import FlintCollector

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "metrics.md").read_text("utf-8")


def test_metrics() -> None:
    with flint.Limiter(":memory:") as limiter:
        registry = CollectorRegistry()
        registry.register(FlintCollector(limiter))
        expected = {}
        for metric in registry.collect():
            suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
            expected[metric.name + suffix] = "gauge" if suffix == "_info" else metric.type
    shown = re.findall(r"^\| `(flint_\w+)` \| (\w+) \|", PAGE, re.M)
    assert len(shown) == len(expected)
    assert dict(shown) == expected


def test_results() -> None:
    [table] = re.findall(r"^\| result \| \|\n(.*?)\n\n", PAGE, re.M | re.S)
    cells = [row.split("|")[1] for row in table.splitlines()]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(RESULTS)


def test_metrics_of_opentelemetry() -> None:
    """Against the tables that the instruments are made of."""
    expected = [
        ("requests", "counter", "{request}", ["flint_decisions_total"]),
        ("decision.duration", "histogram", "s", ["flint_decision_duration_seconds"]),
        ("up", "gauge", "1", ["flint_up"]),
    ]
    for name in dict.fromkeys(metric.other_name for metric in LIMIT_METRICS):
        same = [metric for metric in LIMIT_METRICS if metric.other_name == name]
        names = [f"flint_{metric.name}" for metric in same]
        expected.append((name, same[0].kind, same[0].unit, names))
    for metric in STORAGE_METRICS:
        name = f"storage.{metric.other_name}"
        expected.append((name, metric.kind, metric.unit, [f"flint_{metric.name}"]))
    row = re.compile(r"^\| `rate_limiting\.(\S+)` \| (\w+) \| (\S+) \| .*?\| (`.*`) \|$", re.M)
    shown = [
        (name, kind, unit, re.findall(r"`(\w+)`", names))
        for name, kind, unit, names in row.findall(PAGE)
    ]
    assert shown == expected
