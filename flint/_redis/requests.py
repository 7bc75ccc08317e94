"""What is sent to Redis at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint._redis.scripts import Script


class Request(NamedTuple):
    """A script or a command. `repeatable`: asked twice it does no more than once. `has_changed`
    says of an answer whether replicas have to be waited for. A command without a key is for the
    node of a cluster where `node_key` is. `packed` is the whole of a script's request as it is sent
    to a server that knows the script."""

    words: tuple[bytes | int | str, ...]
    script: Script | None
    repeatable: bool = False
    has_changed: Callable[[Any], bool] | None = None
    node_key: str | None = None
    packed: bytes | None = None


def has_admitted(answer: list[bytes] | bytes | int | None) -> bool:
    """Whether a check has counted."""
    if isinstance(answer, list):
        return bool(answer) and all(told[0] == 0 and told[2] == 1 for told in answer)
    return answer[2] == 1 if isinstance(answer, bytes) else answer == 1
