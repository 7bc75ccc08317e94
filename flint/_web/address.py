"""The client's address: whose a request is when nobody has logged in."""

from __future__ import annotations

import functools
import logging
import re
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

from flint._surface.arguments import refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network

    from flint._web.request import Request

    Address: TypeAlias = IPv4Address | IPv6Address
    Network: TypeAlias = IPv4Network | IPv6Network

FORWARDED_HEADERS = ("x-forwarded-for", "forwarded")
# A parameter of Forwarded (RFC 7239), its value in quotes or not; and "for" wherever it stands, in
# another's quotes too.
_PARAMETER = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,\s"]*)', re.ASCII)
_FOR = re.compile(r'(?:^|[;,\s])for=("(?:[^"\\]|\\.)*"|[^;,\s]*)', re.ASCII | re.IGNORECASE)
_MOST_HOPS = 64
_LONGEST = 256  # characters of an address with all that may stand around it
_REMEMBERED = 4096  # addresses, so that a client's next request need not read its own again
_CHECKED_REQUESTS = 100
_log = logging.getLogger("flint.web")
_MAPPED = IPv6Network("::ffff:0:0/96")


def parse(text: str) -> Address | None:
    """An address without brackets, port and scope; IPv4 that is mapped into IPv6 is IPv4. None for
    what is no address: a name, `unknown`, an obfuscated one."""
    return _parsed(text) if len(text) <= _LONGEST else None


@functools.lru_cache(maxsize=_REMEMBERED)
def _parsed(text: str) -> Address | None:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


@functools.lru_cache(maxsize=_REMEMBERED)
def _exact(peer: str) -> str | None:
    address = parse(peer)
    return None if address is None else str(address)


@functools.lru_cache(maxsize=_REMEMBERED)
def _grouped(exact: str, prefix: int) -> str:
    """The network that an IPv6 address is in."""
    return str(ip_network(f"{exact}/{prefix}", strict=False).network_address)


def address_of(peer: str, ipv6_prefix: int) -> str | None:
    """The address that counts as one client, of a peer which is no proxy."""
    exact = _exact(peer)
    return _grouped(exact, ipv6_prefix) if exact is not None and ":" in exact else exact


def network(name: str, text: object) -> Network:
    """A network, of addresses as `parse` gives them; `name` is the option that it stands in."""
    if not isinstance(text, str):
        raise TypeError(refusal(name, "a list or tuple of str", text))
    try:
        found = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        mapped = found.network_address.ipv4_mapped
        return ip_network(f"{mapped}/{found.prefixlen - _MAPPED.prefixlen}")
    return found


class ClientAddress:
    """Finds the address of the client that a request comes from.

    It is the address at the other end of the connection. A forwarded header is believed only when
    that address is in `trusted_proxies`, or is a unix socket and there are trusted proxies at all.
    The header is read from the right, and the first address that is no trusted proxy's counts.
    What a client writes itself stands to the left of what its proxy adds, so it never counts. Only
    one header is read, `forwarded_header`: the one that the proxy sets. A proxy lets the other one
    through as the client sent it.
    """

    def __init__(
        self,
        trusted_proxies: Sequence[str] = (),
        ipv6_prefix: int = 64,
        forwarded_header: str = "x-forwarded-for",
    ) -> None:
        self._trusted = [network("trusted_proxies", proxy) for proxy in trusted_proxies]
        if not 1 <= ipv6_prefix <= 128:
            raise ValueError(f"ipv6_prefix must be 1 to 128, not {ipv6_prefix}")
        if forwarded_header not in FORWARDED_HEADERS:
            allowed = "one of " + ", ".join(FORWARDED_HEADERS)
            raise ValueError(refusal("forwarded_header", allowed, forwarded_header))
        self.ipv6_prefix = ipv6_prefix
        self._header = forwarded_header
        self.unchecked = _CHECKED_REQUESTS  # requests in which the set-up is looked at

    def exact(self, request: Request) -> str | None:
        """The address; None where there is none."""
        if not self._trusted:
            return None if request.peer is None else _exact(request.peer)
        address = None if request.peer is None else parse(request.peer)
        if request.peer is None or self._trusts(address):
            for hop in self._hops(request):
                found = parse(hop)
                if found is None:
                    break
                address = found
                if not self._trusts(found):
                    break
        return None if address is None else str(address)

    def of(self, request: Request) -> str | None:
        """The address that counts as one client."""
        exact = self.exact(request)
        if self.unchecked > 0:
            self._check_set_up(request, exact)
        if exact is None or ":" not in exact:
            return exact
        return _grouped(exact, self.ipv6_prefix)

    @property
    def is_peer(self) -> bool:
        """Whether it is always the peer's."""
        return not self._trusted

    def _check_set_up(self, request: Request, exact: str | None) -> None:
        """One warning, in the first requests, where all clients seem to share a counter."""
        self.unchecked = max(self.unchecked - 1, 0)  # several threads may be here
        if not self._trusted and any(request.headers(name) for name in FORWARDED_HEADERS):
            self.unchecked = 0
            _log.warning(
                "flint.W001: a request has a forwarded header and no proxy is trusted, so what "
                "comes through a proxy is counted as one client; see trusted_proxies in docs/web.md"
            )
        elif exact is None:
            self.unchecked = 0
            _log.warning(
                "flint.W002: a request has no address, as behind a unix socket, so all clients are "
                "counted as one; see trusted_proxies in docs/web.md"
            )

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def _hops(self, request: Request) -> list[str]:
        """What the header says, the nearest first."""
        text = ",".join(request.headers(self._header))
        hops = _forwarded(text) if self._header == "forwarded" else text.split(",")
        return hops[: -_MOST_HOPS - 1 : -1]


def _forwarded(text: str) -> list[str]:
    """What "for" says in each element. A client can write a quote that takes in what its proxy
    adds, or an element within quotes: where reading with and without quotes differ, nothing is
    believed."""
    read = [value for name, value in _PARAMETER.findall(text) if name.lower() == "for"]
    return read if read == _FOR.findall(text) else []
