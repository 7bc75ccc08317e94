"""The tables of docs/metrics.md have every metric and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

import flint
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
