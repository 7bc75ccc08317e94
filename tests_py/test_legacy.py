"""Directories that Flint 0.1 and 0.2 wrote open, once converted, as those versions left them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from flint import CorruptionError, FlintWarning, Limiter

GOLDEN = Path(__file__).resolve().parent.parent / "tests_c" / "golden" / "v0.2"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
NAMES = sorted(name for name in EXPECTED if not name.startswith("_"))


def open_quietly(path: Path) -> Limiter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlintWarning)
        return Limiter(path)


@pytest.mark.parametrize("name", NAMES)
def test_golden_directories(name: str, data_dir: Path) -> None:
    shutil.copytree(GOLDEN / name, data_dir)
    old_log = (data_dir / "flint.aof").read_bytes()
    for first in (True, False):
        with open_quietly(data_dir) as limiter:
            assert (limiter.info()["converted_events"] > 0) is first
            assert [limit["key"] for limit in limiter.list()] == sorted(EXPECTED[name])
            for key, expected in EXPECTED[name].items():
                status = limiter.status(key)
                assert status is not None
                found: dict[str, Any] = {**status, "history": len(limiter.history(key))}
                assert {field: found[field] for field in expected} == expected
    assert (data_dir / "flint.aof.v0").read_bytes() == old_log


def test_history_comes_back_as_it_was_written(data_dir: Path) -> None:
    shutil.copytree(GOLDEN / "log-only", data_dir)
    lines = (data_dir / "flint.aof").read_text("utf-8").splitlines()
    with Limiter(data_dir) as limiter:
        assert limiter.history() == [json.loads(line)["event"] for line in lines]


def test_torn_line_warns_once(data_dir: Path) -> None:
    shutil.copytree(GOLDEN / "torn-tail", data_dir)
    with pytest.warns(FlintWarning, match="last line .* unfinished"):
        Limiter(data_dir).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Limiter(data_dir).close()


def test_other_warnings(data_dir: Path) -> None:
    data_dir.mkdir()
    config = {"key": "k", "rate": 2**63, "per_millis": 1000, "algorithm": "token_bucket"}
    event = {"type": "LIMIT_CONFIGURED", "config": config}
    (data_dir / "flint.snapshot").write_text(
        json.dumps({"aof_offset": 500, "state": {"history": [event]}})
    )
    (data_dir / "flint.aof").write_text("")
    with pytest.warns(FlintWarning) as caught:
        limiter = Limiter(data_dir)
    with limiter:
        texts = [str(warning.message) for warning in caught]
        assert len(texts) == 2
        assert "bound" in texts[0]
        assert "replayed from its start" in texts[1]
        status = limiter.status("k")
        assert status is not None
        assert status["rate"] == 2**62


def test_bad_line_names_its_place(data_dir: Path) -> None:
    shutil.copytree(GOLDEN / "log-only", data_dir)
    log = data_dir / "flint.aof"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[1][:-9] + b"\n" + b"".join(lines[2:]))
    with pytest.raises(CorruptionError) as caught:
        Limiter(data_dir)
    assert (caught.value.segment, caught.value.offset) == ("flint.aof", len(lines[0]))


def test_keys_that_cannot_be_today_are_told_of(data_dir: Path) -> None:
    shutil.copytree(GOLDEN / "log-only", data_dir)
    log = data_dir / "flint.aof"
    lines = log.read_text("utf-8").splitlines(keepends=True)
    event = json.loads(lines[0])
    del event["checksum"]
    event["event"]["config"]["key"] = ""
    log.write_text("".join([json.dumps(event) + "\n", *lines]), "utf-8")
    with pytest.warns(FlintWarning, match="longer than 65,535 bytes have been left out"):
        Limiter(data_dir).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Limiter(data_dir).close()
