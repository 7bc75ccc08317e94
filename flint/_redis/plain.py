"""Checks of one key where the limit is known that decides alone, which the scripts decide whose
names begin with "quick". Most of such a request is the same each time, and is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flint._redis import records
from flint._redis.requests import Request, has_admitted
from flint._redis.scripts import quick_name
from flint._remote.resp import encoded_words
from flint._stores.claims import COUNTER, EXACT, FINE

if TYPE_CHECKING:
    from typing import TypeAlias

    from flint._redis.scripts import Script
    from flint._remote.standing import Config
    from flint._stores.templates import Templates

    # The epoch, what decides, the cost, and how it is counted.
    _Place: TypeAlias = tuple[bytes, bytes | int, int, int]

_MOST_KEPT = 4096
_KEYS = 3


class _Frame(NamedTuple):
    """What is around the key in a request: the words behind the keys, and all that is sent before
    and behind record and log. Without a script such checks are not for it."""

    script: Script | None
    words: tuple[bytes, ...]
    before: bytes
    behind: bytes


class PlainChecks:
    """Of one namespace. Any thread may call anything here; nothing waits."""

    def __init__(self, prefix: bytes, epoch_key: bytes) -> None:
        self._epoch_key = epoch_key
        self._record_prefix, self._log_prefix = prefix + b"k:", prefix + b"l:"
        self._frames: dict[_Place, _Frame] = {}
        # Of keys with a limit of their own what its record begins with, and the limit; None for
        # keys about which it takes more to decide.
        self._own: dict[bytes, tuple[bytes, Config] | None] = {}

    def request(
        self, scripts: dict[str, Script], count: int, raw: bytes, cost: int, known: Templates
    ) -> Request | None:
        """The request; None where it is not known that one limit without a name decides. `count` is
        as for `records.quick`."""
        own = self._own.get(raw)
        template = None if raw in self._own else known.only(raw)
        if own is not None:
            place: _Place = (known.epoch, own[0], cost, count)
        elif template is not None:
            place = (known.epoch, template.template_id, cost, count)
        else:
            return None
        frame = self._frames.get(place)
        if frame is None:
            limit = own
            if template is not None:
                limit = records.head(template, known.epoch), template.config
            assert limit is not None
            frame = self._new_frame(scripts, known.epoch, limit, cost, count)
            self._frames[place] = frame
        if frame.script is None:
            return None
        record, log = self._record_prefix + raw, self._log_prefix + raw
        return Request(
            (_KEYS, self._epoch_key, record, log, *frame.words),
            frame.script,
            not count,
            has_admitted if count else None,
            None,
            b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b"
            % (frame.before, len(record), record, len(log), log, frame.behind),
        )

    def _new_frame(
        self,
        scripts: dict[str, Script],
        epoch: bytes,
        limit: tuple[bytes, Config],
        cost: int,
        count: int,
    ) -> _Frame:
        if len(self._frames) >= _MOST_KEPT:
            self._frames.clear()
        begins, config = limit
        quick = records.quick(begins, config, cost, count)
        if quick is None:
            return _Frame(None, (), b"", b"")
        script = scripts[quick_name(config.algorithm)]
        sent, words = (b"EVALSHA", script.digest, b"%d" % _KEYS, self._epoch_key), (epoch, quick)
        size = b"*%d\r\n" % (len(sent) + 2 + len(words))
        return _Frame(script, words, size + encoded_words(sent), encoded_words(words))

    def learn(self, raw: bytes, answer: list[bytes]) -> None:
        """Keep what a check has shown that was decided by all limits there are."""
        if not answer or answer[0][0] != FINE:
            return
        kind = records.kind_alone(answer)
        if kind == COUNTER:
            self._own.pop(raw, None)
        else:
            if len(self._own) >= _MOST_KEPT:
                self._own.clear()
            self._own[raw] = records.own_limit(answer[0]) if kind == EXACT else None
