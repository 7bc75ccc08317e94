"""Waiting for the disk without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flint._native import LimiterBase


def wait_durable(limiter: LimiterBase, ticket: int) -> None:
    """Wait until a ticket is on disk. Raises PoisonedError or ClosedError if it never is."""
    if not limiter._durable(ticket, True):
        limiter.close()  # waits for whoever is closing it
        limiter._durable(ticket, False)
