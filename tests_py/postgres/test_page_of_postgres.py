"""docs/postgres.md: its examples run, and it names what there is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conftest import ROOT
from postgres.database import database

from flint import postgres
from flint._cli.parser import make_parser

PAGE = (ROOT / "docs" / "postgres.md").read_text("utf-8")
URL = "postgresql://app@127.0.0.1/app"


def test_the_examples_run(run_python: Callable[..., str]) -> None:
    base = database()
    base.ask("drop schema if exists flint cascade")
    postgres.create(base.dsn)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(blocks) == PAGE.count("```python") == 3
    said = run_python("".join(blocks).replace(URL, base.dsn))
    assert said.split() == ["welcome", "98", "10"]
    base.ask("drop schema flint cascade")


def test_the_commands_are_read() -> None:
    commands = re.findall(r"^\$ flint (.*)$", PAGE, re.M)
    assert commands
    for command in commands:
        make_parser().parse_args(command.split())


@pytest.mark.parametrize("name", postgres.__all__)
def test_every_name_is_there(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE)
