"""What has been measured, in docs/benchmarks.md with its chart, and the README's six figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from chart import Bar, svg
from harness import ROOT
from report import RESULTS, Row, count, figure, measured

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
TITLE = "How many times as fast Flint is"
Results = dict[str, Any]

# Rows by their names: the work, and what it is compared with, in words that stand alone.
IN_README = {
    "batch-memory": (
        "`allow()` from Python, batch mode",
        "the fastest Python limiter that keeps its counters in memory only",
    ),
    "batch-pyrate-sqlite": ("the same", "PyrateLimiter with SQLite"),
    "always-floor": (
        "`allow()` in always mode: on disk before it answers",
        "`pwrite` and `fdatasync` of 64 bytes",
    ),
    "c-governor": ("a check from C, batch mode", "governor (Rust, in memory only)"),
    "replay": ("opening a log of 1,000,000 events", "Flint 0.2.1"),
    "memory": ("memory per key of 1,000,000", "a directory while it is compacted"),
}
IN_CHART = {
    "batch-flint-0.2": ("allow() from Python, batch mode", "Flint 0.2.1"),
    "batch-memory": ("allow() from Python, batch mode", "fastest Python limiter in memory"),
    "batch-pyrate-sqlite": ("allow() from Python, batch mode", "PyrateLimiter with SQLite"),
    "batch-diskcache": ("allow() from Python, batch mode", "diskcache's throttle"),
    "batch-dict": ("allow() from Python, batch mode", "a Python method that counts in a dict"),
    "always-floor": ("allow() in always mode", "pwrite and fdatasync of 64 bytes"),
    "always-16-threads": ("allow() in always mode, 16 threads", "its own one thread"),
    "always-denied": ("denied allow() in always mode", "Flint 0.2.1"),
    "acheck": ("await acheck(), batch mode", "the same call through run_in_executor"),
    "gather": ("gather of 1,000 acheck, always mode", "Flint 0.2.1"),
    "c-floor": ("a check from C, batch mode", "hash the key, read the clock, copy 40 bytes"),
    "c-governor": ("a check from C, batch mode", "governor (Rust, in memory only)"),
    "c-governor-memory": ("a check from C, in memory", "governor (Rust, in memory only)"),
    "c-two-threads": ("checks from 2 threads in C, batch mode", "its own one thread"),
    "reopen": ("opening after 1,000,000 events", "Flint 0.2.1"),
    "replay": ("opening a log that was never compacted", "Flint 0.2.1"),
    "compact": ("compaction of 1,000,000 events", "Flint 0.2.1"),
    "limit-many": ("limit_many of 10,000 limits, always mode", "Flint 0.2.1, one by one"),
}


# ---- What there is -----------------------------------------------------------------------------


def newest() -> list[Results]:
    """The newest run of all rows, and behind it what was run of single rows since."""
    found: list[Results] = []
    for path in sorted(RESULTS.glob("*.json")):
        one = json.loads(path.read_text("utf-8"))
        found = [*found, one] if one.get("only") else [one]
    return found


def by_name(found: Results) -> dict[str, Row]:
    return {one["name"]: one for one in found["rows"]}


# ---- Tables ------------------------------------------------------------------------------------


def result(found: Row) -> str:
    return measured(found) + (" (missed)" if found.get("met") is False else "")


def sides(found: Row) -> str:
    return " / ".join(figure(seen) for seen in found.get("sides", []))


def table_row(found: Row) -> str:
    seen = found.get("sides", [])
    cells = [
        f"`{found['name']}`",
        found["work"],
        found["against"],
        found["demanded"],
        result(found),
        sides(found),
        " / ".join(count(side["allowed"]) for side in seen),
        " / ".join(count(side["largest_unsynced"]) for side in seen),
    ]
    return f"| {' | '.join(cells)} |"


def where(found: Results) -> str:
    about = found["machine"]
    return (
        f"Measured {found['date'][:10]} at commit {found['commit'][:10]} on "
        f"{about['processors']} x {about['processor']}"
    )


def table(found: Results) -> str:
    about = found["machine"]
    named = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join(
        [
            f"{where(found)} ({about['system']}, {about['file_system']}, load before "
            f"{about['load_before']:.1f}); {named}.",
            "",
            "| row | work | against | at least | measured (quartiles) | each side | allowed "
            "| unsynced at most |",
            "|---|---|---|---|---|---|---|---|",
            *(table_row(one) for one in found["rows"]),
        ]
    )


def six_figures(found: Results) -> str:
    rows = by_name(found)
    return "\n".join(
        [
            f"{where(found)}. [docs/benchmarks.md](docs/benchmarks.md) has all rows and a chart.",
            "",
            "| work | against | measured (quartiles) | each side |",
            "|---|---|---|---|",
            *(
                f"| {work} | {against} | {result(rows[name])} | {sides(rows[name])} |"
                for name, (work, against) in IN_README.items()
            ),
        ]
    )


# ---- The chart ---------------------------------------------------------------------------------


def least(demanded: str) -> float | None:
    ratio = re.fullmatch(r"([\d.]+) x", demanded)
    return float(ratio[1]) if ratio else None


def chart(found: Results) -> str:
    rows = by_name(found)
    bars = [
        Bar(
            work,
            against,
            rows[name]["measured"],
            tuple(rows[name]["quartiles"]),
            least(rows[name]["demanded"]),
            measured(rows[name]).partition(" (")[0],
        )
        for name, (work, against) in IN_CHART.items()
        if "measured" in rows.get(name, {})
    ]
    return svg(TITLE, bars)


# ---- Files -------------------------------------------------------------------------------------


def between(text: str, shown: str) -> str:
    """The text, with `shown` between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{shown}\n\n{END}{after}"


def written(found: Sequence[Results]) -> dict[str, str]:
    """What each file should hold, by its path below the root."""
    tables = "\n\n".join(table(one) for one in found)
    return {
        "README.md": between(README.read_text("utf-8"), six_figures(found[0])),
        "docs/benchmarks.md": between(PAGE.read_text("utf-8"), tables),
        "docs/benchmarks.svg": chart(found[0]),
    }


def write() -> None:
    for name, text in written(newest()).items():
        (ROOT / name).write_text(text, "utf-8")
