"""The calls of a place as requests, and what is made of the answers. Nothing here waits, so that
threads and event loops share it."""

from __future__ import annotations

import contextlib
import json
import operator
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from flint import _native
from flint._remote import shapes
from flint._remote.http import GarbageError, Request, read_answer
from flint._remote.trouble import told
from flint._surface.arguments import MAX_ITEMS, MAX_NS, per_to_ns
from flint._surface.rate import Several, is_rate_name, read_one_or_several
from flint.errors import ClosedError, FlintServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Mapping
    from typing import SupportsIndex

    from flint._remote.http import Answer
    from flint._surface.arguments import Duration
    from flint._surface.protocol import Limits
    from flint._surface.rate import Rate, RateLike
    from flint._surface.types import (
        Algorithm,
        CheckAllDict,
        DoctorDict,
        HistoryDict,
        InfoDict,
        Item,
        StatusDict,
        Total,
    )

Returned = TypeVar("Returned")

_NS_PER_MS = 1_000_000
# What a server takes at a time.
MOST_LIMITS = 64
_MOST_BYTES = 48 * 1024
# Answers say more than those of Flint 0.2 where they are asked to.
_DETAILS = {"details": True}
_LONGEST_IN_URL = 2000
FEW_KEYS = 16


class Question(NamedTuple, Generic[Returned]):
    """A request, and how to read the answer. `key` is the one it is about, if it is one;
    `undecided(allowed)` is what `on_error` answers, where it may."""

    request: Request
    read: Callable[[Any], Returned]
    key: str | None = None
    undecided: Callable[[bool], Returned] | None = None

    def steps(self) -> Generator[Question[Returned], Returned, Returned]:
        """What is asked, one after the other: here it is one request."""
        answer = yield self
        return answer

    def answered(self, answer: Answer) -> Returned:
        """What the answer says. Raises GarbageError, and the errors that a limiter raises which is
        embedded."""
        try:
            return self.read(read_answer(answer))
        except FlintServerError as error:
            raise told(error, answer.code, self.key) from None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise GarbageError(f"the answer is not one of Flint: {error!r:.200}") from None


# Never opened: it reads arguments as the embedded limiter does, with the same errors.
_arguments = _native.LimiterBase()


def _exact(text: str) -> str:
    """A str, also of one of a subclass."""
    return str.__str__(text)


def refuse_bad(call: str, *args: Any, **kwargs: Any) -> None:
    """Raise what the embedded limiter raises for bad arguments."""
    with contextlib.suppress(ClosedError):  # arguments are read before that is found
        getattr(_arguments, call)(*args, **kwargs)


# ---- Deciding ----------------------------------------------------------------------------------


class Checked(NamedTuple):
    """The arguments of a check: plain values. `config` is what a server reads of the limits that it
    carries along; `carried` is the same as rate, period, burst and algorithm, or as several."""

    key: str
    cost: int
    config: dict[str, Any]
    carried: tuple[Any, ...] | Several | None = None


def read_check(
    rates: Mapping[str, tuple[Rate, ...]],
    key: str,
    cost: SupportsIndex,
    rate: SupportsIndex | None,
    per: Duration | None,
    burst: SupportsIndex | None,
    algorithm: Algorithm | None,
    limit: RateLike | None,
) -> Checked:
    """The arguments of `check`. Raises what the embedded limiter raises. A name that the program
    has no rate for is one of the server's."""
    numbers = (rate, per, burst, algorithm)
    if not isinstance(limit, str) or limit in rates or not is_rate_name(limit):
        return read_known(rates, key, cost, *numbers, limit)
    if numbers != (None, None, None, None):
        raise TypeError(f"the rate {limit!r} says everything; leave the rest out beside it")
    refuse_bad("peek", key, cost)
    return Checked(_exact(key), operator.index(cost), {"limit": limit})


def read_known(
    rates: Mapping[str, tuple[Rate, ...]],
    key: str,
    cost: SupportsIndex,
    rate: SupportsIndex | None,
    per: Duration | None,
    burst: SupportsIndex | None,
    algorithm: Algorithm | None,
    limit: RateLike | None,
) -> Checked:
    """The same where only the program has names for rates."""
    is_plain = type(key) is str and type(cost) is int and 1 <= cost <= MAX_NS
    no_limit = rate is None and per is None and burst is None and algorithm is None
    if limit is None:
        if not (is_plain and no_limit and key.isascii()):
            refuse_bad("peek", key, cost, rate=rate, per=per, burst=burst, algorithm=algorithm)
        if rate is None or per is None:
            return Checked(_exact(key), operator.index(cost), {})
        values: Any = (operator.index(rate), per_to_ns(per), burst, algorithm)
    else:
        refuse_bad("peek", key, cost)
        if rate is not None or per is not None:
            refuse_bad("peek", key, cost, rate=rate, per=per, limit=limit)
        found = read_one_or_several(limit, rates, algorithm, burst)
        if isinstance(found, Several):
            carried = {"limit": [str(one) for one in found.rates]}
            return Checked(_exact(key), operator.index(cost), carried, found)
        values = found.values
    return Checked(_exact(key), operator.index(cost), _config(*values), values)


def _config(
    rate: int, per_ns: int, burst: SupportsIndex | None, algorithm: Algorithm | None
) -> dict[str, Any]:
    """A limit's values as a server reads them."""
    config: dict[str, Any] = {"rate": rate, **_period(per_ns)}
    if burst is not None:
        config["burst"] = operator.index(burst)
    config["algorithm"] = algorithm or "token_bucket"
    return config


def _period(per_ns: int) -> dict[str, Any]:
    """Flint 0.2's servers know whole milliseconds."""
    if per_ns % _NS_PER_MS:
        return {"per_ns": per_ns}
    return {"per": f"{per_ns // _NS_PER_MS}ms"}


def decision(call: str, asked: Checked) -> Question[_native.Result]:
    """`check` or `peek`."""
    key, cost = asked.key, asked.cost
    body = {"key": key, "cost": cost, **asked.config, **_DETAILS}
    return Question(
        Request("POST", f"/v1/{call}", body, call == "peek"),
        lambda answer: shapes.result(answer, key, cost),
        key,
        lambda allowed: undecided(asked, allowed),
    )


def undecided(asked: Checked, allowed: bool) -> _native.Result:
    """What `on_error` answers to a check."""
    config = asked.config
    most = config.get("burst", config.get("rate", 0))
    algorithm = config.get("algorithm", "token_bucket")
    wait_ns = 0 if allowed else 1_000_000_000
    return _native.Result(asked.key, allowed, asked.cost, most, 0, 0, 0, wait_ns, algorithm, True)


def check_all(items: Iterable[Item]) -> Question[CheckAllDict]:
    """`check_all`."""
    given = plain_items(items)
    keys = [str(one["key"]) for one in given]
    return Question(
        Request("POST", "/v1/check-all", {"items": given}, False),
        lambda answer: shapes.check_all(answer, keys),
        None,
        lambda allowed: undecided_items(given, allowed),
    )


def undecided_items(items: list[dict[str, Any]], allowed: bool) -> CheckAllDict:
    """What `on_error` answers to items."""
    results: list[Any] = [
        {
            "key": one["key"],
            "allowed": allowed,
            "cost": one["cost"],
            "remaining": 0,
            "reset_at": "1970-01-01T00:00:00Z",
            "algorithm": "token_bucket",
        }
        for one in (items if allowed else items[:1])
    ]
    denied = None if allowed else items[0]["key"]
    return {"allowed": allowed, "denied_key": denied, "results": results}


def plain_items(items: Any) -> list[dict[str, Any]]:
    """Items as a server reads them."""
    if not isinstance(items, (str, dict, list, tuple)) and hasattr(items, "__iter__"):
        items = tuple(islice(items, MAX_ITEMS + 1))
    elif isinstance(items, list):
        items = tuple(items)  # another thread may change the list
    refuse_bad("check_all", items)
    plain = []
    for item in items:
        if isinstance(item, str):
            key, cost = item, 1
        elif isinstance(item, dict):
            key, cost = item["key"], item.get("cost", 1)
        else:
            key, cost = item
        plain.append({"key": _exact(key), "cost": operator.index(cost)})
    return plain


# ---- Configuring -------------------------------------------------------------------------------


def limit(
    key: str,
    template: bool | None,
    rate: SupportsIndex,
    per_ns: SupportsIndex,
    burst: SupportsIndex | None,
    algorithm: Algorithm,
    if_absent: bool,
    name: str | None,
    stack: bool,
) -> Question[None]:
    """`limit`, in numbers."""
    refuse_bad("_limit", key, template, rate, per_ns, burst, algorithm, if_absent, name, stack)
    config = _config(operator.index(rate), operator.index(per_ns), burst, algorithm)
    body = {"key": _exact(key), **config, **_which(template, name)}
    if stack:
        body["stack"] = True
    if if_absent:
        body["if_absent"] = True
    return Question(Request("POST", "/v1/limits", body, True), _nothing)


def _which(template: bool | None, name: str | None) -> dict[str, Any]:
    """Which of the limits of a key it is."""
    which: dict[str, Any] = {}
    if template is not None:
        which["template"] = template
    if name is not None:
        which["name"] = _exact(name)
    return which


def _nothing(answer: Any) -> None:
    if answer["ok"] is not True:
        raise ValueError("ok is not true")


def limit_many(limits: Limits, if_absent: bool) -> list[Question[None]]:
    """`limit_many`: as many requests as a server takes at a time."""
    given = tuple(limits)
    refuse_bad("_limit_many", given, if_absent)
    questions = []
    batch: list[dict[str, Any]] = []
    size = 0
    for one in map(plain_limit, given):
        added = len(json.dumps(one, ensure_ascii=False).encode())
        if batch and (len(batch) == MOST_LIMITS or size + added > _MOST_BYTES):
            questions.append(_batch(batch, if_absent))
            batch, size = [], 0
        batch.append(one)
        size += added
    return [*questions, _batch(batch, if_absent)] if batch else questions


def _batch(limits: list[dict[str, Any]], if_absent: bool) -> Question[None]:
    body = {"limits": limits, "if_absent": if_absent}
    return Question(Request("POST", "/v1/limits:batch", body, True), _nothing)


def plain_limit(given: Any) -> dict[str, Any]:
    """A limit of `limit_many` as a server reads it."""
    parts = ("key", "rate", "per", "algorithm", "burst")
    one: dict[str, Any] = given if isinstance(given, dict) else {}
    if not one:
        one = dict(zip(parts, given, strict=False))
    per, per_ns = one.get("per"), one.get("per_ns")
    length_ns = per_to_ns(per) if per is not None else operator.index(per_ns or 0)
    config = _config(operator.index(one["rate"]), length_ns, one.get("burst"), one.get("algorithm"))
    plain = {"key": _exact(one["key"]), **config}
    return {**plain, **_which(one.get("template"), one.get("name"))} | (
        {"stack": True} if one.get("stack") else {}
    )


def change(call: str, key: str, template: bool | None, name: str | None) -> Question[None]:
    """`reset` or `remove`. Asked twice, the one would forget what was used between, and the other
    would find nothing."""
    refuse_bad(f"_{call}", key, template, name=name)
    body = {"key": _exact(key), **_which(template, name)}
    return Question(Request("POST", f"/v1/{call}", body, False), _nothing, key)


# ---- Looking -----------------------------------------------------------------------------------


def _get(path: str, **values: Any) -> Request:
    """A request that changes nothing. What is None or False is left out."""
    said = {
        name: "true" if value is True else str(value)
        for name, value in values.items()
        if value is not None and value is not False
    }
    return Request(
        "GET", path + ("?" + urlencode(said, quote_via=quote) if said else ""), None, True
    )


def _literal(template: bool | None) -> str | None:
    return None if template is None else str(template).lower()


def status(key: str, template: bool | None, name: str | None) -> Question[StatusDict | None]:
    refuse_bad("status", key, template, name=name)
    quoted = quote(key, safe="")
    if 0 < len(quoted) <= _LONGEST_IN_URL:
        # As Flint 0.2 asks.
        path = f"/v1/limits/{quoted}"
        request = _get(path, template=_literal(template), name=name, **_DETAILS)
    else:
        body = {"key": _exact(key), **_which(template, name)}
        request = Request("POST", "/v1/status", body, True)
    return Question(request, lambda answer: None if answer is None else shapes.status(answer), key)


def listing(counters: bool | None) -> Question[list[StatusDict]]:
    refuse_bad("_list", counters)
    request = _get(
        "/v1/limits", counters=counters, inline="false" if counters is None else None, **_DETAILS
    )
    return Question(request, shapes.statuses)


def limits_of(keys: Collection[tuple[str, bool]]) -> list[Question[list[StatusDict]]]:
    """The limits of these keys: each asked for by itself where they are few, since a server may
    have very many others."""

    def read(answer: Any) -> list[StatusDict]:
        return [s for s in shapes.statuses(answer) if (s["key"], s["template"]) in keys]

    fit_in_url = all(len(quote(key, safe="")) <= _LONGEST_IN_URL for key, _ in keys)
    asked = [key for key, _ in keys] if fit_in_url and len(keys) <= FEW_KEYS else [None]
    return [
        Question(_get("/v1/limits", inline="false", key=key, **_DETAILS), read)
        for key in dict.fromkeys(asked)
    ]


def top(by: Total, most: SupportsIndex) -> Question[list[StatusDict]]:
    refuse_bad("top", by, most)
    return Question(_get("/v1/top", by=by, limit=operator.index(most), **_DETAILS), shapes.statuses)


def history(
    key: str | None,
    template: bool | None,
    newest_first: bool,
    since_ns: int | None,
    until_ns: int | None,
    most: int | None,
) -> Question[list[HistoryDict]]:
    if key is not None:
        refuse_bad("status", key, template)
    request = _get(
        "/v1/history",
        key=key,
        template=_literal(template),
        newest_first=newest_first,
        since_ns=since_ns,
        until_ns=until_ns,
        limit=most,
    )
    return Question(request, shapes.events)


def flush() -> Question[None]:
    return log("flush")


def doctor() -> Question[DoctorDict]:
    return Question(_get("/v1/doctor", **_DETAILS), shapes.doctor)


def info() -> Question[InfoDict]:
    return Question(_get("/v1/info"), shapes.info)


def log(verb: str) -> Question[None]:
    """`flush` or `compact`."""
    return Question(Request("POST", f"/v1/log/{verb}", {}, True), _nothing)
