"""The shortest way to a decision, which requests take once the set-up is no longer looked at."""

from __future__ import annotations

import pytest

from flint._web import address


@pytest.fixture(autouse=True)
def shortest_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first requests of each policy take it too, in a module that imports this."""
    monkeypatch.setattr(address, "_CHECKED_REQUESTS", 0)
