"""The command and a server: every verb that looks at limits or changes them shows the server's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import SETTINGS, Run, in_process
from http_reference import Reference, serving

import flint
from flint._cli.failure import DENIED, UNREACHABLE


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in (*SETTINGS, "FLINT_SERVER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return in_process(capsys)


@pytest.fixture
def server(data_dir: Path) -> Iterator[Reference]:
    # The system's clock: the command shows how long ago things were.
    with flint.Limiter(data_dir) as limiter, serving(limiter, token="hush-hush") as server:
        yield server


@pytest.fixture
def flint_at(
    run: Run, server: Reference, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """The command with the server's URL and token, which must not complain."""
    monkeypatch.setenv("FLINT_SERVER_TOKEN", "hush-hush")

    def run_there(*words: str) -> tuple[int, str]:
        code, out, err = run(*words, "--url", server.url)
        assert err == ""
        return code, out

    return run_there


def test_changing(flint_at: Callable[..., tuple[int, str]], server: Reference) -> None:
    limiter = server.limiter
    assert flint_at("limit", "add", "a", "2/h") == (0, "configured\n")
    assert flint_at("limit", "add", "t:*", "--rate", "3", "--per", "1d") == (0, "configured\n")
    code, out = flint_at("limit", "check", "a", "--cost", "2", "--json")
    assert (code, json.loads(out)["remaining"]) == (0, 0)
    assert flint_at("limit", "check", "a", "--fail-on-deny")[0] == DENIED
    code, out = flint_at("limit", "check-all", "a", "t:1", "--json")
    assert json.loads(out)["denied_key"] == "a"
    assert flint_at("limit", "reset", "a") == (0, "reset\n")
    assert limiter.peek("a").remaining == 2
    assert flint_at("limit", "remove", "t:*") == (0, "removed\n")
    assert [one["key"] for one in limiter.list()] == ["a"]
    assert flint_at("log", "compact") == (0, "compacted\n")
    assert limiter.info()["compactions"] == 1


LOOKS_AT_A_LOG = 20
LOOKS = (
    "limit list",
    "limit list --counters",
    "limit status a",
    "limit status t:*",
    "limit status nothing",
    "limit history a",
    "limit history t:1 --limit 1",
    "limit top --by allowed",
    "limit explain t:1",
    "top",
    "doctor",
    "log verify",
    "log stat",
)


# What the time changes, and how the owner has opened the directory, which a reader has not.
PASSING = {"reset_at", "full_at", "next_unit_after_s", "newest_write_at_s"}
PASSING |= {"recovered_records", "recovered_ring_records"}
# A reader's wall clock is its own.
PASSING |= {"last_allowed_at", "last_denied_at", "last_reset_at"}


def lasting(value: Any) -> Any:
    """The rest of what a verb shows."""
    if isinstance(value, list):
        return [lasting(one) for one in value]
    if isinstance(value, dict):
        return {name: lasting(one) for name, one in value.items() if name not in PASSING}
    return value


@pytest.mark.parametrize("words", LOOKS)
def test_looking(
    words: str,
    run: Run,
    flint_at: Callable[..., tuple[int, str]],
    server: Reference,
    data_dir: Path,
) -> None:
    server.limiter.limit_many([("a", "2/h"), ("t:*", "5/d; 9/h")])
    server.limiter.check_all(["a", "t:1"])
    server.limiter.check("a", 2)
    server.limiter.flush()
    after: Any = "nothing yet"
    for _ in range(LOOKS_AT_A_LOG):  # until the owner does nothing of its own between two looks
        before = after
        code_here, out_here, _ = run(*words.split(), "--json", "--data-dir", str(data_dir))
        after = lasting(json.loads(out_here))
        if after == before:
            break
        code, out = flint_at(*words.split(), "--json")
        found = json.loads(out)
    if words == "log stat":
        assert found["newest_write_at_s"] is None
    assert (code, lasting(found)) == (code_here, after)
    assert flint_at(*words.split())[0] == code  # for people


def test_looking_again_and_again(
    flint_at: Callable[..., tuple[int, str]], server: Reference
) -> None:
    server.limiter.limit("a", "2/h")
    server.limiter.check("a")
    _, out = flint_at("top", "--watch", "--looks", "1", "--json")
    look = json.loads(out)
    assert [one["key"] for one in look["keys"]] == ["a"]
    assert look["storage"]["written_s_ago"] is None


def test_what_needs_the_files(run: Run, server: Reference) -> None:
    for words in (["log", "dump"], ["what-if", "a", "5/m"]):
        code, out, err = run(*words, "--url", server.url)
        assert (code, out) == (1, "")
        assert err == (
            f"flint: this reads the files themselves, and {server.url} is a server: run it where "
            "the files are, with --data-dir; it works beside the server\n"
        )


NOT_CONFIGURED = (
    "flint: limit is not configured: nothing. `flint limit list` shows the limits that are\n"
)


def test_what_goes_wrong(run: Run, server: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("limit", "list", "--url", server.url)
    assert (code, err) == (1, "flint: Flint server error 401: unauthorized\n")
    monkeypatch.setenv("FLINT_SERVER_TOKEN", "hush-hush")
    monkeypatch.setenv("FLINT_URL", server.url)
    code, _, err = run("limit", "check", "nothing")
    assert (code, err) == (1, NOT_CONFIGURED)
    code, _, err = run("limit", "reset", "nothing")
    assert (code, err) == (1, NOT_CONFIGURED)
    monkeypatch.setenv("FLINT_URL", "http://127.0.0.1:1")
    code, _, err = run("limit", "check", "a")
    assert (code, err) == (
        UNREACHABLE,
        "flint: could not reach Flint server: Connection refused\n",
    )


# ---- flint server start ------------------------------------------------------------------------


@pytest.fixture
def started(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """The words that flint-server would get behind its directory, and its token."""
    seen: list[Any] = []

    def become(*called: Any) -> None:
        seen[:] = called
        raise SystemExit(0)

    def start(*words: str) -> tuple[list[str], str]:
        code, out, err = run("server", "start", *words)
        assert (code, out, err) == (0, "", "")
        return seen[1][3:], seen[2].get("FLINT_SERVER_TOKEN", "")

    monkeypatch.setattr("flint._cli.server.PROGRAM", Path(__file__))
    monkeypatch.setattr("os.execve", become)
    return start


def test_without_a_file_the_server_gets_what_is_given(
    started: Callable[..., tuple[list[str], str]],
) -> None:
    assert started() == ([], "")
    words = ("--bind", "127.0.0.1:1", "--bind", "127.0.0.1:2", "--redis-bind", "unix:r")
    expected = ["--bind=127.0.0.1:1", "--bind=127.0.0.1:2", "--redis-bind=unix:r", "--sync=batch"]
    assert started(*words, "--sync", "batch", "--token", "hush") == (expected, "hush")


def test_the_file_says_how_the_server_starts(
    started: Callable[..., tuple[list[str], str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flint.toml"
    file.write_text(
        '[storage]\nsync = "batch"\nflush_every_ms = 50\n[limits]\n"a" = "1/minute"\n'
        '[server]\nbind = "127.0.0.1:1"\nredis_bind = "127.0.0.1:2"\n'
        'token = "hush"\ntoken_file = "tokens"\n',
        "utf-8",
    )
    rest = ["--sync=batch", "--flush-every-ms=50"]
    files = [f"--token-file={tmp_path / 'tokens'}", f"--limits={file}"]
    expected = ["--bind=127.0.0.1:1", "--redis-bind=127.0.0.1:2", *files, *rest]
    assert started() == (expected, "hush")
    expected = ["--bind=[::1]:9", "--redis-bind=127.0.0.1:2", files[0], "--limits=other", *rest]
    monkeypatch.setenv("FLINT_SERVER_TOKEN", "said")
    assert started("--bind", "[::1]:9", "--limits", "other") == (expected, "said")
    assert started("--token", "given")[1] == "given"


def test_it_is_said_where_each_option_of_the_server_is_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flint.toml").write_text('[server]\nbind = "127.0.0.1:1"\ntoken = "hush"\n')
    monkeypatch.setattr("flint._cli.server.PROGRAM", Path(__file__))
    monkeypatch.setattr("os.execve", lambda *_: None)
    _, _, said = run("server", "start", "--sync", "batch", "--verbose")
    assert said.splitlines()[1:] == [
        "flint: --bind from the configuration file",
        "flint: --sync from the flag",
        "flint: --token from the configuration file",
    ]
    monkeypatch.setenv("FLINT_SERVER_TOKEN", "hush")
    said = run("server", "start", "--verbose")[2]
    assert said.endswith("flint: --token from the environment's FLINT_SERVER_TOKEN\n")
    assert "hush" not in said
