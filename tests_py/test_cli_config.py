"""`flint init`, `flint config`, and where a command finds the limits that it is about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import SETTINGS, Run, in_process

import flint
from flint._places import without_password
from flint.config import TEMPLATE


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return in_process(capsys)


def made(path: Path, key: str) -> Path:
    with flint.Limiter(path, sync="batch") as limiter:
        limiter.limit(key, "1/minute")
    return path


def keys(done: tuple[int, str, str]) -> list[str]:
    assert (done[0], done[2]) == (0, "")
    return [one["key"] for one in json.loads(done[1])]


def test_init_writes_what_check_finds_right(run: Run) -> None:
    assert run("init") == (0, "wrote flint.toml\n", "")
    assert Path("flint.toml").read_text("utf-8") == TEMPLATE
    code, out, err = run("config", "check")
    assert (code, json.loads(out), err) == (0, {"ok": True, "errors": []}, "")


def test_init_overwrites_only_when_told(run: Run) -> None:
    Path("flint.toml").write_text("mine")
    said = "flint: flint.toml is there already; --force overwrites it\n"
    assert run("init") == (1, "", said)
    assert Path("flint.toml").read_text() == "mine"
    assert run("init", "--force")[0] == 0
    assert Path("flint.toml").read_text("utf-8") == TEMPLATE
    code, _, err = run("init", "no/such/folder.toml")
    assert code == 1
    assert "no/such/folder.toml" in err


def test_check_names_everything_that_is_wrong(run: Run) -> None:
    Path("flint.toml").write_text('[limits]\na = "5/minutee"\n[storage]\nsinc = "batch"\n')
    code, out, err = run("config", "check")
    found = json.loads(out)
    assert (code, err, found["ok"]) == (1, "", False)
    places = [(one["path"], one["line"], one["key"]) for one in found["errors"]]
    assert places == [("flint.toml", 2, "limits.a"), ("flint.toml", 4, "storage.sinc")]
    assert "did you mean sync?" in found["errors"][1]["message"]


def test_without_a_file(run: Run) -> None:
    code, out, _ = run("config", "check")
    assert code == 1
    assert "`flint init` writes one" in json.loads(out)["errors"][0]["message"]
    code, out, err = run("config", "show")
    assert (code, out) == (1, "")
    assert "`flint init` writes one" in err


def test_show_keeps_secrets(run: Run, tmp_path: Path) -> None:
    Path("flint.toml").write_text(
        '[storage]\nurl = "here"\nmax_keys = 7\n[limits]\na = "strict"\n'
        '[rates]\nstrict = "5/5m; 9/h"\n[server]\ntoken = "hunter2"\n'
    )
    code, out, err = run("config", "show")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "path": "flint.toml",
        "storage": {"url": str(tmp_path / "here"), "max_keys": 7},
        "limits": [{"key": "a", "rate": "strict"}],
        "rates": {"strict": "5/5m; 9/hour"},
        "server": {"token": "***"},
    }


def test_where_limits_are_found(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, environment, file, default: each is asked only where the ones before say nothing."""
    made(tmp_path / ".flint", "default")
    assert keys(run("limit", "list")) == ["default"]
    made(tmp_path / "by file", "file")
    Path("flint.toml").write_text('[storage]\nurl = "by file"\n')
    assert keys(run("limit", "list")) == ["file"]
    assert "from the file flint.toml" in run("limit", "list", "--verbose")[2]
    monkeypatch.setenv("FLINT_URL", made(tmp_path / "by url", "url").as_uri())
    assert keys(run("limit", "list")) == ["url"]
    made(tmp_path / "by flag", "flag")
    assert keys(run("limit", "list", "--data-dir", "by flag")) == ["flag"]
    assert keys(run("limit", "list", "--url", (tmp_path / "by flag").as_uri())) == ["flag"]


def test_places_that_there_are_none_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run("limit", "list", "--url", "mongodb://me:hunter2@host/0")
    assert (code, out) == (1, "")
    assert "use a path, a file: URL" in err
    assert "hunter2" not in err
    monkeypatch.setenv("FLINT_CONFIG", "absent.toml")
    code, out, err = run("limit", "list")
    assert (code, out) == (1, "")
    assert "FLINT_CONFIG names it" in err


def test_the_options_of_the_file_hold_for_its_place(run: Run) -> None:
    Path("flint.toml").write_text('[storage]\nhistory_max_bytes = 0\non_error = "allow"\n')
    for place, kept in (((), []), (("--data-dir", ".flint"), ["a"])):
        assert run("limit", "add", "a", "9/day", *place)[0] == 0
        assert run("limit", "check", "a", *place)[0] == 0
        assert run("log", "compact", *place)[0] == 0
        events = json.loads(run("limit", "history", "a")[1])
        assert [one["key"] for one in events if one["type"] == "ALLOW"] == kept
    code, _, said = run("limit", "list", "--verbose")
    assert (code, "from the file flint.toml, with its history_max_bytes\n" in said) == (0, True)


SECRETS = (
    "redis://:hunter2@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?password=hunter2",
    "rediss://:hun@ter2@127.0.0.1:1/0",
    "postgresql://me:hunter2@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?user=me&password=hun@ter2",
    "postgresql://me:hun?ter2@127.0.0.1:1/db",
)
LINES = (
    *("limit list --verbose", "limit add a 1/s", "log dump", "what-if a 1/s", "doctor", "sharing"),
    *("config show", "config check", "pg install", "server start", "top --watch --looks 1"),
)


@pytest.mark.parametrize("url", SECRETS)
def test_no_verb_shows_a_password(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flint._cli.server.PROGRAM", Path(__file__))
    Path("flint.toml").write_text(f'[storage]\nurl = "{url}"\n')
    for line in LINES:
        _, out, err = run(*line.split())
        assert "hun" not in out + err, line
        assert "ter2" not in out + err, line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("data/limits", "data/limits"),
        ("unix:/run/flint.sock", "unix:/run/flint.sock"),
        ("http://host:7878", "http://host:7878"),
        ("redis://:secret@host:6379/0", "redis://...@host:6379/0"),
        ("redis://host/0?password=secret", "redis://host/0?..."),
        ("redis://:se?cret@host/0", "redis://..."),
    ],
)
def test_the_rest_of_a_url_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_limits_of_the_file_are_applied(run: Run) -> None:
    Path("flint.toml").write_text('[storage]\nurl = "here"\n[limits]\na = "1/s"\n"b:*" = "2/s"\n')
    code, out, err = run("config", "apply")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"limits": 2, "not_in_config": [], "removed": False}
    text = '[storage]\nurl = "here"\n[rates]\nfew = "3/s; 9/m"\n[limits]\na = "few"\n'
    Path("other.toml").write_text(text)
    answer = json.loads(run("config", "apply", "other.toml")[1])
    assert answer == {"limits": 1, "not_in_config": ["b:*"], "removed": False}
    assert keys(run("limit", "list")) == ["a", "a", "b:*"]
    answer = json.loads(run("config", "apply", "other.toml", "--prune")[1])
    assert answer == {"limits": 1, "not_in_config": ["b:*"], "removed": True}
    assert keys(run("limit", "list")) == ["a", "a"]
    with flint.Limiter("here"):
        code, out, err = run("config", "apply")
    assert (code, out, "let it share the directory" in err) == (4, "", True)
    Path("flint.toml").write_text('[storage]\nurl = "new"\n[limits]\na = "1/x"\n')
    assert run("config", "apply")[0] == 1
    assert not Path("new").exists()
