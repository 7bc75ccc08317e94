"""docs/cli.md: its examples print what it shows, and it names every verb and every option."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import pytest
from command import Terminal, verbs

from flint._cli.grammar import common
from flint._cli.parser import make_parser

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "cli.md").read_text("utf-8")
COMMON = {word for action in common()._actions for word in action.option_strings} | {"-h", "--help"}

# What differs from run to run, and what is put in its place.
DIFFERS = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z)?", "TIME"),
    (r"\d+(\.\d+)? [dhms]( \d+ [hms])?\b", "SPAN"),
    (r"\d[\d.,]* (B|KiB|MiB)\b", "SIZE"),
    (r"[▁-█]{20,}", "SPARKLINE"),
    (r'"/[^"]*/', '"PLACE/'),
    (r"^\d+\.\d+\.\d+$", "VERSION"),
    (r"\b\d+ (digests|compared)\b", r"N \1"),
    (r" +", " "),  # columns are as wide as what stands in them
    (r" $", ""),
)


def told(text: str) -> str:
    for pattern, instead in DIFFERS:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


def test_the_examples_print_what_the_page_shows(tmp_path: Path) -> None:
    programs, place = tmp_path / "bin", tmp_path / "place"
    programs.mkdir()
    place.mkdir()
    program = programs / "flint"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flint "$@"\n', "utf-8")
    program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    boxes = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    examples = [
        example
        for box in boxes
        for example in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", box, re.M)
    ]
    assert len(examples) == sum(line.startswith("$ ") for line in PAGE.splitlines()) >= 25
    for command, shown in examples:
        run = Terminal(80, ["bash", "-c", command], place, TERM="dumb", PATH=path)
        _, said = run.end()
        assert told(said) == told(shown), command


@pytest.mark.parametrize("verb", list(verbs(make_parser())), ids=lambda verb: verb.prog)
def test_every_verb_names_its_arguments_and_options(verb: argparse.ArgumentParser) -> None:
    _, found, rest = PAGE.partition(f"\n### {verb.prog}\n")
    assert found
    section = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    for action in verb._actions:
        if COMMON & set(action.option_strings):
            continue
        metavar = str(action.metavar or action.dest.upper())
        takes_value = action.nargs != 0 and not action.choices
        for word in action.option_strings or [""]:
            full = f"{word} {metavar}".strip() if takes_value or not word else word
            assert re.search(rf"`[^`]*(?<![\w-]){re.escape(full)}(?![\w-])", section), full
        for choice in action.choices or ():
            assert re.search(rf"`[^`]*\b{choice}\b[^`]*`", section), choice


def test_the_verbs_that_other_pages_name_are_there() -> None:
    known = {verb.prog for verb in verbs(make_parser())} | {"flint limit", "flint log"}
    named = 0
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for words in re.findall(r"`(flint [a-z][^`\n]*)`", page.read_text("utf-8")):
            assert any(f"{words} ".startswith(f"{verb} ") for verb in known), (page.name, words)
            named += 1
    assert named > 50


def test_the_options_of_every_verb_are_named() -> None:
    for word in COMMON:
        assert f"`{word}" in PAGE
    program = make_parser()
    for action in program._actions:
        for word in action.option_strings:
            assert f"`{word}" in PAGE or f"flint {word}`" in PAGE, word
