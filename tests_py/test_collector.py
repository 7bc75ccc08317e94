"""`flint.prometheus.FlintCollector`: all that a limiter counts, for prometheus_client."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, generate_latest, parser, start_http_server
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser

import flint
from flint._surface.decisions import BOUNDS_NS, RESULTS, observe
from flint.prometheus import FlintCollector, observed, prometheus_metrics
from flint.testing import ManualClock


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(1_700_000_000)) as opened:
        yield opened


def registered(limiter: Any, **options: Any) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(FlintCollector(limiter, **options))
    return registry


def pages(registry: CollectorRegistry) -> list[list[Metric]]:
    """The families of the page and of the one in OpenMetrics, as the library reads them."""
    return [
        list(parser.text_string_to_metric_families(generate_latest(registry).decode())),
        list(
            openmetrics_parser.text_string_to_metric_families(
                openmetrics.generate_latest(registry).decode()
            )
        ),
    ]


def values(families: list[Metric]) -> dict[tuple[str, ...], float]:
    """Each sample's value, by its name and the values of its labels in order of their names."""
    samples = [sample for family in families for sample in family.samples]
    found = {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}
    assert len(found) == len(samples)
    return found


def read(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    plain, other = pages(registry)
    assert values(plain).keys() == values(other).keys()
    return values(plain)


def test_limits_have_the_values_of_the_page_without_a_library(limiter: flint.Limiter) -> None:
    limiter.limit("b", rate=5, per="10s", algorithm="gcra")
    limiter.limit("a", "5/minute; 100/hour")
    assert [limiter.allow(key) for key in "abbbbbb"].count(True) == 6
    for with_key in (False, True):
        page = prometheus_metrics(limiter, include_key_label=with_key)
        expected = values(list(parser.text_string_to_metric_families(page)))
        found = read(registered(limiter, include_key_label=with_key))
        assert {series: found[series] for series in expected} == expected
    assert ("flint_limit_rate", "token_bucket", "per hour") in read(registered(limiter))


def test_keys_are_no_labels_unless_they_are_wanted(limiter: flint.Limiter) -> None:
    for key in ("alice@example.org", "bob@example.org"):
        limiter.limit(key, "5/minute")
    assert b"example.org" not in generate_latest(registered(limiter))
    assert read(registered(limiter))["flint_limit_rate", "token_bucket"] == 10
    hidden = registered(limiter, include_key_label=True, key_label_func=lambda key: key[0])
    assert read(hidden)["flint_limit_rate", "token_bucket", "a"] == 5


def test_series_are_bounded_and_the_rest_is_summed(limiter: flint.Limiter) -> None:
    for number, key in enumerate(("c", "d", "e", "f")):
        limiter.limit(key, rate=10**number, per="1h")
    registry = registered(limiter, include_key_label=True, max_series=2)

    def rates() -> dict[tuple[str, ...], float]:
        found = read(registry).items()
        return {series[1:]: rate for series, rate in found if series[0] == "flint_limit_rate"}

    of_c, of_d = ("token_bucket", "c"), ("token_bucket", "d")
    assert rates() == {of_c: 1, of_d: 10, ("other", "other"): 1100}
    # A key that comes later takes no other's place, and neither does one whose place has no limit.
    limiter.limit("a", "7/h")
    limiter.remove("c")
    assert rates() == {of_d: 10, ("other", "other"): 1107}
    limiter.limit("c", "3/h")
    assert rates() == {of_c: 3, of_d: 10, ("other", "other"): 1107}


def test_storage(tmp_path: Path) -> None:
    with flint.Limiter(tmp_path / "d", sync="batch", flush_every_ms=3_600_000) as limiter:
        limiter.limit("a:*", "5/minute")
        limiter.flush()
        assert limiter.allow("a:1")
        limiter.compact()
        assert limiter.allow("a:1")
        gauges = ("limits", "counters", "log_bytes", "snapshot_bytes", "unsynced_events")
        registry = registered(limiter)
        before: dict[str, Any] = {}
        info: dict[str, Any] = {**limiter.info()}
        while any(before.get(name) != info[name] for name in gauges):  # files still prepared
            before = info
            found = read(registry)
            info = {**limiter.info()}
        for name in gauges:
            assert found[(f"flint_{name}",)] == info[name] > 0, name
        for name in ("syncs", "compactions"):
            assert found[(f"flint_{name}_total",)] == info[name] > 0, name
        for name in ("undecided_total", "evicted_keys_total", "compaction_failures_total"):
            assert found[(f"flint_{name}",)] == 0, name
        for name in ("log_failed", "compaction_failing"):
            assert found[(f"flint_{name}",)] == 0, name
        assert found[("flint_sync_seconds_total",)] == info["sync_time_ns"] / 1e9 > 0
        assert 0 < found[("flint_last_sync_age_seconds",)] <= info["since_sync_ns"] / 1e9
        assert 0 < found[("flint_disk_free_bytes",)] <= found[("flint_disk_size_bytes",)]


def test_a_log_that_has_failed(tmp_path: Path) -> None:
    limiter = flint.Limiter(tmp_path / "d", sync="batch", flush_every_ms=3_600_000)
    limiter.limit("a", "5/minute")
    (tmp_path / "d" / "flint.ring").write_bytes(b"")  # cut short while it is in use
    with pytest.raises(flint.PoisonedError):
        limiter.check("a")
    assert read(registered(limiter))[("flint_log_failed",)] == 1
    with pytest.raises(flint.PoisonedError):
        limiter.close()


def test_decisions(limiter: flint.Limiter) -> None:
    limiter.limit("a", "1/minute")
    registry = registered(limiter)
    seen = observed(limiter, "mail")
    assert [seen.allow("a"), seen.allow("a")] == [True, False]
    decisions = observe(limiter)
    for result in RESULTS:
        decisions.add("exact", result, BOUNDS_NS[2])
    decisions.add("exact", "denied", BOUNDS_NS[-1] + 1)
    found = read(registry)
    assert found["flint_decisions_total", "mail", "allowed"] == 1
    assert found["flint_decisions_total", "mail", "denied"] == 1
    assert found["flint_decisions_total", "exact", "denied"] == 2
    histogram = "flint_decision_duration_seconds"
    assert found[f"{histogram}_bucket", "+Inf", "mail"] == found[f"{histogram}_count", "mail"] == 2
    of_exact = [
        value for key, value in found.items() if key[::2] == (f"{histogram}_bucket", "exact")
    ]
    number = len(RESULTS)
    assert of_exact == [0, 0, *[number] * (len(BOUNDS_NS) - 2), number + 1]
    expected_s = (number * BOUNDS_NS[2] + BOUNDS_NS[-1] + 1) / 1e9
    assert found[f"{histogram}_sum", "exact"] == pytest.approx(expected_s)


def test_a_limiter_that_is_closed_fails_no_scrape() -> None:
    limiter = flint.Limiter(":memory:")
    limiter.limit("a", "5/minute")
    registry = registered(limiter)
    observed(limiter, "mail").check("a")
    assert read(registry)[("flint_up",)] == 1
    limiter.close()
    found = read(registry)
    assert found[("flint_up",)] == 0
    assert found["flint_decisions_total", "mail", "allowed"] == 1
    assert not [series for series in found if "limit" in series[0]]


def test_a_server_that_is_away_fails_no_scrape() -> None:
    with flint.SharedLimiter("http://127.0.0.1:1", token="t", timeout=1) as limiter:
        registry = registered(limiter)
        with pytest.raises(flint.FlintConnectionError):
            observed(limiter, "mail").check("a")
        found = read(registry)
    assert found[("flint_up",)] == 0
    assert found["flint_decisions_total", "mail", "error_raised"] == 1


def test_several_limiters_in_one_registry(limiter: flint.Limiter) -> None:
    limiter.limit("a", "5/minute")
    registry = registered(limiter)
    with flint.Limiter(":memory:") as other:
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(FlintCollector(other))
        registry.register(FlintCollector(other, prefix="mail"))
        observed(other, "p").check("k", limit="1/s")
        found = read(registry)
    assert (found[("flint_limits",)], found[("mail_limits",)]) == (1, 1)
    assert [series for series in found if series[0].endswith("decisions_total")] == [
        ("mail_decisions_total", "p", "allowed")
    ]


class Elsewhere:
    """A place that has no info."""

    def __init__(self, limiter: flint.Limiter) -> None:
        self._list = limiter._list


class ElsewhereWithSomeInfo(Elsewhere):
    def info(self) -> dict[str, int]:
        return {"log_bytes": 5}


class ElsewhereWithoutInfo(Elsewhere):
    def info(self) -> None:
        raise flint.UnsupportedError("it has none")


@pytest.mark.parametrize(
    ("kind", "log_bytes"),
    [(Elsewhere, None), (ElsewhereWithSomeInfo, 5), (ElsewhereWithoutInfo, None)],
)
def test_a_limiter_that_keeps_its_limits_elsewhere(
    limiter: flint.Limiter, kind: Any, log_bytes: int | None
) -> None:
    limiter.limit("a", "5/minute")
    found = read(registered(kind(limiter)))
    assert found[("flint_up",)] == 1
    assert found["flint_limit_rate", "token_bucket"] == 5
    assert found.get(("flint_log_bytes",)) == log_bytes
    assert ("flint_syncs_total",) not in found


@given(
    st.lists(st.text(min_size=1).filter(str.strip), max_size=4),
    st.text(min_size=1, max_size=50),
    st.lists(st.text(min_size=1, max_size=50).filter(str.isprintable), max_size=3),
    st.booleans(),
    st.integers(1, 3),
)
def test_every_page_can_be_read(
    keys: list[str], name: str, policies: list[str], with_key: bool, max_series: int
) -> None:
    with flint.Limiter(":memory:") as limiter:
        registry = registered(limiter, include_key_label=with_key, max_series=max_series)
        for key in keys:
            limiter.limit(key, "3/s", template=False)
            limiter.limit(key, rate=3, per="1s", template=False, name=name)
        for policy in policies:
            observed(limiter, policy).check("client", limit="1/s")
        found = read(registry)
    rates = [value for (first, *_), value in found.items() if first == "flint_limit_rate"]
    assert sum(rates) == 6 * len(set(keys))
    assert len(rates) <= max_series + 1
    decided = {key[1]: value for key, value in found.items() if key[0] == "flint_decisions_total"}
    assert decided.keys() == set(policies)


def test_over_http_as_prometheus_asks(limiter: flint.Limiter) -> None:
    limiter.limit("a", "5/minute")
    server, thread = start_http_server(0, "127.0.0.1", registered(limiter))
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            assert answer.read().endswith(b"# EOF\n")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prefix": "a-b"}, ValueError, "prefix"),
        ({"max_series": 0}, ValueError, "max_series must be an integer from 1 to 1000000, not 0"),
        ({"max_series": True}, TypeError, "max_series must be"),
        ({"max_series": "9"}, TypeError, "max_series must be"),
    ],
)
def test_bad_arguments(
    limiter: flint.Limiter, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FlintCollector(limiter, **options)


def test_without_prometheus_client() -> None:
    script = """
import sys
sys.modules["prometheus_client"] = None
import flint
from flint.prometheus import FlintCollector
try:
    FlintCollector(flint.Limiter(":memory:"))
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (
        "FlintCollector requires the optional dependency: "
        'pip install "flint-limiter[prometheus]"\n',
        "",
    )
