"""History: the events that the extension reads from the log, in the shapes of Flint 0.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from flint._surface.arguments import moment_ns, optional_most
from flint._surface.recorded import event_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flint._native import LimiterBase
    from flint._surface.arguments import Moment
    from flint._surface.types import HistoryDict

# Items: more than the largest event can have.
_PAGE = 16384


def recorded(
    limiter: LimiterBase,
    key: str | None,
    template: bool | None,
    newest_first: bool,
    since_ns: int,
    until_ns: int,
) -> Iterator[list[tuple[Any, ...]]]:
    """The items of every event as the extension returns them, page by page as they are taken."""
    cursor = 0
    while True:
        page, cursor = limiter._history(
            key, template, newest_first, since_ns, until_ns, cursor, _PAGE
        )
        if not page:
            return
        first = 0
        while first < len(page):
            items = page[first : first + page[first][13]]
            yield items
            first += len(items)


def events(
    limiter: LimiterBase,
    key: str | None,
    template: bool | None,
    newest_first: bool,
    since: Moment | None,
    until: Moment | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Sequence number and dict of every event."""
    since_ns = moment_ns("since", since)
    until_ns = moment_ns("until", until)
    if until is not None and until_ns == 0:
        return
    for items in recorded(limiter, key, template, newest_first, since_ns, until_ns):
        yield items[0][0], event_dict(items)


class Tail:
    """The events of a log since a moment, oldest first; and, after a `refresh` of the limiter,
    those that have come since."""

    def __init__(self, limiter: LimiterBase, since: Moment | None) -> None:
        self._limiter = limiter
        self._since_ns = moment_ns("since", since)
        self._cursor = 0

    def more(self) -> Iterator[HistoryDict]:
        """Those that have not been given out. Raises HistoryGoneError when they are not kept any
        more."""
        while True:
            page, cursor = self._limiter._history(
                None, None, False, self._since_ns, 0, self._cursor, _PAGE
            )
            if not page:
                return
            self._cursor = cursor
            first = 0
            while first < len(page):
                found: Any = event_dict(page[first : first + page[first][13]])
                first += page[first][13]
                yield found


def history(
    limiter: LimiterBase,
    key: str | None,
    template: bool | None,
    newest_first: bool,
    since: Moment | None,
    until: Moment | None,
    limit: SupportsIndex | None,
) -> list[HistoryDict]:
    most = optional_most("limit", limit)
    found: list[Any] = []
    if most == 0:
        return found
    for _, event in events(limiter, key, template, newest_first, since, until):
        found.append(event)
        if len(found) == most:
            break
    if not found and template is None and key is not None and key.endswith("*"):
        # No template, then; perhaps a limit of exactly that name.
        return history(limiter, key, False, newest_first, since, until, most)
    return found
