"""Whose address a request comes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flint._web.address import ClientAddress, parse

PROXY = "10.0.0.1"
PROXIES = ("10.0.0.0/8", "fd00::/8")
CLIENT = "203.0.113.7"


def request(peer: str | None, **headers: Any) -> Any:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    lists = {name: [v] if isinstance(v, str) else v for name, v in fields.items()}
    return SimpleNamespace(peer=peer, headers=lambda name: lists.get(name, []))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("203.0.113.7:", "203.0.113.7"),
        ('"203.0.113.7:80"', "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0::0001", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("::1", "::1"),
        ("::", "::"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("", None),
        (" ", None),
        ("unknown", None),
        ("_hidden", None),
        ("_SEVKISEK", None),
        ("localhost", None),
        ("example.org:80", None),
        ("203.0.113", None),
        ("203.0.113.7.9", None),
        ("203.0.113.256", None),
        ("203.0.113.07", None),
        ("0x7f.1", None),
        ("2130706433", None),
        ("1:2", None),
        ("[", None),
        ("[]", None),
        ("[203.0.113.7", "203.0.113.7"),
        ("%eth0", None),
        ("203.0.113.7, 10.0.0.1", None),
        ("\x00", None),
        ("é", None),
        ("١٢٧.0.0.1", None),
        ("2001:db8::1::2", None),
    ],
)
def test_texts(text: str, address: str | None) -> None:
    found = parse(text)
    assert (None if found is None else str(found)) == address


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    found = parse(text)
    assert found is None or parse(str(found)) == found


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # Who is no proxy is believed nothing.
        (CLIENT, "1.2.3.4", CLIENT),
        ("::ffff:203.0.113.7", "1.2.3.4", CLIENT),
        (CLIENT, None, CLIENT),
        # One proxy, and what a client has written before it.
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"1.2.3.4, {CLIENT}", CLIENT),
        (PROXY, f"10.9.9.9, {CLIENT}", CLIENT),
        (PROXY, f"{CLIENT}:51234", CLIENT),
        (PROXY, f" {CLIENT} ", CLIENT),
        # A chain of trusted ones, of any length.
        (PROXY, f"{CLIENT}, 10.0.0.2", CLIENT),
        (PROXY, f"1.1.1.1, {CLIENT}, 10.0.0.3, 10.0.0.2", CLIENT),
        (PROXY, f"{CLIENT}, fd00::2", CLIENT),
        (PROXY, ["1.1.1.1", CLIENT], CLIENT),
        (PROXY, [f"1.1.1.1, {CLIENT}", "10.0.0.2"], CLIENT),
        # Nothing but trusted ones: the farthest.
        (PROXY, "10.0.0.5, 10.0.0.2", "10.0.0.5"),
        # What is no address ends the chain at the proxy that has written it.
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, "_hidden", PROXY),
        (PROXY, f"{CLIENT}, unknown", PROXY),
        (PROXY, f"{CLIENT}, unknown, 10.0.0.2", "10.0.0.2"),
        # A unix socket is the proxy's.
        (None, CLIENT, CLIENT),
        (None, f"1.1.1.1, {CLIENT}", CLIENT),
        (None, None, None),
        (None, "unknown", None),
        ("not an address", CLIENT, None),
        # More hops than anybody has.
        (PROXY, ", ".join([CLIENT] + ["10.0.0.2"] * 100), "10.0.0.2"),
    ],
)
def test_forwarded_for(peer: str | None, forwarded: Any, address: str | None) -> None:
    headers = {} if forwarded is None else {"x_forwarded_for": forwarded}
    assert ClientAddress(PROXIES).exact(request(peer, **headers)) == address


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT};proto=https;by=10.0.0.1", CLIENT),
        (f"proto=https; for={CLIENT}", CLIENT),
        (f"for=1.2.3.4, for={CLIENT}", CLIENT),
        (f'for="{CLIENT}:4711"', CLIENT),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        (f"for={CLIENT}, for=10.0.0.2", CLIENT),
        (f'for={CLIENT};host="a, for=1.1.1.1", for=10.0.0.2', PROXY),
        (f'for={CLIENT};host="a; b, c"', CLIENT),
        (f'for=9.9.9.9, x=", for={CLIENT};proto="https"', PROXY),
        ("for=unknown", PROXY),
        ("for=_gazonk", PROXY),
        ("by=10.0.0.9", PROXY),
        ("xfor=1.2.3.4", PROXY),
        # A quote that the client has opened takes in what the proxy adds, and is no address.
        (f'for=9.9.9.9;for=", for={CLIENT};proto="https"', PROXY),
        ("", PROXY),
    ],
)
def test_forwarded(value: str, address: str) -> None:
    found = ClientAddress(PROXIES, forwarded_header="forwarded")
    assert found.exact(request(PROXY, forwarded=value)) == address


def test_networks_of_mapped_addresses() -> None:
    found = ClientAddress(["::ffff:10.0.0.0/104"])
    assert found.exact(request(PROXY, x_forwarded_for=CLIENT)) == CLIENT
    assert found.exact(request("::ffff:10.0.0.1", x_forwarded_for=CLIENT)) == CLIENT
    assert found.exact(request("11.0.0.1", x_forwarded_for=CLIENT)) == "11.0.0.1"


def test_the_header_that_the_proxy_does_not_set_is_the_clients() -> None:
    both = request(PROXY, forwarded="for=1.2.3.4", x_forwarded_for=CLIENT)
    assert ClientAddress(PROXIES).exact(both) == CLIENT
    assert ClientAddress(PROXIES, forwarded_header="forwarded").exact(both) == "1.2.3.4"


@pytest.mark.parametrize(
    ("address", "prefix", "client"),
    [
        ("2001:db8:0:1::1", 64, "2001:db8:0:1::"),
        ("2001:db8:0:1::ffff", 64, "2001:db8:0:1::"),
        ("2001:db8:0:2::1", 64, "2001:db8:0:2::"),
        ("2001:db8:0:2::1", 48, "2001:db8::"),
        ("2001:db8:0:2::1", 128, "2001:db8:0:2::1"),
        ("fe80::1%eth0", 64, "fe80::"),
        (CLIENT, 64, CLIENT),
        ("::ffff:203.0.113.7", 64, CLIENT),
    ],
)
def test_one_client(address: str, prefix: int, client: str) -> None:
    assert ClientAddress((), prefix).of(request(address)) == client


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trusted_proxies": ["nginx"]}, "trusted_proxies"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies"),
        ({"trusted_proxies": [10]}, "trusted_proxies"),
        ({"ipv6_prefix": 0}, "ipv6_prefix"),
        ({"ipv6_prefix": 129}, "ipv6_prefix"),
        ({"forwarded_header": "x-real-ip"}, "forwarded_header"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ClientAddress(**options)


# ---- The set-up ----


@pytest.mark.parametrize(
    ("proxies", "peer", "header", "code"),
    [
        ((), PROXY, CLIENT, "flint.W001"),
        ((), None, None, "flint.W002"),
        (PROXIES, None, None, "flint.W002"),
        ((), CLIENT, None, None),
        (PROXIES, PROXY, CLIENT, None),
        (PROXIES, None, CLIENT, None),
    ],
)
def test_one_warning(
    caplog: pytest.LogCaptureFixture, proxies: Any, peer: Any, header: Any, code: str | None
) -> None:
    found = ClientAddress(proxies)
    asked = request(peer, **({} if header is None else {"x_forwarded_for": header}))
    for _ in range(3):
        found.of(asked)
    assert [record.message.partition(":")[0] for record in caplog.records] == [code] * bool(code)


def test_only_the_first_requests_are_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    found = ClientAddress()
    for _ in range(100):
        found.of(request(CLIENT))
    found.of(request(PROXY, x_forwarded_for=CLIENT))
    assert caplog.records == []
