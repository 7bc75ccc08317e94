"""Making the schema, and bringing its functions up to date."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from flint._surface.arguments import refusal
from flint.errors import FlintConnectionError, FlintError, FlintPermissionError, UnsupportedError

VERSION = 1  # of the tables
_LONGEST_NAME = 63  # of PostgreSQL, in bytes
_NAME = re.compile(r"[\w .-]+")
_OLDEST_SERVER = 140000


def check_name(name: str, value: object) -> None:
    """Raise for what is no name of a schema or role here."""
    allowed = f"1 to {_LONGEST_NAME} bytes of letters, digits, '_', '-', '.' and blanks"
    if not isinstance(value, str):
        raise TypeError(refusal(name, "a str", value))
    if len(value.encode("utf-8", "replace")) > _LONGEST_NAME or not _NAME.fullmatch(value):
        raise ValueError(refusal(name, allowed, value))


def _read(file: str, schema: str) -> str:
    text = (Path(__file__).parent / file).read_text("utf-8")
    return text.replace('"flint"', f'"{schema}"').replace("flint.", f'"{schema}".')


def tables(schema: str) -> str:
    """The statements that make the tables, to be run once."""
    return _read("tables.sql", schema)


def functions(schema: str) -> str:
    """Those that make or replace the functions."""
    return _read("functions.sql", schema)


def grants(schema: str, role: str) -> str:
    """Those that let a role decide and configure; it cannot create or alter anything."""
    return (
        f"\n-- What lets a role use it.\n"
        f'grant usage on schema "{schema}" to "{role}";\n'
        f'grant select on all tables in schema "{schema}" to "{role}";\n'
        f'grant insert, update, delete on "{schema}".counters, "{schema}".templates,\n'
        f'  "{schema}".changes, "{schema}".log, "{schema}".sums to "{role}";\n'
        f'grant update on "{schema}".epoch to "{role}";\n'
        f'grant usage on sequence "{schema}".logs to "{role}";\n'
    )


def _version(connection: psycopg.Connection[tuple[int]], schema: str) -> int:
    """Of the tables that are there; 0 for none."""
    name = f'"{schema}".installed'
    is_there = connection.execute("select to_regclass(%s) is not null", (name,)).fetchone()
    if is_there is None or not is_there[0]:
        return 0
    found = connection.execute(f"select version from {name}".encode()).fetchone()
    return found[0] if found else 0


def bring_up(database: str, schema: str, role: str | None, *, may_create: bool) -> bool:
    """Make what is missing, in one transaction. Whether the tables were made."""
    try:
        with psycopg.connect(database) as connection:
            if connection.info.server_version < _OLDEST_SERVER:
                raise UnsupportedError("Flint needs PostgreSQL 14 or newer")
            # Two at the same time come one after the other.
            connection.execute("select pg_advisory_xact_lock(hashtext('flint install'))")
            version = _version(connection, schema)
            if version > VERSION:
                raise UnsupportedError(
                    f"the schema {schema!r} is of a newer Flint: version {version}; this one knows "
                    f"{VERSION}"
                )
            if version == 0 and not may_create:
                raise UnsupportedError(
                    f"there is no schema {schema!r} of Flint in this database; `flint pg install` "
                    "makes it"
                )
            made = [] if version else [tables(schema)]
            made.append(functions(schema))
            if role is not None:
                made.append(grants(schema, role))
            connection.execute("".join(made).encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise FlintPermissionError(f"PostgreSQL says: {error}") from None
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())
        raise FlintConnectionError(f"could not reach PostgreSQL: {said}") from None
    except psycopg.Error as error:
        raise FlintError(f"PostgreSQL says: {error}") from None
    return version == 0
