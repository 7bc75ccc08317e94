"""flux's commands: `python -m flint.compat.flux init | clear | monitor`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flint._places import without_password
from flint.compat.flux._config import TEMPLATE, load_config
from flint.compat.flux._errors import FluxError
from flint.compat.flux._limiter import open_place, place_of
from flint.errors import FlintError, NotConfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

_BAR = 40
_SHOWN_S = 60
_CLEAR_SCREEN = "\x1b[H\x1b[2J"


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flint.compat.flux")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND")
    init = verbs.add_parser("init", help="write a configuration file")
    init.add_argument("path", nargs="?", default="flux.toml")
    init.add_argument("--force", "-f", action="store_true", help="overwrite a file that is there")
    clear = verbs.add_parser("clear", help="forget what was counted")
    clear.add_argument("--config", "-c", metavar="PATH", help="the configuration file")
    monitor = verbs.add_parser("monitor", help="show what the analytics server tells, each second")
    monitor.add_argument("--port", "-p", type=int, help="4444 unless given, or FLUX_MONITOR_PORT")
    options = parser.parse_args(words)
    if options.verb == "init":
        return _init(Path(options.path), options.force)
    if options.verb == "clear":
        return _clear(options.config)
    if options.verb == "monitor":
        port = options.port or int(os.environ.get("FLUX_MONITOR_PORT", "4444"))
        with contextlib.suppress(KeyboardInterrupt):
            _monitor(port)
        return 0
    parser.print_help()
    return 0


def _init(path: Path, force: bool) -> int:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        print(f"Error: '{path}' already exists. Use --force to overwrite.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"Generated configuration file at: {path.resolve()}")
    return 0


def _clear(path: str | None) -> int:
    try:
        config = load_config(path)
        print(f"Connecting to {without_password(place_of(config)[0])}...")
        with open_place(config) as limiter:
            print(f"Scanning for keys matching '{config.key_prefix}*'...")
            found = [str(one["key"]) for one in limiter.list(counters=True)]
            keys = [key for key in found if key.startswith(config.key_prefix)]
            if not keys:
                print("No keys found.")
                return 0
            print(f"Found {len(keys)} keys. Deleting...")
            for key in keys:
                with contextlib.suppress(NotConfiguredError):  # it is as good as new by now
                    limiter.reset(key)
    except (FlintError, FluxError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("Done! Rate limit state cleared.")
    return 0


# ---- The monitor -------------------------------------------------------------------------------


def _monitor(port: int) -> None:
    rates = Rates()
    while True:
        print(_CLEAR_SCREEN + _page(port, rates), flush=True)
        time.sleep(1)


def _page(port: int, rates: Rates) -> str:
    url = f"http://localhost:{port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            told = json.load(answer)
    except (OSError, ValueError) as error:
        return f"{url} does not answer: {error}"
    now_s = time.time()
    recent = [one for one in told if one["last_updated"] / 1000 > now_s - _SHOWN_S]
    return "\n".join(box(one, *rates.of(one, now_s)) for one in recent) or "no requests yet"


class Rates:
    """How many requests a second each endpoint had since it was looked at before, and at most."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}
        self._peaks: dict[str, float] = {}

    def of(self, told: dict[str, Any], now_s: float) -> tuple[float, float]:
        name, total = told["endpoint"], told["total"]
        before_s, before = self._seen.get(name, (now_s, total))
        self._seen[name] = now_s, total
        rate = max(0, total - before) / (now_s - before_s) if now_s > before_s else 0.0
        self._peaks[name] = max(rate, self._peaks.get(name, 0.0))
        return rate, self._peaks[name]


def box(told: dict[str, Any], rate: float, peak: float) -> str:
    """What is shown of an endpoint."""
    limit = told["limit_info"]
    used = told["utilization_raw"]
    most = limit["requests"] if limit["policy"] == "fixed_window" else limit["burst"]
    share = min(1.0, used / most)
    bar = "#" * round(share * _BAR)
    lines = [
        f"{told['endpoint']} [{limit['policy'].upper()}]",
        f"Limit: {limit['requests']}/{limit['period']}s | Burst: {limit['burst']}",
        f"[{bar:<{_BAR}}] {share:.0%}",
        f"RPS: {rate:.1f} (Peak: {peak:.1f}) | Reset in: {told['reset_after']}s",
        f"Allowed: {told['allowed']} Blocked: {told['blocked']} | {used:.1f} used",
    ]
    width = max(map(len, lines))
    edge = f"+{'-' * (width + 2)}+"
    return "\n".join([edge, *(f"| {line:<{width}} |" for line in lines), edge])
