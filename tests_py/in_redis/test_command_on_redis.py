"""The command, where the configuration file names a Redis and how its limits are kept there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import SETTINGS, in_process
from in_redis.redis_server import limiter_of, new_namespace, server


def test_the_namespace_of_the_file_is_the_one_that_is_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    run, base, namespace = in_process(capsys), server(), new_namespace()
    Path("flint.toml").write_text(
        f'[storage]\nurl = "{base.url}"\nnamespace = "{namespace}"\ntimeout = 0.1\n'
    )
    assert run("limit", "add", "a", "3/day")[0] == 0
    with limiter_of(base, namespace=namespace) as limiter:
        assert limiter.check("a").remaining == 2
    code, out, _ = run("limit", "check", "a")
    assert (code, json.loads(out)["remaining"]) == (0, 1)
