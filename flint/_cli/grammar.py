"""How a command line is read: verbs, groups of them, and the options of every verb."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from flint._cli.context import Context

    Run: TypeAlias = Callable[[Context], int]


class Parser(argparse.ArgumentParser):
    """Reads one verb. Its help begins with examples, and options may stand among keys."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False
        self.examples = examples
        self.intermixed = False
        self._inside = False

    def format_help(self) -> str:
        shown = "".join(f"  {example}\n" for example in self.examples)
        return (f"examples:\n{shown}\n" if shown else "") + super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._inside or not self.intermixed:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


class Verbs:
    """A place for verbs: the command itself, or a group such as `flint limit`."""

    def __init__(self, parser: Parser, title: str) -> None:
        self._actions = parser.add_subparsers(title=title, metavar="VERB", required=True)

    def add(self, name: str, run: Run, summary: str, *examples: str) -> Parser:
        parser: Parser = self._actions.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            examples=examples,
            parents=[common()],
        )
        parser.set_defaults(run=run)
        return parser

    def group(self, name: str, summary: str, *examples: str) -> Verbs:
        parser = self._actions.add_parser(name, help=summary, examples=examples, parents=[common()])
        return Verbs(parser, f"verbs of `flint {name}`")


def common() -> Any:
    """Options that may stand anywhere in the line. What is not given leaves no trace, so that one
    that stands before the verb is not undone behind it."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    options = parser.add_argument_group("options of every verb")
    options.add_argument("--data-dir", metavar="DIR", help="the data directory (default: .flint)")
    options.add_argument(
        "--url", help="the same as a URL, or a server: http://host:7878 or flint://host:7879"
    )
    options.add_argument("--json", action="store_true", help="JSON, also on a terminal")
    options.add_argument("--verbose", action="store_true", help="say where each setting is from")
    return parser
