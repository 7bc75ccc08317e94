"""`flint.prometheus`: the names and values of Flint 0.2, on pages that every scraper can read."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import openmetrics, parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from starlette.applications import Starlette

import flint
from flint.prometheus import (
    CONTENT_TYPE,
    OPENMETRICS_CONTENT_TYPE,
    _wants_openmetrics,
    add_prometheus_route,
    prometheus_metrics,
)
from flint.testing import ManualClock

NAMES = [
    *("limit_info", "limit_rate", "limit_per_millis", "limit_remaining", "limit_reset_at_seconds"),
    *("requests_allowed_total", "requests_denied_total"),
    *("request_cost_allowed_total", "request_cost_denied_total"),
]
EPOCH_S = 1_700_000_000


@pytest.fixture
def limiter() -> Iterator[flint.Limiter]:
    with flint.Limiter(":memory:", clock=ManualClock(EPOCH_S + 0.75)) as opened:
        yield opened


def read(page: str, is_openmetrics: bool = False) -> list[Metric]:
    """The families of a page, as Prometheus's own library reads them; their series are unique."""
    read_page = (openmetrics_parser if is_openmetrics else parser).text_string_to_metric_families
    families = list(read_page(page))
    series = [(s.name, tuple(s.labels.items())) for f in families for s in f.samples]
    assert len(series) == len(set(series))
    return families


def values(page: str, is_openmetrics: bool = False) -> dict[tuple[str, ...], float]:
    """Each sample's value, by its name and the values of its labels."""
    samples = [sample for family in read(page, is_openmetrics) for sample in family.samples]
    return {(s.name, *s.labels.values()): s.value for s in samples}


def use(limiter: flint.Limiter) -> None:
    """Of 5 units in 10 s use 3 in one call and 2 in two, and be denied once."""
    limiter.limit("b", rate=5, per="10s", algorithm="fixed_window_counter")
    assert [limiter.allow("b", cost) for cost in (3, 1, 1, 2)] == [True, True, True, False]


def test_page(limiter: flint.Limiter) -> None:
    use(limiter)
    limiter.limit("a", rate=2, per="1m")
    lines = prometheus_metrics(limiter).split("\n")
    assert lines[:8] == [
        "# HELP flint_limit_info Configured Flint limits.",
        "# TYPE flint_limit_info gauge",
        'flint_limit_info{key="a",algorithm="token_bucket"} 1',
        'flint_limit_info{key="b",algorithm="fixed_window_counter"} 1',
        "# HELP flint_limit_rate Configured rate capacity.",
        "# TYPE flint_limit_rate gauge",
        'flint_limit_rate{key="a",algorithm="token_bucket"} 2',
        'flint_limit_rate{key="b",algorithm="fixed_window_counter"} 5',
    ]
    samples = [line for line in lines if line.startswith("flint_")]
    of_b = [line.split(" ")[1] for line in samples if '"b"' in line]
    assert of_b == ["1", "5", "10000", "0", str(EPOCH_S + 10), "3", "1", "5", "2"]
    names = [line.removeprefix("flint_").split("{")[0] for line in samples]
    assert names == [name for name in NAMES for _ in "ab"]
    assert lines[-1] == "" != lines[-2]


def test_families_are_in_one_group(limiter: flint.Limiter) -> None:
    use(limiter)
    assert [family.type for family in read(prometheus_metrics(limiter))] == [
        *["gauge"] * 5,
        *["counter"] * 4,
    ]
    families = read(prometheus_metrics(limiter, openmetrics=True), True)
    assert [(family.name, family.type) for family in families] == [
        ("flint_limit", "info"),
        *[(f"flint_{name}", "gauge") for name in NAMES[1:5]],
        *[(f"flint_{name.removesuffix('_total')}", "counter") for name in NAMES[5:]],
    ]
    pages = prometheus_metrics(limiter), prometheus_metrics(limiter, openmetrics=True)
    assert values(pages[0]) == values(pages[1], True)


def test_values_of_limits_with_the_same_labels(limiter: flint.Limiter) -> None:
    for key, rate, per in (("a", 2, "1m"), ("b", 5, "10s")):
        limiter.limit(key, rate=rate, per=per, algorithm="fixed_window_counter")
    assert [limiter.allow("a"), limiter.allow("b", 4), limiter.allow("b", 3)] == [True, True, False]
    expected = [1, 7, 60_000, 2, EPOCH_S + 60, 2, 1, 5, 3]
    without = values(prometheus_metrics(limiter, include_key_label=False))
    assert list(without.values()) == expected
    assert list(without) == [(f"flint_{name}", "fixed_window_counter") for name in NAMES]
    hidden = values(prometheus_metrics(limiter, key_label_func=lambda _: "hidden"))
    assert list(hidden.values()) == expected
    assert {key for _, key, _ in hidden} == {"hidden"}


def test_limits_of_one_key_are_told_apart_by_name(limiter: flint.Limiter) -> None:
    limiter.limit("a", "5/minute; 100/hour")
    page = prometheus_metrics(limiter)
    assert 'flint_limit_rate{key="a",algorithm="token_bucket",name="per hour"} 100' in page
    assert 'flint_limit_rate{key="a",algorithm="token_bucket",name="per minute"} 5' in page


def test_clients_have_no_series(limiter: flint.Limiter) -> None:
    limiter.limit("ip:*", "5/minute")
    for number in range(20):
        limiter.check(f"ip:{number}")
        limiter.check(f"inline:{number}", limit="1/s")
    found = values(prometheus_metrics(limiter))
    assert {key for _, key, *_ in found} == {"ip:*"}


@given(
    st.lists(st.text(min_size=1).filter(str.strip), max_size=5),
    st.none() | st.functions(like=lambda _: ..., returns=st.text(), pure=True),
    st.booleans(),
)
def test_every_page_can_be_read(
    keys: list[str], key_label_func: Callable[[str], str] | None, is_openmetrics: bool
) -> None:
    with flint.Limiter(":memory:") as limiter:
        for key in keys:
            limiter.limit(key, "3/s", template=False)
        page = prometheus_metrics(
            limiter, key_label_func=key_label_func, openmetrics=is_openmetrics
        )
        found = values(page, is_openmetrics)
    labels = {(key_label_func or str)(key) for key in keys}
    assert {label for _, label, _ in found} == labels
    rates = [value for (name, *_), value in found.items() if name == "flint_limit_rate"]
    assert sum(rates) == 3 * len(set(keys))


def test_a_lone_surrogate_is_no_character(limiter: flint.Limiter) -> None:
    for key in "ab":
        limiter.limit(key, "3/s")
    labels = {"a": "\ud800", "b": "?"}
    found = values(prometheus_metrics(limiter, key_label_func=labels.__getitem__))
    assert found["flint_limit_rate", "?", "token_bucket"] == 6


def test_nothing_is_configured(limiter: flint.Limiter) -> None:
    assert values(prometheus_metrics(limiter)) == {}
    assert values(prometheus_metrics(limiter, openmetrics=True), True) == {}


@pytest.mark.parametrize("prefix", ["", "1a", "a-b", "a\n", "ä", "a:b", None])
def test_bad_prefix(limiter: flint.Limiter, prefix: Any) -> None:
    with pytest.raises(ValueError, match=r"^Prometheus metric prefix must be a valid metric-name"):
        prometheus_metrics(limiter, prefix=prefix)
    with pytest.raises(ValueError, match=r"^Prometheus metric prefix must be a valid metric-name"):
        add_prometheus_route(Starlette(), limiter, prefix=prefix)


def test_prefix(limiter: flint.Limiter) -> None:
    use(limiter)
    found = values(prometheus_metrics(limiter, prefix="_my1"))
    assert [name for name, *_ in found] == [f"_my1_{name}" for name in NAMES]


def test_a_label_that_is_no_str(limiter: flint.Limiter) -> None:
    use(limiter)
    returns_none: Any = lambda _: None  # noqa: E731
    with pytest.raises(TypeError, match="what key_label_func returns must be a str, not None"):
        prometheus_metrics(limiter, key_label_func=returns_none)


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/html, */*;q=0.8", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        (" Application/OpenMetrics-Text ; version=1.0.0 ", True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.3", False),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.3", True),
        ("application/openmetrics-text;q=nan", False),
        (",;,q=1;", False),
        (PROMETHEUS_3, True),
    ],
)
def test_accept(accept: str, expected: bool) -> None:
    assert _wants_openmetrics(accept) == expected


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The URL of an application under uvicorn. Who connects early waits in the socket's queue."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, ws="none", log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def get(url: str, accept: str = "*/*") -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["content-type"], answer.read().decode()


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_route_under_uvicorn(limiter: flint.Limiter, kind: Callable[[], Any]) -> None:
    use(limiter)
    limiter.limit('odd "key" \\ \n\u20ac', "1/s")
    app = kind()
    add_prometheus_route(app, limiter)
    add_prometheus_route(app, limiter, path="/own", prefix="own", include_key_label=False)
    with served(app) as url:
        assert get(f"{url}/metrics") == (CONTENT_TYPE, prometheus_metrics(limiter))
        assert get(f"{url}/metrics", PROMETHEUS_3) == (
            OPENMETRICS_CONTENT_TYPE,
            prometheus_metrics(limiter, openmetrics=True),
        )
        own = prometheus_metrics(limiter, prefix="own", include_key_label=False)
        assert get(f"{url}/own") == (CONTENT_TYPE, own)
        limiter.check("b")
        assert get(f"{url}/metrics")[1] == prometheus_metrics(limiter)


def test_the_schema_does_not_show_the_route(limiter: flint.Limiter) -> None:
    app = FastAPI()
    add_prometheus_route(app, limiter)
    assert app.openapi()["paths"] == {}


def test_without_starlette() -> None:
    script = """
import sys
sys.modules["starlette.requests"] = None
import flint
try:
    flint.add_prometheus_route(None, flint.Limiter(":memory:"))
except ImportError as error:
    print(error)
print(flint.prometheus_metrics(flint.Limiter(":memory:")).count("# TYPE"), flint.CONTENT_TYPE)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.splitlines(), done.stderr) == (
        [
            "Flint's Prometheus route requires the optional dependency: "
            'pip install "flint-limiter[fastapi]"',
            f"9 {CONTENT_TYPE}",
        ],
        "",
    )


def test_openmetrics_content_type_is_the_one_of_the_library() -> None:
    assert openmetrics.exposition.CONTENT_TYPE_LATEST == OPENMETRICS_CONTENT_TYPE
