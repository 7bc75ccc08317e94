"""What the server reads from files, at its start and on SIGHUP, and what it tells the manager of
services."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from flint_server import DEADLINE_S, FlintServer, needs_server, refused, running

import flint.config
from flint import Limiter

pytestmark = needs_server

WHOLE = """
[storage]
url = "elsewhere"
[server]
bind = "127.0.0.1:1"
[rates]
strict = "5/5m"
both = ["5/minute", "5/5m"]
table = { rate = 3, per = 60, algorithm = "gcra" }
[limits]
plain = "100/minute"
"user:*" = "10/s burst 20"
"pair:*" = "5/minute; 100/hour, 5/minute"
login = "both"
tabled = "table"
list = ["1/s", "2/m", "2/60s"]
"quoted \\u00e4" = { rate = 100, per = "1h30m", burst = 7 } # not a period of a table
named = { rate = 7, per_ns = 1_000, name = "n", algorithm = "sliding_window_log" }
stacked = { rate = "7/s", stack = true }
"literal*" = { rate = 7, per = "1d", template = false }
prefix = { rate = 7, per = 0.5, template = true }
words = { rate = "7/s", algorithm = "sliding_window_counter" }
burst = { rate = "7/s", burst = 9 }
""".replace('"1h30m"', '"90m"')


def listed(limiter: Limiter) -> list[dict[str, Any]]:
    fields = ("key", "template", "name", "rate", "per_ns", "burst", "algorithm", "stack")
    return [{field: one[field] for field in fields} for one in limiter.list()]


def by_config(text: str) -> list[dict[str, Any]]:
    """The limits that the package reads from a text."""
    config = flint.config.parse(text)
    with Limiter(":memory:") as limiter:
        limiter._rates = config.rates
        limiter.limit_many(config.limits)
        return listed(limiter)


def written(folder: Path, text: str, name: str = "flint.toml") -> str:
    path = folder / name
    path.write_text(text, "utf-8")
    return f"--limits={path}"


@pytest.mark.parametrize("name", ["flint.toml", "pyproject.toml"])
def test_limits_of_a_file(tmp_path: Path, name: str) -> None:
    """They are those that the package reads from it."""
    text = WHOLE
    if name == "pyproject.toml":
        text = "[project]\nname = 'x'\n" + WHOLE
        for section in ("storage", "server", "rates", "limits"):
            text = text.replace(f"[{section}]", f"[tool.flint.{section}]")
    with running(tmp_path / "data", written(tmp_path, text, name)):
        pass
    with Limiter(tmp_path / "data") as limiter:
        assert listed(limiter) == by_config(WHOLE)
    with running(tmp_path / "data", written(tmp_path, "[tool.other]\n", "pyproject.toml")):
        pass


WRONG = [
    ("[limits]\na = ", "2: this is not TOML: "),
    ("a = 1979-05-27T:", "1: this is not TOML: "),
    ("\u00e4 = 1", "1: this is not TOML: "),
    ("a = 1 \u00e4", "1: this is not TOML: "),
    ("[limit]\n", "1: limit: there is no such key; known are limits, rates, server, storage"),
    ("limits = 1", "1: limits must be a table"),
    ("[limits]\n\na = 1", "3: limits.a: a rate is a text"),
    ("[limits]\na = []", "2: limits.a: a rate is a text"),
    ("[limits]\na = [1]", "2: limits.a: a list of rates has texts in it"),
    ("[limits]\na = '5/minutee'", "2: limits.a: a unit of time must stand here"),
    ("[limits]\na = 'relaxed'", '2: limits.a: no rate is named "relaxed"'),
    ("[limits]\na = { per = '1m' }", "2: limits.a: rate is missing"),
    ("[limits]\na = { rate = 1 }", "2: limits.a: either per or per_ns must be given"),
    ("[limits]\na = { rate = 1, per = 'x' }", "2: limits.a: per must be digits"),
    ("[limits]\na = { rate = -1, per = '1s' }", "2: limits.a: rate must be greater than zero"),
    ("[limits]\na = { rate = 1.5, per = '1s' }", "2: limits.a: rate must be a whole number"),
    ("[limits]\na = { rate = '1/s', per = '1s' }", "2: limits.a: a rate in words says the period"),
    ("[limits]\na = { rate = '1/s', perr = 1 }", "2: limits.a.perr: there is no such key"),
    ("[limits]\na = { rate = '1/s', stack = 1 }", "2: limits.a: stack must be true or false"),
    ("[limits]\na = { rate = '1/s', algorithm = 'x' }", "2: limits.a: unsupported algorithm: x"),
    ("[limits]\na = { rate = '1/s; 2/m', name = 'x' }", "2: limits.a: several limits are named"),
    ("[limits]\na = { rate = '1/s; 2/m', burst = 2 }", "2: limits.a: burst goes with one rate"),
    ("[limits]\nb = '1/s'\n'' = '1/s'", "3: limits.: "),
    (
        "[limits]\na = { rate = 1, per = '1s', burst = 2, algorithm = 'sliding_window_log' }",
        "2: limits.a",
    ),
    ("[rates]\n'1' = '1/s'", "2: rates.1: a name is a letter"),
    ("[rates]\na = '1/s'\nb = 'a'", '3: rates.b: no rate is named "a"'),
    (
        "[rates]\na = '1/s'\n[limits]\nb = { rate = 'a', burst = 2 }",
        '4: limits.b: the rate "a" says',
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text for text, _ in WRONG])
def test_limits_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    """Where, and what; the package refuses them too, and nothing has come to be."""
    path = tmp_path / "flint.toml"
    data = tmp_path / "data"
    code, err = refused(f"--data-dir={data}", "--bind=127.0.0.1:0", written(tmp_path, text))
    assert (code, f"flint: {path}:{said}" in err) == (1, True), err
    assert flint.config.check(path)
    assert not data.exists()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        code, err = refused("--data-dir=:memory:", "--bind=127.0.0.1:0", f"--limits={path}")
        assert (code, f"{path}: cannot read it" in err) == (1, True), err


def rates(server: FlintServer) -> dict[tuple[str, str | None], int]:
    found = server.json("GET", "/v1/limits?details=true")
    return {(one["key"], one.get("name")): one["rate"] for one in found}


def test_limits_are_read_again(tmp_path: Path) -> None:
    word = written(tmp_path, "[limits]\na = '1/s'\nb = '3/s; 4/m'\nc = '5/s'\n")
    with running(tmp_path / "data", word) as server:
        server.json("POST", "/v1/limits", {"key": "mine", "rate": 9, "per": "1s"})
        own = {"key": "b", "rate": 8, "per": "1s", "name": "own"}
        server.json("POST", "/v1/limits", own)
        before = rates(server)
        # Nothing of a file that is wrong anywhere is taken.
        written(tmp_path, "[limits]\na = '2/s'\nb = '2/s'\nc = 'x'\n")
        assert "flint.toml:4: limits.c: " in server.reload()
        assert rates(server) == before
        written(tmp_path, "[limits]\na = '1/s; 7/m'\nb = '3/s'\n")
        assert "has read its files again" in server.reload()
    with running(tmp_path / "data", word) as server:
        expected = {("a", "per second"): 1, ("a", "per minute"): 7, ("b", None): 3}
        # What the file does not name stays, and so does what has a name of its own.
        expected |= {("c", None): 5, ("mine", None): 9, ("b", "own"): 8}
        assert rates(server) == expected
    written(tmp_path, "[limits]\na = '6/m'\n")
    with running(tmp_path / "data", word) as server:  # changed while nobody ran
        assert {key: rate for key, rate in rates(server).items() if key[0] == "a"} == {
            ("a", None): 6
        }


def test_rates_are_asked_for_by_name(tmp_path: Path) -> None:
    text = "[rates]\nstrict = '2/day'\nboth = ['2/day', '3/w']\n"
    word = written(tmp_path, text)
    with running(tmp_path / "data", word, "--redis-bind=127.0.0.1:0") as server:

        def allowed(path: str, **body: Any) -> list[bool]:
            found = server.json("POST", path, body)
            return [one["allowed"] for one in found.get("results", [found])]

        for _ in range(2):
            assert allowed("/v1/check", key="one", limit="strict") == [True]
            assert allowed("/v1/check", key="list", limit=["strict", "9/hour"]) == [True]
            assert allowed("/v1/check", key="table", limit={"rate": "both"}) == [True]
            checks = [{"key": "many", "limit": "both"}]
            assert allowed("/v1/checks:batch", checks=checks) == [True]
            items = [{"key": "all", "cost": 1, "limit": "strict"}]
            assert allowed("/v1/check-all", items=items) == [True]
        for key, limit in (("one", "strict"), ("list", ["strict", "9/hour"]), ("table", "both")):
            assert allowed("/v1/peek", key=key, limit=limit) == [False]
        server.json("POST", "/v1/limits", {"key": "a", "rate": "strict"})
        server.json("POST", "/v1/limits:batch", {"limits": [{"key": "b", "rate": "strict"}]})
        assert [rates(server)[key, None] for key in "ab"] == [2, 2]
        port = int(server.urls[-1].rsplit(":", 1)[1])
        with redis.Redis(port=port, protocol=3, decode_responses=True) as client:
            do = client.execute_command
            do("FLINT.LIMIT", "c", "LIMIT", "strict")
            assert rates(server)["c", None] == 2
            assert do("FLINT.PEEK", "one", "LIMIT", "strict")["allowed"] is False
            assert do("FLINT.CHECKALL", "all", 1, "LIMIT", "strict")["allowed"] is False
            for words in (("CHECK", "x"), ("LIMIT", "x"), ("CHECKALL", "x", 1)):
                with pytest.raises(redis.ResponseError, match='no rate is named "lax"'):
                    do(f"FLINT.{words[0]}", *words[1:], "LIMIT", "lax")
            with pytest.raises(redis.ResponseError, match="one limit is asked for"):
                do("FLINT.LIMIT", "x", "LIMIT", "both")
        for path, body, said in (
            ("check", {"key": "x", "limit": "lax"}, 'limit: no rate is named \\"lax\\"'),
            ("limits", {"key": "x", "rate": "lax"}, 'rate: no rate is named \\"lax\\"'),
            ("limits", {"key": "x", "rate": "both"}, "a name each"),
            ("limits", {"key": "x", "rate": "strict", "burst": 3}, "says its own algorithm"),
        ):
            status, _, answer = server.ask("POST", f"/v1/{path}", body)
            assert (status, said in answer) == (400, True), answer
        # They are read again with the rest of the file, or not at all.
        written(tmp_path, "[rates]\nlax = '7/day'\n[limits]\na = 'x'\n")
        assert "nothing of the files" in server.reload()
        assert server.ask("POST", "/v1/check", {"key": "x", "limit": "strict"})[0] == 200
        written(tmp_path, "[rates]\nlax = '7/day'\n")
        assert "has read its files again" in server.reload()
        assert server.ask("POST", "/v1/check", {"key": "x", "limit": "strict"})[0] == 400
        assert allowed("/v1/check", key="lax", limit="lax") == [True]


def test_tokens_are_read_again(tmp_path: Path) -> None:
    """With the limits, or not at all."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old\n", "utf-8")
    word = written(tmp_path, "[limits]\na = '1/s'\n")
    with running(tmp_path / "data", word, f"--token-file={tokens}", "--token=own") as server:

        def status(token: str) -> int:
            return server.ask("GET", "/v1/health", Authorization=f"Bearer {token}")[0]

        for text in ("# none\n", "new write\n"):
            tokens.write_text(text, "utf-8")
            assert "nothing of the files was taken over" in server.reload()
            assert [status(token) for token in ("old", "new", "own")] == [200, 401, 200]
        tokens.write_text("new\n", "utf-8")
        written(tmp_path, "[limits]\na = ''\n")
        assert "nothing of the files was taken over" in server.reload()
        assert [status(token) for token in ("old", "new", "own")] == [200, 401, 200]
        written(tmp_path, "[limits]\na = '1/s'\n")
        assert "has read its files again" in server.reload()
        assert [status(token) for token in ("old", "new", "own")] == [401, 200, 200]


def test_many_signals_are_one(tmp_path: Path) -> None:
    """The last of them is not missed."""
    word = written(tmp_path, "[limits]\na = '1/s'\n")
    with running(tmp_path / "data", word) as server:
        for rate in range(2, 50):
            written(tmp_path, f"[limits]\na = '{rate}/s'\n", "new")
            (tmp_path / "new").replace(tmp_path / "flint.toml")
            server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr
        while rates(server) != {("a", None): 49}:
            assert "has read its files again" in server.process.stderr.readline()


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "an abstract name"])
def test_the_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@flint-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(DEADLINE_S)
        word = written(tmp_path, "[limits]\na = '1/s'\n")
        with running(tmp_path / "data", word, NOTIFY_SOCKET=name) as server:
            assert manager.recv(100) == b"READY=1"
            for text in ("a = '2/s'", "a = 'x'"):
                written(tmp_path, f"[limits]\n{text}\n")
                server.reload()
                assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert manager.recv(100) == b"READY=1"
            server.leave()
            assert manager.recv(100) == b"STOPPING=1"


def test_the_watchdog_is_fed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_S)
        asked = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
        with running(tmp_path / "data", **asked):
            assert manager.recv(100) == b"READY=1"
            assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        while manager.recv(100) == b"WATCHDOG=1":
            pass
        # Another process was meant.
        with running(tmp_path / "data", **asked, WATCHDOG_PID="1") as server:
            assert manager.recv(100) == b"READY=1"
            server.leave()
            assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere", "/" + "x" * 200])
def test_a_manager_that_is_not_there(tmp_path: Path, address: str) -> None:
    with running(tmp_path / "data", NOTIFY_SOCKET=address, WATCHDOG_USEC="1") as server:
        assert server.ask("GET", "/readyz")[0] == 200


UNIT = Path(__file__).parents[2] / "examples" / "flint-server.service"


def test_the_unit_starts_it(tmp_path: Path) -> None:
    """With files where the example has them."""
    lines = UNIT.read_text("utf-8").replace("\\\n", "").splitlines()
    (command,) = (line for line in lines if line.startswith("ExecStart="))
    (tmp_path / "tokens").write_text("hush\n", "utf-8")
    written(tmp_path, "[limits]\na = '1/s'\n")
    for there, here in (("%S", tmp_path), ("%d", tmp_path), ("/etc/flint", tmp_path)):
        command = command.replace(there, str(here))
    words = command.split()[1:]
    assert words[-4:-1] == ["--bind", "127.0.0.1:7878", "--open-timeout"]
    del words[-4:-2]
    with running(tmp_path / "flint", *words) as server:
        assert server.ask("GET", "/v1/limits/a", Authorization="Bearer hush")[0] == 200


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/flint/bin/flint-server", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, "")
