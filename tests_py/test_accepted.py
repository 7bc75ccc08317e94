"""What programs for Flint 0.2 may say, and what is accepted since nothing is lost by it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import flint
from flint import Limiter, RateLimitExceeded
from flint.testing import ManualClock


def test_the_names_of_results_and_errors(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per="1m")
    assert isinstance(limiter.check("api"), flint.CheckResult)
    assert isinstance(limiter.check("api"), flint.SharedCheckResult)
    error = flint.FlintServerError(503, "not now")
    assert (error.status, error.message) == (503, "not now")
    assert str(error) == "Flint server error 503: not now"
    assert isinstance(error, RuntimeError)
    assert isinstance(flint.FlintConnectionError("could not reach"), RuntimeError)


def test_errors_of_files_and_damage_are_runtime_errors(tmp_path: Path) -> None:
    assert issubclass(flint.UnsupportedError, RuntimeError)
    with pytest.raises(RuntimeError) as caught:
        flint.doctor(tmp_path / "nothing")
    assert type(caught.value) is flint.FlintOSError
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == 2
    data = tmp_path / "data"
    with Limiter(data) as limiter:
        limiter.limit("k", rate=1, per="1m")
    (data / "flint.aof").write_bytes(b"x" * 8192)
    with pytest.raises(RuntimeError) as caught:
        Limiter(data)
    assert type(caught.value) is flint.CorruptionError


def test_rate_limit_exceeded_takes_a_message() -> None:
    error = RateLimitExceeded("come back tomorrow")
    assert str(error) == "come back tomorrow"
    assert (error.key, error.cost, error.remaining, error.reset_at) == ("", 0, 0, "")


def test_lengths_of_time_between_white_space(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per=" 1m\n")
    limiter.limit_many([("many", 1, "\t2h ")])
    limiter.check("inline", rate=1, per=" 500ms")
    periods = {entry["key"]: entry["per_ns"] for entry in limiter.list()}
    assert periods == {"api": 60 * 10**9, "many": 7_200 * 10**9, "inline": 500 * 10**6}


def test_the_first_none_of_the_top(limiter: Limiter) -> None:
    limiter.limit("api", rate=1, per="1m")
    for _ in range(3):
        limiter.allow("api")
    assert limiter.top(limit=0) == []
    assert asyncio.run(limiter.atop(limit=0)) == []
    limiter.close()
    with pytest.raises(flint.ClosedError):
        limiter.top(limit=0)


@pytest.mark.parametrize("value", [0, 3_600_001, 2**32 + 1, 2**64 - 1, 2**70])
def test_what_always_does_not_look_at(data_dir: Path, value: int) -> None:
    with Limiter(data_dir, flush_every_ms=value, flush_every_events=value) as limiter:
        limiter.limit("api", rate=1, per="1m")
        assert limiter.allow("api")
        assert not limiter.allow("api")


# ---- Keys that end in an asterisk --------------------------------------------------------------


def test_an_asterisk_means_what_is_there(limiter: Limiter) -> None:
    """Flint 0.2 knew no templates, so a directory of it may have a limit with such a name."""
    limiter.limit("s*", rate=2, per="1m", template=False)
    assert limiter.allow("s*")
    status = limiter.status("s*")
    assert status is not None
    assert (status["key"], status["template"], status["remaining"]) == ("s*", False, 1)
    limiter.reset("s*")
    assert limiter.peek("s*").remaining == 2
    limiter.limit("s*", rate=7, per="1m")
    status = limiter.status("s*")
    assert status is not None
    assert (status["template"], status["rate"]) == (True, 7)
    limiter.remove("s*")  # the template, and now the other
    assert [entry["template"] for entry in limiter.list()] == [False]
    limiter.remove("s*")
    assert limiter.list() == []


def test_an_asterisk_never_means_what_a_client_has_sent(limiter: Limiter) -> None:
    limiter.limit("*", rate=2, per="1m")
    assert limiter.allow("ip:*")
    assert limiter.status("ip:*") is None
    for call in (limiter.reset, limiter.remove):
        with pytest.raises(flint.NotConfiguredError):
            call("ip:*")
    assert limiter.peek("ip:*").remaining == 1


def test_the_history_of_a_key_that_ends_in_an_asterisk(data_dir: Path, clock: ManualClock) -> None:
    with Limiter(data_dir, clock=clock) as limiter:
        limiter.limit("s*", rate=2, per="1m", template=False)
        limiter.limit("t*", rate=2, per="1m", template=False)
        limiter.limit("t*", rate=3, per="1m")
        assert limiter.allow("s*")
        assert [event["type"] for event in limiter.history("s*")] == ["LIMIT_CONFIGURED", "ALLOW"]
        assert [event["config"]["rate"] for event in limiter.history("t*")] == [3]
        assert limiter.history("s*", template=True) == []
        assert limiter.history("u*") == []


# ---- Shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "remove", "reset"])
def test_signatures_can_be_called_as_they_stand(limiter: Limiter, name: str) -> None:
    limiter.limit("api*", rate=1, per="1m", template=False)
    limiter.limit("api*", rate=1, per="1m")
    for template in (False, True):
        call = getattr(limiter, name)
        inspect.signature(call).bind("api*", template)
        call("api*", template)


def endless(most: int) -> Iterator[str]:
    """Stands for one without an end, but tells when too much of it is read."""
    for number in itertools.count():
        assert number < most
        yield f"k{number}"


def test_an_endless_iterator_of_items(limiter: Limiter) -> None:
    limiter.limit("*", rate=1, per="1m")
    anything: Any = limiter
    for call in (limiter.check_all, limiter.allow_all):
        with pytest.raises(ValueError, match=r"items must hold 1 to 1024 items, not 1025 or more"):
            call(endless(1_025))
    for acall in (limiter.acheck_all, limiter.aallow_all):
        with pytest.raises(ValueError, match=r"items must hold 1 to 1024 items, not 1025"):
            asyncio.run(acall(endless(1_025)))
        with pytest.raises(TypeError, match="items must be a list or other iterable of items"):
            asyncio.run(anything.acheck_all(5))
    assert limiter.allow_all(itertools.islice(endless(1_024), 1_024))


# ---- Messages ----------------------------------------------------------------------------------

ODD = "a\n\x1b[31m\u202e" + "x" * 1_000
SHOWN = "a\\n\\x1b[31m\\u202e" + "x" * (120 - len("a\n\x1b[31m\u202e")) + "..."


def test_messages_show_keys_so_that_they_do_no_harm(limiter: Limiter) -> None:
    with pytest.raises(flint.NotConfiguredError) as caught:
        limiter.allow(ODD)
    assert str(caught.value) == f"limit is not configured: {SHOWN}"
    for call in (limiter.reset, limiter.remove):
        with pytest.raises(flint.NotConfiguredError, match=r"^limit is not configured: a\\n\\x1b"):
            call(ODD)
    limiter.rate_limit(lambda: ODD, rate=1, per="1m")(lambda: None)()
    with pytest.raises(RateLimitExceeded) as exceeded:
        limiter.rate_limit(lambda: ODD, rate=1, per="1m")(lambda: None)()
    assert str(exceeded.value).startswith(f"rate limit exceeded for {SHOWN}: cost 1")
    assert exceeded.value.key == ODD
    with pytest.raises(flint.NotConfiguredError, match=r"^limit is not configured: clé 'ü' \\$"):
        limiter.allow("clé 'ü' \\")


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("moment", [-1, 2.0**40, float("inf")])
def test_moments_out_of_range(data_dir: Path, name: str, moment: float) -> None:
    with Limiter(data_dir) as limiter:
        anything: Any = limiter
        for wrong in (moment, datetime(3000, 1, 1, tzinfo=UTC)):
            with pytest.raises(ValueError, match=rf"^{name} must be a datetime .* not ") as caught:
                anything.history(**{name: wrong})
            assert " ns" not in str(caught.value)


def test_sizes_that_are_no_power_of_two() -> None:
    with pytest.raises(ValueError, match=r"^ring_bytes must be a power of two, not 600000$"):
        Limiter(":memory:", ring_bytes=600_000)


def test_a_relative_path_in_a_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for call in (Limiter, Limiter.open_readonly, flint.doctor):
        with pytest.raises(flint.FlintOSError, match="cannot open data: No such file") as caught:
            call("data")
        assert caught.value.errno == 2
