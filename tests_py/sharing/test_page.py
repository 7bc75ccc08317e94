"""What docs/sharing.md shows works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "sharing.md").read_text("utf-8")


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    alone, served = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    exec(alone, first)
    exec(served, second)
    assert capsys.readouterr().out == "welcome owner\n"
    statuses: list[str] = []
    app = second["app"]
    for _ in range(10_000):  # some more are let in as time passes
        app({"REMOTE_ADDR": "10.0.0.1"}, lambda status, _: statuses.append(status))
        if statuses[-1] != "200 OK":
            break
    assert statuses[:100] == ["200 OK"] * 100
    assert statuses[-1] == "429 Too Many Requests"
    for names in (second, first):
        names["limiter"].close()
