"""dump: a log as lines of Flint 0.2, which that version accepts and today's converts back."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flint import CorruptionError, Limiter
from flint._local.dump import _line, dump
from flint.testing import ManualClock

EPOCH_S = 1_700_000_000
GOLDEN = Path(__file__).resolve().parent.parent / "tests_c" / "golden" / "v0.2"
KNOWN = {"token_bucket", "sliding_window_log", "fixed_window_counter"}


def dumped(limiter: Limiter) -> list[str]:
    file = io.StringIO()
    count = dump(limiter, file)
    *lines, end = file.getvalue().split("\n")
    assert (len(lines), end) == (count, "")
    return [line + "\n" for line in lines]


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def as_flint_02_reads(line: str) -> dict[str, Any]:
    """The event as the structures of Flint 0.2.1 hold it, which fails where its parser would.

    That version computes the checksum anew from what it has parsed: known fields, in its order.
    """
    entry = json.loads(line)
    event = entry["event"]
    kind = event["type"]
    held: dict[str, Any]
    if kind == "LIMIT_CONFIGURED":
        config = {name: event["config"][name] for name in ("key", "rate", "per_millis")}
        config["algorithm"] = event["config"]["algorithm"]
        assert config["algorithm"] in KNOWN
        assert all(1 <= config[name] < 2**64 for name in ("rate", "per_millis"))
        held = {"type": kind, "config": config}
    elif kind == "ALLOW_ALL":
        items = [{"key": item["key"], "cost": item["cost"]} for item in event["items"]]
        held = {"type": kind, "items": items, "at": event["at"]}
    else:
        assert kind in ("ALLOW", "DENY", "RESET")
        held = {"type": kind, "key": event["key"], "at": event["at"]}
        if kind != "RESET":
            held["cost"] = event["cost"]
    payload = {"version": 1, "ts": entry["ts"], "event": held}
    assert entry["version"] == 1
    assert entry["checksum"] == hashlib.sha256(compact(payload)).hexdigest()
    return held


def check_exact(line: str) -> None:
    """What is added has a checksum of all that stands before it."""
    if "exact" not in json.loads(line):
        assert "exact" not in line
        return
    body, _, rest = line.rpartition(',"exact_checksum":')
    assert rest == f'"{hashlib.sha256(body.encode() + b"}").hexdigest()}"}}\n'


def convert(lines: list[str], directory: Path, clock: ManualClock) -> Limiter:
    directory.mkdir()
    (directory / "flint.aof").write_text("".join(lines), "utf-8")
    limiter = Limiter(directory, sync="batch", clock=clock)
    assert limiter.info()["converted_events"] == len(lines)
    return limiter


def state(limiter: Limiter) -> tuple[Any, ...]:
    return limiter.list(counters=True), limiter.history(), limiter.top()


def use(limiter: Limiter, clock: ManualClock) -> None:
    """One of everything."""
    for algorithm in ("token_bucket", "gcra", "leaky_bucket"):
        limiter.limit(algorithm, rate=5, per="1h", burst=9, algorithm=algorithm)
    for algorithm in ("fixed_window_counter", "sliding_window_log", "sliding_window_counter"):
        limiter.limit(algorithm, rate=5, per="1h", algorithm=algorithm)
    limiter.limit("plain", rate=5, per="1500ms")
    limiter.limit("short", rate=2**62, per_ns=1)
    limiter.limit("odd", rate=3, per_ns=10**9 + 1)
    limiter.limit("long", rate=2**62, per_ns=2**62)
    limiter.limit("ip:*", rate=3, per="1h")
    limiter.limit("ip:10.*", rate=20, per="1h", burst=30)
    limiter.limit('ü"\\\n\x01\x7f\u2028😀:*', rate=4, per="1d")
    limiter.limit("literal*", rate=4, per="1d", template=False)
    limits = [status["key"] for status in limiter.list() if not status["template"]]
    for _ in range(4):
        for key in limits:
            limiter.check(key, 2)
            clock.advance(0.123456789)
        for key in ("ip:1", "ip:2", "ip:10.1", 'ü"\\\n\x01\x7f\u2028😀:1'):
            limiter.check(key)
        limiter.check_all(["plain", ("ip:3", 2), "ip:10.2"])
        limiter.check_all(["plain", "short"])
        limiter.check("inline", rate=7, per="77001ms", burst=9)
        clock.advance(700)
    limiter.limit("gcra", rate=50, per="1d")
    limiter.limit("ip:*", rate=2, per="2h")
    limiter.limit("ip:1", rate=9, per="1h")
    limiter.limit("ip:*", rate=4, per="2h")
    for key in ("ip:1", "ip:2", "ip:3", "ip:10.1"):
        limiter.check(key)
    limiter.reset("ip:*")
    limiter.reset("plain")
    limiter.reset("ip:10.1")
    limiter.remove("odd")
    limiter.remove("ip:10.*")
    limiter.check("ip:10.1")
    limiter.check("inline", rate=1, per="1d")
    limiter.check("inline", rate=3, per="1d", burst=5)  # what was used counts on
    limiter.check("inline", limit="9/hour", algorithm="gcra")
    clock.advance(2 * 86400)
    limiter.check("inline", rate=1, per="1d")
    limiter.check("ip:2")


def use_names(limiter: Limiter, clock: ManualClock) -> None:
    """Limits with names, of keys and of templates, which other templates end."""
    limiter.limit("login", rate=5, per="1h", name="hour")
    limiter.limit("login", rate=9, per="1d", burst=12, name="day", algorithm="gcra")
    limiter.limit("login", rate=3, per="1m")
    limiter.limit("a#b", rate=5, per="1h")
    limiter.limit("a", rate=5, per="1h", name="b")
    limiter.limit("ip:*", rate=4, per="1h", name="hour")
    limiter.limit("ip:*", rate=7, per="1d", name="day")
    for _ in range(5):
        for key in ("login", "a", "ip:1", "ip:10.1"):
            limiter.check(key)
        limiter.check_all(["a", "a#b", "login", "ip:10.1"])
        clock.advance(300.5)
    limiter.limit("ip:10.*", rate=9, per="1h", name="hour")  # that takes over, and ends "day"
    limiter.check("ip:10.1", 3)
    limiter.limit("ip:1", rate=2, per="1h", name="hour")  # and so does a limit of the key
    limiter.check("ip:1")
    limiter.reset("ip:*", name="day")
    limiter.check("ip:2", 4)
    limiter.remove("ip:10.*")
    limiter.check("ip:10.1", 2)
    limiter.reset("login", name="day")
    limiter.remove("login", name="hour")
    limiter.remove("a#b")
    limiter.check("login")


def use_stacked(limiter: Limiter, clock: ManualClock) -> None:
    """Limits of keys and of templates that hold beside those of shorter templates."""
    limiter.limit("a*", rate=20, per="1h", name="all")
    limiter.limit("a*", rate=30, per="1h")
    limiter.limit("ab*", rate=9, per="1h", name="some", stack=True)
    limiter.limit("abc", rate=7, per="1d", stack=True)
    for _ in range(6):
        for key in ("a", "ab", "abc"):
            limiter.check(key, 2)
        limiter.check_all(["ab", ("abc", 2), "a"])
        clock.advance(300.5)
    limiter.limit("ab*", rate=9, per="1h", name="some")  # which ends what it had left in force
    limiter.check("abd")
    limiter.limit("ab*", rate=9, per="1h", name="some", stack=True)
    limiter.limit("abc", rate=7, per="1d")
    limiter.check("abc")
    limiter.check("abd", 2)


def flood(limiter: Limiter, clock: ManualClock) -> None:
    """Many denials, which are merged, between admissions of others."""
    limiter.limit("flooded", rate=1, per="1d", burst=3)
    limiter.limit("other", rate=1000, per="1d")
    limiter.allow("flooded", 3)
    for number in range(2000):
        limiter.allow("flooded", 2)
        clock.advance(0.01)
        if number % 500 == 0:
            limiter.allow("other")
    limiter.flush()
    limiter.allow("other")


def test_round_trip(data_dir: Path, clock: ManualClock, tmp_path: Path) -> None:
    with Limiter(data_dir, sync="batch", flush_every_ms=60_000, clock=clock) as limiter:
        use(limiter, clock)
        flood(limiter, clock)
        lines = dumped(limiter)
        before = state(limiter)
    assert any(event.get("count", 1) > 1 for event in before[1])
    for line in lines:
        as_flint_02_reads(line)
        check_exact(line)
    with convert(lines, tmp_path / "back", clock) as limiter:
        assert state(limiter) == before
        assert dumped(limiter) == lines
    with Limiter(tmp_path / "back", clock=clock) as limiter:
        assert state(limiter) == before
        limiter.compact()
        assert state(limiter) == before


def test_names_come_back(data_dir: Path, clock: ManualClock, tmp_path: Path) -> None:
    with Limiter(data_dir, sync="batch", clock=clock) as limiter:
        use_names(limiter, clock)
        lines = dumped(limiter)
        before = state(limiter)
        with convert(lines, tmp_path / "back", clock) as back:
            assert state(back) == before
            assert dumped(back) == lines
            for _ in range(20):
                for key in ("login", "a", "ip:1", "ip:2", "ip:10.1"):
                    assert limiter.check(key) == back.check(key)
                clock.advance(997)
    keys = [as_flint_02_reads(line).get("key") for line in lines]
    assert {"login#day", "ip:*#day", "ip:10.1#hour"} < set(keys)
    for line in lines:
        check_exact(line)


def test_limits_that_stack_come_back(data_dir: Path, clock: ManualClock, tmp_path: Path) -> None:
    with Limiter(data_dir, sync="batch", clock=clock) as limiter:
        use_stacked(limiter, clock)
        lines = dumped(limiter)
        before = state(limiter)
        stacked = [one["config"] for one in limiter.history() if one.get("config", {}).get("stack")]
        assert [config["key"] for config in stacked] == ["ab*", "abc", "ab*"]
        assert sum('"stack":true' in line for line in lines) == 3
        with convert(lines, tmp_path / "back", clock) as back:
            assert state(back) == before
            assert dumped(back) == lines
            for _ in range(20):
                for key in ("a", "ab", "abc", "abd"):
                    assert limiter.check(key) == back.check(key)
                clock.advance(997)
    for line in lines:
        as_flint_02_reads(line)
        check_exact(line)


def test_an_inline_limit_does_not_stack(clock: ManualClock, tmp_path: Path) -> None:
    config = {"key": "a", "rate": 1, "per_millis": 1000, "algorithm": "token_bucket"}
    event = {"type": "LIMIT_CONFIGURED", "config": config}
    line = _line("2026-11-26T00:00:00Z", event, {"kind": "inline", "stack": True})
    with pytest.raises(CorruptionError, match="inline limit that stacks"):
        convert([line], tmp_path / "back", clock)


@pytest.mark.parametrize("name", ["", "other", "x" * 256])
def test_a_name_is_that_behind_the_key(clock: ManualClock, tmp_path: Path, name: str) -> None:
    shown = "a#" + ("x" * 256 if len(name) > 200 else "name" if name else "")
    config = {"key": shown, "rate": 1, "per_millis": 1000, "algorithm": "token_bucket"}
    event = {"type": "LIMIT_CONFIGURED", "config": config}
    line = _line("2026-11-26T00:00:00Z", event, {"name": name})
    with pytest.raises(CorruptionError, match="name out of bounds"):
        convert([line], tmp_path / "back", clock)


def test_a_limit_is_named_once_in_an_admission(clock: ManualClock, tmp_path: Path) -> None:
    config = {"key": "a#b", "rate": 9, "per_millis": 1000, "algorithm": "token_bucket"}
    at = "2026-11-26T00:00:00Z"
    lines = [_line(at, {"type": "LIMIT_CONFIGURED", "config": config}, {"name": "b"})]
    items = [{"key": "a#b", "cost": 1}, {"key": "a#b", "cost": 2}]
    event = {"type": "ALLOW_ALL", "items": items, "at": at}
    lines.append(_line(at, event, {"items": [{"name": "b"}, {"name": "b"}]}))
    with pytest.raises(CorruptionError, match="named twice"):
        convert(lines, tmp_path / "back", clock)


def test_round_trip_goes_on_deciding_alike(
    data_dir: Path, clock: ManualClock, tmp_path: Path
) -> None:
    with Limiter(data_dir, sync="batch", clock=clock) as limiter:
        use(limiter, clock)
        with convert(dumped(limiter), tmp_path / "back", clock) as back:
            keys = [status["key"] for status in limiter.list() if not status["template"]]
            for _ in range(20):
                for key in [*keys, "ip:2", "ip:4", "ip:10.7"]:
                    assert limiter.check(key) == back.check(key)
                clock.advance(997)


def test_what_flint_02_knew_is_its_line_and_no_more(data_dir: Path) -> None:
    shutil.copytree(GOLDEN / "log-only", data_dir)
    written = (data_dir / "flint.aof").read_text("utf-8").splitlines()
    with Limiter(data_dir) as limiter:
        lines = dumped(limiter)
    assert len(lines) == len(written)
    for line, original in zip(lines, written, strict=True):
        assert as_flint_02_reads(line) == json.loads(original)["event"]
        assert set(json.loads(line)) == set(json.loads(original))


def test_time_goes_on_as_it_did_though_denials_come_late(
    data_dir: Path, clock: ManualClock, tmp_path: Path
) -> None:
    with Limiter(data_dir, sync="batch", flush_every_ms=60_000, clock=clock) as limiter:
        flood(limiter, clock)
        before = limiter.info()["engine_time_ns"]
        times = [event["at"] for event in limiter.history() if "at" in event]
        assert times != sorted(times)
        with convert(dumped(limiter), tmp_path / "back", clock) as back:
            assert back.info()["engine_time_ns"] == before


def test_changed_addition_is_corruption(data_dir: Path, clock: ManualClock, tmp_path: Path) -> None:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("k", rate=1, per="1h", burst=5)
        limiter.limit("after", rate=1, per="1h")
        lines = dumped(limiter)
    assert '"burst":5' in lines[0]
    lines[0] = lines[0].replace('"burst":5', '"burst":6')
    with pytest.raises(CorruptionError, match="checksum"):
        convert(lines, tmp_path / "back", clock)


def test_a_counter_has_no_values_of_its_own(clock: ManualClock, tmp_path: Path) -> None:
    config = {"key": "a", "rate": 1, "per_millis": 1000, "algorithm": "token_bucket"}
    event = {"type": "LIMIT_CONFIGURED", "config": config}
    line = _line("2026-11-26T00:00:00Z", event, {"kind": "counter", "prefix": 1})
    with pytest.raises(CorruptionError, match="a limit of a counter"):
        convert([line], tmp_path / "back", clock)


# ---- History of which the beginning is gone ----------------------------------------------------


class Kept:
    """Stands for a limiter of which only some history is kept."""

    def __init__(self, limiter: Limiter, first: int) -> None:
        self.limiter = limiter
        self.first = first
        self.pages = 0

    def _list(self, counters: bool) -> Any:
        return self.limiter._list(counters)

    def _history(self, *arguments: Any) -> Any:
        *rest, cursor, _ = arguments
        self.pages += 1
        return self.limiter._history(*rest, max(cursor, self.first), 10)


def test_limits_from_before_the_history_are_introduced(
    data_dir: Path, clock: ManualClock, tmp_path: Path
) -> None:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("used", rate=5, per="1h", stack=True)
        limiter.limit("unused", rate=6, per="1h", burst=7, stack=True)
        limiter.limit("gone", rate=7, per="1h")
        limiter.limit("ip:*", rate=8, per="1h")
        first = limiter.info()["sequence"]
        clock.advance(1)
        for key in ("used", "gone", "ip:1"):
            limiter.check(key)
        limiter.check("inline", rate=9, per="1h")
        limiter.reset("used")
        limiter.remove("gone")
        before = {status["key"]: status for status in limiter.list(counters=True)}
        lines = dumped(Kept(limiter, first + 1))  # type: ignore[arg-type]
    for line in lines:
        as_flint_02_reads(line)
    with convert(lines, tmp_path / "back", clock) as limiter:
        after = {status["key"]: status for status in limiter.list(counters=True)}
        for name in ("used", "unused", "inline", "ip:1"):
            assert after[name] == before[name]
        assert set(after) == set(before)


def test_other_values_of_an_inline_limit_whose_uses_are_gone(
    data_dir: Path, clock: ManualClock, tmp_path: Path
) -> None:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.check("inline", 2, rate=5, per="1d")
        first = limiter.info()["sequence"]
        limiter.check("inline", rate=9, per="1d")
        lines = dumped(Kept(limiter, first + 1))  # type: ignore[arg-type]
    assert [json.loads(line)["event"]["type"] for line in lines] == ["LIMIT_CONFIGURED", "ALLOW"]
    with convert(lines, tmp_path / "back", clock) as limiter:
        status = limiter.status("inline")
        assert status is not None
        assert (status["rate"], status["remaining"]) == (9, 8)
        clock.advance(2 * 86400)  # it is an inline limit still, and forgotten when fresh
        assert limiter.status("inline") is None


def test_lines_are_written_as_pages_are_read(data_dir: Path, clock: ManualClock) -> None:
    class FullError(Exception):
        pass

    class Small(io.StringIO):
        pages_before = 0

        def write(self, text: str) -> int:
            self.pages_before = self.pages_before or kept.pages
            if len(self.getvalue()) > 2000:
                raise FullError
            return super().write(text)

    with Limiter(data_dir, sync="batch", clock=clock) as limiter:
        limiter.limit("k", rate=1000, per="1h")
        for _ in range(500):
            limiter.check("k")
        kept = Kept(limiter, 0)
        small = Small()
        with pytest.raises(FullError):
            dump(kept, small)  # type: ignore[arg-type]
        assert kept.pages <= small.pages_before + 1


def test_in_an_empty_directory_there_is_nothing(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        assert dumped(limiter) == []
