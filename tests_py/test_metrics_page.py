"""docs/metrics.md has every metric and nothing else; the dashboard and the alerts ask for none that
is not there. ./dev lint runs promtool over both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import flint
from flint._metrics import LIMIT_METRICS, STORAGE_METRICS
from flint._surface.decisions import RESULTS
from flint.prometheus import FlintCollector, observed

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
DASHBOARD = ROOT / "examples" / "grafana.json"
RULES = ROOT / "examples" / "prometheus_rules.yml"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[CollectorRegistry]:
    """Of a limiter that has something to say of each metric."""
    with flint.Limiter(tmp_path / "d", sync="batch") as limiter:
        found = CollectorRegistry()
        found.register(FlintCollector(limiter))
        limiter.limit("a", "5/minute")
        observed(limiter, "p").check("a")
        yield found


def test_metrics(registry: CollectorRegistry) -> None:
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


@pytest.mark.parametrize("path", [DASHBOARD, RULES], ids=lambda path: path.name)
def test_what_is_asked_for_is_there(registry: CollectorRegistry, path: Path) -> None:
    there = {sample.name for metric in registry.collect() for sample in metric.samples}
    asked = set(re.findall(r"\bflint_\w+", path.read_text("utf-8")))
    assert len(asked) > 10
    assert asked <= there


def test_the_alerts_are_of_each_danger() -> None:
    alerts = set(re.findall(r"^ +- alert: (\w+)$", RULES.read_text("utf-8"), re.M))
    tested = (ROOT / "tests_py" / "prometheus_rules_test.yml").read_text("utf-8")
    assert alerts == set(re.findall(r'alertname="(\w+)"', tested))


def test_the_dashboard() -> None:
    """Panels have ids of their own and do not overlap, and ask the chosen data source."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        cells = {(column, line) for column in range(x, x + w) for line in range(y, y + h)}
        assert not cells & covered
        assert x + w <= 24
        covered |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"
    assert [variable["name"] for variable in board["templating"]["list"]] == [
        "datasource",
        "instance",
    ]
