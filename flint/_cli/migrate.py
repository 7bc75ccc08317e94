"""`flint migrate`: where Python sources use another limiter, and the line to write instead. The
sources are read and never run; nothing is changed."""

from __future__ import annotations

import ast
import os
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flint._cli.failure import ERROR, OK, CommandError
from flint._cli.output import complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flint._cli.context import Context
    from flint._cli.grammar import Verbs

_PATH = "/var/lib/limits"
STORAGE = f"flint://{_PATH}"
_MAX_BYTES = 4 << 20  # of a source
_PASSED_BY = {"node_modules", "site-packages", "venv", "__pycache__", "build", "dist"}
_PLUGIN = "import flint.plugins.limits"
_BUCKETS = {"InMemoryBucket", "SQLiteBucket", "RedisBucket", "PostgresBucket", "MultiprocessBucket"}
# Of whose uses the import alone is another.
_MOVED = {name: f"flint.compat.{name}" for name in ("aiolimiter", "flux", "fluxlimit", "ratelimit")}
_CACHE = {"BACKEND": "flint.plugins.django_cache.CounterCache", "LOCATION": _PATH}
_THROTTLES = {
    f"rest_framework.throttling.{name}": f"flint.django_rest.{name}"
    for name in ("AnonRateThrottle", "ScopedRateThrottle", "UserRateThrottle")
}


class _Use(NamedTuple):
    """How the names of Flint's classes begin that stand for it, and a name that no other use has in
    its file."""

    prefix: str
    name: str


class Finding(NamedTuple):
    """A use of another limiter; `found` and `instead` are source text."""

    file: str
    line: int
    library: str
    found: str
    instead: str


def add_to(verbs: Verbs) -> None:
    parser = verbs.add(
        "migrate",
        migrate,
        "list where Python sources use another limiter, with the line to write instead",
        "flint migrate app/",
        "flint migrate main.py --json",
    )
    parser.add_argument("paths", nargs="+", metavar="FILE|DIRECTORY")


def migrate(context: Context) -> int:
    findings: list[Finding] = []
    unread = 0
    for path in sources(context.args.paths):
        try:
            findings += found_in(path)
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            complain(f"{path}: {error}")
            unread += 1
    context.out.value([one._asdict() for one in findings], lambda: show(findings))
    return ERROR if unread else OK


def show(findings: list[Finding]) -> None:
    from flint._cli.tables import console
    from flint._cli.text import shown

    to = console()
    for one in findings:
        to.print(f"{shown(one.file)}:{one.line}  {one.library}", style="bold", soft_wrap=True)
        to.print(f"  - {shown(one.found)}", style="red", soft_wrap=True)
        to.print(f"  + {shown(one.instead)}", style="green", soft_wrap=True)
    to.print("no other limiter is used" if not findings else f"{len(findings)} to change")


# ---- Which files -------------------------------------------------------------------------------


def sources(paths: list[str]) -> Iterator[Path]:
    """The files, and the sources in the directories, in order of name."""
    for name in paths:
        path = Path(name)
        if path.is_dir():
            yield from _below(path)
        elif path.exists():
            yield path
        else:
            raise CommandError(f"{name} is neither a file nor a directory")


def _below(directory: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(
            name for name in folders if name not in _PASSED_BY and not name.startswith(".")
        )
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


# ---- What they use -----------------------------------------------------------------------------


def found_in(path: Path) -> list[Finding]:
    """The uses in a file, in order of line. Raises OSError, SyntaxError or ValueError for what
    cannot be read as Python."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError("larger than 4 MiB")
    with tokenize.open(path) as file:
        reader = _Reader(str(path), ast.parse(file.read()))
    return sorted(reader.findings, key=lambda one: one.line)


class _Reader(ast.NodeVisitor):
    """Knows each name that was imported by where it is from."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self.file = file
        self.names: dict[str, str] = {}
        self.findings: list[Finding] = []
        self.has_our_cache = False
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value == _CACHE["BACKEND"]:
                self.has_our_cache = True
            if isinstance(node, ast.Import):
                self._note_import(node)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self._note_import_from(node, node.module)
        self.visit(tree)

    def _note_import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            self.names[alias.asname or name] = name
            if name in _MOVED:
                instead = f"import {_MOVED[name]} as {alias.asname or name}"
                self._add(node, name, ast.unparse(node), instead)

    def _note_import_from(self, node: ast.ImportFrom, module: str) -> None:
        for alias in node.names:
            self.names[alias.asname or alias.name] = f"{module}.{alias.name}"
        library = module.partition(".")[0]
        for alias in node.names:
            moved = _THROTTLES.get(f"{module}.{alias.name}")
            if moved is not None:
                instead = ast.unparse(ast.ImportFrom(moved.rpartition(".")[0], [alias], 0))
                self._add(node, library, ast.unparse(node), instead)
        if library in _MOVED:
            names = ast.unparse(node).partition(" import ")[2]
            self._add(node, library, ast.unparse(node), f"from {_MOVED[library]} import {names}")

    def _add(self, node: Any, library: str, found: str, instead: str) -> None:
        self.findings.append(Finding(self.file, node.lineno, library, found, instead))

    def _origin(self, node: ast.expr) -> str:
        """The full name of what an expression names: "limits.storage.storage_from_string"."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            before = self._origin(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""

    def visit_Call(self, node: ast.Call) -> None:
        origin = self._origin(node.func)
        library, _, rest = origin.partition(".")
        rule = _RULES.get((library, rest.rpartition(".")[2]))
        if rule is not None:
            instead = rule(node, self._use(node, origin))
            if instead:
                self._add(node, library, ast.unparse(node), instead)
        elif origin == "pyrate_limiter.RedisBucket.init":
            instead = _bucket(node, self._use(node, origin))
            self._add(node, library, ast.unparse(node), instead)
        self.generic_visit(node)

    def _use(self, node: ast.Call, origin: str) -> _Use:
        is_async = ".aio." in origin or ".asyncio." in origin
        return _Use("Async" if is_async else "", f"{Path(self.file).stem}:{node.lineno}")

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            named = target.slice if isinstance(target, ast.Subscript) else target
            name = named.value if isinstance(named, ast.Constant) else getattr(named, "id", "")
            if name == "RATELIMIT_STORAGE_URI" and not _is_ours(node.value):
                instead = f"{_PLUGIN}; {ast.unparse(target)} = {STORAGE!r}"
                self._add(node, "flask_limiter", ast.unparse(node), instead)
            elif name == "RATELIMIT_USE_CACHE" and not self.has_our_cache:
                instead = f"CACHES['limits'] = {_CACHE}; {ast.unparse(target)} = 'limits'"
                self._add(node, "django_ratelimit", ast.unparse(node), instead)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        moved = _THROTTLES.get(node.value) if isinstance(node.value, str) else None
        if moved is not None:
            self._add(node, "rest_framework", ast.unparse(node), repr(moved))


# ---- What to write instead ---------------------------------------------------------------------


def _is_ours(node: ast.expr | None) -> bool:
    """Whether a URL of limits names Flint already."""
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and text.removeprefix("async+").startswith("flint")


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in node.keywords if one.arg == name), None)


def _on_storage(node: ast.Call, use: _Use) -> str | None:
    """The call of a Limiter with another storage."""
    del use
    if _is_ours(_keyword(node, "storage_uri")):
        return None
    kept = [one for one in node.keywords if one.arg not in ("storage_uri", "storage_options")]
    uri = ast.keyword("storage_uri", ast.Constant(STORAGE))
    call = ast.unparse(ast.Call(node.func, node.args, [*kept, uri]))
    return f"{_PLUGIN}; {call}"


def _from_string(node: ast.Call, use: _Use) -> str | None:
    del use
    first = node.args[0] if node.args else _keyword(node, "storage_string")
    if _is_ours(first):
        return None
    is_async = isinstance(first, ast.Constant) and str(first.value).startswith("async+")
    uri = ast.Constant(("async+" if is_async else "") + STORAGE)
    return f"{_PLUGIN}; {ast.unparse(ast.Call(node.func, [uri], []))}"


def _storage(node: ast.Call, use: _Use) -> str | None:
    del node
    return f"flint.plugins.limits.{use.prefix}FlintStorage({STORAGE!r})"


def _bucket(node: ast.Call, use: _Use) -> str:
    rates = node.args[0] if node.args else _keyword(node, "rates")
    named = "rates" if rates is None or isinstance(rates, ast.Starred) else ast.unparse(rates)
    return f"flint.plugins.pyrate_limiter.FlintBucket({named}, {_PATH!r}, {use.name!r})"


_KEYS_OF_DJANGO = {"ip": None, "user": "user", "user_or_ip": "user"}


def _django(node: ast.Call, use: _Use) -> str | None:
    del use
    rate = _keyword(node, "rate")
    key = _keyword(node, "key")
    words = [ast.unparse(rate) if rate is not None else "'5/m'"]
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        name = _KEYS_OF_DJANGO.get(key.value, key.value)
        words += [f"key={name!r}"] if name else []
    elif key is not None:
        words.append(f"key={ast.unparse(key)}")
    method = _keyword(node, "method")
    if method is not None:
        is_one = isinstance(method, ast.Constant)
        words.append(f"methods={f'[{ast.unparse(method)}]' if is_one else ast.unparse(method)}")
    return f"flint.django.ratelimit({', '.join(words)})"


def _pyrate(node: ast.Call, use: _Use) -> str | None:
    """A Limiter that has rates and no bucket."""
    if _keyword(node, "limiter") is not None:  # it counts in Flint already
        return None
    rates = node.args[0] if node.args else _keyword(node, "argument")
    is_rate = isinstance(rates, ast.Call) and ast.unparse(rates.func).endswith("Rate")
    if not is_rate and not isinstance(rates, ast.List):
        return None
    where = {"limiter": _PATH, "key": use.name}
    ours = [ast.keyword(name, ast.Constant(value)) for name, value in where.items()]
    call = ast.Call(ast.Name("Limiter"), node.args, [*node.keywords, *ours])
    return f"flint.compat.pyrate_limiter.{ast.unparse(call)}"


def _throttled(node: ast.Call, use: _Use) -> str | None:
    del node
    return f"flint.plugins.throttled.{use.prefix}FlintStore({_PATH!r})"


# By the library and the last part of the name.
_RULES: dict[tuple[str, str], Callable[[ast.Call, _Use], str | None]] = {
    ("slowapi", "Limiter"): _on_storage,
    ("flask_limiter", "Limiter"): _on_storage,
    ("limits", "storage_from_string"): _from_string,
    **{
        ("limits", f"{name}Storage"): _storage
        for name in ("Memory", "Redis", "RedisCluster", "RedisSentinel", "Memcached", "MongoDB")
    },
    **{("pyrate_limiter", name): _bucket for name in _BUCKETS},
    ("pyrate_limiter", "Limiter"): _pyrate,
    ("throttled", "MemoryStore"): _throttled,
    ("throttled", "RedisStore"): _throttled,
    ("django_ratelimit", "ratelimit"): _django,
}
