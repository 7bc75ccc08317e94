"""Processes that share a data directory: who owns it, who is refused, and what each can do."""

from __future__ import annotations

import asyncio
import struct
import threading
from pathlib import Path

import pytest

import flint
from flint.testing import ManualClock
from sharing import raw
from sharing.member import Member


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


def test_the_first_owns_and_the_others_are_clients(path: Path) -> None:
    with flint.Limiter(path, shared=True) as owner, Member(path) as other:
        assert owner.info()["role"] == "owner"
        assert other.ask("limiter.info()['role']") == "client"
        owner.limit("k", rate=3, per="1h")
        assert [other.ask("limiter.allow('k')") for _ in range(2)] == [True, True]
        assert owner.check("k").remaining == 0
        assert other.ask("limiter.allow('k')") is False
    with flint.Limiter(path) as alone:
        assert alone.info()["role"] == "alone"
        assert alone.status("k")["total_allowed"] == 3  # type: ignore[index]


def test_a_client_can_do_what_an_owner_can(path: Path, clock: ManualClock) -> None:
    with (
        flint.Limiter(path, shared=True, clock=clock) as owner,
        flint.Limiter(path, shared=True, clock=clock) as client,
    ):
        client.limit_many([(f"k{i:04}", 5, "1h") for i in range(3000)])
        assert len(owner.list()) == 3000
        client.check_all(["k0001", ("k0002", 2)])
        assert client.list() == owner.list()
        assert [one["key"] for one in client.top("allowed_cost")] == ["k0002", "k0001"]
        assert client.history("k0002") == owner.history("k0002")
        assert len(client.history()) == len(owner.history()) == 3001
        client.compact()
        assert owner.info()["compactions"] == 1
        assert client.doctor()["ok"]
        client.flush()
        with pytest.raises(flint.NotConfiguredError, match="nothing"):
            client.check("nothing")


def test_an_owner_that_closes_hands_over(path: Path) -> None:
    first = flint.Limiter(path, shared=True)
    second = flint.Limiter(path, shared=True)
    first.limit("k", rate=5, per="1h")
    assert second.allow("k")
    first.close()
    assert second.check("k").remaining == 3
    assert second.info()["role"] == "owner"
    with pytest.raises(flint.ClosedError):
        first.check("k")
    second.close()
    assert not (path / "flint.sock").exists()


def test_closing_ends_calls_that_wait(path: Path) -> None:
    with Member(path) as owner:
        client = flint.Limiter(path, shared=True, answer_timeout="1h")
        client.limit("k", rate=5, per="1h")
        owner.stop()
        met: list[BaseException] = []

        def wait() -> None:
            try:
                client.check("k")
            except flint.FlintError as error:
                met.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        client.close()
        thread.join()
        assert isinstance(met[0], flint.ClosedError)


def test_coroutines_ask_without_holding_up_their_loop(path: Path) -> None:
    async def main(client: flint.Limiter) -> None:
        results = await asyncio.gather(*(client.acheck("k") for _ in range(60)))
        assert sum(map(bool, results)) == 50
        assert not await client.aallow("k")
        assert (await client.acheck_all(["k"]))["allowed"] is False

    with flint.Limiter(path, shared=True) as owner, flint.Limiter(path, shared=True) as client:
        owner.limit("k", rate=50, per="1h")
        asyncio.run(main(client))


def test_threads_of_one_client(path: Path) -> None:
    allowed = []

    def check(client: flint.Limiter) -> None:
        allowed.extend(client.allow("k") for _ in range(100))

    with flint.Limiter(path, shared=True) as owner, flint.Limiter(path, shared=True) as client:
        owner.limit("k", rate=500, per="1d")
        threads = [threading.Thread(target=check, args=(client,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(allowed), sum(allowed)) == (800, 500)


def test_a_path_of_200_bytes(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 25) / ("path" * 25)
    with flint.Limiter(path, shared=True), Member(path) as client:
        assert client.ask("limiter.info()['role']") == "client"


def test_a_working_directory_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = flint.Limiter("limits", shared=True)
    second = flint.Limiter("limits", shared=True)
    monkeypatch.chdir("/")
    first.close()
    assert second.info()["role"] == "owner"
    second.close()


# ---- Who is refused ------------------------------------------------------------------------------


def test_one_that_does_not_share(path: Path) -> None:
    with flint.Limiter(path), pytest.raises(flint.LockedError, match="does not share") as met:
        flint.Limiter(path, shared=True, lock_timeout="50ms")
    assert "waited" not in str(met.value)
    with flint.Limiter(path, shared=True), pytest.raises(flint.LockedError, match="another"):
        flint.Limiter(path)


def test_another_sync_is_refused(path: Path) -> None:
    with (
        flint.Limiter(path, shared=True, sync="batch"),
        pytest.raises(ValueError, match='has opened it with sync "batch"'),
    ):
        flint.Limiter(path, shared=True)


def test_what_is_in_memory_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="memory"):
        flint.Limiter(":memory:", shared=True)


def test_a_socket_that_cannot_be_bound(path: Path) -> None:
    (path / "flint.sock").mkdir(parents=True)
    with pytest.raises(flint.UnsupportedError, match=r"flint\.sock: .*local file system"):
        flint.Limiter(path, shared=True)
    flint.Limiter(path).close()  # it is unlocked again
    assert not (path / "flint.sock.new").exists()


def test_another_version_is_refused(path: Path) -> None:
    with flint.Limiter(path, shared=True), raw.connect(path) as stream:
        stream.sendall(raw.greeting(b"0.9.0"))
        code, body = raw.reply(stream)
        assert code == 5  # UNSUPPORTED
        assert "0.9.0" in raw.error(body)
        assert "one and the same version" in raw.error(body)
        assert stream.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        raw.greeting(b"1.1.0", magic=1),
        raw.message(7, b"nothing was greeted"),
        struct.pack("<I", 0),
        struct.pack("<I", 2**32 - 1),
        raw.message(raw.GREET),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_nonsense_is_refused_and_harms_nobody(path: Path, sent: bytes) -> None:
    with flint.Limiter(path, shared=True), flint.Limiter(path, shared=True) as client:
        client.limit("k", rate=5, per="1h")
        with raw.connect(path) as stream:
            stream.sendall(sent)
            code, _ = raw.reply(stream)
            assert code in (1, 5)
            assert raw.receive(stream) == b""
        assert client.allow("k")


def test_a_call_that_is_too_large_is_refused(path: Path) -> None:
    limits = [(f"{'k' * 60_000}{i}", 5, "1h") for i in range(100)]
    with flint.Limiter(path, shared=True) as owner, flint.Limiter(path, shared=True) as client:
        with pytest.raises(ValueError, match="4 MiB"):
            client.limit_many(limits)
        assert owner.list() == []
        client.limit_many(limits[:50])
        assert len(client.list()) == 50


def test_requests_that_come_together_are_answered_in_turn(path: Path) -> None:
    with flint.Limiter(path, shared=True), raw.connect(path) as stream:
        stream.sendall(raw.message(raw.DESCRIBE) * 2000)
        for _ in range(2000):
            assert raw.reply(stream)[0] == 0
