"""The whole command line: every verb."""

from __future__ import annotations

from flint._cli import (
    completion,
    config,
    doctor,
    limits,
    log,
    migrate,
    postgres,
    server,
    sharing,
    top,
    what_if,
)
from flint._cli.grammar import Parser, Verbs, common
from flint._cli.version import show_version, version

DESCRIPTION = "Rate limits that are kept in a data directory: look at them, try them, change them."


def make_parser() -> Parser:
    parser = Parser(
        "flint",
        description=DESCRIPTION,
        parents=[common()],
        examples=("flint limit add 'user:*' --rate 100 --per 1m", "flint limit list"),
    )
    parser.add_argument("--version", action="version", version=version())
    parser.set_defaults(root=parser)  # what `completion` describes
    verbs = Verbs(parser, "verbs")
    limits.add_to(verbs)
    log.add_to(verbs)
    doctor.add_to(verbs)
    top.add_to(verbs)
    what_if.add_to(verbs)
    server.add_to(verbs)
    sharing.add_to(verbs)
    postgres.add_to(verbs)
    config.add_to(verbs)
    migrate.add_to(verbs)
    completion.add_to(verbs)
    verbs.add("version", show_version, "print the version", "flint version", "flint --version")
    return parser
