"""The command on a terminal: tables, colour, width, and keys that try to move the cursor."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import COLOUR, CONTROL_SEQUENCE, Terminal, cells, on_terminal

import flint
from flint._cli import progress, text, view
from flint._cli.sampler import Row, Sampler, sparkline
from flint._cli.tables import Column, bar, table
from flint.testing import ManualClock

ARABIC = "مستخدم:أحمد"
EMOJI = "emoji 👍 family 👨\u200d👩\u200d👧 流量"
HOSTILE = "esc\x1b[2J\x1b[H\x1b]0;title\x07\r\n\tnew\x9b2J\u202egnp\u2066x"
LONG = "k" * 300
KEYS = [ARABIC, EMOJI, HOSTILE, LONG, "user:1"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A place with a data directory whose keys are of every kind."""
    with flint.Limiter(tmp_path / ".flint") as limiter:
        for key in KEYS:
            limiter.limit(key, rate=2, per="1h")
            for _ in range(3):
                limiter.check(key)
    return tmp_path


VERBS = [
    *("limit list", "limit top", "log dump", "log stat", "log verify", "doctor", "version"),
    *(f"limit {verb} KEY" for verb in ("status", "history", "explain", "check", "reset")),
    "limit check-all KEY user:1",
    "limit list --json",
    "what-if * 1/hour --target-denied 50%",
    "top --watch --looks 2 --interval 0.05",
]


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("verb", VERBS)
def test_keys_cannot_move_the_cursor(place: Path, verb: str, columns: int) -> None:
    words = [HOSTILE if word == "KEY" else word for word in verb.split()]
    code, said = on_terminal(columns, *words, cwd=place)
    assert code == 0
    said = said.replace("\x1b[H", "\n") if "--watch" in verb else said  # where a screen begins
    left = CONTROL_SEQUENCE.sub("", said) if "--watch" in verb else COLOUR.sub("", said)
    assert all(one.isprintable() or one in "\r\n" for one in left)
    assert "title" not in said or "\\x1b]0;title" in said or "\\u001b]0;title" in said
    if "dump" not in verb and "--json" not in verb and "KEY" not in verb:
        assert all(cells(line) <= columns for line in re.split(r"[\r\n]+", left))


@pytest.mark.parametrize("columns", [80, 200])
def test_a_table_is_aligned(place: Path, columns: int) -> None:
    _, said = on_terminal(columns, "limit", "list", cwd=place)
    lines = COLOUR.sub("", said).splitlines()
    assert len(lines) == 1 + len(KEYS)
    at = lines[0].index("key")
    ends = [line[:at] for line in lines]
    assert all(len(end) == at and cells(end) == at for end in ends)
    keys = [line[at:].rstrip() for line in lines[1:]]
    assert ARABIC in keys
    assert "user:1" in keys
    assert any(key.startswith("k" * 20) and key.endswith("…") for key in keys)
    assert any(key.startswith(r"esc\x1b[2J\x1b[H") for key in keys)


def test_what_if_shows_what_was_and_what_would_have_been(place: Path) -> None:
    _, said = on_terminal(80, "what-if", "user:1", "1/hour", "5/hour", cwd=place)
    lines = [line.split() for line in COLOUR.sub("", said).splitlines()]
    assert lines[0] == ["3", "decisions", "about", "user:1"]
    assert lines[1][:3] == ["allowed", "denied", "share"]
    assert [(line[0], line[1], line[2], line[-1]) for line in lines[2:5]] == [
        ("2", "1", "33.33%", "was"),
        ("1", "2", "66.67%", "1/hour"),
        ("3", "0", "0.00%", "5/hour"),
    ]


def test_several_keys_at_once(place: Path) -> None:
    words = ("limit", "check-all", "user:1", "user:2", "--cost", "user:2=3")
    for key in ("user:1", "user:2"):
        on_terminal(80, "limit", "add", key, "5/day", cwd=place)
    _, said = on_terminal(80, *words, cwd=place)
    first, head, *rows = COLOUR.sub("", said).splitlines()
    assert (first, head.split()) == ("allowed", ["cost", "left", "key"])
    assert [row.split() for row in rows] == [["1", "2", "user:1"], ["3", "2", "user:2"]]
    _, said = on_terminal(80, *words, cwd=place)
    denied = "denied: user:2, 2 left and 3 asked for; nothing is used of the others\n"
    assert COLOUR.sub("", said) == denied


def test_colour(place: Path) -> None:
    coloured = on_terminal(80, "limit", "top", cwd=place)[1]
    assert "\x1b[31m" in coloured
    plain = on_terminal(80, "limit", "top", cwd=place, NO_COLOR="1")[1]
    assert not re.search(r"\x1b\[[0-9;]*3\dm", plain)
    dumb = on_terminal(80, "limit", "top", cwd=place, TERM="dumb")[1]
    assert "\x1b" not in dumb
    assert "user:1" in dumb


def test_json_on_a_terminal(place: Path) -> None:
    code, said = on_terminal(80, "limit", "top", "--json", "--limit", "1", cwd=place)
    assert code == 0
    assert said.startswith('[\n  {\n    "key": ')


WITHOUT_RICH = """
import sys
sys.modules["rich"] = sys.modules["shtab"] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "rich" else found(name, *more)
from flint._cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("line", "code", "begin"),
    [
        ("limit list", 0, "[\n  {\n"),
        ("limit check user:1", 0, "{\n"),
        ("limit explain user:1", 0, "{\n"),
        ("doctor", 0, '{\n  "ok": true'),
        ("log dump", 0, "-                    LIMIT_CONFIGURED"),
        ("limit reset user:1", 0, "reset\n"),
        ("top --watch", 1, "flint: the live view is drawn by rich: pip install"),
        ("completion bash", 1, "flint: completion scripts are written by shtab: pip install"),
    ],
)
def test_without_the_extra(place: Path, line: str, code: int, begin: str) -> None:
    argv = [sys.executable, "-c", WITHOUT_RICH, *line.split()]
    done = Terminal(80, argv, place).end()
    assert (done[0], done[1][: len(begin)]) == (code, begin)


# ---- The live view -----------------------------------------------------------------------------


def test_the_live_view_and_its_keys(place: Path) -> None:
    argv = [sys.executable, "-m", "flint", "top", "--watch", "--interval", "0.05"]
    terminal = Terminal(120, argv, place)
    terminal.read_until("by denied")
    terminal.type("s")
    terminal.read_until("by allowed")
    terminal.type("/user")
    terminal.read_until("filter: user_")
    terminal.type("\r")
    terminal.read_until("filter: user")
    terminal.type("p")
    terminal.read_until("PAUSED")
    terminal.type("\x1b[A")  # an arrow means nothing
    terminal.type("q")
    code, said = terminal.end()
    assert code == 0
    assert said.endswith("\x1b[?1049l")  # the screen is as it was


def test_the_live_view_shows_what_another_process_writes(place: Path) -> None:
    with flint.Limiter(place / ".flint", sync="batch") as limiter:
        limiter.limit("busy:*", rate=2, per="1d")
        argv = [sys.executable, "-m", "flint", "top", "--watch", "--interval", "0.05"]
        terminal = Terminal(120, argv, place)
        terminal.read_until("by denied")
        for _ in range(9):
            limiter.check("busy:1")
        limiter.flush()
        terminal.read_until("busy:1")
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_ctrl_c_ends_the_live_view_quietly(place: Path) -> None:
    argv = [sys.executable, "-m", "flint", "top", "--watch", "--interval", "0.05"]
    terminal = Terminal(120, argv, place)
    terminal.read_until("by denied")
    terminal._process.send_signal(2)
    code, said = terminal.end()
    assert code == 130
    assert "Traceback" not in said


@pytest.fixture
def sampled(data_dir: Path, clock: ManualClock) -> Callable[[], Sampler]:
    return lambda: Sampler(flint.Limiter.open_readonly(data_dir, clock=clock))


def test_rates_are_differences(
    data_dir: Path, clock: ManualClock, sampled: Callable[[], Sampler]
) -> None:
    with flint.Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("a", rate=3, per="1d")
        limiter.limit("t:*", rate=1, per="1d")
        limiter.check("a")
        sampler = sampled()
        first = sampler.look(100.0)
        assert (first.allowed_per_s, first.denied_per_s) == (0, 0)
        assert {(row.key, row.allowed_per_s) for row in first.rows} == {("a", 0)}
        for _ in range(4):
            limiter.check("a")
        limiter.check("t:1")
        limiter.flush()
        second = sampler.look(102.0)
        assert (second.allowed_per_s, second.denied_per_s) == (1.5, 1.0)
        rows = {row.key: row for row in second.rows}
        assert (rows["a"].allowed_per_s, rows["a"].denied_per_s) == (1.0, 1.0)
        assert rows["t:1"].allowed_per_s == 0.5
        assert list(rows["a"].earlier) == [2.0]
        assert second.storage.log_bytes > 0


def row(key: str, allowed: float, denied: float) -> Row:
    return Row(key, None, 0, 0, 1, 1, allowed, denied)


def test_the_view_sorts_and_filters() -> None:
    rows = [row("a", 1, 5), row("b", 9, 0), row("c", 1, 5), row("d", 0, 7)]
    one = view.View("denied", 3)
    assert [r.key for r in one.chosen(rows)] == ["d", "a", "c"]
    for key in "s/bx\x7f\r":
        one.press(key)
    assert (one.order, one.filter, one.typing) == ("allowed", "b", False)
    assert [r.key for r in one.chosen(rows)] == ["b"]
    one.press("\x1b")
    assert len(one.chosen(rows)) == 3
    one.press("p")
    one.press("q")
    assert (one.paused, one.ended) == (True, True)


def test_sparklines() -> None:
    assert sparkline([], 5) == ""
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([9, 0, 4, 8], 3) == "▁▅█"


# ---- Words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (0.04, "0 s"), (3.46, "3.5 s"), (59.6, "1 m"), (125, "2 m 5 s")),
        *((3600, "1 h"), (3605, "1 h"), (90_000, "1 d 1 h"), (-1, "0 s")),
    ],
)
def test_lengths(seconds: float, words: str) -> None:
    assert text.length(seconds) == words


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        *((1, "1ns"), (1_500, "1500ns"), (2_000, "2us"), (500_000_000, "500ms")),
        *((90 * 10**9, "1m30s"), (86_400 * 10**9, "1d"), (1_000_000_001, "1000000001ns")),
    ],
)
def test_periods(ns: int, words: str) -> None:
    assert text.period(ns) == words


def test_moments() -> None:
    assert text.moment_s("2023-11-14T22:13:20.123456789Z") == pytest.approx(1_700_000_000.123456789)
    assert text.ago("2023-11-14T22:13:20+00:00", 1_700_000_065) == "1 m 5 s ago"
    assert text.ahead("2023-11-14T22:13:20Z", 1_699_999_990) == "in 10 s"
    assert text.ahead("2023-11-14T22:13:20Z", 1_700_000_001) == "now"
    assert text.ago(None, 0) == "never"


def test_what_is_shown_has_no_hidden_characters() -> None:
    assert text.shown(ARABIC) == ARABIC
    assert text.shown("a\x1b[1m\u202eb") == r"a\x1b[1m\u202eb"
    assert text.safe_json('"\x9b\u202e\n é"') == '"\\u009b\\u202e\n é"'


@pytest.mark.parametrize(
    ("left", "of", "cells"), [(0, 9, 0), (1, 100, 1), (5, 10, 5), (10, 10, 10), (9, 10, 9)]
)
def test_bars(left: int, of: int, cells: int) -> None:
    assert bar(left, of).plain == "█" * cells + "░" * (10 - cells)


def test_columns_give_way() -> None:
    columns = [Column("one"), Column("two", gives_way=True), Column("three")]
    rows = [["1" * 10, "2" * 10, "3" * 100]]
    assert len(table(columns, rows, 60).columns) == 3
    assert len(table(columns, rows, 40).columns) == 2


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.waiting("working", quiet_s=0):
        pass
    assert capsys.readouterr() == ("", "")


PROGRESS = """
import threading, sys
from flint._cli.progress import waiting
polled = threading.Event()
def poll():
    polled.set()
    return 1, 4
with waiting("compacting", poll, quiet_s=0):
    polled.wait()
print("done", flush=True)
"""


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    code, said = Terminal(80, [sys.executable, "-c", PROGRESS], tmp_path).end()
    assert code == 0
    assert "compacting" in said
    assert CONTROL_SEQUENCE.sub("", said).strip().endswith("done")
    unseen = [sys.executable, "-c", PROGRESS.replace("polled.wait()", "pass")]
    assert Terminal(80, unseen, tmp_path, TERM="dumb").end() == (0, "done\n")
