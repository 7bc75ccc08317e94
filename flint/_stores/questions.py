"""The calls of a place as what a store is asked, and what is made of its answers. Nothing here
waits: a question's steps yield what is to be sent and are sent the answers, so that threads and
event loops share them."""

from __future__ import annotations

import abc
import contextlib
import operator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from flint import _native
from flint._remote.questions import plain_items, plain_limit, read_known
from flint._remote.standing import ALGORITHMS, Config, Standing, State
from flint._stores import claims, embedded
from flint._stores.claims import EXACT, INLINE, TEMPLATE, Claim, Totals
from flint._stores.denials import Denials, Denied
from flint._surface.arguments import per_to_ns
from flint._surface.rate import Rate, Several
from flint._surface.several import fresh, renamed
from flint.errors import FlintError, NotConfiguredError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable
    from typing import SupportsIndex, TypeAlias

    from flint._remote.questions import Checked
    from flint._stores.templates import Templates
    from flint._surface.protocol import Limits
    from flint._surface.types import CheckAllDict, Item, StatusDict, Total

_MOST_KEY_BYTES = 65_535
NO_LIMIT = (None,) * 5
Returned = TypeVar("Returned")
if TYPE_CHECKING:
    Steps: TypeAlias = Generator[Any, Any, Returned]


class Question(NamedTuple, Generic[Returned]):
    """What a call asks. `undecided(allowed)` is what `on_error` answers, where it may."""

    steps: Callable[[], Steps[Returned]]
    undecided: Callable[[bool], Returned] | None = None


class Asked(NamedTuple):
    """A key and a cost, as the store reads them."""

    key: str
    raw: bytes
    cost: int

    @classmethod
    def about(cls, key: str, cost: int) -> Asked:
        return cls(key, key.encode(), cost)


class Questions(abc.ABC):
    """The questions of one limiter, and what it knows of its store. A kind of store says in the
    first part what it is asked."""

    def __init__(self) -> None:
        self._templates: Templates | None = None
        self._denials = Denials()
        # Sets of limits that are known to be configured whole.
        self._whole: set[str] = set()

    # ---- What a kind of store says -------------------------------------------------------------

    @abc.abstractmethod
    def _load(self) -> Steps[Templates]:
        """All templates, which are also kept."""

    @abc.abstractmethod
    def _ask_check(
        self,
        count: bool,
        items: list[Asked],
        known: Templates,
        limit: Config | None,
        denied: dict[bytes, Denied],
    ) -> Steps[list[Claim]]:
        """What decides about keys, all or nothing: counted if `count`, with the denials of the one
        key that have been seen. Empty if the templates are old."""

    @abc.abstractmethod
    def _ask_configure(
        self, raw: bytes, is_template: bool, name: bytes, config: Config, *rest: bool
    ) -> Steps[bool]:
        """Give a key or template a limit; `rest`: stack and if_absent. False if it would be the
        17th."""

    @abc.abstractmethod
    def _ask_end(self, call: str, raw: bytes, is_template: bool, name: bytes | None) -> Steps[int]:
        """Reset or remove the limits of a key or template, of one name or of all. How many there
        were."""

    @abc.abstractmethod
    def _ask_counters(self, keys: list[bytes]) -> Steps[list[Claim]]:
        """All there is for some keys."""

    @abc.abstractmethod
    def _ask_every(self, counters: bool) -> Steps[list[Claim]]:
        """All there is, with counters under templates or without."""

    @abc.abstractmethod
    def _ask_top(self, by: Total, most: int) -> Steps[list[Claim]]:
        """Those with the largest totals, in order."""

    @abc.abstractmethod
    def _ask_sums(self) -> Steps[dict[int, Totals]]:
        """What has been counted under each template."""

    @abc.abstractmethod
    def _ask_now(self) -> Steps[int]:
        """The time of the store."""

    @abc.abstractmethod
    def _ask_denied(self, kept: list[tuple[bytes, bytes, Denied]]) -> Steps[None]:
        """Tell of denials, by the keys' identities and the limits' names."""

    @abc.abstractmethod
    def _identity(self, raw: bytes) -> bytes:
        """What stands for a key in the store, as a claim's position has it."""

    # ---- Denials that the store has not been told of -------------------------------------------

    def _known(self) -> Steps[Templates]:
        return self._templates or (yield from self._load())

    def _tell(self) -> Steps[None]:
        """Tell of the denials that have been seen."""
        kept = self._denials.take_all()
        if not kept:
            return
        try:
            yield from self._ask_denied(kept)
        except BaseException:
            for key_id, name, one in kept:
                self._denials.add(key_id, name, one)
            raise

    def _tell_first(self) -> Steps[None]:
        """The same for a call that does not fail for that."""
        with contextlib.suppress(FlintError):
            yield from self._tell()

    # ---- Deciding ------------------------------------------------------------------------------

    def read_check(self, *args: Any) -> Checked:
        """The arguments of `check`. Raises what the embedded limiter raises."""
        _, key, _, rate, per, burst, algorithm, limit = args
        if args[3:] == NO_LIMIT and is_surely_a_key(key):
            return read_known(*args)
        if limit is None:
            numbers = {"rate": rate, "per": per, "burst": burst, "algorithm": algorithm}
            embedded.refuse_bad("peek", key, 1, **numbers)
        asked = read_known(*args)
        if asked.carried is None or isinstance(asked.carried, Several):
            embedded.refuse_bad("peek", key, 1)
            return asked
        embedded.refuse_bad("peek", key, 1, limit=Rate(*asked.carried))
        return asked._replace(carried=config_of(asked.carried))

    def decision(self, call: str, asked: Checked) -> Question[_native.Result]:
        """`check` or `peek`."""
        key, cost = asked.key, asked.cost
        limit: Any = asked.carried  # a Config, Several or None

        def undecided(allowed: bool) -> _native.Result:
            most = limit.burst or limit.rate if isinstance(limit, Config) else 0
            algorithm = ALGORITHMS[limit.algorithm - 1] if isinstance(limit, Config) else None
            wait_ns = 0 if allowed else 1_000_000_000
            return _native.Result(
                *(key, allowed, cost, most, 0, 0, 0, wait_ns, algorithm or "token_bucket", True)
            )

        def steps() -> Steps[_native.Result]:
            if isinstance(limit, Several):
                result: _native.Result = yield from self._decide_several(
                    call == "check", key, cost, limit
                )
            else:
                result = yield from self._decide(call == "check", key, cost, limit)
            if self._denials.are_due():
                yield from self._tell_first()
            return result

        return Question(steps, undecided)

    def _decide(self, count: bool, key: str, cost: int, limit: Config | None) -> Steps[Any]:
        asked = Asked.about(key, cost)
        key_id = self._identity(asked.raw)
        denied = self._denials.take(key_id) if count else {}
        try:
            found = yield from self._check(count, [asked], limit, denied)
            allowed = all(one.allows for one in found)
            if allowed:
                denied = {}
        finally:
            self._denials.put_back(key_id, denied)
        if count and not allowed:
            self._note_denial(found, cost)
        by = 1 if allowed and count else cost
        return claims.result(found, key, cost, allowed, by)

    def _check(
        self, count: bool, items: list[Asked], limit: Config | None, denied: dict[bytes, Denied]
    ) -> Steps[list[Claim]]:
        """What decides about keys. Raises what is wrong with one of them."""
        while True:
            known = yield from self._known()
            found = yield from self._ask_check(count, items, known, limit, denied)
            if not found:
                yield from self._load()
                continue
            for one in found:
                self._refuse(one, items[one.item])
            return found

    @staticmethod
    def _refuse(claim: Claim, asked: Asked) -> None:
        """Raise what is wrong with a claim."""
        if claim.status == claims.NOT_CONFIGURED:
            embedded.not_configured("peek", asked.key)
        if claim.status == claims.TOO_MANY:
            raise ValueError(
                f'more than 16 limits apply to key "{shown(asked.key)}"; at most 16 may'
            )
        if claim.status == claims.WRONG_COST:
            name = claim.name.decode()
            embedded.wrong_cost(asked.key, asked.cost, name, claim.standing.config)

    def _note_denial(self, found: list[Claim], cost: int) -> None:
        """It is the limit's that will deny longest."""
        denying = found[claims.decisive(found, cost)]
        now_ns = denying.standing.now_ns
        self._denials.add(
            denying.position[0], denying.name, Denied(denying.template_id, 1, cost, now_ns)
        )

    def _decide_several(self, count: bool, key: str, cost: int, several: Several) -> Steps[Any]:
        """As flint._surface.several.decide."""
        try:
            return (yield from self._decide(count, key, cost, None))
        except NotConfiguredError:
            pass
        own_key = several.prefix + key
        try:
            if not count or several.prefix in self._whole:
                return renamed((yield from self._decide(count, own_key, cost, None)), key)
        except NotConfiguredError:
            if not count:
                peeked = []
                for name, rate in sorted(zip(several.names, several.rates, strict=True)):
                    one = yield from self._decide(False, own_key, cost, config_of(rate.values))
                    peeked.append((name, one))
                return fresh(key, peeked)
        for question in self.limit_many(several.limits, True):
            yield from question.steps()
        if len(self._whole) >= 1024:
            self._whole.clear()
        self._whole.add(several.prefix)
        return renamed((yield from self._decide(count, own_key, cost, None)), key)

    def check_all(self, items: Iterable[Item]) -> Question[CheckAllDict]:
        """`check_all`."""
        given = plain_items(items)
        embedded.refuse_bad("check_all", [(one["key"], one["cost"]) for one in given])
        asked = [Asked.about(one["key"], one["cost"]) for one in given]

        def steps() -> Steps[CheckAllDict]:
            ids = [self._identity(one.raw) for one in asked]
            if any(map(self._denials.has, ids)) or self._denials.are_due():
                yield from self._tell_first()
            found = yield from self._check(True, asked, None, {})
            return self._all(asked, found)

        def undecided(allowed: bool) -> CheckAllDict:
            results: list[Any] = [
                _item(one, allowed, 0, "1970-01-01T00:00:00Z", "token_bucket")
                for one in (asked if allowed else asked[:1])
            ]
            denied = None if allowed else asked[0].key
            return {"allowed": allowed, "denied_key": denied, "results": results}

        return Question(steps, undecided)

    def _all(self, asked: list[Asked], found: list[Claim]) -> CheckAllDict:
        of_item: list[list[Claim]] = [[] for _ in asked]
        for claim in found:
            of_item[claim.item].append(claim)
        results: list[Any] = []
        admitted = all(one.allows for one in found)
        for one, group in zip(asked, of_item, strict=True):
            allowed = all(claim.allows for claim in group)
            told = claims.result(group, one.key, one.cost, allowed, 1 if allowed else one.cost)
            reset_at = told.reset_at.removesuffix("+00:00") + "Z"
            results.append(_item(one, allowed, told.remaining, reset_at, told.algorithm))
            if not allowed:
                self._note_denial(group, one.cost)
                return {"allowed": False, "denied_key": one.key, "results": results}
        return {"allowed": admitted, "denied_key": None, "results": results}

    # ---- Configuring ---------------------------------------------------------------------------

    def limit(self, *limit: Any) -> Question[None]:
        """`limit`, in numbers."""
        embedded.refuse_bad_limits("_limit", *limit)
        key, template, rate, per_ns, burst, algorithm, if_absent, name, stack = limit
        numbers = (operator.index(rate), operator.index(per_ns), burst, algorithm)
        return self._configuring(key, template, config_of(numbers), name, stack, if_absent)

    def limit_many(self, limits: Limits, if_absent: bool) -> list[Question[None]]:
        """`limit_many`."""
        given = tuple(limits)
        embedded.refuse_bad_limits("_limit_many", given, if_absent)
        questions = []
        for one in map(plain_limit, given):
            per_ns = one["per_ns"] if "per_ns" in one else per_to_ns(one["per"])
            numbers = (one["rate"], per_ns, one.get("burst"), one.get("algorithm"))
            rest = (one.get("name"), bool(one.get("stack")), if_absent)
            config = config_of(numbers)
            questions.append(self._configuring(one["key"], one.get("template"), config, *rest))
        return questions

    def _configuring(
        self,
        key: str,
        template: bool | None,
        config: Config,
        name: str | None,
        stack: bool,
        if_absent: bool,
    ) -> Question[None]:
        raw, is_template = _target(key, template)
        named = (name or "").encode()

        def steps() -> Steps[None]:
            yield from self._tell_first()
            fits = yield from self._ask_configure(raw, is_template, named, config, stack, if_absent)
            if not fits:
                mark = "*" if is_template else ""
                raise ValueError(
                    f'limit "{shown(name or "")}" would be the 17th of '
                    f'"{shown(raw.decode())}{mark}"; at most 16 may decide together'
                )

        return Question(steps)

    def change(
        self, call: str, key: str, template: bool | None, name: str | None
    ) -> Question[None]:
        """`reset` or `remove`."""
        embedded.refuse_bad("status", key, template, name=name)
        raw, is_template = _target(key, template)
        named = None if name is None else name.encode()

        def steps() -> Steps[None]:
            yield from self._tell_first()
            ended = 0
            if is_template:
                ended = yield from self._ask_end(call, raw, True, named)
            if not ended and (not is_template or template is None):
                literally = key.encode()
                if is_template and not (yield from self._own(literally, named)):
                    embedded.not_configured(f"_{call}", key, template, name=name)
                ended = yield from self._ask_end(call, literally, False, named)
                if not ended and call == "reset":
                    known = yield from self._load()
                    covering = known.applying(literally)
                    if any(named is None or one.name == named for one in covering):
                        return
            if not ended:
                embedded.not_configured(f"_{call}", key, template, name=name)

        return Question(steps)

    def _own(self, raw: bytes, name: bytes | None) -> Steps[bool]:
        """Whether a key has a limit of its own."""
        rows = yield from self._ask_counters([raw])
        return any(
            one.name == (name or b"") and one.kind in (EXACT, INLINE) and not one.is_forgettable()
            for one in rows
        )

    # ---- Looking -------------------------------------------------------------------------------

    def status(
        self, key: str, template: bool | None, name: str | None
    ) -> Question[StatusDict | None]:
        """`status`."""
        embedded.refuse_bad("status", key, template, name=name)
        raw, is_template = _target(key, template)
        named = (name or "").encode()

        def steps() -> Steps[StatusDict | None]:
            yield from self._tell_first()
            known = yield from self._load()
            if is_template:
                for one in known.of(raw):
                    if one.name == named:
                        sums = yield from self._ask_sums()
                        totals = sums.get(one.template_id, Totals())
                        found = claims.status_of_template(one, totals, (yield from self._ask_now()))
                        return {**found, "key": key if key.endswith("*") else key + "*"}
                own = template is None and (yield from self._own(key.encode(), named))
                if not own:
                    return None
            return (yield from self._status_of_key(known, key.encode(), named))

        return Question(steps)

    def _status_of_key(self, known: Templates, raw: bytes, name: bytes) -> Steps[StatusDict | None]:
        rows = yield from self._ask_counters([raw])
        rows = [one for one in rows if not one.is_forgettable()]
        for one in rows:
            if one.name == name:
                return claims.status_of_claim(one)
        own = [one for one in rows if one.kind == EXACT]
        is_alone = any(one.kind == INLINE for one in rows)
        if is_alone or (own and not any(one.stack for one in own)):
            return None
        for template in known.applying(raw):
            if template.name == name:
                now_ns = yield from self._ask_now()
                return claims.status(
                    raw.decode(),
                    name,
                    template.config,
                    Standing(template.config, State(), now_ns),
                    Totals(),
                    template=False,
                    stack=template.stack,
                )
        return None

    def listing(self, counters: bool | None) -> Question[list[StatusDict]]:
        """`list`."""
        embedded.refuse_bad("_list", counters)

        def steps() -> Steps[list[StatusDict]]:
            yield from self._tell_first()
            known = yield from self._status_of_templates(None)
            found = [((one["key"].encode(), TEMPLATE, one["name"] or ""), one) for one in known]
            for one in (yield from self._ask_every(bool(counters))):
                is_left_out = one.kind == INLINE and counters is None
                if one.kind is not None and not is_left_out and not one.is_forgettable():
                    place = (one.key, one.kind, one.name.decode())
                    found.append((place, claims.status_of_claim(one)))
            return [one for _, one in sorted(found, key=operator.itemgetter(0))]

        return Question(steps)

    def _status_of_templates(self, prefixes: set[bytes] | None) -> Steps[list[StatusDict]]:
        """Those of some prefixes without their totals, or all with them."""
        known = yield from self._load()
        wanted = [one for one in known.all() if prefixes is None or one.prefix in prefixes]
        if not wanted:
            return []
        sums = {} if prefixes is not None else (yield from self._ask_sums())
        now_ns = yield from self._ask_now()
        return [
            claims.status_of_template(one, sums.get(one.template_id, Totals()), now_ns)
            for one in wanted
        ]

    def limits_of(self, keys: Collection[tuple[str, bool]]) -> list[Question[list[StatusDict]]]:
        """The limits of these keys."""
        exact = [key.encode() for key, is_template in keys if not is_template]
        prefixes = {key.removesuffix("*").encode() for key, is_template in keys if is_template}

        def steps() -> Steps[list[StatusDict]]:
            found: list[StatusDict] = []
            if prefixes:
                found = yield from self._status_of_templates(prefixes)
            if exact:
                rows = yield from self._ask_counters(exact)
                found += [claims.status_of_claim(one) for one in rows if one.kind == EXACT]
            return found

        return [Question(steps)]

    def top(self, by: Total, most: SupportsIndex) -> Question[list[StatusDict]]:
        """`top`."""
        embedded.refuse_bad("top", by, most)

        def steps() -> Steps[list[StatusDict]]:
            yield from self._tell_first()
            found = yield from self._ask_top(by, operator.index(most))
            return [claims.status_of_claim(one) for one in found]

        return Question(steps)

    def now(self) -> Question[int]:
        """The time of the store."""
        return Question(self._ask_now)

    def flush(self) -> Question[None]:
        """`flush`: what has been answered is as durable as it will be, but for what has been
        denied."""
        return Question(self._tell)


def is_surely_a_key(key: Any) -> bool:
    """Whether it need not be shown to an engine, which takes others too."""
    is_ascii = type(key) is str and key.isascii()
    return is_ascii and 0 < len(key) <= _MOST_KEY_BYTES and not key.isspace()


def _item(asked: Asked, allowed: bool, remaining: int, reset_at: str, algorithm: str) -> Any:
    return {
        "key": asked.key,
        "allowed": allowed,
        "cost": asked.cost,
        "remaining": remaining,
        "reset_at": reset_at,
        "algorithm": algorithm,
    }


def config_of(values: tuple[Any, ...]) -> Config:
    """A limit's rate, period, burst and algorithm as numbers."""
    rate, per_ns, burst, algorithm = values
    number = ALGORITHMS.index(algorithm or "token_bucket") + 1
    return Config(number, rate, per_ns, rate if burst is None else operator.index(burst))


def _target(key: str, template: bool | None) -> tuple[bytes, bool]:
    """The key, or the prefix of a template."""
    raw = str.__str__(key).encode()
    if template is not False and raw.endswith(b"*"):
        return raw[:-1], True
    return raw, template is True
