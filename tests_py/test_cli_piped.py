"""What the verbs of Flint 0.2 print into a pipe: the same shapes, key by key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command import SETTINGS, Run, in_process, verbs

import flint
from flint._cli.parser import make_parser

TIME = r'"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3,9})?Z"'


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return in_process(capsys)


def answered(done: tuple[int, str, str], code: int = 0) -> str:
    """What a command has printed, with every time as "T"."""
    assert (done[0], done[2]) == (code, "")
    return re.sub(TIME, '"T"', done[1])


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


CHECK = """{
  "key": "%s",
  "allowed": %s,
  "cost": %d,
  "remaining": %d,
  "reset_at": "T",
  "algorithm": "fixed_window_counter"
}
"""

STATUS = """{
  "key": "login",
  "rate": 3,
  "per_millis": 86400000,
  "algorithm": "fixed_window_counter",
  "remaining": 1,
  "reset_at": "T",
  "total_allowed": 1,
  "total_denied": 1,
  "total_allowed_cost": 2,
  "total_denied_cost": 2,
  "last_allowed_at": "T",
  "last_denied_at": "T",
  "last_reset_at": null
}
"""

HISTORY = """[
  {
    "type": "LIMIT_CONFIGURED",
    "config": {
      "key": "login",
      "rate": 3,
      "per_millis": 86400000,
      "algorithm": "fixed_window_counter"
    }
  },
  {
    "type": "ALLOW",
    "key": "login",
    "at": "T",
    "cost": 2
  },
  {
    "type": "DENY",
    "key": "login",
    "at": "T",
    "cost": 2
  }
]
"""

TOP = """[
  {
    "key": "login",
    "total_allowed": 1,
    "total_denied": 1
  }
]
"""

DOCTOR = """{
  "ok": true,
  "limits": 1,
  "history_events": 3,
  "aof_bytes": N,
  "snapshot_exists": false
}
"""

DAY = ("--per", "1d", "--algorithm", "fixed_window_counter")


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def test_the_verbs_of_flint_0_2(run: Run) -> None:
    assert answered(run("limit", "add", "login", "--rate", "3", *DAY)) == "configured\n"
    check = ("limit", "check", "login", "--cost", "2")
    assert answered(run(*check)) == CHECK % ("login", "true", 2, 1)
    assert answered(run(*check)) == CHECK % ("login", "false", 2, 1)
    assert answered(run("limit", "status", "login")) == STATUS
    assert answered(run("limit", "list")) == f"[\n{indented(STATUS)}]\n"
    assert answered(run("limit", "status", "other")) == "null\n"
    assert answered(run("limit", "history", "login")) == HISTORY
    assert answered(run("limit", "history", "other")) == "[]\n"
    assert answered(run("limit", "top")) == answered(run("top")) == TOP
    assert answered(run("limit", "top", "--by", "allowed", "--limit", "1")) == TOP
    assert answered(run("limit", "top", "--limit", "0")) == "[]\n"
    doctor = answered(run("doctor"))
    assert re.sub(r'("aof_bytes": )\d+', r"\1N", doctor) == DOCTOR
    assert answered(run("log", "compact")) == "compacted\n"
    assert '"snapshot_exists": true' in answered(run("doctor"))
    assert answered(run("limit", "reset", "login")) == "reset\n"
    assert json.loads(run("limit", "status", "login")[1])["remaining"] == 3


ALL = """{
  "allowed": %s,
  "denied_key": %s,
  "results": [
%s  ]
}
"""


def results(*checks: str) -> str:
    return ",\n".join(indented(indented(check)).rstrip("\n") for check in checks) + "\n"


def test_check_all(run: Run) -> None:
    for key in ("a", "b=c"):
        run("limit", "add", key, "--rate", "10", *DAY)
    allowed = answered(run("limit", "check-all", "a", "--cost", "b=c=4", "b=c"))
    first, second = CHECK % ("a", "true", 1, 9), CHECK % ("b=c", "true", 4, 6)
    assert allowed == ALL % ("true", "null", results(first, second))
    denied = answered(run("limit", "check-all", "a", "b=c", "--costs", "2,7"))
    first, second = CHECK % ("a", "true", 2, 9), CHECK % ("b=c", "false", 7, 6)
    assert denied == ALL % ("false", '"b=c"', results(first, second))
    assert run("limit", "check-all", "b=c", "--costs", "7", "--fail-on-deny")[0] == 3
    assert json.loads(run("limit", "status", "a")[1])["remaining"] == 9


def test_a_denial_ends_well_unless_told_otherwise(run: Run) -> None:
    run("limit", "add", "a", "--rate", "1", "--per", "1d")
    assert [run("limit", "check", "a")[0] for _ in range(2)] == [0, 0]
    assert run("limit", "check", "a", "--fail-on-deny")[0] == 3


def test_what_flint_0_2_had_no_words_for_comes_last(run: Run) -> None:
    run("limit", "add", "ip:*", "--rate", "2", "--per", "1h", "--burst", "5", "--name", "hour")
    run("limit", "add", "ip:*", "--rate", "9", "--per", "1d", "--name", "day", "--stack")
    found = json.loads(run("limit", "list")[1])
    extra = [{name: one[name] for name in list(one)[13:]} for one in found]
    assert {"burst": 5, "template": True, "name": "hour"} in extra
    assert {"template": True, "name": "day", "stack": True} in extra
    assert len(json.loads(run("limit", "status", "ip:*")[1])) == 2
    assert json.loads(run("limit", "status", "ip:*", "--name", "day")[1])["rate"] == 9
    assert json.loads(run("limit", "status", "ip:*", "--literal")[1]) is None


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_the_data_directory_may_be_named_anywhere(run: Run, place: int, tmp_path: Path) -> None:
    words = ["limit", "add", "a", "--rate=1", "--per=1d"]
    words[place:place] = ["--data-dir", "here"]
    assert answered(run(*words)) == "configured\n"
    assert (tmp_path / "here" / "flint.aof").is_file()


def test_where_the_directory_is_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".flint", "variable", "flag"):
        run("limit", "add", name, "--rate=1", "--per=1d", "--data-dir", name)

    def seen(*words: str) -> tuple[str, str]:
        code, out, err = run("limit", "list", "--verbose", *words)
        assert code == 0
        return json.loads(out)[0]["key"], err

    assert seen() == (".flint", "flint: limits in '.flint', from the default\n")
    monkeypatch.setenv("FLINT_DATA_DIR", "variable")
    said = "flint: limits in 'variable', from the environment's FLINT_DATA_DIR\n"
    assert seen() == ("variable", said)
    assert seen("--data-dir", "flag") == (
        "flag",
        "flint: limits in 'flag', from the flag --data-dir\n",
    )
    monkeypatch.setenv("FLINT_URL", "variable")
    code, out, err = run("limit", "list")
    assert (code, out) == (2, "")
    assert err == "flint: FLINT_URL and FLINT_DATA_DIR are both given; one is enough\n"


# ---- The new verbs -----------------------------------------------------------------------------


def test_remove(run: Run) -> None:
    run("limit", "add", "a", "--rate", "1", "--per", "1d")
    assert answered(run("limit", "remove", "a")) == "removed\n"
    assert answered(run("limit", "status", "a")) == "null\n"


def test_explain(run: Run) -> None:
    run("limit", "add", "ip:*", "--rate", "2", *DAY)
    for _ in range(3):
        run("limit", "check", "ip:1")
    found = json.loads(answered(run("limit", "explain", "ip:1")))
    (limit,) = found["limits"]
    assert (limit["covered_by"], limit["template"]) == ("ip:*", True)
    assert (limit["used"], limit["remaining"]) == (2, 0)
    assert 0 < limit["next_unit_after_s"] <= 86_400
    assert [(one["type"], one["cost"]) for one in found["last_denials"]] == [("DENY", 1)]


def test_explain_several_limits_of_a_key(run: Run) -> None:
    run("limit", "add", "a*", "--rate", "9", "--per", "1d", "--name", "day")
    run("limit", "add", "ab", "--rate", "5", "--per", "1h", "--name", "hour")
    found = json.loads(answered(run("limit", "explain", "ab")))["limits"]
    assert [(one["name"], one["covered_by"]) for one in found] == [("hour", "ab")]
    run("limit", "add", "ab*", "--rate", "5", "--per", "1h", "--name", "hour", "--stack")
    found = json.loads(answered(run("limit", "explain", "abc")))["limits"]
    by_name = {one["name"]: one["covered_by"] for one in found}
    assert by_name == {"day": "a*", "hour": "ab*"}


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra", "leaky_bucket"])
def test_the_next_unit_of_a_limit_that_is_above_another_one(run: Run, algorithm: str) -> None:
    run("limit", "add", "a", f"2/hour; 100/day using {algorithm}")
    run("limit", "check", "a", "--cost", "2")
    day, hour = json.loads(answered(run("limit", "explain", "a")))["limits"]
    assert (day["name"], day["remaining"], hour["name"]) == ("per day", 98, "per hour")
    assert 800 < day["next_unit_after_s"] <= 864
    assert 1700 < hour["next_unit_after_s"] <= 1800
    run("limit", "add", "w", "2/hour; 100/day using fixed_window_counter")
    run("limit", "check", "w", "--cost", "2")
    day, _ = json.loads(answered(run("limit", "explain", "w")))["limits"]
    assert 86_000 < day["next_unit_after_s"] <= 86_400


def test_log_verbs(run: Run) -> None:
    run("limit", "add", "a", "--rate", "3", *DAY)
    run("limit", "check", "a")
    lines = [json.loads(line) for line in answered(run("log", "dump")).splitlines()]
    assert [line["type"] for line in lines] == ["LIMIT_CONFIGURED", "ALLOW"]
    portable = run("log", "dump", "--portable")[1].splitlines()
    assert [json.loads(line)["event"]["type"] for line in portable] == [
        "LIMIT_CONFIGURED",
        "ALLOW",
    ]
    found = json.loads(answered(run("log", "verify")))
    assert (found["ok"], found["damage"], found["history_events"]) == (True, None, 2)
    assert json.loads(answered(run("log", "stat")))["limits"] == 1


def test_limits_in_words(run: Run) -> None:
    assert answered(run("limit", "add", "a", "10/s burst 20")) == "configured\n"
    assert answered(run("limit", "add", "mail:*", "5/minute; 100/hour")) == "configured\n"
    listed = json.loads(answered(run("limit", "list")))
    assert [(one["key"], one["rate"], one["per_millis"]) for one in listed] == [
        ("a", 10, 1000),
        ("mail:*", 100, 3_600_000),
        ("mail:*", 5, 60_000),
    ]


def test_what_if(run: Run) -> None:
    run("limit", "add", "a", "--rate", "3", *DAY)
    for _ in range(5):
        run("limit", "check", "a")
    answer = json.loads(answered(run("what-if", "a", "2/day", "4/day", "--keys", "0")))
    assert (answer["pattern"], answer["events"], answer["notes"]) == ("a", 5, [])
    assert [
        (one["rate"], one["was_allowed"], one["allowed"], one["denied"], one["keys"])
        for one in answer["candidates"]
    ] == [("2/day", 3, 2, 3, []), ("4/day", 3, 4, 1, [])]
    found = json.loads(answered(run("what-if", "a", "1/day", "--target-denied", "20%")))
    assert [one["rate"] for one in found["candidates"]] == ["1/day", "4/day"]


def test_what_if_of_a_rate_that_has_a_name(run: Run) -> None:
    run("limit", "add", "a", "--rate", "3", *DAY)
    for _ in range(5):
        run("limit", "check", "a")
    code, _, said = run("what-if", "a", "strict")
    assert (code, "no rate is named 'strict'" in said) == (1, True)
    text = '[rates]\nstrict = "2/day"\nboth = ["4/day", "9/hour"]\n'
    Path("flint.toml").write_text(text, "utf-8")
    found = json.loads(answered(run("what-if", "a", "strict", "both", "3/day")))["candidates"]
    assert [(one["rate"], one["allowed"]) for one in found] == [
        ("2/day", 2),
        ("9/hour; 4/day", 4),
        ("3/day", 3),
    ]
    code, _, said = run("what-if", "a", "strikt")
    assert (code, 'did you mean "strict"?' in said) == (1, True)
    Path("flint.toml").write_text("[rates\n", "utf-8")
    answered(run("what-if", "a", "1/day", "--data-dir", ".flint"))  # needs no file
    assert run("what-if", "a", "strict", "--data-dir", ".flint")[0] == 1


def test_dump_and_history_since(run: Run) -> None:
    run("limit", "add", "a", "--rate", "3", *DAY)
    run("limit", "check", "a")
    for since, count in (("1h", 1), ("2001-01-01T00:00:00Z", 1), ("2200-01-01T00:00:00Z", 0)):
        dumped = answered(run("log", "dump", "--since", since)).splitlines()
        assert sum("ALLOW" in line for line in dumped) == count
        history = json.loads(answered(run("limit", "history", "a", "--since", since)))
        assert sum(event["type"] == "ALLOW" for event in history) == count
    (newest,) = json.loads(answered(run("limit", "history", "a", "--limit", "1")))
    assert newest["type"] == "ALLOW"


def test_version(run: Run) -> None:
    assert run("version") == run("--version") == (0, f"{flint.__version__}\n", "")
    code, out, err = run("version", "--verbose")
    assert (code, out) == (0, f"{flint.__version__}\n")
    assert str(Path(flint.__file__).parent) in err


# ---- Bad input ---------------------------------------------------------------------------------

SINCE = "--since must be a length of time such as 10m, or a time with its zone"
BAD: list[tuple[int, str, str]] = [
    (1, "limit add b --rate 0 --per 1m", "rate must be an integer from 1 to"),
    (1, "limit add b --rate 1 --per soon", "per must be digits with ms, s, m, h or d"),
    (1, "limit add b --rate 1 --per 1m --burst 0", "burst must be an integer"),
    (1, "limit add b --rate 1 --per 1m --algorithm sliding_window_log --burst 3", "burst"),
    (2, "limit add b --rate x --per 1m", "argument --rate: invalid int value: 'x'"),
    (2, "limit add b", "required: LIMIT, such as 100/minute, or --rate and --per"),
    (2, "limit add b --per 1m", "required: LIMIT, such as 100/minute, or --rate and --per"),
    (2, "limit add b 1/m --per 1m", "--rate and --per say the same as LIMIT: give one of them"),
    (1, "limit add b 5/fortnight", "fortnight"),
    (2, "limit add b --rate 1 --per 1m --algorithm best", "invalid choice: 'best'"),
    (1, "limit remove b", "limit is not configured: b"),
    (1, "limit remove a --name day", "no limit of exactly this key, with the name day: a"),
    (1, "limit reset b", "limit is not configured: b"),
    (1, "limit check b", "limit is not configured: b. `flint limit list` shows"),
    (1, "limit check a --cost 0", "cost must be an integer from 1"),
    (1, "limit check a --cost 4", 'cost 4 for key "a" must be between 1 and 3'),
    (2, "limit check", "required: KEY"),
    (2, "limit check-all", "check-all needs at least one KEY"),
    (1, "limit check-all a b", "limit is not configured: b"),
    (1, "limit check-all a a", "this one is there twice: a"),
    (1, "limit check-all a --cost x", 'invalid --cost value "x"; expected key=cost'),
    (1, "limit check-all a --cost a=1 --cost a=2", "duplicate --cost specified for key: a"),
    (1, "limit check-all a --cost b=1", "--cost specified for unknown limit key(s): b"),
    (2, "limit check-all a --costs 1,2", "--costs has 2 numbers for 1 keys: 1,2"),
    (2, "limit check-all a --costs x", 'invalid --costs value "x"; expected numbers'),
    (2, "limit check-all a --costs 1 --cost a=1", "--cost and --costs are both given"),
    (2, "limit status", "required: KEY"),
    (2, "limit list --limit 3", "unrecognized arguments: --limit 3"),
    (2, "limit history a --since soon", SINCE),
    (1, "limit history a --limit -1", "limit must be an integer from 0, not -1"),
    (1, "limit explain b", "limit is not configured: b"),
    (2, "limit top --by luck", "invalid choice: 'luck'"),
    (2, "limit top --limit -1", "--limit must be 0 or more, not -1"),
    (2, "top --watch --interval 0", "--interval must be from 0.05 to 3600 seconds, not 0"),
    (2, "top --watch --looks 0", "--looks must be 1 or more, not 0"),
    (2, "what-if a", "required: RATE"),
    (1, "what-if a 5/fortnight", "fortnight"),
    (2, "what-if a 1/d --target-denied x", "--target-denied must be a share such as 1% or 0.01"),
    (2, "what-if a 1/d --target-denied 101%", "--target-denied must be a share"),
    (2, "what-if a 1/d --keys -1", "--keys must be 0 or more, not -1"),
    (2, "what-if a 1/d --buckets 0", "--buckets must be from 1 to 100,000, not 0"),
    (2, "init a b", "unrecognized arguments: b"),
    (1, "init no/folder.toml", "No such file or directory: 'no/folder.toml'"),
    (2, "config", "required: VERB"),
    (1, "config show none.toml", "none.toml: there is no such file"),
    (1, "sharing none", "there is no data directory 'none'"),
    (2, "migrate", "required: FILE|DIRECTORY"),
    (2, "server start now", "unrecognized arguments: now"),
    (2, "pg install now", "unrecognized arguments: now"),
    (2, "log", "required: VERB"),
    (2, "log compact now", "unrecognized arguments: now"),
    (2, "log dump --since 2020-01-01", SINCE),
    (2, "log dump --portable --follow", "--portable writes all there is"),
    (2, "log verify all", "unrecognized arguments: all"),
    (2, "log stat all", "unrecognized arguments: all"),
    (2, "doctor all", "unrecognized arguments: all"),
    (2, "completion csh", "invalid choice: 'csh'"),
    (2, "version 2", "unrecognized arguments: 2"),
    (2, "nonsense", "invalid choice: 'nonsense'"),
    (2, "limit list --url x --data-dir y", "--url and --data-dir are both given"),
]


@pytest.mark.parametrize(("code", "line", "message"), BAD, ids=[line for _, line, _ in BAD])
def test_bad_input_changes_nothing(
    run: Run, tmp_path: Path, code: int, line: str, message: str
) -> None:
    run("limit", "add", "a", "--rate", "3", *DAY)
    before = tree(tmp_path)
    done = run(*line.split())
    assert done[:2] == (code, "")
    assert message in done[2]
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "line",
    [
        "limit list",
        "limit status a",
        "limit check a",
        "limit check-all a",
        "limit reset a",
        "limit remove a",
        "limit history a",
        "limit explain a",
        "limit top",
        "top --watch",
        "log compact",
        "log dump",
        "log verify",
        "log stat",
        "doctor",
    ],
)
def test_a_directory_that_is_not_there(run: Run, tmp_path: Path, line: str) -> None:
    code, out, err = run(*line.split())
    assert (code, out) == (1, "")
    assert err.startswith("flint: there is no data directory '.flint': `flint limit add` makes one")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_for_a_limit_that_cannot_be(run: Run, tmp_path: Path) -> None:
    assert run("limit", "add", "a", "--rate", "0", "--per", "1m")[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_damage_is_an_error(run: Run, tmp_path: Path) -> None:
    run("limit", "add", "a", "--rate", "3", *DAY)
    path = tmp_path / ".flint" / "flint.aof"
    data = bytearray(path.read_bytes())
    data[4096] ^= 1
    path.write_bytes(data)
    for line in (("doctor",), ("log", "verify")):
        code, out, err = run(*line)
        found: dict[str, Any] = json.loads(out)
        assert (code, found["ok"]) == (1, False)
        assert err == f"flint: {found['damage']['message']}\n"
        assert found["findings"][0] == found["damage"]["message"]


# ---- Help --------------------------------------------------------------------------------------

VERBS = [parser.prog.removeprefix("flint ") for parser in verbs(make_parser())]
GROUPS = sorted({verb.split()[0] for verb in VERBS if " " in verb})


@pytest.mark.parametrize("verb", [*VERBS, *GROUPS])
def test_help_begins_with_two_examples(run: Run, verb: str) -> None:
    code, out, err = run(*verb.split(), "--help")
    assert (code, err) == (0, "")
    first, *examples = out.splitlines()[:3]
    assert first == "examples:"
    assert all(example.startswith("  flint ") for example in examples)
    assert all(verb.split()[-1] in example for example in examples)
