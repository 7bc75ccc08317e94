"""A side written in Python: prepares one target, then makes as many calls as each line asks for.

    python worker.py MODULE.CLASS '{"option": "value"}'

Runs in any of the environments, so it imports nothing but the standard library before it knows the
target.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    module, name = sys.argv[1].split(".")
    try:
        target = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    except Exception as error:  # the row is then not run, for this reason
        say({"error": f"{type(error).__name__}: {error}"})
        return
    with target:
        say({"versions": target.versions})
        for line in sys.stdin:
            say(target.run(int(line)))


if __name__ == "__main__":
    main()
