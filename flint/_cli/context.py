"""What a verb is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint._cli.output import Output, complain
from flint._cli.settings import Settings

if TYPE_CHECKING:
    import argparse


class Context:
    """One command line: what it says (`args`), where settings come from, and where answers go."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args: Any = args
        self.verbose: bool = getattr(args, "verbose", False)
        self.out = Output(getattr(args, "json", False))
        self.settings = Settings(args, self.note)

    def note(self, text: str) -> None:
        """Something that --verbose tells."""
        if self.verbose:
            complain(text)
