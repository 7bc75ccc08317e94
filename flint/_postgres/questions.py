"""What PostgreSQL is asked: the calls of the schema's functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flint._postgres import rows
from flint._postgres.rows import identity
from flint._postgres.wire import Statement, array, integer, text
from flint._stores.claims import OLD_TEMPLATES
from flint._stores.questions import Questions
from flint.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flint._postgres.wire import Value
    from flint._remote.standing import Config
    from flint._stores.claims import Claim, Totals
    from flint._stores.denials import Denied
    from flint._stores.questions import Asked, Steps
    from flint._stores.templates import Templates
    from flint._surface.types import Total

_PAGE = 256
_BY = {"denied": 1, "allowed": 2, "denied_cost": 3, "allowed_cost": 4}
_OLDER = "the schema {!r} of this database is of another version of Flint; `flint pg upgrade`"


class PostgresQuestions(Questions):
    """The questions to one schema."""

    def __init__(self, schema: str, always: bool, timeout_s: float) -> None:
        super().__init__()
        quoted = '"' + schema.replace('"', '""') + '"'
        self._schema = schema
        self._quoted = quoted
        holders = ",".join(f"${number}" for number in range(1, 15))
        self._check_sql = f"select {quoted}.v1_check({holders})".encode()
        self._always = always
        # Less than the caller, who so learns that nothing was counted.
        self._wait_ms = max(min(int(timeout_s * 900), 2**31 - 1), 1)

    def _statement(
        self,
        function: str,
        values: Iterable[bytes | None],
        columns: Iterable[str] = ("*",),
        *,
        repeatable: bool = False,
    ) -> Statement:
        """A call of one of the schema's functions."""
        encoded = tuple(values)
        holders = ",".join(f"${number}" for number in range(1, len(encoded) + 1))
        sql = f"select {','.join(columns)} from {self._quoted}.v1_{function}({holders})"
        return Statement(sql.encode(), encoded, repeatable)

    def _call(
        self,
        function: str,
        *values: Value,
        columns: Iterable[str] = ("*",),
        repeatable: bool = False,
        changes: bool = False,
    ) -> Statement:
        """The same with values that are not encoded yet."""
        given = (self._always, self._wait_ms, *values) if changes else values
        return self._statement(function, map(text, given), columns, repeatable=repeatable)

    def _identity(self, raw: bytes) -> bytes:
        return identity(raw)[0]

    def _load(self) -> Steps[Templates]:
        found = yield self._call("templates", repeatable=True)
        if not found:
            raise UnsupportedError(_OLDER.format(self._schema))
        self._templates = rows.templates(found)
        return self._templates

    def _ask_denied(self, kept: list[tuple[bytes, bytes, Denied]]) -> Steps[None]:
        ids, names, denied = zip(*kept, strict=True)
        numbers = [array(column) for column in zip(*denied, strict=True)]
        yield self._statement("denied", [text(self._wait_ms), array(ids), array(names), *numbers])

    def _ask_check(
        self,
        count: bool,
        items: list[Asked],
        known: Templates,
        limit: Config | None,
        denied: dict[bytes, Denied],
    ) -> Steps[list[Claim]]:
        ids, long_keys = zip(*(identity(one.raw) for one in items), strict=True)
        applying = [known.applying(one.raw) for one in items]
        values: list[bytes | None] = [
            known.epoch,
            text(count),
            text(self._always),
            text(self._wait_ms),
            array(ids),
            array(long_keys),
            array(one.cost for one in items),
            array(one.template_id for group in applying for one in group),
            array(len(group) for group in applying),
            None if limit is None else array(limit),
            array(denied),
            array(one.denials for one in denied.values()),
            array(one.cost for one in denied.values()),
            array(one.last_ns for one in denied.values()),
        ]
        found = yield Statement(self._check_sql, tuple(values), repeatable=not count)
        asked = rows.decided(found[0][0], ids)
        return [] if asked[0].status == OLD_TEMPLATES else asked

    def _ask_configure(
        self, raw: bytes, is_template: bool, name: bytes, config: Config, *rest: bool
    ) -> Steps[bool]:
        key_id, long_key = identity(raw)
        of_key = raw if is_template else long_key
        numbers = (config.algorithm, config.rate, config.per_ns, config.burst)
        values = (key_id, of_key, name, *numbers, *rest)
        function = "template" if is_template else "limit"
        found = yield self._call(function, *values, changes=True, repeatable=True)
        return found[0][0] is not None

    def _ask_end(self, call: str, raw: bytes, is_template: bool, name: bytes | None) -> Steps[int]:
        function = "end_template" if is_template else "end"
        values = (call == "reset", self._identity(raw), name)
        found = yield self._call(function, *values, changes=True)
        return integer(found[0][0])

    def _ask_counters(self, keys: list[bytes]) -> Steps[list[Claim]]:
        ids = array(map(self._identity, keys))
        found = yield self._statement("counters", [ids], rows.COLUMNS, repeatable=True)
        return [rows.claim(row) for row in found]

    def _ask_every(self, counters: bool) -> Steps[list[Claim]]:
        found: list[Claim] = []
        after: tuple[bytes, bytes] = (b"", b"")
        while True:
            page = yield self._call(
                "page", counters, *after, _PAGE, columns=rows.COLUMNS, repeatable=True
            )
            found += map(rows.claim, page)
            if len(page) < _PAGE:
                return found
            after = found[-1].position

    def _ask_top(self, by: Total, most: int) -> Steps[list[Claim]]:
        found = yield self._call("top", _BY[by], most, columns=rows.COLUMNS, repeatable=True)
        return [rows.claim(row) for row in found]

    def _ask_sums(self) -> Steps[dict[int, Totals]]:
        found = yield self._call("sums", repeatable=True)
        return {integer(row[0]): rows.totals(row[1:8]) for row in found}

    def _ask_now(self) -> Steps[int]:
        found = yield self._call("now", repeatable=True)
        return integer(found[0][0])
