"""The client's address."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint._web.request import Request


class ClientAddress:
    """Whose address a request comes from."""

    def __init__(self, trusted_proxies: Sequence[str] = (), ipv6_prefix: int = 64) -> None:
        try:
            self._trusted = [ip_network(proxy) for proxy in trusted_proxies]
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}") from None
        if not 1 <= ipv6_prefix <= 128:
            raise ValueError(f"ipv6_prefix must be 1 to 128, not {ipv6_prefix}")
        self._prefix = ipv6_prefix

    def exact(self, request: Request) -> str | None:
        """The address; None where there is none."""
        if request.peer is None:
            return None
        try:
            address = ip_address(request.peer.partition("%")[0])
        except ValueError:
            return None
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return str(mapped or address)

    def of(self, request: Request) -> str | None:
        """The address that counts as one client."""
        exact = self.exact(request)
        if exact is None or ":" not in exact:
            return exact
        return str(ip_network(f"{exact}/{self._prefix}", strict=False).network_address)
