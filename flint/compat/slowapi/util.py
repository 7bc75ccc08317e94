"""slowapi's key functions."""

from __future__ import annotations

from starlette.requests import Request

_NOBODY = "127.0.0.1"


def get_ipaddr(request: Request) -> str:
    """The header X_FORWARDED_FOR as it is, which anybody can send; else the client's address."""
    return request.headers.get("X_FORWARDED_FOR") or get_remote_address(request)


def get_remote_address(request: Request) -> str:
    """The client's address, 127.0.0.1 where there is none."""
    return (request.client and request.client.host) or _NOBODY
