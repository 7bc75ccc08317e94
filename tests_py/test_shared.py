"""SharedLimiter with a server that does what it should. What it answers is tests_py/conformance's;
what misbehaves is test_shared_faults's."""

from __future__ import annotations

import asyncio
import gc
import pickle
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_faulty import Connection, answer, faulty
from http_reference import Reference, serving

import flint
from flint import InfoDict, Limiter, SharedLimiter
from flint._remote.server import read_url
from flint.testing import ManualClock


@pytest.fixture
def server(limiter: Limiter) -> Iterator[Reference]:
    with serving(limiter) as server:
        yield server


@pytest.fixture
def shared(server: Reference) -> Iterator[SharedLimiter]:
    with SharedLimiter(server.url) as shared:
        yield shared


def test_the_surface_of_flint_0_2(shared: SharedLimiter, server: Reference) -> None:
    from flint.shared import FlintConnectionError, FlintServerError, SharedCheckResult

    assert SharedLimiter(server.url + "/", None, 5.0).server == server.url
    assert (shared.token, shared.timeout) == (None, 10.0)
    assert shared.limit("a/b é", rate=2, per="1m", algorithm="fixed_window_counter") is None
    result = shared.check("a/b é", cost=2)
    assert isinstance(result, SharedCheckResult)
    assert (result.key, result.allowed, result.cost, result.remaining) == ("a/b é", True, 2, 0)
    assert result.algorithm == "fixed_window_counter"
    assert shared.allow("a/b é") is False
    assert shared.allow_all(["a/b é"]) is False
    assert shared.check_all([{"key": "a/b é", "cost": 1}])["denied_key"] == "a/b é"
    assert shared.status("a/b é") == shared.list()[0]
    assert shared.status("nothing") is None
    assert shared.reset("a/b é") is None
    assert shared.allow_all([("a/b é", 1)]) is True
    assert shared.flush() is None
    assert shared.compact() is None
    assert issubclass(FlintServerError, RuntimeError)
    assert issubclass(FlintConnectionError, RuntimeError)
    with pytest.raises(RuntimeError, match="limit is not configured: nothing"):
        shared.check("nothing")


def figures(info: InfoDict) -> dict[str, Any]:
    """Those that stand still."""
    return {name: value for name, value in info.items() if name != "since_sync_ns"}


def test_what_the_server_keeps(tmp_path: Path, clock: ManualClock) -> None:
    with (
        Limiter(tmp_path / "data", clock=clock) as limiter,
        serving(limiter) as server,
        SharedLimiter(server.url) as shared,
    ):
        shared.limit("a", "2/m; 3/h burst 4")
        shared.check_all(["a"])
        shared.check("a")
        assert not shared.allow("a")
        assert shared.history() == limiter.history()
        assert str(shared.history()) == str(limiter.history())  # also in the same order
        assert shared.history("a", newest_first=True, limit=1) == limiter.history(
            "a", newest_first=True, limit=1
        )
        assert shared.doctor() == limiter.doctor()
        assert figures(shared.info()) == figures(limiter.info())

        async def main() -> None:
            assert await shared.ahistory("a") == limiter.history("a")
            assert await shared.adoctor() == limiter.doctor()
            assert figures(await shared.ainfo()) == figures(limiter.info())
            await shared.acompact()

        asyncio.run(main())


def test_decorated_functions(shared: SharedLimiter) -> None:
    @shared.rate_limit("f", "2/m")
    def function(number: int) -> int:
        return number

    @shared.rate_limit(lambda number: f"g:{number}", rate=1, per="1m")
    async def coroutine(number: int) -> int:
        return number

    assert [function(1), function(2)] == [1, 2]
    with pytest.raises(flint.RateLimitExceeded, match="for f: cost 1, 0 left, retry after 30 s"):
        function(3)
    assert asyncio.run(coroutine(1)) == 1
    with pytest.raises(flint.RateLimitExceeded, match="for g:1"):
        asyncio.run(coroutine(1))


def test_threads_share_it(shared: SharedLimiter) -> None:
    shared.limit("a", "50/h")
    admitted: list[bool] = []

    def use() -> None:
        admitted.extend(shared.allow("a") for _ in range(20))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(admitted), sum(admitted)) == (160, 50)


def test_many_coroutines_share_it(shared: SharedLimiter) -> None:
    shared.limit("a", "50/h")

    async def main() -> list[bool]:
        return list(await asyncio.gather(*(shared.aallow("a") for _ in range(100))))

    assert sum(asyncio.run(main())) == 50


def test_no_coroutine_uses_a_thread(shared: SharedLimiter) -> None:
    async def main() -> None:
        asyncio.get_running_loop().run_in_executor = None  # type: ignore[assignment, method-assign]
        await shared.alimit("a", 5, per="1h")
        await shared.alimit("a", "3/m; 5/h")
        await shared.alimit("a", "7/h")
        await shared.alimit("t:*", "5/h", if_absent=True)
        await shared.alimit_many([("b", "5/m; 9/h"), ("c", 1, "1h")])
        assert await shared.aallow_all(["a", "b"])
        assert (await shared.apeek("x", limit="3/m; 5/h")).remaining == 3
        assert (await shared.acheck("x", limit="3/m; 5/h")).remaining == 2
        assert await shared.aacquire("c")
        assert not await shared.aacquire("c", timeout=1)
        names = {(one["key"], one["name"]) for one in await shared.alist()}
        assert {("a", None), ("b", "per hour"), ("b", "per minute")} <= names
        assert ("a", "per hour") not in names
        assert await shared.atop("allowed", 1)
        assert await shared.astatus("c") is not None
        await shared.areset("c")
        await shared.aremove("c")
        await shared.aflush()
        with pytest.raises(flint.RateError, match=r"limits\[0\]: "):
            await shared.alimit_many([("b", "5/x")])
        with pytest.raises(TypeError):
            await shared.alimit("a", 5)

    asyncio.run(main())


def test_callers_stand_in_line(shared: SharedLimiter, clock: ManualClock) -> None:
    shared.limit("a", "1/h")
    assert shared.acquire("a", timeout=0)
    assert not shared.acquire("a", timeout=5)

    async def main() -> None:
        first = asyncio.create_task(shared.aacquire("a"))
        await asyncio.sleep(0)
        while not shared._lines._lines:
            await asyncio.sleep(0.001)
        clock.advance(3600)
        shared._lines.look_again()
        assert await first
        waiting = asyncio.create_task(shared.aacquire("a"))
        while not shared._lines._lines:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        again = asyncio.create_task(shared.aacquire("a"))
        while not shared._lines._lines:
            await asyncio.sleep(0.001)
        await shared.aclose()
        with pytest.raises(flint.ClosedError):
            await again

    asyncio.run(main())


def test_more_limits_than_a_server_takes_at_once(shared: SharedLimiter) -> None:
    shared.limit_many([(f"key:{number}", number + 1, "1h") for number in range(150)])
    found = shared.list()
    assert sorted(one["rate"] for one in found) == list(range(1, 151))
    shared.limit_many([("x" * 20_000 + str(number), "5/m") for number in range(5)])
    assert len(shared.list()) == 155
    with pytest.raises(ValueError, match=r"limits\[1\]: rate must be"):
        shared.limit_many([("new", 1, "1h"), ("b", 0, "1h")])
    assert shared.status("new") is None


def test_who_limits_a_key_need_not_list_all(shared: SharedLimiter, server: Reference) -> None:
    for text in ("5/m; 9/h", "7/h"):
        shared.limit("t:*", text)
        asyncio.run(shared.alimit("u", text))
        shared.limit_many([("v", text), ("w*", text)])
    assert [one["name"] for one in shared.list()] == [None] * 4
    *looks, last = server.looks
    assert last == "/v1/limits?details=true"
    assert looks
    assert all("&key=" in look for look in looks)
    shared.limit_many([(f"key:{number}", "5/m") for number in range(40)])
    assert len(shared.list()) == 44


def test_keys_that_no_url_can_hold(shared: SharedLimiter, server: Reference) -> None:
    key = "é" * 10_000
    shared.limit(key, "5/h")
    assert shared.status(key) == server.limiter.status(key)
    assert shared.status(key, name="none") is None
    with pytest.raises(ValueError, match="is empty"):
        shared.status("")


def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    with SharedLimiter("http://127.0.0.1:1") as shared, Limiter(":memory:") as limiter:
        calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
            ("check", (7,), {}),
            ("check", ("a", 0), {}),
            ("check", ("a", True), {}),
            ("check", ("a", 2**63), {}),
            ("check", ("\ud800",), {}),
            ("check", ("a",), {"rate": 1}),
            ("check", ("a",), {"rate": 1, "per": "1x"}),
            ("check", ("a",), {"rate": 1, "per": 1, "algorithm": "sorted"}),
            ("check", ("a",), {"limit": "5/m", "rate": 1}),
            ("check", ("a",), {"limit": "5/minutee"}),
            ("check_all", ([],), {}),
            ("check_all", ("a",), {}),
            ("check_all", ([("a", 0)],), {}),
            ("check_all", (["a"] * 2000,), {}),
            ("limit", ("a", 0), {"per": 1}),
            ("limit", ("a", 1), {}),
            ("limit", ("a", 1), {"per": 1, "name": 7}),
            ("limit_many", ([("a", 1)],), {}),
            ("reset", ("a", 7), {}),
            ("remove", (b"a",), {}),
            ("status", ("a",), {"name": 7}),
            ("top", ("sum",), {}),
            ("top", ("denied", -1), {}),
            ("list", (), {"counters": 7}),
            ("history", (7,), {}),
            ("history", (), {"limit": -1}),
            ("history", (), {"since": "now"}),
        ]
        for name, args, kwargs in calls:
            with pytest.raises((TypeError, ValueError)) as embedded:
                getattr(limiter, name)(*args, **kwargs)
            with pytest.raises((TypeError, ValueError)) as remote:
                getattr(shared, name)(*args, **kwargs)
            assert (remote.type, str(remote.value)) == (embedded.type, str(embedded.value)), name


def test_the_token_is_sent_and_never_shown(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(limiter, token="hush-hush") as server:
        with pytest.raises(flint.FlintServerError, match="error 401: unauthorized") as caught:
            SharedLimiter(server.url, token="wrong-one").list()
        assert caught.value.status == 401
        assert "wrong-one" not in repr(caught.value)
        with SharedLimiter(server.url, token="hush-hush") as shared:
            assert shared.list() == []
            assert "hush" not in repr(shared)
        monkeypatch.setenv("FLINT_SERVER_TOKEN", "hush-hush")
        with SharedLimiter(server.url) as shared:
            assert shared.list() == []
        with pytest.raises(flint.FlintServerError):
            SharedLimiter(server.url, token="").list()
    for token in ("a b", "a\r\nX: y", "é", "x" * 5000):
        with pytest.raises(ValueError, match="token must be 1 to 4096") as bad:
            SharedLimiter(token=token)
        assert token not in str(bad.value)
    with pytest.raises(TypeError, match="token must be a str or None, not bytes"):
        SharedLimiter(token=b"secret")  # type: ignore[arg-type]


def test_options() -> None:
    with pytest.raises(ValueError, match="on_error must be"):
        SharedLimiter(on_error="ignore")  # type: ignore[arg-type]
    for timeout in (0, -1, float("nan"), 1e9):
        with pytest.raises(ValueError, match="timeout must be"):
            SharedLimiter(timeout=timeout)
    with pytest.raises(TypeError, match="timeout must be"):
        SharedLimiter(timeout=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(SharedLimiter())
    shared = SharedLimiter()
    assert repr(shared) == "<flint.SharedLimiter 'http://127.0.0.1:7878'>"
    shared.close()
    assert repr(shared) == "<flint.SharedLimiter 'http://127.0.0.1:7878' closed>"


def test_urls() -> None:
    tls = ssl.create_default_context()
    _, found = read_url("http://[::1]:80/base/", tls)
    assert found == ("::1", 80, "", "[::1]", "/base", None, False)
    _, found = read_url("https://limits.example", tls)
    assert found == ("limits.example", 443, "", "limits.example", "", tls, False)
    for url in ("http+unix:///run/f.sock", "http+unix://%2Frun%2Ff.sock"):
        assert read_url(url, None)[1][:4] == ("", 0, "/run/f.sock", "localhost")
    for scheme, context in (("flint", None), ("flints", tls)):
        shown, found = read_url(f"{scheme}://[::1]/", tls)
        assert shown == f"{scheme}://[::1]"
        assert found == ("::1", 7879, "", "[::1]", "", context, True)
        assert read_url(f"{scheme}://h:80", tls)[1].port == 80
    for url in ("unix:/run/f s?#%2F.sock", "flint+unix:///run/f s?#%2F.sock"):
        shown, found = read_url(url, tls)
        assert (shown, found.socket_path, found.is_native) == (url, "/run/f s?#%2F.sock", True)
    assert read_url("unix:f.sock", None)[1].socket_path == str(Path("f.sock").absolute())
    bad = ("ftp://h", "h:1", "http://", "http://h:0x1", "http://h:99999", "http://h?a=b")
    bad += ("flint://", "flint:h", "flint://h/path", "flint://h:0x1", "unix:", "unix:a\0b")
    for url in (
        *bad,
        "http://h#x",
        "http://h /",
        "http://h\r\nX: y",
        "http+unix://run",
        "http://é",
    ):
        with pytest.raises(ValueError, match="server must be"):
            read_url(url, None)
    with pytest.raises(ValueError, match="without a user and password") as caught:
        read_url("http://user:hush@h", None)
    assert "hush" not in str(caught.value)
    with pytest.raises(TypeError, match="server must be"):
        read_url(7, None)


def test_connect_opens_one(server: Reference) -> None:
    with flint.connect(server.url, timeout=3, on_error="deny") as limiter:
        assert isinstance(limiter, SharedLimiter)
        assert limiter.timeout == 3
        limiter.limit("a", "1/m")
        assert [limiter.allow("a"), limiter.allow("a")] == [True, False]


def test_the_configuration_file(server: Reference, tmp_path: Path) -> None:
    path = tmp_path / "flint.toml"
    storage = f'[storage]\nurl = "{server.url}"\ntimeout = 3\non_error = "allow"\n'
    path.write_text(storage + '[limits]\na = "2/h"\n"t:*" = "5/m; 9/h"\n')
    with flint.from_config(path) as limiter:
        assert isinstance(limiter, SharedLimiter)
        assert limiter.timeout == 3
        assert [one["key"] for one in server.limiter.list()] == ["a", "t:*", "t:*"]
    for line, why in (
        ("max_keys = 7", "no such key; known are on_error, timeout, url"),
        ("timeout = 0", "timeout must be a number of seconds"),
        ('on_error = "ignore"', "on_error must be 'raise'"),
    ):
        path.write_text(f'[storage]\nurl = "http://h"\n{line}\n')
        with pytest.raises(flint.ConfigError, match=re.escape(why)):
            flint.from_config(path)
    path.write_text('[storage]\nurl = "http://user:hush@h"\n')
    with pytest.raises(flint.ConfigError, match="without a user and password"):
        flint.from_config(path)


def test_the_example_of_the_page(limiter: Limiter, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "shared.md").read_text("utf-8")
    example, _ = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with serving(limiter, token="a-secret") as server:
        exec(example.replace("http://127.0.0.1:7878", server.url), {})
    assert capsys.readouterr().out == "welcome\n"


def test_web_applications_take_its_url(server: Reference) -> None:
    from wsgiref.util import setup_testing_defaults

    from flint.asgi import RateLimitMiddleware as Asgi
    from flint.wsgi import RateLimitMiddleware as Wsgi

    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"welcome"]

    async def async_application(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"welcome"})

    statuses: list[int] = []
    limited = Wsgi(application, server.url, "2/h")
    asynchronous = Asgi(async_application, server.url, "2/h")
    environ: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1"}
    setup_testing_defaults(environ)

    def start(status: str, *_: Any) -> None:
        statuses.append(int(status[:3]))

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "client": ("192.0.2.1", 1),
    }
    for _ in range(2):
        list(limited(dict(environ), start))
        asyncio.run(asynchronous(scope, receive, send))
    assert statuses == [200, 200, 429, 429]  # both have used up the one limit of the address


def test_a_unix_socket(limiter: Limiter, tmp_path: Path) -> None:
    with serving(limiter, path=tmp_path / "s") as server, flint.connect(server.url) as shared:
        shared.limit("a", "1/m")
        assert asyncio.run(shared.aallow("a"))
        assert not shared.allow("a")


def test_loops_end_what_they_opened() -> None:
    def behave(connection: Connection) -> None:
        while connection.request():
            connection.send(answer())

    with faulty(behave) as server, SharedLimiter(server.url) as shared:
        for _ in range(3):
            assert asyncio.run(shared.acheck("a"))
            server.wait_for_one_to_end()
        assert server.counts == [1, 1, 1]
        gc.collect()  # what is left open warns


def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    subprocess.run([*make, *subject, *files], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def behave(connection: Connection) -> None:
        with context.wrap_socket(connection.socket.dup(), server_side=True) as encrypted:
            inner = Connection(encrypted)
            while inner.request():
                inner.send(answer())
            inner._file.close()

    trusting = ssl.create_default_context(cafile=certificate)
    with faulty(behave) as server:
        url = server.url.replace("http:", "https:")
        with SharedLimiter(url, tls=trusting) as shared:
            assert shared.check("a").remaining == 4
            assert shared.check("a").remaining == 4
            assert asyncio.run(shared.acheck("a")).remaining == 4
        with SharedLimiter(url) as shared:
            with pytest.raises(flint.FlintConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                shared.check("a")
            with pytest.raises(flint.FlintConnectionError):
                asyncio.run(shared.acheck("a"))


FORK = """
import os, sys, warnings
import flint
warnings.simplefilter("ignore", DeprecationWarning)
shared = flint.SharedLimiter(sys.argv[1])
assert shared.check("parent")
pid = os.fork()
if pid == 0:
    status = 1
    try:
        assert shared.check("child")
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
assert shared.check("parent")
"""


def test_a_forked_child_has_connections_of_its_own(run_python: Callable[..., str]) -> None:
    def behave(connection: Connection) -> None:
        while request := connection.request():
            key = "child" if b"child" in request else "parent"
            connection.send(answer(plain(key)))

    def plain(key: str) -> dict[str, Any]:
        from http_faulty import CHECKED

        return {**CHECKED, "key": key}

    with faulty(behave) as server:
        run_python(FORK, server.url)
        assert server.counts == [2, 1]
        assert all(b"parent" in request for request in server.requests[0])
