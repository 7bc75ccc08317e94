"""The benchmark runs and counts what it does, and the pages show what it found. How fast anything
is, is not for a test to say."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from in_redis.redis_server import server

import flint
from flint import postgres

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"


def run(*arguments: str | Path) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-W", "error", BENCH / "run.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports one of the benchmark's modules, also where the tests have one of its name."""
    names = [path.stem for path in BENCH.glob("*.py")]
    of_tests = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(of_tests)


@pytest.mark.parametrize(
    "name",
    [
        "batch-dict",
        "always-floor",
        pytest.param(
            "c-floor",
            marks=pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
        ),
    ],
)
def test_a_row_that_needs_no_installation(name: str, tmp_path: Path) -> None:
    path, place = tmp_path / "results.json", tmp_path / "place"
    shown = run("--quick", "--only", name, "--json", path, "--directory", place)
    found = json.loads(path.read_text("utf-8"))
    assert {"date", "commit", "machine", "versions", "rows"} <= set(found)
    assert found["quick"]
    (row,) = found["rows"]
    assert name == row["name"]
    assert name in shown
    assert row["rounds"] > 1
    low, high = row["quartiles"]
    assert 0 < low <= row["measured"] <= high
    for side in row["sides"]:
        assert side["allowed"] == side["calls"] > 0
        assert side["denied"] == 0
        assert side["largest_unsynced"] in ([0] if name == "always-floor" else range(1 << 40))
    assert list(place.iterdir()) == []


def test_the_rows_have_names_of_their_own() -> None:
    names = run("--list").split()
    assert len(names) == len(set(names)) > 20


@pytest.mark.parametrize(
    ("target", "options"),
    [("Reopen", {"replay": False}), ("Reopen", {"replay": True}), ("Compact", {})],
)
def test_a_log_is_read_from_its_first_event_if_wanted(
    bench: Any, target: str, options: dict[str, bool], tmp_path: Path
) -> None:
    events = 2000
    side = getattr(bench("targets_log"), target)(str(tmp_path), events=events, **options)
    with flint.Limiter(str(side.written)) as limiter:
        limiter.compact()
    with flint.Limiter.open_readonly(str(side.written)) as limiter:
        assert limiter.info()["recovered_records"] < events
    for _ in range(2):
        seen = side.run(1)
        assert seen["ns"] > 0
        assert seen["allowed"] == events
        assert not side.copy.exists()


def test_a_peer_that_is_not_there_is_not_run(bench: Any) -> None:
    harness, pages, report = bench("harness"), bench("pages"), bench("report")
    spec = harness.Spec("row", "work", "a peer", harness.at_least(2))
    row = report.row(spec, harness.NotRun("no compiler"))
    assert "measured" not in row
    assert report.measured(row) == "not run: no compiler"
    assert "not run: no compiler" in pages.table_row(row)


def test_ratios_are_of_neighbouring_rounds(bench: Any) -> None:
    harness, report = bench("harness"), bench("report")

    def rounds(*times_ns: int) -> list[dict[str, int]]:
        return [
            {"ns": ns, "calls": 10, "allowed": 8, "denied": 2, "unsynced": ns} for ns in times_ns
        ]

    # The machine was three times as slow in the last round, for both.
    seen = harness.faster(rounds(10, 10, 30), rounds(20, 40, 60), ("ours", "theirs"))
    assert (seen.value, seen.rounds) == (2, 3)
    assert seen.quartiles == (2, 3)
    assert [(side.figure, side.allowed, side.denied) for side in seen.sides] == [
        (1, 24, 6),
        (4, 24, 6),
    ]
    assert [side.unsynced for side in seen.sides] == [30, 60]
    for demanded, met in ((2, True), (2.1, False)):
        spec = harness.Spec("row", "work", "a peer", harness.at_least(demanded))
        assert report.row(spec, seen)["met"] is met


@pytest.mark.parametrize("kind", ["web", "switch", "places", "sharing", "serving"])
def test_each_kind_has_the_one_command(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", BENCH / f"{kind}.py", "--only", "no such row"],
        env={**os.environ, "PYTHONPATH": str(Path(flint.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no row is named no such row; there are " in done.stderr


@pytest.mark.parametrize(("seen", "passes"), [(104.9, True), (105.1, False), (50.0, True)])
def test_a_rise_of_instructions_is_refused(bench: Any, seen: float, passes: bool) -> None:
    compared = bench("instructions").compared
    assert compared({"memory": seen, "directory": 10.0}, {"memory": 100, "directory": 10}) is passes


def test_the_pages_show_the_newest_results(bench: Any) -> None:
    pages, report = bench("pages"), bench("report")
    if not report.RESULTS.exists():
        pytest.skip("what was measured is not part of a source distribution")
    for name, text in pages.written(pages.newest()).items():
        assert (ROOT / name).read_text("utf-8") == text, name


def test_the_six_figures_of_the_readme_are_those_of_the_page(bench: Any) -> None:
    begin, end = bench("pages").BEGIN, bench("pages").END

    def cells(name: str) -> list[list[str]]:
        block = (ROOT / name).read_text("utf-8").partition(begin)[2].partition(end)[0]
        rows = [row for row in block.splitlines() if row.startswith("| ")]
        return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]

    _, *figures = cells("README.md")
    _, *rows = cells("docs/benchmarks.md")
    assert len(figures) == 6
    measured = [(row[4], row[5]) for row in rows]
    for _, _, ratio, sides in figures:
        assert measured.count((ratio, sides)) == 1


def test_what_is_shown_elsewhere_are_rows(bench: Any) -> None:
    pages = bench("pages")
    names = {spec.name for case in bench("run").CASES for spec in case.specs}
    assert len(pages.IN_README) == 6
    assert {*pages.IN_README, *pages.IN_CHART} <= names


def test_single_rows_stand_behind_the_newest_run_of_all(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = bench("pages")
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    for number, only in enumerate(([], ["a"], [], ["b"], ["c"])):
        text = json.dumps({"number": number, "only": only})
        (tmp_path / f"{number}.json").write_text(text, "utf-8")
    assert [found["number"] for found in pages.newest()] == [2, 3, 4]


def test_the_chart_is_svg_that_stays_within_its_frame(bench: Any) -> None:
    chart = bench("chart")
    bars = [
        chart.Bar("a <row> & more", "peer", 52.7, (44.0, 55.5), 25.0, "52.7 x"),
        chart.Bar("slower", "floor", 0.01, (0.001, 0.02), None, "0.01 x"),
        chart.Bar("faster", "floor", 1e6, (9e5, 2e6), 1.0, "1,000,000 x"),
    ]
    drawn = ElementTree.fromstring(chart.svg("Title", bars))
    space = "{http://www.w3.org/2000/svg}"
    assert "prefers-color-scheme: dark" in (drawn.findtext(f"{space}style") or "")
    words = [(text.text or "").strip() for text in drawn.iter(f"{space}text")]
    assert {bar.work for bar in bars} | {bar.text for bar in bars} <= set(words)
    for line in drawn.iter(f"{space}line"):
        for side in ("x1", "x2"):
            assert chart.LEFT <= float(line.attrib[side]) <= chart.RIGHT
    kinds = [box.attrib["class"] for box in drawn.iter(f"{space}rect")]
    assert kinds == ["back", "faster", "slower", "faster"]


# ---- Web applications ----


@pytest.mark.parametrize(
    ("target", "side", "place"),
    [
        ("Fast", "dependency", "memory"),
        ("Fast", "middleware", "batch"),
        ("Held", "dependency", "always"),
        ("OfFlask", "decorator", "memory"),
    ],
)
def test_a_web_application(bench: Any, tmp_path: Path, target: str, side: str, place: str) -> None:
    make = getattr(bench("targets_web"), target)
    with make("bare", 10) as bare:
        found = bare.run(50)
        assert (found["allowed"], found["denied"]) == (50, 0)
    with make(side, 10, place, str(tmp_path / "data")) as limited:
        found = limited.run(50)
        assert (found["allowed"], found["denied"]) == (10, 40)
        assert found["ns"] > found.get("held_ns", 1) > 0


def test_what_flint_set_out_to_add(bench: Any) -> None:
    def sides(ours: int, theirs: int) -> dict[str, Any]:
        added = {
            "bare": 0,
            "Flint, a, batch": 90,
            "Flint, b, batch": ours,
            "Flint, b, batch, no headers": 10,
            "x": theirs,
            "y": 99,
        }
        return {"sides": [{"what": what, "added_ns": ns} for what, ns in added.items()]}

    verdicts = bench("web").verdicts
    full, without = verdicts(sides(20, 40))
    assert full.startswith("Flint, b, batch adds 0.50 of what x adds")
    assert without.startswith("Flint, b, batch, no headers adds 0.25 of what x adds")
    assert full.endswith("met")
    full, without = verdicts(sides(21, 19))
    assert full.endswith("missed")
    assert without.endswith("missed")
    assert set(verdicts(sides(20, -1))) == {"x adds nothing that could be measured"}
    # Where a peer sets headers, who sets them is beside it, and who does not beside the others.
    equal = sides(20, 19)
    equal["sides"].append({"what": "z, headers", "added_ns": 40})
    full, without = verdicts(equal)
    assert full.startswith("Flint, b, batch adds 0.50 of what z, headers adds")
    assert without.startswith("Flint, b, batch, no headers adds 0.53 of what x adds")
    assert verdicts({"not_run": "no network"}) == []


@pytest.mark.parametrize(
    "peer",
    ["limits_fixed", "limits_moving", "pyrate", "throttled_token_bucket", "throttled_gcra"],
)
def test_a_peer_on_its_own_memory_and_on_flint(bench: Any, tmp_path: Path, peer: str) -> None:
    make = bench("targets_switch").Direct
    for store in ("memory", "flint"):
        with make(peer, store, str(tmp_path / "data")) as side:
            found = side.run(50)
            assert (found["calls"], found["allowed"], found["denied"]) == (50, 50, 0)
            assert found["ns"] > 0
            assert side.versions
    assert (tmp_path / "data" / "flint.aof").is_file()


def test_what_flint_set_out_to_take(bench: Any) -> None:
    def row(memory: float, redis: float) -> dict[str, Any]:
        return {"sides": [{"flint_takes": takes} for takes in (memory, redis, 1.0)]}

    verdicts = bench("switch").verdicts
    assert [said.rsplit(" ", 1)[1] for said in verdicts(row(1.2, 0.99))] == ["met", "met"]
    assert [said.rsplit(" ", 1)[1] for said in verdicts(row(1.21, 1.0))] == ["missed", "missed"]
    assert verdicts({"not_run": "no network"}) == []


def test_a_server_is_loaded_by_what_counts(bench: Any, tmp_path: Path) -> None:
    if not bench("servers").FLINT_SERVER.exists() or shutil.which("redis-benchmark") is None:
        pytest.skip("needs flint-server and redis-benchmark")
    servers, serving = bench("servers"), bench("serving")
    with servers.flint_server(tmp_path, "batch") as one:
        load = servers.RedisBenchmark(
            "a load", url=one.url, port=one.redis, command=("FLINT.CHECK", "bench"), pipeline=4
        )
        seen = load.round(2000)
        assert (seen["calls"], seen["allowed"], seen["denied"]) == (2000, 2000, 0)
        assert seen["ns"] > 0
        load = servers.RedisBenchmark("no load", port=one.redis, command=("NO.COMMAND",))
        with pytest.raises(bench("harness").NotRun):
            load.round(10)
    names = [spec.name for case in serving.CASES for spec in case.specs]
    assert len(names) == len(set(names)) >= 7


def test_limits_in_redis_are_measured(bench: Any) -> None:
    peers = {"limits_fixed", "limits_counter", "limits_moving"}
    targets, places = bench("targets_places"), bench("places")
    told = {"port": server().port}
    for allows in (True, False):
        make = partial(targets.Flint, "sliding_window_log", allows=allows, **told)
        others = [partial(targets.Peer, kind, allows=allows, **told) for kind in peers]
        for one in (make, *others):
            with server().client() as client:
                client.flushdb()  # as each row has a server of its own
            with one() as target:
                target.run(1000)
                seen = target.run(200)
            assert (seen["calls"], seen["allowed"]) == (200, 200 if allows else 0)
    names = [spec.name for case in places.CASES for spec in case.specs]
    assert len(names) == len(set(names)) == 58
    assert peers < {kind for _, kind, _ in places.PEERS}


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that another user, whose server it is for, may enter; pytest's own is closed."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def test_limits_in_postgres_are_measured(bench: Any, open_to_all: Path) -> None:
    targets, places, servers = bench("targets_postgres"), bench("places"), bench("servers")
    directory = bench("harness").Bench(open_to_all / "made", quick=True).place("postgres")
    with servers.postgres_server(directory) as url:
        postgres.create(url)
        for allows in (True, False):
            told = {"url": url, "allows": allows}
            flint_side = partial(targets.Flint, "sliding_window_log", sync="batch", **told)
            for make in (flint_side, partial(targets.Pyrate, **told)):
                with make() as target:
                    target.run(1000)
                    seen = target.run(50)
                assert (seen["calls"], seen["allowed"]) == (50, 50 if allows else 0)
            with flint_side() as target:
                crowd = type("Crowd", (), {"round": target.run, "what": "Flint"})
                note = places.written(url, crowd)
                assert (int(note.split()[0].replace(",", "")) > 300_000) == allows, note


def test_workers_that_share_a_directory_are_measured(bench: Any, tmp_path: Path) -> None:
    harness, sharing = bench("harness"), bench("sharing")
    one = harness.Bench(tmp_path, quick=True)
    with (
        sharing.owner(one) as directory,
        sharing.echo(one, "epoll") as (path, asking),
        harness.opened(
            sharing.client_in_c(directory),
            asking,
            lambda: harness.python_side(
                "deep", "targets_sharing.Awaited", directory=directory, at_a_time=16
            ),
            lambda: harness.python_side(
                "echo", "targets_sharing.Echo", path=path, request_bytes=51, reply_bytes=96
            ),
        ) as sides,
    ):
        seen = [side.round(48) for side in sides]
        assert [found["allowed"] for found in seen] == [48] * 4
        together = sharing.Crowd("both", sides[:2]).round(100)
        assert (together["calls"], together["allowed"]) == (100, 100)
        assert together["ns"] > 0
        with flint.Limiter(directory, shared=True, sync="batch") as client:
            counted = client.status("user:00000000042")
            assert counted is not None
            assert counted["total_allowed"] == 48 + 48 + 50
    names = [spec.name for case in sharing.CASES for spec in case.specs]
    assert len(names) == len(set(names)) == 16
