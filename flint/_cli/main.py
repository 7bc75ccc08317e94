"""Where the command begins. What `flint version` does not need is loaded later."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main(words: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    if words is None:
        words = sys.argv[1:]
    try:
        if words in (["version"], ["--version"]):
            from flint._cli.version import version

            print(version())
            return 0
        from flint._cli.run import run

        return run(words)
    except KeyboardInterrupt:
        return INTERRUPTED
