"""The calls of a place as commands of the Redis protocol, and what is made of the replies. Nothing
here waits: the steps of a question yield what is asked and are sent what it has come to, so that
threads and event loops share them. Arguments are read as those for HTTP are."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from flint._remote import questions, replies, shapes
from flint._remote.http import GarbageError
from flint._remote.questions import plain_items, plain_limit, read_check
from flint._remote.resp import Refusal, encoded
from flint._remote.trouble import told
from flint._surface.arguments import per_to_ns
from flint._surface.rate import Several
from flint.errors import FlintServerError, NotConfiguredError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable
    from typing import SupportsIndex, TypeAlias

    from flint import _native
    from flint._remote.questions import Checked
    from flint._surface.protocol import Limits
    from flint._surface.types import (
        CheckAllDict,
        DoctorDict,
        HistoryDict,
        InfoDict,
        Item,
        StatusDict,
        Total,
    )

__all__ = ["read_check"]

Returned = TypeVar("Returned")
if TYPE_CHECKING:
    Steps: TypeAlias = Generator["Asked[Any]", Any, Returned]

# What a server takes at a time.
MOST_REQUEST_BYTES = 152 * 1024
MOST_LIMITS = 128
_BYTES_AROUND = 256  # the words of a limit behind its key and name
_MOST_ENTRIES = 1000
_OLDER = "the server does not have this call; perhaps it is older than the client"
_STATUSES = {"NOAUTH": 401, "WRONGPASS": 401, "NOPERM": 403, "NOPROTO": 400, "CLOSED": 503}


class Command(NamedTuple):
    """What is sent. `repeatable`: asking twice does no more than asking once. `is_slow`: what is
    asked behind it on the same connection might wait long."""

    data: bytes
    repeatable: bool
    is_slow: bool


class Asked(NamedTuple, Generic[Returned]):
    """One command, and how to read its reply. `key` is the one it is about, if it is one."""

    request: Command
    read: Callable[[Any], Returned]
    key: str | None = None

    def answered(self, reply: Any) -> Returned:
        """What the reply says. Raises GarbageError, and the errors that a limiter raises which is
        embedded."""
        if isinstance(reply, Refusal):
            raise refused(reply, self.key)
        try:
            return self.read(reply)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise GarbageError(f"the answer is not one of Flint: {error!r:.200}") from None


class Question(NamedTuple, Generic[Returned]):
    """What a call asks. `undecided(allowed)` is what `on_error` answers, where it may."""

    steps: Callable[[], Steps[Returned]]
    undecided: Callable[[bool], Returned] | None = None


def refused(refusal: Refusal, key: str | None) -> Exception:
    """A refusal as what a limiter raises for the same reason."""
    code, message = refusal
    if code == "ERR" and message.startswith("unknown command"):
        return FlintServerError(404, _OLDER)
    if code == "ERR":  # what it says tells why
        return told(FlintServerError(400, message), "", key)
    return told(FlintServerError(_STATUSES.get(code, 500), message), code, key)


def _asked(
    read: Callable[[Any], Returned],
    *words: str | int,
    key: str | None = None,
    repeatable: bool = False,
    is_slow: bool = False,
) -> Asked[Returned]:
    data = encoded(b"%d" % word if isinstance(word, int) else str.encode(word) for word in words)
    if len(data) > MOST_REQUEST_BYTES:
        raise UnsupportedError(
            f"a server takes {MOST_REQUEST_BYTES} bytes with one call, and these are {len(data)}; "
            "make several calls"
        )
    return Asked(Command(data, repeatable, is_slow), read, key)


def _one(
    asked: Asked[Returned], undecided: Callable[[bool], Returned] | None = None
) -> Question[Returned]:
    """A question that is one command."""

    def steps() -> Steps[Returned]:
        answer: Returned = yield asked
        return answer

    return Question(steps, undecided)


# ---- Deciding ----------------------------------------------------------------------------------


def decision(call: str, asked: Checked) -> Question[_native.Result]:
    """`check` or `peek`."""
    key, cost, carried = asked.key, asked.cost, asked.carried
    words: list[str | int] = [f"FLINT.{call.upper()}", key, "COST", cost, "LIMITS"]
    if isinstance(asked.config.get("limit"), str):  # the name of a rate of the server's
        words += ["LIMIT", str.__str__(asked.config["limit"])]
    elif isinstance(carried, Several):
        words += ["LIMIT", ";".join(map(str, carried.rates))]
    elif carried is not None:
        rate, per_ns, burst, algorithm = carried
        words += ["RATE", rate, "PER", f"{per_ns}ns", "ALGORITHM", algorithm or "token_bucket"]
        if burst is not None:
            words += ["BURST", operator.index(burst)]
    one = _asked(
        lambda reply: replies.result(reply, key, cost), *words, key=key, repeatable=call == "peek"
    )
    return _one(one, lambda allowed: questions.undecided(asked, allowed))


def check_all(items: Iterable[Item]) -> Question[CheckAllDict]:
    """`check_all`."""
    given = plain_items(items)
    words = [word for one in given for word in (one["key"], one["cost"])]
    one = _asked(lambda reply: replies.check_all(reply, given), "FLINT.CHECKALL", *words)
    return _one(one, lambda allowed: questions.undecided_items(given, allowed))


# ---- Configuring -------------------------------------------------------------------------------


def limit(*given: Any) -> Question[None]:
    """`limit`, in numbers."""
    questions.refuse_bad("_limit", *given)
    key, template, rate, per_ns, burst, algorithm, if_absent, name, stack = given
    words: list[str | int] = ["FLINT.LIMIT", *_target(key, template)]
    words += ["RATE", operator.index(rate)]
    words += ["PER", f"{operator.index(per_ns)}ns", "ALGORITHM", algorithm]
    if burst is not None:
        words += ["BURST", operator.index(burst)]
    if name:
        words += ["NAME", name]
    words += ["STACK"] if stack else []
    words += ["NX"] if if_absent else []
    return _one(_asked(replies.done, *words, repeatable=True))


def limit_many(limits: Limits, if_absent: bool) -> list[Question[None]]:
    """`limit_many`: as many commands as it takes."""
    given = tuple(limits)
    questions.refuse_bad("_limit_many", given, if_absent)
    found = []
    batch: list[str | int] = []
    size = 0
    for one in map(plain_limit, given):
        added = len(one["key"].encode()) + len((one.get("name") or "").encode()) + _BYTES_AROUND
        if batch and (len(batch) == 8 * MOST_LIMITS or size + added > MOST_REQUEST_BYTES):
            found.append(_batch(batch, if_absent))
            batch, size = [], 0
        batch += _words_of_limit(one)
        size += added
    return [*found, _batch(batch, if_absent)] if batch else found


def _batch(words: list[str | int], if_absent: bool) -> Question[None]:
    first = "NX" if if_absent else "XX"
    return _one(_asked(replies.done, "FLINT.LIMITMANY", first, *words, repeatable=True))


def _words_of_limit(one: dict[str, Any]) -> list[str | int]:
    key, *exactly = _target(one["key"], one.get("template"))
    is_template = key.endswith("*") and not exactly
    return [
        "template" if is_template else "exact",
        key[:-1] if is_template else key,
        one.get("name") or "",
        one["rate"],
        one["per_ns"] if "per_ns" in one else per_to_ns(one["per"]),
        one.get("burst", one["rate"]),
        one["algorithm"],
        "STACK" if one.get("stack") else "ALONE",
    ]


def _target(key: str, template: bool | None) -> list[str]:
    """The words that say which key, or template, it is."""
    key = str.__str__(key)
    if template is False:
        return [key, "EXACT"]
    return [key + "*" if template and not key.endswith("*") else key]


def _may_be_literal(key: str, template: bool | None) -> bool:
    """Whether it is a key where there is no such template."""
    return template is None and key.endswith("*")


def change(call: str, key: str, template: bool | None, name: str | None) -> Question[None]:
    """`reset` or `remove`. Asked twice, the one would forget what was used between, and the other
    would find nothing."""
    questions.refuse_bad(f"_{call}", key, template, name=name)
    command = f"FLINT.{call.upper()}"
    which = [] if name is None else ["NAME", str.__str__(name)] if name else ["UNNAMED"]

    def changing(template: bool | None) -> Asked[None]:
        is_slow = template is not False and key.endswith("*")
        words = [*_target(key, template), *which]
        return _asked(replies.done, command, *words, key=key, is_slow=is_slow)

    def steps() -> Steps[None]:
        try:
            yield changing(template)
        except NotConfiguredError:
            if not _may_be_literal(key, template) or not (yield from _own(key, name)):
                raise
            yield changing(False)

    return Question(steps)


def _own(key: str, name: str | None) -> Steps[StatusDict | None]:
    """The status of a key's own limit, which no template has given it."""
    reply = yield _status(key, False, name, lambda reply: reply)
    is_own = reply is not None and reply["kind"] in ("exact", "inline")
    return replies.status(reply) if is_own else None


# ---- Looking -----------------------------------------------------------------------------------


def _status(
    key: str, template: bool | None, name: str | None, read: Callable[[Any], Returned]
) -> Asked[Returned]:
    which = ["NAME", str.__str__(name)] if name else []
    words = [*_target(key, template), *which]
    is_slow = template is not False and words[0].endswith("*")
    return _asked(read, "FLINT.STATUS", *words, key=key, repeatable=True, is_slow=is_slow)


def _status_or_none(reply: Any) -> StatusDict | None:
    return None if reply is None else replies.status(reply)


def status(key: str, template: bool | None, name: str | None) -> Question[StatusDict | None]:
    questions.refuse_bad("status", key, template, name=name)

    def steps() -> Steps[StatusDict | None]:
        found: StatusDict | None = yield _status(key, template, name, _status_or_none)
        if found is None and _may_be_literal(key, template):
            found = yield from _own(key, name)
        return found

    return Question(steps)


def _pages(with_inline: bool, *words: str | int) -> Steps[list[StatusDict]]:
    """All pages of a listing."""
    found: list[StatusDict] = []
    cursor: list[str] = []
    while True:
        reply = yield _asked(
            lambda reply: replies.page(reply, with_inline),
            *("FLINT.LIST", "COUNT", _MOST_ENTRIES, *words, *cursor),
            repeatable=True,
            is_slow=True,
        )
        behind, page = reply
        found += page
        if not behind:
            return found
        cursor = ["CURSOR", behind]


def listing(counters: bool | None) -> Question[list[StatusDict]]:
    questions.refuse_bad("_list", counters)
    words = ["COUNTERS"] if counters else []
    return Question(lambda: _pages(counters is not None, *words))


def limits_of(keys: Collection[tuple[str, bool]]) -> list[Question[list[StatusDict]]]:
    """The limits of these keys: each asked for by itself where they are few, since a server may
    have very many others."""
    few = len(keys) <= questions.FEW_KEYS and all(key for key, _ in keys)

    def steps() -> Steps[list[StatusDict]]:
        found: list[StatusDict] = []
        for key in dict.fromkeys(key for key, _ in keys) if few else [None]:
            found += yield from _pages(False, *([] if key is None else ["KEY", key]))
        return [one for one in found if (one["key"], one["template"]) in keys]

    return [Question(steps)]


def top(by: Total, most: SupportsIndex) -> Question[list[StatusDict]]:
    questions.refuse_bad("top", by, most)
    count = operator.index(most)
    words = ("FLINT.TOP", "BY", by, "COUNT", max(count, 1))

    def read(reply: Any) -> list[StatusDict]:
        return [replies.status(one) for one in reply][:count]

    return _one(_asked(read, *words, repeatable=True, is_slow=True))


def history(
    key: str | None,
    template: bool | None,
    newest_first: bool,
    since_ns: int | None,
    until_ns: int | None,
    most: int | None,
) -> Question[list[HistoryDict]]:
    if key is not None:
        questions.refuse_bad("status", key, template)
    words: list[str | int] = ["NEWEST"] if newest_first else []
    words += ["SINCE", since_ns] if since_ns else []
    words += ["UNTIL", until_ns] if until_ns else []

    def steps() -> Steps[list[HistoryDict]]:
        if most == 0 or until_ns == 0:
            return []
        if key == "":
            yield _status(key, template, None, _status_or_none)  # which says what is wrong with it
        target = [] if key is None else ["KEY", *_target(key, template)]
        found = yield from _history(most, [*words, *target])
        if not found and key is not None and _may_be_literal(key, template):
            found = yield from _history(most, [*words, "KEY", key, "EXACT"])
        return found

    return Question(steps)


def _history(most: int | None, words: list[str | int]) -> Steps[list[HistoryDict]]:
    found: list[HistoryDict] = []
    cursor = 0
    while most is None or len(found) < most:
        left = _MOST_ENTRIES if most is None else min(most - len(found), _MOST_ENTRIES)
        cursor, page = yield _asked(
            replies.events,
            *("FLINT.HISTORY", "COUNT", left, "CURSOR", cursor, *words),
            repeatable=True,
            is_slow=True,
        )
        if not page:
            break
        found += page
    return found[:most]


def doctor() -> Question[DoctorDict]:
    return _one(_asked(shapes.doctor, "FLINT.DOCTOR", repeatable=True, is_slow=True))


def info() -> Question[InfoDict]:
    return _one(_asked(replies.info, "FLINT.INFO", repeatable=True, is_slow=True))


def flush() -> Question[None]:
    return log("flush")


def log(verb: str) -> Question[None]:
    """`flush` or `compact`."""
    command = f"FLINT.{verb.upper()}"
    return _one(_asked(replies.done, command, repeatable=True, is_slow=True))
