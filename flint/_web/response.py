"""A response that is about to be sent, and the headers that are added to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SentResponse:
    """What `when` is asked about."""

    def __init__(self, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.status = status
        self._headers = list(headers)

    def headers(self, name: str) -> list[str]:
        return [value for key, value in self._headers if key.lower() == name.lower()]


def added(more: list[tuple[str, str]], headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The rate limit headers that a response does not have itself."""
    for name, _ in headers:  # all of them have this in their names
        if "ratelimit" in name.lower():
            break
    else:
        return more
    there = {name.lower() for name, _ in headers}
    return [(name, value) for name, value in more if name.lower() not in there]
