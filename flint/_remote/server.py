"""Which server it is: the URL, the token, and how one connects."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from flint._surface.arguments import refusal

if TYPE_CHECKING:
    import ssl

TOKEN_VARIABLE = "FLINT_SERVER_TOKEN"
_FORMS = (
    "http://host:port, https://host:port, http+unix:///path/of/the/socket, flint://host:port, "
    "flints://host:port or unix:/path/of/the/socket"
)
_TOKEN = re.compile(r"[!-~]{1,4096}", re.ASCII)
_PORTS = {"http": 80, "https": 443, "flint": 7879, "flints": 7879}
_ENCRYPTED = ("https", "flints")
_NATIVE = ("flint", "flints")
_NATIVE_SOCKET = re.compile(r"(?:unix:|flint\+unix://)(.*)", re.IGNORECASE | re.DOTALL)


class Server(NamedTuple):
    """Where requests go. `socket_path` is empty for TCP; `prefix` stands before every path.
    `is_native`: the server is asked by the Redis protocol there, and not by HTTP."""

    host: str
    port: int
    socket_path: str
    host_header: str
    prefix: str
    tls: ssl.SSLContext | None
    is_native: bool = False


def read_url(url: object, tls: ssl.SSLContext | None) -> tuple[str, Server]:
    """A server's URL as it is shown, and what it means. Raises TypeError or ValueError, whose
    message never shows a password that the URL may hold."""
    if not isinstance(url, str):
        raise TypeError(refusal("server", f"a URL: {_FORMS}", url))
    if match := _NATIVE_SOCKET.fullmatch(url):
        return url, _native_socket(match[1], url)
    shown = url.rstrip("/")
    try:
        parts = urlsplit(shown)
        has_user = parts.username is not None or "@" in parts.netloc
    except ValueError:
        raise ValueError(refusal("server", f"a URL: {_FORMS}", shown)) from None
    if has_user:
        raise ValueError("server must be a URL without a user and password; token= is the secret")
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(refusal("server", f"{_FORMS}, without ? and #; options are keywords", url))
    if parts.scheme == "http+unix":
        return shown, _unix_server(parts, shown)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(refusal("server", f"a URL: {_FORMS}", shown))
    if parts.scheme in _NATIVE and parts.path:
        raise ValueError(refusal("server", f"{parts.scheme}://host:port, without a path", shown))
    return shown, _tcp_server(parts, shown, tls)


def _unix_server(parts: SplitResult, shown: str) -> Server:
    # The path may also stand where a host does, as other clients write it: %2Frun%2Fflint.sock.
    path = unquote(parts.netloc) if parts.netloc else unquote(parts.path)
    prefix = parts.path if parts.netloc else ""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(refusal("server", "http+unix:// and the whole path of a socket", shown))
    return Server("", 0, path, "localhost", prefix, None)


def _native_socket(path: str, shown: str) -> Server:
    if not path or "\0" in path:
        raise ValueError(refusal("server", "unix: and the path of a socket", shown))
    whole = os.path.abspath(path)  # noqa: PTH100 - a path is a str here
    return Server("", 0, whole, "", "", None, True)


def _tcp_server(parts: SplitResult, shown: str, tls: ssl.SSLContext | None) -> Server:
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError(refusal("server", "a URL with a port from 1 to 65535", shown)) from None
    host = parts.hostname or ""
    if parts.scheme in _ENCRYPTED and tls is None:
        import ssl

        tls = ssl.create_default_context()
    header = f"[{host}]" if ":" in host else host
    if port != _PORTS[parts.scheme]:
        header += f":{port}"
    encrypted = tls if parts.scheme in _ENCRYPTED else None
    return Server(host, port, "", header, parts.path, encrypted, parts.scheme in _NATIVE)


def read_token(token: object) -> str | None:
    """The token that is given, else that of the environment, else None. Its value is in no
    message."""
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE)
    if token is None or token == "":
        return None
    if not isinstance(token, str):
        raise TypeError(f"token must be a str or None, not {type(token).__name__}")
    if not _TOKEN.fullmatch(token):
        raise ValueError("token must be 1 to 4096 visible characters of ASCII")
    return token
