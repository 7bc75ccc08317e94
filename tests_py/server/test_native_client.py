"""flint.SharedLimiter by the Redis protocol, and the server: what is beside the answers, which
tests_py/conformance compares."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import in_process
from conftest import ROOT
from flint_server import FlintServer, needs_server, running
from test_tls import Authority, speaking

import flint
from flint import SharedLimiter

pytestmark = needs_server

BIND = "--redis-bind=127.0.0.1:0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    with running(tmp_path_factory.mktemp("native") / "data", BIND, "--sync=batch") as server:
        yield server


@pytest.fixture
def shared(server: FlintServer) -> Iterator[SharedLimiter]:
    with SharedLimiter(server.native_url) as shared:
        yield shared


def test_threads_share_it(shared: SharedLimiter) -> None:
    shared.limit("threads", "50/d")
    admitted: list[bool] = []

    def use() -> None:
        admitted.extend(shared.allow("threads") for _ in range(20))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(admitted), sum(admitted)) == (160, 50)


def test_coroutines_share_it_without_threads(shared: SharedLimiter) -> None:
    async def main() -> None:
        asyncio.get_running_loop().run_in_executor = None  # type: ignore[assignment, method-assign]
        await shared.alimit("loop", "50/d")
        checks = (shared.aallow("loop") for _ in range(200))
        listings = (shared.alist() for _ in range(6))
        *admitted, first, _, _, _, _, last = await asyncio.gather(*checks, *listings)
        assert sum(map(bool, admitted)) == 50
        assert [one["key"] for one in first] == [one["key"] for one in last]
        assert (await shared.aacquire("x", limit="3/d; 5/d using gcra")).remaining == 2
        assert not await shared.aacquire("loop", timeout=1)
        await shared.areset("loop")
        assert len(await shared.ahistory("loop", newest_first=True, limit=3)) == 3
        assert (await shared.ainfo())["role"] == "client"
        assert (await shared.adoctor())["ok"]
        await shared.aflush()
        await shared.acompact()

    asyncio.run(main())


def test_pages_of_1000(shared: SharedLimiter) -> None:
    shared.limit_many([(f"page:{number:04}", 1, "1d") for number in range(2500)])
    listed = [one["key"] for one in shared.list() if one["key"].startswith("page:")]
    assert listed == [f"page:{number:04}" for number in range(2500)]
    assert all(shared.allow(f"page:{number:04}") for number in range(1200))
    events = shared.history(newest_first=True, limit=1200)
    assert [one.get("key") for one in events] == [f"page:{i:04}" for i in reversed(range(1200))]
    assert len(shared.top("allowed", 1000)) == 1000
    assert shared.top("allowed", 0) == []


def test_many_keys_at_once(shared: SharedLimiter) -> None:
    shared.limit("many:*", "9/d")
    found = shared.check_all([f"many:{number}" for number in range(1024)])
    assert (found["allowed"], len(found["results"])) == (True, 1024)
    with pytest.raises(flint.UnsupportedError, match="takes 155648 bytes with one call"):
        shared.check_all([f"{number}" + "k" * 60_000 for number in range(3)])


def test_a_key_that_ends_with_a_star(shared: SharedLimiter) -> None:
    shared.limit("*", "9/d")
    try:
        for change in (shared.reset, shared.remove):
            with pytest.raises(flint.NotConfiguredError, match=r"not configured: star\*"):
                change("star*")  # what the template of all keys covers is not its own
        shared.limit("star*", "5/d", template=False)
        assert shared.allow("star*", 2)
        shared.reset("star*")
        assert shared.peek("star*").remaining == 5
        shared.remove("star*")
        assert shared.status("star*") is None
    finally:
        shared.remove("*")


def test_a_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("all-of-it admin\nonly-look read\n")
    with running(tmp_path / "data", BIND, f"--token-file={tokens}") as server:
        url = server.native_url
        for token, status in (("wrong-one", 401), ("", 401), ("only-look", 403)):
            with SharedLimiter(url, token=token, on_error="allow") as shared:
                with pytest.raises(flint.FlintServerError) as caught:
                    shared.check("a", limit="1/d")
                with pytest.raises(flint.FlintServerError) as in_loop:
                    asyncio.run(shared.acheck("a", limit="1/d"))
            assert (caught.value.status, in_loop.value.status) == (status, status)
            assert str(caught.value) == str(in_loop.value)
            assert not token or token not in str(caught.value)
        with SharedLimiter(url, token="all-of-it") as shared:
            assert shared.allow("a", limit="1/d")


def test_a_token_that_the_server_does_not_need(server: FlintServer) -> None:
    with SharedLimiter(server.native_url, token="hush-hush") as shared:
        assert shared.allow("token", limit="9/d")
        assert asyncio.run(shared.aallow("token"))


def test_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with running(tmp_path / "data", f"--redis-bind=unix:{tmp_path}/s") as server:
        assert server.native_url == f"unix:{tmp_path}/s"
        for url in (f"unix:{tmp_path}/s", f"flint+unix://{tmp_path}/s", "unix:s"):
            with flint.connect(url) as shared:
                monkeypatch.chdir("/")
                assert shared.allow(url, limit="2/d")
                assert asyncio.run(shared.aallow(url))
                assert not shared.allow(url)
            monkeypatch.chdir(tmp_path)


def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    pair = authority.issue("server")
    with running(tmp_path / "data", BIND, *speaking(pair)) as server:
        assert server.native_url.startswith("flints://")
        with SharedLimiter(server.native_url, tls=authority.trusted()) as shared:
            shared.limit("a", "9/d")
            assert [shared.check("a").remaining for _ in range(3)] == [8, 7, 6]

            async def main() -> list[bool]:
                return list(await asyncio.gather(*(shared.aallow("a") for _ in range(9))))

            assert sum(asyncio.run(main())) == 6
        with SharedLimiter(server.native_url) as shared:  # which does not know the authority
            with pytest.raises(flint.FlintConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                shared.check("a")
            with pytest.raises(flint.FlintConnectionError):
                asyncio.run(shared.acheck("a"))


FORK = """
import asyncio, os, sys, warnings
import flint
warnings.simplefilter("ignore", DeprecationWarning)
shared = flint.SharedLimiter(sys.argv[1])
shared.limit("fork", "5/d")
assert shared.check("fork").remaining == 4
assert asyncio.run(shared.acheck("fork")).remaining == 3
pid = os.fork()
if pid == 0:
    status = 1
    try:
        assert shared.check("fork").remaining == 2
        assert asyncio.run(shared.acheck("fork")).remaining == 1
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
assert shared.check("fork").remaining == 0
"""


def test_a_forked_child(server: FlintServer, run_python: Callable[..., str]) -> None:
    run_python(FORK, server.native_url)


def test_a_server_that_stops_and_goes_on(tmp_path: Path) -> None:
    with running(tmp_path / "data", BIND) as server:
        with SharedLimiter(server.native_url, on_error="allow") as shared:
            shared.limit("a", "9/d")
            server.leave()
            assert shared.check("a").undecided
            assert asyncio.run(shared.acheck("a")).undecided
        bind = f"--redis-bind=127.0.0.1:{server.urls[-1].rpartition(':')[2]}"
    with running(tmp_path / "data", bind) as server, SharedLimiter(server.native_url) as shared:
        assert shared.peek("a").remaining == 9


def test_a_server_that_is_stopped(tmp_path: Path) -> None:
    with (
        running(tmp_path / "data", BIND) as server,
        SharedLimiter(server.native_url, timeout=0.2, on_error="allow") as impatient,
        SharedLimiter(server.native_url) as patient,
    ):
        patient.limit("a", "9/d")
        server.process.send_signal(signal.SIGSTOP)
        try:
            assert impatient.check("a").undecided
            assert asyncio.run(impatient.acheck("a")).undecided
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert 7 <= patient.peek("a").remaining <= 9  # it may have counted what it was sent
        assert asyncio.run(patient.apeek("a")).limit == 9


def test_the_configuration_file_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path / "data", BIND) as server:
        use_the_command(server.native_url, tmp_path / "flint.toml", capsys, monkeypatch)


def use_the_command(
    url: str, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(f'[storage]\nurl = "{url}"\ntimeout = 30\n[limits]\n"file:*" = "2/d"\n')
    with flint.from_config(path) as limiter:
        assert isinstance(limiter, SharedLimiter)
        assert limiter.allow("file:1")
    monkeypatch.setenv("FLINT_URL", url)
    run = in_process(capsys)
    answers = [json.loads(run("limit", "check", "file:1")[1]) for _ in range(2)]
    assert [one["allowed"] for one in answers] == [True, False]
    for line in ("limit list", "top", "doctor", "log compact", "limit history file:1"):
        code, out, err = run(*line.split())
        assert (code, err) == (0, ""), line
        assert out or line == "log compact"


def test_the_example_of_the_page(tmp_path: Path, run_python: Callable[..., str]) -> None:
    page = (ROOT / "docs" / "shared.md").read_text("utf-8")
    _, example = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with running(tmp_path / "data", BIND, FLINT_SERVER_TOKEN="a-secret") as server:
        out = run_python(example.replace("flint://127.0.0.1:7879", server.native_url))
    assert out == "5 of 20\n"
