"""docs/redis.md: its examples run, and it names what there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
from conftest import ROOT
from in_redis.redis_server import server

from flint import redis

PAGE = (ROOT / "docs" / "redis.md").read_text("utf-8")


def test_the_examples_run(run_python: Callable[..., str]) -> None:
    base = server()
    with base.client() as client:
        client.flushdb()
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(blocks) == PAGE.count("```python") == 3
    # A slow machine may take longer.
    patient = "import flint.redis\nflint.RedisLimiter.__init__.__kwdefaults__['timeout'] = 30\n"
    said = run_python(patient + "".join(blocks).replace("6379", str(base.port)))
    assert said.split() == ["welcome", "98", "10"]


@pytest.mark.parametrize("name", redis.__all__)
def test_every_name_is_there(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE)


def test_every_option_is_there() -> None:
    options = inspect.signature(redis.RedisLimiter).parameters.values()
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.M))
    expected = {one.name: one.default for one in options if one.kind is one.KEYWORD_ONLY}
    assert set(rows) == set(expected)
    for name, default in expected.items():
        assert default is None or rows[name].strip("`").strip('"') == str(default)
