"""`flint server`: the limits of a directory, served to other programs by flint-server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flint._cli.failure import CommandError
from flint._cli.opening import directory

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Verbs

PROGRAM = Path(__file__).parent.parent / "bin" / "flint-server"


def add_to(verbs: Verbs) -> None:
    group = verbs.group(
        "server",
        "serve limits to other programs",
        "flint server start",
        "flint server start --redis-bind 127.0.0.1:7879",
    )
    parser = group.add(
        "start",
        start,
        "serve the limits of the data directory over HTTP, until SIGTERM or Ctrl-C",
        "flint server start",
        "flint server start --bind unix:/run/flint/flint.sock --sync batch",
    )
    one = parser.add_argument
    one("--bind", metavar="ADDRESS", action="append", help="IP:PORT or unix:PATH; may be repeated")
    one("--redis-bind", metavar="ADDRESS", action="append", help="the same, for the Redis protocol")
    one("--token", metavar="TOKEN", help="what clients must send; better in FLINT_SERVER_TOKEN")
    one(
        "--token-file", metavar="FILE", help="a token to a line, and read, check or admin behind it"
    )
    one("--limits", metavar="FILE", help="configure the limits of this flint.toml")
    one("--tls-cert", metavar="FILE", help="speak TLS: a certificate in PEM; SIGHUP: read again")
    one("--tls-key", metavar="FILE", help="its key")
    one("--tls-client-ca", metavar="FILE", help="clients need a certificate of these authorities")
    one("--sync", metavar="MODE", help="always (default) or batch")
    one("--flush-every-ms", metavar="N", help="batch: a sync starts after so long (default: 100)")
    one("--flush-every-events", metavar="N", help="batch: and after so many events (default: 100)")
    one("--max-blocking", metavar="N", help="calls at once that may take long (default: 128)")
    one("--max-connections", metavar="N", help="default: 64 less than the limit of open files")
    one("--open-timeout", metavar="TIME", help="how long to wait for a directory that is in use")
    one("--header-timeout", metavar="TIME", help="for a request's head (default: 10s)")
    one("--body-timeout", metavar="TIME", help="for a request's body (default: 10s)")
    one("--idle-timeout", metavar="TIME", help="between requests (default: 75s)")
    one("--write-timeout", metavar="TIME", help="for a client to read (default: 10s)")
    one("--log", metavar="FORM", help="lines on standard error: text (default) or json")


_OPTIONS = (
    *("bind", "redis_bind", "token_file", "limits", "tls_cert", "tls_key", "tls_client_ca", "sync"),
    *("flush_every_ms", "flush_every_events", "max_blocking", "max_connections", "open_timeout"),
    *("header_timeout", "body_timeout", "idle_timeout", "write_timeout", "log"),
)


_THE_FILE = "the configuration file"
_OF_STORAGE = ("sync", "flush_every_ms", "flush_every_events")


def start(context: Context) -> int:
    """Becomes the server: what it prints and its exit code are its own."""
    if not PROGRAM.is_file():
        raise CommandError(
            "this installation has no flint-server: where flint-limiter is built from source, that "
            "needs libuv, toml++ and, in FLINT_LLHTTP_DIR, llhttp"
        )
    said = configured()
    environment = dict(os.environ)
    words = [str(PROGRAM), "--data-dir", directory(context), *given(context, said)]
    tokens = {
        "the flag": context.args.token,
        "the environment's FLINT_SERVER_TOKEN": environment.get("FLINT_SERVER_TOKEN"),
        _THE_FILE: said.get("token"),
    }
    for source, token in tokens.items():
        if token:
            context.note(f"--token from {source}")
            environment["FLINT_SERVER_TOKEN"] = token  # which `ps` does not show
            break
    sys.stdout.flush()
    os.execve(PROGRAM, words, environment)


def given(context: Context, said: dict[str, str]) -> list[str]:
    """The options that are given, else those that the file says, as flint-server reads them."""
    words = []
    for name in _OPTIONS:
        flag, value, source = f"--{name.replace('_', '-')}", getattr(context.args, name), "the flag"
        if value is None and name in said:
            value, source = said[name], _THE_FILE
        if value is None:
            continue
        context.note(f"{flag} from {source}")
        words += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return words


def configured() -> dict[str, str]:
    """The options that the configuration file says, if there is one: those of [server], how
    [storage] syncs, and the file itself where it has limits."""
    from flint import config
    from flint._places import beside

    path = config.find()
    if path is None:
        return {}
    file = config.load(path)
    said = {name: str(file.options[name]) for name in _OF_STORAGE if name in file.options}
    said |= file.server
    if "token_file" in said:
        said["token_file"] = beside(str(path.absolute().parent), said["token_file"])
    if file.limits:
        said["limits"] = str(path.absolute())
    return said
