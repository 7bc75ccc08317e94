"""`flint pg`: the tables and functions of limits that live in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flint._cli.failure import CommandError
from flint._places import without_password

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Parser, Verbs

_URL = "postgresql://user@host/database"


def add_to(verbs: Verbs) -> None:
    group = verbs.group(
        "pg",
        "prepare a PostgreSQL database for limits",
        f"flint pg install --url {_URL}",
        f"flint pg upgrade --url {_URL}",
    )
    made = group.add(
        "install",
        install,
        "make the tables and functions, as a role that may create a schema",
        f"flint pg install --url {_URL} --role app",
        f"flint pg install --url {_URL} --schema limits",
    )
    _names(made)
    replaced = group.add(
        "upgrade",
        upgrade,
        "replace the functions by those of this version; limiters go on meanwhile",
        f"flint pg upgrade --url {_URL}",
        f"flint pg upgrade --url {_URL} --schema limits",
    )
    _names(replaced)
    shown = group.add(
        "sql",
        show,
        "print what `flint pg install` does, for a tool of your own",
        "flint pg sql --role app > limits.sql",
        "flint pg sql | psql --single-transaction -v ON_ERROR_STOP=1",
    )
    _names(shown)


def _names(parser: Parser) -> None:
    parser.add_argument("--schema", help="where they are (default: the file's, else flint)")
    parser.add_argument("--role", help="a role that may then decide and configure, not create")


def _module() -> Any:
    try:
        from flint import postgres
    except ImportError as error:
        raise CommandError(str(error)) from None
    return postgres


def _database(context: Context) -> str:
    target = context.settings.place.target
    if not target.partition(":")[0].lower().startswith("postgres"):
        raise CommandError(
            f"--url or FLINT_URL must name a database, {_URL}, not {without_password(target)!r}"
        )
    return target


def _given(context: Context) -> dict[str, Any]:
    schema = context.args.schema
    if schema is None:
        schema = context.settings.place.options.get("schema", "flint")
    return {"schema": schema, "role": context.args.role}


def install(context: Context) -> int:
    given = _given(context)
    was_made = _module().create(_database(context), **given)
    schema = given["schema"]
    said = f"made the schema {schema}" if was_made else f"the schema {schema} was there already"
    context.out.value({"schema": schema, "made": was_made}, lambda: print(said))
    return 0


def upgrade(context: Context) -> int:
    given = _given(context)
    _module().upgrade(_database(context), **given)
    schema = given["schema"]
    said = f"the functions of the schema {schema} are this version's"
    context.out.value({"schema": schema}, lambda: print(said))
    return 0


def show(context: Context) -> int:
    print(_module().sql(**_given(context)).rstrip())
    return 0
