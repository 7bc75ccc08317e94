"""TLS: who is believed, what is not TLS, certificates that are replaced, and clients' own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import warnings
from pathlib import Path

import pytest
import redis
from certificates import HERE, Authority, openssl
from flint_server import FlintServer, needs_server, read_all, refused, running

import flint
from flint import Limiter, SharedLimiter

pytestmark = needs_server

HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")


@pytest.fixture
def data(data_dir: Path) -> Path:
    with Limiter(data_dir) as limiter:
        limiter.limit("api", rate=1000, per="1d")
    return data_dir


def speaking(pair: tuple[Path, Path], *more: str) -> tuple[str, ...]:
    return (f"--tls-cert={pair[0]}", f"--tls-key={pair[1]}", *more)


def wrapped(server: FlintServer, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = server.connect()
    return context.wrap_socket(raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


def test_the_client_speaks_it(data: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    trusted = authority.trusted()
    with running(data, *speaking(pair)) as server:
        url = server.urls[0]
        assert url.startswith("https://127.0.0.1:")
        with SharedLimiter(url, tls=trusted) as shared:
            assert shared.check("api").remaining == 999
            assert asyncio.run(shared.acheck("api")).remaining == 998
            shared.limit_many([(f"{i:03}" + "k" * 1000, 1, "1d") for i in range(300)])
            assert len(shared.list()) == 301  # in several parts
        with (
            SharedLimiter(url) as shared,
            pytest.raises(flint.FlintConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            shared.check("api")  # which does not know the authority


def test_clients_of_redis_speak_it(
    data: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    with running(data, "--redis-bind=127.0.0.1:0", *speaking(pair)) as server:
        assert server.urls[-1].startswith("rediss://127.0.0.1:")
        port = int(server.urls[-1].rpartition(":")[2])
        trusting = redis.Redis(port=port, ssl=True, ssl_ca_certs=str(authority.certificate))
        with trusting as client, client.pipeline(transaction=False) as pipe:
            for _ in range(100):
                pipe.execute_command("CL.THROTTLE", "k", 99, 100, 8_640_000)
            assert [answer[2] for answer in pipe.execute()] == [*range(99, -1, -1)]
        with redis.Redis(port=port, ssl=True) as client, pytest.raises(redis.ConnectionError):
            client.ping()  # which does not know the authority
        with redis.Redis(port=port) as client, pytest.raises(redis.ConnectionError):
            client.ping()  # which does not speak it


@pytest.mark.parametrize(
    ("name", "alternative", "days", "said"),
    [("other", "DNS:other.example", 2, "IP address mismatch"), ("old", HERE, -1, "has expired")],
)
def test_certificates_that_are_not_believed(
    data: Path, authority: Authority, name: str, alternative: str, days: int, said: str
) -> None:
    pair = authority.issue(name, alternative, days)
    with (
        running(data, *speaking(pair)) as server,
        SharedLimiter(server.urls[0], tls=authority.trusted()) as shared,
        pytest.raises(flint.FlintConnectionError, match=said),
    ):
        shared.check("api")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(
    data: Path, authority: Authority, pair: tuple[Path, Path], version: ssl.TLSVersion
) -> None:
    context = authority.trusted()
    context.minimum_version = context.maximum_version = version
    with running(data, *speaking(pair)) as server, wrapped(server, context) as client:
        assert client.version() == version.name.replace("_", ".")
        for at in range(len(HEALTH)):  # each in a record of its own
            client.sendall(HEALTH[at : at + 1])
        assert read_all(client).endswith(b'{"ok":true}')  # and an end that is told as one


def test_older_versions_and_other_protocols(
    data: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    old, other, http = (authority.trusted() for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    other.set_alpn_protocols(["h2"])
    http.set_alpn_protocols(["h2", "http/1.1"])
    with running(data, *speaking(pair)) as server:
        for context in (old, other):
            with pytest.raises(ssl.SSLError), wrapped(server, context):
                pass
        with wrapped(server, http) as client:
            assert client.selected_alpn_protocol() == "http/1.1"
        # What has failed is told, though not each time: anybody can have it fail.
        assert server.leave().count("TLS has failed with a client") == 1


@pytest.mark.parametrize(
    "sent", [HEALTH, b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x16\x03\x01\xff\xff"]
)
def test_what_is_not_tls_is_left(data: Path, pair: tuple[Path, Path], sent: bytes) -> None:
    with running(data, *speaking(pair, "--header-timeout=50ms")) as server:
        assert b"HTTP" not in server.send(sent)
        assert server.send(b"") == b""  # nor is who says nothing waited for


def test_a_unix_socket_has_none(data: Path, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    path = tmp_path / "flint.sock"
    with (
        running(data, *speaking(pair), binds=(f"unix:{path}",)) as server,
        SharedLimiter(f"http+unix://{path}") as shared,
    ):
        assert server.urls == [f"http+unix:{path}"]
        assert shared.check("api").remaining == 999


def test_clients_with_certificates(
    data: Path, tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    known, unknown = authority.issue("client"), Authority(tmp_path, "others").issue("stranger")
    with running(data, *speaking(pair, f"--tls-client-ca={authority.certificate}")) as server:
        for certificates, answered in ((known, True), (unknown, False), (None, False)):
            context = authority.trusted()
            if certificates:
                context.load_cert_chain(*certificates)
            with SharedLimiter(server.urls[0], tls=context) as shared:
                if answered:
                    assert shared.check("api").remaining == 999
                else:
                    with pytest.raises(flint.FlintConnectionError):
                        shared.check("api")


def test_files_are_read_again(data: Path, tmp_path: Path, authority: Authority) -> None:
    pair = tmp_path / "pem", tmp_path / "key"
    other = Authority(tmp_path, "another")

    def put(certificate: Path, key: Path) -> None:
        pair[0].write_bytes(certificate.read_bytes())
        pair[1].write_bytes(key.read_bytes())

    first, second = authority.issue("first"), other.issue("second")
    put(*first)
    with (
        running(data, *speaking(pair)) as server,
        SharedLimiter(server.urls[0], tls=authority.trusted()) as kept,
        wrapped(server, authority.trusted()) as slow,
    ):
        slow.sendall(HEALTH[:20])
        assert kept.check("api").remaining == 999
        # Neither a key of another certificate nor half a file is taken.
        for bad in (second[0], first[0].with_suffix(".ext")):
            put(bad, first[1])
            assert "nothing of the files was taken over" in server.reload()
            with wrapped(server, authority.trusted()) as client:
                client.sendall(HEALTH)
                assert b'{"ok":true}' in read_all(client)
        put(*second)
        assert "has read its files again" in server.reload()
        # What is connected stays so.
        assert kept.check("api").remaining == 998
        slow.sendall(HEALTH[20:])
        assert b'{"ok":true}' in read_all(slow)
        with SharedLimiter(server.urls[0], tls=other.trusted()) as shared:
            assert shared.check("api").remaining == 997
        with pytest.raises(ssl.SSLError), wrapped(server, authority.trusted()):
            pass


def test_it_leaves(data: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    """Who has asked is answered; who has not, or not even said hello, is told of the end."""
    with running(data, *speaking(pair)) as server:
        silent = server.connect()
        idle, asking = (wrapped(server, authority.trusted()) for _ in range(2))
        asking.sendall(HEALTH[:20])
        with SharedLimiter(server.urls[0], tls=authority.trusted()) as shared:
            shared.check("api")  # after which that has been read
        server.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        assert silent.recv(1) == b""
        asking.sendall(HEALTH[20:])
        assert read_all(asking).endswith(b'{"ok":true}')
        server.left()
        for client in (silent, idle, asking):
            client.close()


def test_what_breaks_off_harms_nobody(data: Path, pair: tuple[Path, Path]) -> None:
    """A client's hello, cut at every place, and with every byte of it changed."""
    hello = ssl.MemoryBIO()
    strict = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        strict.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    data_sent = hello.read()
    with running(data, *speaking(pair)) as server:
        for at in range(0, len(data_sent), 7):
            for sent in (data_sent[:at], data_sent[:at] + b"\xff" + data_sent[at + 1 :]):
                with server.connect() as client, contextlib.suppress(OSError):
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    read_all(client)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--tls-cert=pem", "TLS needs both --tls-cert and --tls-key"),
        ("--tls-key=key", "TLS needs both --tls-cert and --tls-key"),
        ("--tls-client-ca=pem", "TLS needs both --tls-cert and --tls-key"),
        ("--tls-cert=none --tls-key=key", 'certificate "none": No such file or directory'),
        ("--tls-cert=pem --tls-key=none", 'private key "none": No such file or directory'),
        ("--tls-cert=key --tls-key=key", 'certificate "key": no start line'),
        ("--tls-cert=pem --tls-key=other", 'private key "other": key values mismatch'),
        ("--tls-cert=pem --tls-key=locked", 'private key "locked": '),
        ("--tls-cert=pem --tls-key=key --tls-client-ca=none", 'certificates of "none": No such'),
    ],
)
def test_files_of_no_use(
    authority: Authority,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pem").write_bytes(pair[0].read_bytes())
    Path("key").write_bytes(pair[1].read_bytes())
    Path("other").write_bytes(authority.key.read_bytes())
    openssl("ec", "-in", "key", "-aes256", "-passout", "pass:hush", "-out", "locked")
    code, err = refused("--data-dir=:memory:", "--bind=127.0.0.1:0", *words.split())
    assert (code, said in err) == (1, True), err
