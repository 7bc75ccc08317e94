"""Counts the instructions of a check, and fails when they have risen by over 5%.

    python bench/instructions.py            compares with bench/instructions.json
    python bench/instructions.py --update   writes what is counted there

callgrind counts the same for the same program however busy the machine is, but for the anchors of
the clock, one in a millisecond. The time comes from the processor's counter, as valgrind passes it
on; where there is none, what clock_gettime does in the system is not counted. A compiler's version
and a kind of processor have a count of their own. The C library picks the forms of memcpy and its
like by processor, so it is told to pick the plain ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import peers
from harness import HERE, NotRun

BASELINE = HERE / "instructions.json"
CALLS = 10_000
MOST_RISE = 0.05
# "of 3": the key has so many limits, and not one without a name. "3 keys": checked together.
WHERE = (
    *("memory", "directory", "memory of 3", "directory of 3"),
    *("memory, 3 keys", "directory, 3 keys"),
)
# Those forms need what these name; a name that another C library does not know does nothing.
PLAIN_FORMS = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX,-ERMS,-FSRM,-SSSE3,-SSE4_2,-EVEX"


def build_name() -> str:
    """What a baseline holds for: the processor's kind and the compiler of the library."""
    cache = (peers.library_build() / "CMakeCache.txt").read_text("utf-8")
    found = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.+)$", cache, re.MULTILINE)
    compiler = found[1] if found else "c++"
    done = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=True)
    kind = "clang" if "clang" in Path(compiler).resolve().name else "gcc"
    return f"{platform.machine()}-{kind}-{done.stdout.strip().split('.')[0]}"


def callgrind(function: str, out: Path) -> list[str]:
    """What a command is put behind for its calls of a function to be counted, and all they call."""
    tool = ["valgrind", "--tool=callgrind", f"--toggle-collect={function}"]
    return ["env", f"GLIBC_TUNABLES={PLAIN_FORMS}", *tool, f"--callgrind-out-file={out}"]


def count(where: str) -> float:
    """Instructions of one call, everything that it calls included."""
    named = re.fullmatch(r"(\w+)(?: of (\d+))?(?:, (\d+) keys)?", where)
    assert named is not None
    place_name, limits, keys = named[1], named[2] or "1", named[3] or "1"
    function = "flint_limiter_check" if keys == "1" else "flint_limiter_check_all"
    with tempfile.TemporaryDirectory(prefix="flint-instructions-") as place:
        target = str(Path(place, "data")) if place_name == "directory" else ":memory:"
        done = subprocess.run(
            [
                *callgrind(function, Path(place, "out")),
                *(str(peers.c_program("instructions")), target, str(CALLS), limits, keys),
            ],
            capture_output=True,
            text=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise NotRun(f"valgrind failed:\n{done.stdout}{done.stderr}")
    return int(found[1]) / CALLS


def compared(counts: dict[str, float], wanted: dict[str, float]) -> bool:
    risen = False
    for where, seen in counts.items():
        change = seen / wanted[where] - 1
        print(f"{where}: {seen:.1f} instructions, baseline {wanted[where]:.1f} ({change:+.1%})")
        risen = risen or change > MOST_RISE
    if risen:
        print(f"risen by over {MOST_RISE:.0%}; if that is the price of something, --update")
    return not risen


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the instructions of a check.")
    parser.add_argument("--update", action="store_true", help="make what is counted the baseline")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing. On Debian: apt-get install valgrind")
    name = build_name()
    counts = {where: count(where) for where in WHERE}
    baseline = json.loads(BASELINE.read_text("utf-8"))
    if options.update:
        baseline[name] = {where: round(seen, 1) for where, seen in counts.items()}
        BASELINE.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n", "utf-8")
        print(f"{name}: {baseline[name]}")
    elif name not in baseline:
        print(f"not compared: the baseline has {', '.join(baseline)}, this is {name}: {counts}")
    elif not compared(counts, baseline[name]):
        sys.exit(1)


if __name__ == "__main__":
    main()
