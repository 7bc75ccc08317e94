"""`flint.toml`: found, read, refused with its place, applied, and applied again when it changes."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

import flint
from flint import ConfigError, Limiter, config
from flint.config import Watch

FILE = """\
[storage]
url = "data"
sync = "batch"
clock = "system"
history_max_age = "30d"

[rates]
strict_login = "5/5m"
both = ["1/s", "10/m"]
table = { rate = 3, per = "1h", burst = 4 }
several = { rate = ["1/s", "10/m"], algorithm = "gcra" }

[limits]
"user:*" = "100/minute"
"login" = "strict_login"
"mail:*" = { rate = 30, per = "1h", algorithm = "sliding_window_log" }
api = "5/second; 100/hour"

[server]
bind = "127.0.0.1:7878"
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLINT_CONFIG", raising=False)
    return tmp_path


def opened(*args: object, **options: object) -> Limiter:
    limiter = flint.from_config(*args, **options)  # type: ignore[arg-type]
    assert isinstance(limiter, Limiter)
    return limiter


def limits_of(limiter: Limiter) -> list[tuple[str, str | None, int]]:
    return [(entry["key"], entry["name"], entry["rate"]) for entry in limiter.list()]


def test_a_file_opens_and_configures(tmp_path: Path) -> None:
    (tmp_path / "flint.toml").write_text(FILE)
    with opened() as limiter:
        assert limiter.data_dir == str(tmp_path / "data")
        assert limiter.sync == "batch"
        assert limits_of(limiter) == [
            ("api", "per hour", 100),
            ("api", "per second", 5),
            ("login", None, 5),
            ("mail:*", None, 30),
            ("user:*", None, 100),
        ]
        assert limiter.not_in_config == ()

        @limiter.rate_limit("table", rate="table")
        def call() -> None: ...

        assert limiter.peek("table").limit == 4
        assert limiter.peek("x", limit="both").results[1].name == "per second"
        of_table = limiter.peek("y", limit="several").results
        assert [(one.limit, one.algorithm) for one in of_table] == [(10, "gcra"), (1, "gcra")]


def test_the_template_is_read_and_opens(tmp_path: Path) -> None:
    (tmp_path / "flint.toml").write_text(config.TEMPLATE)
    assert config.check() == []
    with opened() as limiter:
        assert limiter.list() == []


def test_the_template_with_everything_in_force() -> None:
    lines = [
        line.removeprefix("# ") if " = " in line and not line.startswith("# @") else line
        for line in config.TEMPLATE.splitlines()
    ]
    read = config.parse("\n".join(lines))
    assert {"max_keys", "when_full", "on_error", "history_max_age", "sync"} == set(read.options)
    assert [limit["key"] for limit in read.limits][-1] == "admin:*"
    assert set(read.server) == {"bind", "redis_bind", "token_file"}


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="flint init"):
        config.load()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert config.find() is None
    (tmp_path / "pyproject.toml").write_text('[tool.flint.limits]\n"a" = "1/s"\n')
    assert [limit["key"] for limit in config.load().limits] == ["a"]
    (tmp_path / "flint.toml").write_text('[limits]\n"b" = "1/s"\n')
    assert [limit["key"] for limit in config.load().limits] == ["b"]
    (tmp_path / "c.toml").write_text('[limits]\n"c" = "1/s"\n')
    monkeypatch.setenv("FLINT_CONFIG", "c.toml")
    assert [limit["key"] for limit in config.load().limits] == ["c"]
    assert [limit["key"] for limit in config.load("flint.toml").limits] == ["b"]
    monkeypatch.setenv("FLINT_CONFIG", "none.toml")
    with pytest.raises(ConfigError, match=r"^none\.toml: there is no such file \(FLINT_CONFIG"):
        config.load()
    with pytest.raises(ConfigError, match=r"^d\.toml: there is no such file$"):
        config.load("d.toml")


WRONG = [
    ("[storage]\nsinc = 1\n", 2, "storage.sinc", "there is no such key; did you mean sync?"),
    ("[storage]\n\nsync = 'now'\n", 3, "storage.sync", "'always' or 'batch'"),
    ("[storage]\nring_bytes = 3\n", 2, "storage.ring_bytes", "262144"),
    ("[storage]\nurl = 3\n", 2, "storage.url", "a path or a URL"),
    ("[storage]\nmax_downtime = '3x'\n", 2, "storage.max_downtime", "ms, s, m, h or d"),
    ("[limit]\n", 1, "limit", "did you mean limits?"),
    ("limits = 3\n", 1, "limits", "must be a table"),
    ("[limits]\n'a' = '1/s'\n'b' = '5/minutee'\n", 3, "limits.b", 'did you mean "minute"?'),
    ("[limits]\n'b' = 'strict'\n", 2, "limits.b", "no rate is named 'strict'"),
    ("[limits]\n'b' = 5\n", 2, "limits.b", "either per or per_ns"),
    ("[limits]\n'b' = { per = '1m' }\n", 2, "limits.b", "rate is missing"),
    ("[limits]\n'b' = { rat = 1, per = '1m' }\n", 2, "limits.b.rat", "did you mean rate?"),
    ("[limits.b]\nrate = 1\nper = '1m'\nburts = 2\n", 4, "limits.b.burts", "did you mean burst?"),
    ("[limits]\n' ' = '1/s'\n", 2, "limits. ", "white space"),
    ("[rates]\n1x = '1/s'\n", 2, "rates.1x", "a name is a letter"),
    ("[rates]\nx = 5\n", 2, "rates.x", "a rate must be"),
    ("[rates]\nx = { per = '1s' }\n", 2, "rates.x", "rate is missing"),
    ("[rates]\nx = '0/s'\n", 2, "rates.x", "1 to 2**62"),
    ("[rates]\nx = { rate = 0, per = '1s' }\n", 2, "rates.x", "rate must be an integer"),
    ("[server]\nbindd = 'x'\n", 2, "server.bindd", "did you mean bind?"),
    ("[server]\nbind = 4\n", 2, "server.bind", "must be a text"),
    *(
        (f"[server]\n{key} = '{value}'\n", 2, f"server.{key}", "must be ADDRESS:PORT or unix:PATH")
        for key in ("bind", "redis_bind")
        for value in (
            "localhost:1",
            "127.0.0.1",
            "127.0.0.1:65536",
            f"127.0.0.1:{'9' * 20}",
            "::1:9",
            "[::1:9",
            "unix:",
        )
    ),
    ("[limits\n", 1, "", "this is not TOML"),
    ("[limits]\n'b' = '1/s'\n'b' = '1/s'\n", 3, "", "this is not TOML"),
]


@pytest.mark.parametrize(("text", "line", "key", "words"), WRONG)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, text: str, line: int, key: str, words: str
) -> None:
    (tmp_path / "flint.toml").write_text(text)
    (error,) = config.check()
    assert (error.path, error.line, error.key) == ("flint.toml", line, key)
    assert words in str(error)
    assert str(error).startswith(f"flint.toml:{line}: {key}")
    with pytest.raises(ConfigError):
        flint.from_config()
    assert [path.name for path in tmp_path.iterdir()] == ["flint.toml"]


@pytest.mark.parametrize("value", ["127.0.0.1:0", "[::1]:7878", "0.0.0.0:65535", "unix:run/socket"])
def test_where_a_server_may_listen(value: str) -> None:
    assert config.parse(f"[server]\nbind = '{value}'\n").server == {"bind": value}


def others(name: str) -> str:
    """The rest of a table that has this key."""
    rest = {"rate": "5", "per": "'1m'"}
    rest.pop("per" if name == "per_ns" else name, None)
    return "".join(f"{key} = {value}\n" for key, value in rest.items())


PLACES = {
    "data": config._STORAGE,
    "http://host:1": config._SERVED,
    "postgresql://host/name": config._IN_DATABASE,
    "redis://host": config._IN_REDIS,
}
WRONG_VALUES = [
    *(
        (f"[storage]\nurl = '{url}'\n{name} = []\n", f"storage.{name}")
        for url, names in PLACES.items()
        for name in sorted(names)
    ),
    *((f"[server]\n\n{name} = []\n", f"server.{name}") for name in sorted(config._SERVER)),
    *(
        (f"[{section}.x]\n{name} = []\n{others(name)}", f"{section}.x")
        for section, names in (("limits", config._LIMIT), ("rates", config._RATE))
        for name in sorted(names)
    ),
]


@pytest.mark.parametrize(("text", "key"), WRONG_VALUES, ids=repr)
def test_a_wrong_value_of_each_key_is_named(text: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "flint.toml").write_text(text)
    errors = config.check()
    assert [error.key for error in errors] == [key]
    assert errors[0].line == (3 if key.startswith(("storage", "server")) else 1)
    [name] = re.findall(r"(\w+) = \[\]", text)
    assert re.search(rf"\b{name}\b", str(errors[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["flint.toml"]


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[limits]\na = '1'\nb = '2/x'\n[storage]\nx = 1\n")
    assert [error.line for error in config.check("f.toml")] == [2, 3, 5]


def test_limits_that_left_are_reported_and_removed_only_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "flint.toml"
    path.write_text('[limits]\n"a" = "1/s"\n"b:*" = "1/s; 5/m"\n')
    with opened() as limiter:
        limiter.allow("inline", rate=1, per="1h")
        limiter.allow("several", limit="1/h; 5/d")
    path.write_text('[limits]\n"a" = "2/s"\n')
    with opened() as limiter:
        assert limiter.not_in_config == ("b:*",)
        assert limits_of(limiter)[-3:-1] == [("b:*", "per minute", 5), ("b:*", "per second", 1)]
    assert "has no limits for b:*" in caplog.text
    with opened(prune=True) as limiter:
        assert limiter.not_in_config == ()
        assert "b:*" not in [key for key, _, _ in limits_of(limiter)]
        assert not limiter.allow("inline", rate=1, per="1h")
        assert not limiter.allow("several", limit="1/h; 5/d")


def test_a_change_is_applied_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "flint.toml"
    path.write_text('[limits]\n"a" = "1/s"\n[rates]\nr = "1/s"\n')
    limiter = opened()
    errors: list[Exception] = []
    watch = Watch(limiter, config.load(), on_error=errors.append)
    assert not watch.look()
    path.write_text('[limits]\n"a" = "2/s"\n"b" = "9/minutes"\n[rates]\nr = "3/s"\n')
    assert watch.look()
    assert limits_of(limiter) == [("a", None, 2), ("b", None, 9)]
    assert limiter.peek("x", limit="r").limit == 3
    for bad in ('[limits]\n"a" = "4/s"\n"c" = "1/x"\n', '[storage]\nsync = "batch"\n', "[", "\0"):
        path.write_text(bad)
        assert not watch.look()
        assert not watch.look()  # said once
        assert limits_of(limiter) == [("a", None, 2), ("b", None, 9)]
        assert limiter.peek("x", limit="r").limit == 3
    path.unlink()
    assert not watch.look()
    assert len(errors) == 5
    assert all(isinstance(error, ConfigError) for error in errors)
    path.write_text('[limits]\n"a" = "5/s"\n')
    assert watch.look()
    assert limits_of(limiter)[0] == ("a", None, 5)
    limiter.close()
    path.write_text('[limits]\n"a" = "6/s"\n')
    assert not watch.look()
    assert len(errors) == 5


def test_the_watching_thread_ends_with_the_limiter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "WATCH_INTERVAL_S", 0.001)
    (tmp_path / "flint.toml").write_text('[limits]\n"a" = "1/s"\n')
    with opened(watch=True):
        (thread,) = [one for one in threading.enumerate() if one.name == "flint-config"]
    thread.join(60)
    assert not thread.is_alive()


def test_the_watching_thread_applies_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "WATCH_INTERVAL_S", 0.001)
    path = tmp_path / "flint.toml"
    path.write_text('[limits]\n"a" = "1/day"\n')
    wrong = threading.Event()
    with opened(watch=True, on_error=lambda _: wrong.set()) as limiter:
        (tmp_path / "new").write_text('[limits]\n"a" = "2/day"\n')
        (tmp_path / "new").replace(path)
        deadline_s = time.monotonic() + 60
        while limits_of(limiter) != [("a", None, 2)]:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        (tmp_path / "new").write_text('[limits]\n"a" = "3/day"\n"b" = "1/x"\n')
        (tmp_path / "new").replace(path)
        assert wrong.wait(60)
        assert limits_of(limiter) == [("a", None, 2)]
