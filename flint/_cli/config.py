"""`flint init` and `flint config`: the configuration file, written, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flint._cli.failure import ERROR, OK, CommandError
from flint._cli.opening import writing
from flint._cli.text import shown
from flint._places import without_password

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs
    from flint.config import Config


def add_to(verbs: Verbs) -> None:
    parser = verbs.add(
        "init",
        init,
        "write a configuration file with every section explained",
        "flint init",
        "flint init --force conf/flint.toml",
    )
    parser.add_argument("file", nargs="?", default="flint.toml", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    group = verbs.group(
        "config",
        "the configuration file: check, show, apply",
        "flint config check",
        "flint config show",
    )
    parser = group.add(
        "check",
        check,
        "name everything in the file that is wrong; exit code 1 when there is anything",
        "flint config check",
        "flint config check conf/flint.toml --json",
    )
    add_file(parser)
    parser = group.add(
        "show",
        show,
        "show what the file says, with its defaults; secrets are left out",
        "flint config show",
        "flint config show pyproject.toml",
    )
    add_file(parser)
    parser = group.add(
        "apply",
        apply,
        "configure the limits of the file, and name those that it has not",
        "flint config apply",
        "flint config apply --prune",
    )
    add_file(parser)
    parser.add_argument("--prune", action="store_true", help="remove those that it has not")


def add_file(parser: Any) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="default: FLINT_CONFIG, ./flint.toml, [tool.flint] of ./pyproject.toml",
    )


def init(context: Context) -> int:
    from flint.config import TEMPLATE

    path: str = context.args.file
    try:
        with Path(path).open("w" if context.args.force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise CommandError(f"{path} is there already; --force overwrites it") from None
    context.out.words(f"wrote {path}")
    return OK


def check(context: Context) -> int:
    from flint import config

    errors = config.check(context.args.file)
    answer = {
        "ok": not errors,
        "errors": [
            {"path": one.path, "line": one.line, "key": one.key, "message": one.args[0]}
            for one in errors
        ],
    }
    context.out.value(answer, lambda: print("\n".join(shown(str(one)) for one in errors) or "ok"))
    return ERROR if errors else OK


def show(context: Context) -> int:
    from flint import config

    context.out.value(said(config.load(context.args.file)))
    return OK


def apply(context: Context) -> int:
    from flint import config

    file, prune = config.load(context.args.file), context.args.prune
    with writing(context, lambda one: config.configure(one, file, False), create=True) as limiter:
        others = config.configure(limiter, file, prune)
    answer = {"limits": len(file.limits), "not_in_config": others, "removed": prune}
    context.out.value(answer, lambda: show_applied(answer))
    return OK


def show_applied(answer: dict[str, Any]) -> None:
    print(f"limits of the file: {answer['limits']:,}")
    for key in answer["not_in_config"]:
        does = "removed, since it is not" if answer["removed"] else "not"
        print(f"{does} in the file: {shown(key)}")
    if answer["not_in_config"] and not answer["removed"]:
        print("--prune removes what is not in the file")


def said(config: Config) -> dict[str, Any]:
    rates = {name: "; ".join(map(str, those)) for name, those in config.rates.items()}
    server = {key: "***" if key == "token" else value for key, value in config.server.items()}
    return {
        "path": config.path,
        "storage": {"url": without_password(config.place), **config.options},
        "limits": config.limits,
        "rates": rates,
        "server": server,
    }
