"""What ./dev lint has promtool check: `python for_promtool.py dashboard` prints the queries of the
dashboard as recording rules, `python for_promtool.py page` what a limiter exports, and `python
for_promtool.py server` what the server does."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

import flint
from flint.prometheus import FlintCollector, observed, prometheus_metrics

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "examples" / "grafana.json"
SERVER = ROOT / "flint" / "bin" / "flint-server"


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


def server() -> str:
    command = [SERVER, "--data-dir=:memory:", "--bind=127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        body = b'{"key":"a","limit":"5/minute; 100/hour"}'
        declared = {"Content-Type": "application/json"}
        for path, sent in (("/v1/check", body), ("/metrics", None)):
            request = urllib.request.Request(url + path, sent, declared if sent else {})
            with urllib.request.urlopen(request, timeout=60) as answer:
                said: str = answer.read().decode()
        process.terminate()
    return said


if __name__ == "__main__":
    print({"dashboard": dashboard, "page": page, "server": server}[sys.argv[1]](), end="")
