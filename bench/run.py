"""Measures Flint beside its peers and floors.

    ./dev bench [--quick] [--only NAME ... [--keep]] [--json PATH] [--directory DIR]
    ./dev bench --pages     only writes the newest results into the pages
    ./dev bench --list      the names of the rows

A run of all rows goes to bench/results/, and from there into docs/benchmarks.md, its chart and the
README. --quick and --only are for trying things; what is measured with --only stands in the page
behind the newest run of all rows when --keep is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import pages
import report
import rows_always
import rows_async
import rows_batch
import rows_c
import rows_command
import rows_growth
import rows_latency
import rows_log
import rows_memory
from harness import ROOT, Bench, Case, NotRun, Outcome

CASES: list[Case] = [
    *rows_batch.CASES,
    *rows_c.CASES,
    *rows_always.CASES,
    *rows_log.CASES,
    *rows_memory.CASES,
    *rows_growth.CASES,
    *rows_async.CASES,
    *rows_latency.CASES,
    *rows_command.CASES,
]


def chosen(only: Sequence[str]) -> list[Case]:
    names = [spec.name for case in CASES for spec in case.specs]
    unknown = [name for name in only if name not in names]
    if unknown:
        sys.exit(f"there is no row {', '.join(unknown)}; --list shows all")
    return [case for case in CASES if not only or any(spec.name in only for spec in case.specs)]


def measure(bench: Bench, case: Case) -> list[Outcome | NotRun]:
    for spec in case.specs:
        print(f"{spec.name} ...", file=sys.stderr, flush=True)
    try:
        return list(case.run(bench))
    except NotRun as reason:
        return [reason] * len(case.specs)
    except Exception as error:
        traceback.print_exc()
        return [NotRun(f"{type(error).__name__}: {error}")] * len(case.specs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures Flint beside its peers and floors.")
    parser.add_argument("--quick", action="store_true", help="few rounds, small sizes: a trial")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this row")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the results")
    parser.add_argument("--directory", type=Path, help="where the sides keep their files")
    parser.add_argument("--list", action="store_true", help="show the names of the rows")
    parser.add_argument("--keep", action="store_true", help="keep what --only measures")
    parser.add_argument("--pages", action="store_true", help="put the newest into the pages")
    options = parser.parse_args()
    if options.list:
        print("\n".join(spec.name for case in CASES for spec in case.specs))
        return
    if options.pages:
        pages.write()
        return
    directory = options.directory or ROOT / "build"
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    results = report.about(options.quick)
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=directory) as place:
        bench = Bench(Path(place), options.quick)
        for case in chosen(options.only):
            for spec, found in zip(case.specs, measure(bench, case), strict=True):
                rows.append(report.row(spec, found))
    results |= {"only": options.only, "versions": report.versions(), "rows": rows}
    report.show(results)
    kept = not options.quick and (options.keep or not options.only)
    path = options.json or (report.new_path(results) if kept else None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"\n{path}")
    if kept and options.json is None:
        pages.write()


if __name__ == "__main__":
    main()
