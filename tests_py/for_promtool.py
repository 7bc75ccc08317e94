"""What ./dev lint has promtool check: `python for_promtool.py dashboard` prints the queries of the
dashboard as recording rules, `python for_promtool.py page` what a limiter exports."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

import flint
from flint.prometheus import FlintCollector, observed, prometheus_metrics

DASHBOARD = Path(__file__).resolve().parent.parent / "examples" / "grafana.json"


def dashboard() -> str:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    return json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})


def page() -> str:
    with flint.Limiter(":memory:") as limiter:
        registry = CollectorRegistry()
        registry.register(FlintCollector(limiter, include_key_label=True))
        limiter.limit("a", "5/minute; 100/hour")
        limiter.limit('odd "key" \\ \n\u20ac', "1/s")
        observed(limiter, 'odd "policy" \\').check("a")
        alone = prometheus_metrics(limiter, prefix="page")
        return generate_latest(registry).decode() + alone


if __name__ == "__main__":
    print({"dashboard": dashboard, "page": page}[sys.argv[1]](), end="")
