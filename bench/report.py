"""What has been measured, as JSON and as lines for people."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import harness
from harness import ROOT, NotRun, Outcome, Spec, Tally

import flint

RESULTS = ROOT / "bench" / "results"
Row = dict[str, Any]


# ---- JSON --------------------------------------------------------------------------------------


def rounded(value: float) -> float:
    """Four digits: no measurement here has more."""
    return float(f"{value:.4g}")


def side(seen: Tally) -> dict[str, Any]:
    return {
        "what": seen.what,
        "figure": rounded(seen.figure),
        "unit": seen.figure_unit,
        "calls": seen.calls,
        "allowed": seen.allowed,
        "denied": seen.denied,
        "largest_unsynced": seen.unsynced,
        **{name: rounded(value) for name, value in seen.details.items()},
    }


def row(spec: Spec, found: Outcome | NotRun) -> Row:
    about = {
        "name": spec.name,
        "work": spec.work,
        "against": spec.against,
        "demanded": spec.demand.text,
    }
    if isinstance(found, NotRun):
        return {**about, "not_run": str(found)}
    met = spec.demand.met(found) if spec.demand.met else None
    return {
        **about,
        "measured": rounded(found.value),
        "unit": spec.unit,
        "quartiles": [rounded(value) for value in found.quartiles],
        "met": met,
        "rounds": found.rounds,
        "sides": [side(seen) for seen in found.sides],
        "note": found.note,
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def printed(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def file_system() -> str:
    return printed("stat", "--file-system", "--format=%T", "build")


def about(quick: bool) -> dict[str, Any]:
    """Of what is measured, and on what: to be asked for before the first row."""
    changed = printed("git", "status", "--porcelain", "--untracked-files=no") not in ("", "unknown")
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": printed("git", "rev-parse", "HEAD") + (" with changes" if changed else ""),
        "quick": quick,
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "processor": processor(),
            "processors": len(os.sched_getaffinity(0)),
            "file_system": file_system(),
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def versions() -> dict[str, str]:
    """Of whatever has been measured."""
    return {
        "python": platform.python_version(),
        "compiler": printed("cc", "--version").split("\n")[0],
        **dict(sorted(harness.VERSIONS.items())),
        "flint": flint.__version__,
    }


def new_path(found: dict[str, Any]) -> Path:
    stamp = found["date"].replace("-", "").replace(":", "")
    return RESULTS / f"{stamp}-{found['commit'][:10]}.json"


# ---- For people --------------------------------------------------------------------------------


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measured(found: Row) -> str:
    if "not_run" in found:
        return f"not run: {found['not_run']}"
    low, high = found["quartiles"]
    return f"{number(found['measured'])} {found['unit']} ({number(low)} to {number(high)})"


def duration(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def figure(seen: dict[str, Any]) -> str:
    if seen["unit"] == "ns":
        return duration(seen["figure"])
    return f"{seen['figure']:g} {seen['unit']}"


def show_side(seen: dict[str, Any]) -> str:
    checks = f"{count(seen['allowed'])} allowed, {count(seen['denied'])} denied"
    more = "".join(
        f", {name.removesuffix('_ns')} {duration(value)}"
        for name, value in seen.items()
        if name.endswith("_ns")
    )
    unsynced = count(seen["largest_unsynced"])
    return f"    {seen['what']:<32}{figure(seen):>10}{more}; {checks}; at most {unsynced} unsynced"


def show(found: dict[str, Any]) -> None:
    about, versions = found["machine"], found["versions"]
    print(
        f"{about['system']}, {about['processors']} x {about['processor']}, "
        f"{about['file_system']}, load before {about['load_before']}"
    )
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"commit {found['commit']}, {found['date']}{', quick' if found['quick'] else ''}\n")
    for one in found["rows"]:
        verdict = {True: "met", False: "NOT MET", None: ""}[one.get("met")]
        print(f"{one['name']}: {one['work']} | {one['against']}")
        rounds = f", {one['rounds']} rounds" if "rounds" in one else ""
        print(f"  demanded {one['demanded']}: {measured(one)}{rounds} {verdict}".rstrip())
        for seen in one.get("sides", []):
            print(show_side(seen))
        if one.get("note"):
            print(f"    {one['note']}")
