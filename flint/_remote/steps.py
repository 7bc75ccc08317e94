"""The steps of a question, which yields what is to be asked and is sent what it has come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Generator

Returned = TypeVar("Returned")


def taken(steps: Generator[Any, Any, Returned], reply: Any) -> tuple[Any, Returned]:
    """What is to be asked next; or None, and what the steps have come to."""
    try:
        return steps.send(reply), cast("Returned", None)
    except StopIteration as done:
        return None, done.value


def taken_after(steps: Generator[Any, Any, Returned], error: Exception) -> tuple[Any, Returned]:
    """The same behind a failure."""
    try:
        return steps.throw(error), cast("Returned", None)
    except StopIteration as done:
        return None, done.value
