"""Reads the requests of a web server's access log in Apache's combined format."""

from __future__ import annotations

import gzip
import re
from datetime import datetime
from os import PathLike

_LINE = re.compile(r"(?P<address>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] ")


def requests(path: str | PathLike[str]) -> list[tuple[int, str]]:
    """(seconds since 1970, client address) of every line of a gzipped log, in order of time.

    A server writes a line when it has answered, so lines are not quite in order. Those of the same
    second keep theirs.
    """
    found = []
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as log:
        for number, line in enumerate(log, 1):
            match = _LINE.match(line)
            if match is None:
                raise ValueError(f"{path}:{number}: not a line of an access log: {line!r}")
            time = datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z")
            found.append((int(time.timestamp()), match["address"]))
    return sorted(found, key=lambda request: request[0])
