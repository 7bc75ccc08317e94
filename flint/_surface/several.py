"""More than one limit for a key, said in words: how a place that knows one key at a time decides
and configures them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from flint import _native
from flint._surface.arguments import refusal
from flint._surface.rate import (
    LimitDict,
    Rate,
    Several,
    is_rate_like,
    names_a_period,
    read_one_or_several,
)
from flint.errors import NotConfiguredError, RateError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import SupportsIndex, TypeAlias, TypeVar

    from flint._surface.protocol import Place
    from flint._surface.rate import RateLike
    from flint._surface.types import Algorithm

    Returned = TypeVar("Returned")
    # The name of a place's call, and its arguments.
    Step: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]

# How many sets of limits a place knows to be configured whole.
MOST_WHOLE = 1024

# ---- Checks that carry limits along ------------------------------------------------------------


def _read_limit(
    place: Any, limit: RateLike, burst: SupportsIndex | None, algorithm: Algorithm | None
) -> object:
    if type(limit) is Rate and burst is None and algorithm is None:
        return limit.values  # as it is with each request that a web framework limits
    found = read_one_or_several(limit, place._rates, algorithm, burst)
    return found.values if isinstance(found, Rate) else found


# The extension calls it for the `limit` of a check.
_native.set_read_limit(_read_limit)


def decide(place: Place, whole: set[str], call: str, key: str, cost: int, several: Several) -> Any:
    """The answer of the call of that name about a key that the limits go with. `whole` are the sets
    of limits, by their prefix, that the place is known to have all of."""
    method = getattr(place, call)
    try:
        return method(key, cost)  # a key that has limits keeps them
    except NotConfiguredError:
        pass
    own_key = several.prefix + key
    try:
        # To refuse does not wait, so it does not configure either.
        if call in ("peek", "_peek_now", "_refuse_now") or several.prefix in whole:
            return renamed(method(own_key, cost), key)
    except NotConfiguredError:
        if call in ("peek", "_peek_now"):
            named = sorted(zip(several.names, several.rates, strict=True))
            seen = [(name, method(own_key, cost, limit=rate)) for name, rate in named]
            return None if any(one is None for _, one in seen) else fresh(key, seen)
    if call in ("_check_now", "_check_all_now"):
        return None  # to configure may wait
    # The first time in any case: a crash may have kept the first of the limits only.
    place._limit_many(several.limits, True)
    note_whole(whole, several)
    return renamed(method(own_key, cost), key)


def note_whole(whole: set[str], several: Several) -> None:
    """Remember that a place has all limits of a set."""
    if len(whole) >= MOST_WHOLE:
        whole.clear()
    whole.add(several.prefix)


def renamed(answer: Any, key: str) -> Any:
    """The answer with the key that was asked about in the place of the counters'."""
    if isinstance(answer, tuple):
        result, ticket = answer
        return renamed(result, key), ticket
    if not isinstance(answer, _native.Result):
        return answer
    parts = tuple(_with(one, key, one.name, None) for one in answer.results)
    return _with(answer, key, answer.name, parts)


def _with(
    result: _native.Result,
    key: str,
    name: str | None,
    results: tuple[_native.Result, ...] | None,
) -> _native.Result:
    return _native.Result(
        key,
        result.allowed,
        result.cost,
        result.limit,
        result.remaining,
        result.reset_at_ns,
        result.reset_after_ns,
        result.retry_after_ns,
        result.algorithm,
        result.undecided,
        name,
        results,
    )


def fresh(key: str, peeked: list[tuple[str, _native.Result]]) -> _native.Result:
    """What is answered about a key of which nothing is used, given what a peek says of each limit
    by its name; nothing is configured for it."""
    parts = [_with(one, key, name, None) for name, one in peeked]
    least = min(parts, key=lambda one: one.remaining)
    return _with(least, key, least.name, tuple(parts))


# ---- Configuring -------------------------------------------------------------------------------

# To configure takes several calls of a place, and some places are asked by coroutines. So what
# follows makes no call: it yields the name of one and its arguments, and is sent the answer.


def driven(place: Place, steps: Generator[Step, Any, Returned]) -> Returned:
    """Make the calls one after the other, and return what comes of them."""
    try:
        name, args, kwargs = next(steps)
        while True:
            try:
                answer = getattr(place, name)(*args, **kwargs)
            except Exception as error:
                name, args, kwargs = steps.throw(error)
            else:
                name, args, kwargs = steps.send(answer)
    except StopIteration as done:
        returned: Returned = done.value
        return returned


def _owned(
    keys: set[tuple[str, bool]],
) -> Generator[Step, Any, dict[tuple[str, bool], set[str | None]]]:
    """The names of the limits that these keys and templates have. They are as lists show them."""
    owned: dict[tuple[str, bool], set[str | None]] = {}
    for entry in (yield "_limits_of", (keys,), {}):
        owned.setdefault((entry["key"], entry["template"]), set()).add(entry["name"])
    return owned


def _listed(key: object, template: object) -> tuple[str, bool]:
    """How lists show a key, and whether it is a template."""
    if not isinstance(key, str):
        raise TypeError(refusal("key", "a str", key))
    is_template = bool(template) or (template is None and key.endswith("*"))
    return (key if not is_template or key.endswith("*") else key + "*"), is_template


def _remove_leftover(
    listed: tuple[str, bool], names: set[str | None]
) -> Generator[Step, Any, None]:
    """Remove limits that an earlier text has configured and the one that holds now has not."""
    for name in names:
        if name is None or names_a_period(name):
            with contextlib.suppress(NotConfiguredError):  # another thread was faster
                yield "_remove", listed, {"name": name or ""}  # None would be all


def configure(
    key: str,
    found: Rate | Several,
    template: bool | None,
    if_absent: bool,
    name: str | None,
    stack: bool,
) -> Generator[Step, Any, None]:
    """`limit` with a text. When the new limits are there, those are removed that the key had from
    another text and does not have from this one."""
    listed = _listed(key, template)
    if isinstance(found, Several) and name is not None:
        raise TypeError("several limits are named by their periods; name= goes with one")
    if if_absent and name is None and (yield from _owned({listed})):
        return
    if isinstance(found, Several):
        yield "_limit_many", (found.configs(key, template, stack), if_absent), {}
        kept: set[str | None] = {*found.names}
    else:
        yield "_limit", (key, template, *found.values, if_absent, name, stack), {}
        kept = {None}
    if name is not None or if_absent:
        return
    if not listed[1] and not stack:
        peeked = yield "peek", (key,), {}
        if {one.name for one in peeked.results} <= kept:
            return  # seen at once, as the limits of a key's own stand before every template
    owned = yield from _owned({listed})
    yield from _remove_leftover(listed, owned.get(listed, set()) - kept)


_WORDS = {"key", "rate", "algorithm", "burst", "template", "name", "stack"}


def _in_words(limit: Any) -> dict[str, Any] | None:
    """A limit of `limit_many` as a dict, if its rate says the period too."""
    if isinstance(limit, (tuple, list)) and len(limit) == 2:
        limit = {"key": limit[0], "rate": limit[1]}
    if isinstance(limit, dict) and "key" in limit and limit.keys() <= _WORDS:
        return limit if is_rate_like(limit.get("rate")) else None
    return None


def _keys_in_words(limits: tuple[Any, ...]) -> set[tuple[str, bool]]:
    """The keys of all limits of `limit_many` that are in words."""
    words = filter(None, map(_in_words, limits))
    return {_listed(one["key"], one.get("template")) for one in words if type(one["key"]) is str}


def _configs(found: Rate | Several, limit: dict[str, Any]) -> list[LimitDict]:
    key, template, stack = limit["key"], limit.get("template"), limit.get("stack", False)
    _listed(key, template)
    if isinstance(found, Rate):
        rate, per_ns, burst, algorithm = found.values
        name = limit.get("name")
        return [
            {
                **LimitDict(key=key, rate=rate, per_ns=per_ns, burst=burst, algorithm=algorithm),
                "template": template,
                "name": name,
                "stack": stack,
            }
        ]
    if limit.get("name") is not None:
        raise TypeError("several limits are named by their periods; name goes with one")
    return found.configs(key, template, stack)


def configure_many(
    limits: tuple[Any, ...], named: Mapping[str, tuple[Rate, ...]], if_absent: bool
) -> Generator[Step, Any, bool]:
    """`limit_many`, if some of the limits are in words; False if none is."""
    plain: list[Any] = []
    none_in_words = True
    kept: dict[tuple[str, bool], set[str | None]] = {}
    owned: dict[tuple[str, bool], set[str | None]] | None = None
    for index, limit in enumerate(limits):
        try:
            words = _in_words(limit)
            if words is None:
                plain.append(limit)
                continue
            none_in_words = False
            found = read_one_or_several(
                words["rate"], named, words.get("algorithm"), words.get("burst")
            )
            configs = _configs(found, words)
        except RateError as error:
            message = f"limits[{index}]: {error}"
            raise RateError(message, error.text, error.position) from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"limits[{index}]: {error}") from None
        listed = _listed(words["key"], words.get("template"))
        if words.get("name") is None:
            if owned is None:
                owned = yield from _owned(_keys_in_words(limits))
            if if_absent and owned.get(listed):
                continue
            kept.setdefault(listed, set()).update(config.get("name") for config in configs)
        plain += configs
    if none_in_words:
        return False
    yield "_limit_many", (plain, if_absent), {}
    if not if_absent:
        for listed, names in kept.items():
            yield from _remove_leftover(listed, (owned or {}).get(listed, set()) - names)
    return True
