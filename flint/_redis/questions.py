"""What Redis is asked: scripts, and a few commands."""

from __future__ import annotations

import heapq
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any

from flint._redis import records, scripts
from flint._redis.plain import PlainChecks
from flint._redis.records import flag
from flint._redis.requests import Request, has_admitted
from flint._stores.claims import COUNTER, EXACT
from flint._stores.questions import NO_LIMIT, Questions, is_surely_a_key
from flint._stores.templates import Template
from flint._surface.arguments import MAX_NS
from flint.errors import FlintConnectionError, FlintError, FlintWarning, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flint._native import Result
    from flint._remote.standing import Config
    from flint._stores.claims import Claim, Totals
    from flint._stores.denials import Denied
    from flint._stores.questions import Asked, Steps
    from flint._stores.templates import Templates
    from flint._surface.types import Total

_PAGE = 256
_COUNTS = {"peek": 0, "check": 1, "allow": 2}
_MOST_REMEMBERED = 4096  # limits
_GLOB = re.compile(rb"([*?\[\]\\])")
_NO_TOTALS = (
    "this limiter keeps no totals: RedisLimiter(..., totals=True) does, also for the others of its "
    "namespace that are made so"
)
_EVICTS = (
    "Redis may evict limits (maxmemory-policy {}), and what was used of them is then forgotten: "
    "volatile-ttl forgets those first that are full again soonest, noeviction none"
)


class RedisQuestions(Questions):
    """The questions to one namespace."""

    def __init__(self, namespace: str, tag: str, has_totals: bool) -> None:
        super().__init__()
        self._prefix = f"{namespace}:{{{tag}}}:".encode()
        names = (b"epoch", b"templates", b"changes", b"sums")
        self._shared = tuple(self._prefix + name for name in names)
        self._has_totals = has_totals
        self._plain = PlainChecks(self._prefix, self._shared[0])
        self._scripts = scripts.load()
        # Which store the templates are of: another one has forgotten them.
        self._store: bytes | None = None
        self._configured: dict[tuple[bytes, bool, bytes], tuple[Config, bool]] = {}
        self._has_looked_at_memory = False

    def _run(self, script: str, keys: Iterable[bytes], *args: bytes, **rest: Any) -> Request:
        of_keys = (self._prefix + kind + key for key in keys for kind in (b"k:", b"l:"))
        given = (*self._shared, *of_keys)
        return Request((len(given), *given, *args), self._scripts[script], **rest)

    def _command(self, *words: bytes | int | str) -> Request:
        has_key = words[0] not in ("SCAN", "INFO")
        return Request(words, None, True, None, None if has_key else self._shared[0].decode())

    def _identity(self, raw: bytes) -> bytes:
        return raw

    # ---- Templates -----------------------------------------------------------------------------

    def _load(self) -> Steps[Templates]:
        yield from self._look_at_memory()
        epoch, is_whole, fields = yield self._run("load", (), repeatable=True)
        store = epoch.partition(b":")[0]
        is_other = self._store and store != self._store
        if self._configured and (is_other or not is_whole):
            # It was emptied, or a part was evicted. What this program has configured holds again.
            self._whole.clear()
            for (raw, is_template, name), values in list(self._configured.items()):
                yield self._configure(raw, is_template, name, *values, True)
            epoch, _, fields = yield self._run("load", (), repeatable=True)
            store = epoch.partition(b":")[0]
        self._store = store
        self._templates = records.templates(epoch, fields)
        return self._templates

    def _look_at_memory(self) -> Steps[None]:
        if self._has_looked_at_memory:
            return
        policy = ""
        try:
            info = yield self._command("INFO", "memory")
            policy = str(info.get("maxmemory_policy"))
        except FlintConnectionError:
            raise
        except FlintError:
            pass  # not everybody may ask
        self._has_looked_at_memory = True
        if policy.startswith("allkeys"):
            warnings.warn(_EVICTS.format(policy), FlintWarning, stacklevel=_callers_level())

    # ---- Deciding ------------------------------------------------------------------------------

    def plain_request(self, call: str, key: Any, cost: Any, limit: Any) -> Request | None:
        """What decides in most cases about a key, whose answer is None in the others; None where it
        is known that this is one."""
        known = self._templates
        if known is None or self._has_totals or limit != NO_LIMIT or not is_surely_a_key(key):
            return None
        if type(cost) is not int or not 1 <= cost <= MAX_NS:
            return None
        return self._plain.request(self._scripts, _COUNTS[call], key.encode(), cost, known)

    def plain_result(self, key: str, cost: Any, told: bytes | int) -> Result | bool:
        """What its answer says: of `allow` whether the cost is admitted."""
        if isinstance(told, int):
            return told == 1
        claim = records.claim(told, [key.encode()])
        return claim.result(key, cost, claim.allows)

    def _ask_check(
        self,
        count: bool,
        items: list[Asked],
        known: Templates,
        limit: Config | None,
        denied: dict[bytes, Denied],
    ) -> Steps[list[Claim]]:
        keys = [one.raw for one in items]
        answer = yield self._run(
            "check",
            keys,
            known.epoch,
            flag(count),
            flag(self._has_totals),
            b"" if limit is None else records.limit(limit),
            b"".join(records.denied(name, one) for name, one in denied.items()),
            *(records.item(one.cost, known.applying(one.raw)) for one in items),
            repeatable=not count,
            has_changed=has_admitted if count else None,
        )
        if len(items) == 1 and limit is None and not self._has_totals:
            self._plain.learn(keys[0], answer)
        return [records.claim(told, keys) for told in answer]

    def _note_denial(self, found: list[Claim], cost: int) -> None:
        if self._has_totals:
            super()._note_denial(found, cost)

    def _ask_denied(self, kept: list[tuple[bytes, bytes, Denied]]) -> Steps[None]:
        of_keys: dict[bytes, bytes] = {}
        for key, name, one in kept:
            of_keys[key] = of_keys.get(key, b"") + records.denied(name, one)
        yield self._run("denied", of_keys, *of_keys.values())

    # ---- Configuring ---------------------------------------------------------------------------

    def _configure(
        self,
        raw: bytes,
        is_template: bool,
        name: bytes,
        config: Config,
        stack: bool,
        if_absent: bool,
    ) -> Request:
        first_epoch = os.urandom(8).hex().encode() + b":0"
        rest: dict[str, Any] = {"repeatable": True, "has_changed": _is_one}
        if is_template:
            one = Template(int.from_bytes(os.urandom(8), "big"), raw, name, config, stack)
            packed = records.template(one)
            return self._run("template", (), raw, packed, flag(if_absent), first_epoch, **rest)
        given = (records.limit(config), name, flag(stack), flag(if_absent), first_epoch)
        return self._run("limit", [raw], *given, **rest)

    def _ask_configure(
        self, raw: bytes, is_template: bool, name: bytes, config: Config, *rest: bool
    ) -> Steps[bool]:
        done = yield self._configure(raw, is_template, name, config, *rest)
        if done < 0:
            return False
        place = raw, is_template, name
        if place in self._configured or len(self._configured) < _MOST_REMEMBERED:
            self._configured[place] = (config, rest[0])
        if not self._store:
            yield from self._load()
        return True

    def _ask_end(self, call: str, raw: bytes, is_template: bool, name: bytes | None) -> Steps[int]:
        named = () if name is None else (name,)
        resets = flag(call == "reset")
        if is_template:
            ended = yield self._run("end_template", (), raw, resets, *named, has_changed=_is_some)
        else:
            ended = yield self._run("end", [raw], resets, *named, has_changed=_is_some)
        if call == "remove":
            for one in [one for one in self._configured if one[:2] == (raw, is_template)]:
                if name in (None, one[2]):
                    del self._configured[one]
        found: int = ended
        return found

    # ---- Looking -------------------------------------------------------------------------------

    def _ask_counters(self, keys: list[bytes]) -> Steps[list[Claim]]:
        found: list[Claim] = []
        for at in range(0, len(keys), _PAGE):
            page = keys[at : at + _PAGE]
            answer = yield self._run("show", page, b"%d" % len(page), repeatable=True)
            found += [records.claim(told, page) for told in answer]
        return found

    def _ask_every(self, counters: bool) -> Steps[list[Claim]]:
        mark = self._prefix + b"k:"
        pattern = _GLOB.sub(rb"\\\1", mark) + b"*"
        found: dict[tuple[bytes, bytes], Claim] = {}
        cursor = 0
        while True:
            # A key may come twice.
            cursor, page = yield self._command("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
            shown = yield from self._ask_counters([key[len(mark) :] for key in page])
            found |= {one.position: one for one in shown if counters or one.kind != COUNTER}
            if cursor == 0:
                return list(found.values())

    def _ask_top(self, by: Total, most: int) -> Steps[list[Claim]]:
        if not self._has_totals:
            raise UnsupportedError(_NO_TOTALS)
        every = yield from self._ask_every(True)

        def place(one: Claim) -> tuple[Any, ...]:
            return -getattr(one.totals, by), one.key, one.kind, one.name

        there = [one for one in every if one.kind == EXACT or not one.is_forgettable()]
        return heapq.nsmallest(most, (one for one in there if getattr(one.totals, by)), key=place)

    def _ask_sums(self) -> Steps[dict[int, Totals]]:
        fields: dict[bytes, bytes] = yield self._command("HGETALL", self._shared[3])
        return records.sums(fields)

    def _ask_now(self) -> Steps[int]:
        told = yield self._run("now", (), repeatable=True)
        return records.whole(*(int.from_bytes(told[at : at + 4], "big") for at in (0, 4)))


def _callers_level() -> int:
    """The `stacklevel` at which a warning names who has called Flint."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "flint":
        level, frame = level + 1, frame.f_back
    return level


def _is_one(answer: int) -> bool:
    return answer == 1


def _is_some(answer: int) -> bool:
    return answer > 0
