"""The steps of a question, which yields what is to be asked and is sent what it has come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from flint.errors import FlintError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

Returned = TypeVar("Returned")


def _taken(steps: Generator[Any, Any, Returned], reply: Any) -> tuple[Any, Returned]:
    """What is to be asked next; or None, and what the steps have come to."""
    try:
        return steps.send(reply), cast("Returned", None)
    except StopIteration as done:
        return None, done.value


def _taken_after(steps: Generator[Any, Any, Returned], error: Exception) -> tuple[Any, Returned]:
    """The same behind a failure."""
    try:
        return steps.throw(error), cast("Returned", None)
    except StopIteration as done:
        return None, done.value


def come_to(steps: Generator[Any, Any, Returned], exchange: Callable[[Any], Any]) -> Returned:
    """What the steps come to when `exchange` answers what they ask. Its FlintErrors are theirs."""
    try:
        asked, answer = _taken(steps, None)
        while asked is not None:
            try:
                given = exchange(asked)
            except FlintError as error:
                asked, answer = _taken_after(steps, error)
            else:
                asked, answer = _taken(steps, given)
    finally:
        steps.close()
    return answer


async def come_to_in_loop(
    steps: Generator[Any, Any, Returned], exchange: Callable[[Any], Awaitable[Any]]
) -> Returned:
    """The same for event loops."""
    try:
        asked, answer = _taken(steps, None)
        while asked is not None:
            try:
                given = await exchange(asked)
            except FlintError as error:
                asked, answer = _taken_after(steps, error)
            else:
                asked, answer = _taken(steps, given)
    finally:
        steps.close()
    return answer
