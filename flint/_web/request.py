"""What the core sees of a request and of a response: each framework's skin shows its own so."""

from __future__ import annotations

from typing import Protocol


class Request(Protocol):
    """A request, whatever framework it comes from."""

    @property
    def method(self) -> str:
        """GET, POST ..., in capitals."""
        ...

    @property
    def path(self) -> str:
        """The path as the client sent it, decoded; for `exempt` alone, never part of a key."""
        ...

    @property
    def route(self) -> str | None:
        """The template of the route, "/items/{id}"; None where none is known."""
        ...

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection; None for a unix socket."""
        ...

    @property
    def user(self) -> str | None:
        """Who has logged in; None for nobody."""
        ...

    @property
    def native(self) -> object:
        """The framework's own request, which the callables of a Policy are given."""
        ...

    def headers(self, name: str) -> list[str]:
        """The values of every header field of that name, in any case, in order."""
        ...


class Response(Protocol):
    """What `when` is asked about."""

    @property
    def status(self) -> int:
        """The status code; 500 where the application raised an exception."""
        ...

    def headers(self, name: str) -> list[str]:
        """The values of every header field of that name, in any case, in order."""
        ...
