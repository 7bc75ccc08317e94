"""`flint completion`: scripts with which a shell completes the command, written by shtab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._cli.failure import OK, CommandError

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs

SHELLS = ("bash", "zsh", "fish")


def add_to(verbs: Verbs) -> None:
    parser = verbs.add(
        "completion",
        completion,
        "print a script with which a shell completes this command",
        "flint completion bash > ~/.local/share/bash-completion/completions/flint",
        "flint completion fish > ~/.config/fish/completions/flint.fish",
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def completion(context: Context) -> int:
    try:
        import shtab
    except ModuleNotFoundError:
        raise CommandError(
            "completion scripts are written by shtab: pip install 'flint-limiter[cli]'"
        ) from None
    print(shtab.complete(context.args.root, context.args.shell))
    return OK
