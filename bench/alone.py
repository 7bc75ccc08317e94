"""The command of a benchmark whose rows stand alone: its arguments, its rows, its results."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import report
from harness import ROOT, Bench, Case, NotRun


def _rows(cases: Sequence[Case], bench: Bench, only: Sequence[str]) -> list[report.Row]:
    rows = []
    for one in cases:
        (spec,) = one.specs
        if only and spec.name not in only:
            continue
        print(f"{spec.name} ...", file=sys.stderr, flush=True)
        try:
            (found,) = one.run(bench)
            rows.append(report.row(spec, found))
        except NotRun as reason:
            rows.append(report.row(spec, reason))
    return rows


def command(
    kind: str,
    description: str,
    names: Sequence[str],
    measured: Callable[[Bench, Sequence[str]], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
) -> None:
    """`./dev bench KIND`. `measured` is told which of the rows are wanted, all if none. Results go
    to bench/results/KIND/, but for those of a trial and of single rows."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few rounds: a trial")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a row")
    parser.add_argument("--directory", type=Path, help="where the sides keep their files")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"no row is named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    directory = options.directory or ROOT / "build"
    directory.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": f"./dev bench {kind}", **report.about(options.quick)}
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=directory) as place:
        found = measured(Bench(Path(place).resolve(), options.quick), options.only)
    results |= {"versions": report.versions(), **found}
    show(results)
    if options.quick or options.only:
        return
    path = report.new_path(results)
    path = path.parent / kind / path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"\n{path}")


def main(kind: str, description: str, cases: Sequence[Case]) -> None:
    """The command of rows that have each a peer and a demand."""
    names = [spec.name for one in cases for spec in one.specs]
    rows = functools.partial(_rows, cases)
    command(kind, description, names, lambda *asked: {"rows": rows(*asked)}, report.show)
