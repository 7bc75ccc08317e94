"""The templates of a store as a client knows them, and which of them apply to a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flint._remote.standing import Config


class Template(NamedTuple):
    """A limit for every key under a prefix."""

    template_id: int
    prefix: bytes
    name: bytes
    config: Config
    stack: bool


class Templates:
    """All there were at an epoch, which is in the store's words."""

    def __init__(self, epoch: bytes, templates: Iterable[Template]) -> None:
        self.epoch = epoch
        self._of: dict[bytes, list[Template]] = {}
        for one in sorted(templates, key=lambda each: (each.prefix, each.name)):
            self._of.setdefault(one.prefix, []).append(one)
        self._lengths = sorted({len(prefix) for prefix in self._of}, reverse=True)

    def all(self) -> list[Template]:
        """In order of prefix, then name."""
        return [one for prefix in sorted(self._of) for one in self._of[prefix]]

    def of(self, prefix: bytes) -> list[Template]:
        """Those of one prefix, in order of name."""
        return self._of.get(prefix, [])

    def only(self, key: bytes) -> Template | None:
        """The one that applies to a key without limits of its own, if it is one without a name."""
        for length in self._lengths:
            group = self._of.get(key[:length])
            if group:
                is_alone = len(group) == 1 and not group[0].name and not group[0].stack
                return group[0] if is_alone else None
        return None

    def applying(self, key: bytes) -> list[Template]:
        """Those that apply to a key without limits of its own: of the longest prefix, and where one
        stacks, also of the next shorter one, but for names that a longer prefix has."""
        found: dict[bytes, Template] = {}
        for length in self._lengths:
            group = self._of.get(key[:length], []) if length <= len(key) else []
            for one in group:
                found.setdefault(one.name, one)
            if group and not any(one.stack for one in group):
                break
        return list(found.values())
