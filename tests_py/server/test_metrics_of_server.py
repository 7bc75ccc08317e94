"""The server's page for Prometheus: valid, and with the names of FlintCollector."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis
from flint_server import FlintServer, needs_server, running
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flint import Limiter
from flint.prometheus import FlintCollector

pytestmark = needs_server

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(server: FlintServer) -> tuple[str, dict[str, str], Samples]:
    """The page, the types of its families, and its samples."""
    status, fields, text = server.ask("GET", "/metrics")
    assert (status, fields["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    types, samples = {}, {}
    for family in text_string_to_metric_families(text):
        assert family.name not in types
        types[family.name] = family.type
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return text, types, samples


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_names_are_those_of_the_collector(data_dir: Path) -> None:
    with running(data_dir / "server") as server, Limiter(data_dir / "embedded") as embedded:
        for path in ("server", "embedded"):
            limits = [("a", "5/m"), ("b", "7/m"), ("t:*", "9/h"), ("g", "1/s using gcra")]
            if path == "embedded":
                embedded.limit_many(limits)
                embedded.limit("n", "2/s", name='odd "\\ name')
                embedded.check("a", 2)
            else:
                named = {"key": "n", "rate": "2/s", "name": 'odd "\\ name'}
                body = {"limits": [*({"key": k, "rate": r} for k, r in limits), named]}
                server.json("POST", "/v1/limits:batch", body)
                server.json("POST", "/v1/check", {"key": "a", "cost": 2})
        registry = CollectorRegistry()
        registry.register(FlintCollector(embedded))
        theirs = list(text_string_to_metric_families(generate_latest(registry).decode()))
        _, types, samples = scraped(server)
        for family in theirs:
            if "decision" in family.name:
                continue  # which are those of a process's policies
            assert types[family.name] == family.type
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key in samples, key
                if sample.name.startswith(("flint_limit_", "flint_request")):
                    assert samples[key] == sample.value or "reset_at" in sample.name
        own = {name for name in types if name not in {family.name for family in theirs}}
        assert all(name.startswith("flint_server_") for name in own)


def test_what_the_server_counts(data_dir: Path) -> None:
    with running(data_dir) as server:
        server.json("POST", "/v1/limits", {"key": "secret key", "rate": 1, "per": "1d"})
        for _ in range(3):
            server.json("POST", "/v1/check", {"key": "secret key"})
        server.json("POST", "/v1/peek", {"key": "secret key"})
        for _ in range(2):
            server.ask("POST", "/v1/allow", {"key": "secret key"})
        server.ask("GET", "/no/such/path")
        server.ask("GET", "/v1/limits/secret%20key")
        server.send(b"nonsense\r\n\r\n")
        text, _, samples = scraped(server)
        assert "secret" not in text
        requests = "flint_server_requests_total"
        assert of(samples, requests, route="/v1/check", code="200") == 3
        assert of(samples, requests, route="/v1/allow", code="429") == 2
        assert of(samples, requests, route="/v1/limits/", code="200") == 1
        assert of(samples, requests, route="other", code="404") == 1
        assert of(samples, requests, route="other", code="400") == 1
        assert of(samples, "flint_server_decisions_total", result="allowed") == 1
        assert of(samples, "flint_server_decisions_total", result="denied") == 4
        assert of(samples, "flint_server_connections_total") == 11
        assert of(samples, "flint_server_open_connections") >= 1
        assert of(samples, "flint_server_undurable_answers") == 0
        assert of(samples, "flint_server_queued_calls") == 0
        assert of(samples, "flint_server_log_lines_dropped_total") == 0
        assert of(samples, "flint_server_uptime_seconds") >= 0
        assert re.search(r'^flint_server_info\{version="[0-9.]+"\} 1$', text, re.M)
        again = scraped(server)[2]
        assert of(again, requests, route="/metrics", code="200") == 1


def test_series_are_not_without_number(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        for first in range(0, 1100, 100):
            limiter.limit_many(
                [
                    {"key": f"k{n}", "rate": 1, "per": "1d", "name": f"n{n}"}
                    for n in range(first, first + 100)
                ]
            )
    with running(data_dir) as server:
        _, _, samples = scraped(server)
        rates = {key: value for key, value in samples.items() if key[0] == "flint_limit_rate"}
        assert len(rates) == 1001
        assert of(samples, "flint_limit_rate", algorithm="other") == 100


def test_who_may_read_it(data_dir: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("r read\n", "utf-8")
    with running(data_dir, "--token-file", str(tokens)) as server:
        assert server.ask("GET", "/metrics")[0] == 401
        assert server.ask("GET", "/metrics", Authorization="Bearer r")[0] == 200
        assert server.ask("POST", "/v1/allow", {"key": "a"}, Authorization="Bearer r")[0] == 403
        assert server.ask("POST", "/throttle", {"key": "a"}, Authorization="Bearer r")[0] == 403


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1", 200),
        ("text/plain", 200),
        ("application/json", 406),
    ],
)
def test_accept(data_dir: Path, accept: str, status: int) -> None:
    with running(data_dir) as server:
        assert server.ask("GET", "/metrics", Accept=accept)[0] == status
        assert server.ask("HEAD", "/metrics", Accept=accept)[2] == ""
        assert server.ask("POST", "/metrics", "{}")[1]["allow"] == "GET,HEAD"


def test_in_memory() -> None:
    with running(Path(":memory:")) as server:
        _, types, _ = scraped(server)
        assert "flint_disk_free_bytes" not in types
        assert "flint_log_bytes" in types


def test_redis_commands_are_counted(data_dir: Path) -> None:
    with running(data_dir, "--redis-bind=127.0.0.1:0") as server:
        port = int(server.urls[-1].rsplit(":", 1)[1])
        with redis.Redis(port=port, protocol=3) as client:
            for _ in range(3):
                client.execute_command("cl.throttle", "secret key", 1, 1, 60)
            for words in (["FLINT.CHECK", "none"], ["FLINT.CHECK"], ["no such"]):
                with pytest.raises(redis.ResponseError):
                    client.execute_command(*words)
        text, _, samples = scraped(server)
        assert "secret" not in text
        commands = "flint_server_commands_total"
        assert of(samples, commands, command="CL.THROTTLE", code="OK") == 3
        assert of(samples, commands, command="FLINT.CHECK", code="NOT_CONFIGURED") == 1
        assert of(samples, commands, command="FLINT.CHECK", code="ERR") == 1
        assert of(samples, commands, command="other", code="ERR") == 1
