"""What can be pickled and copied, and what says why it cannot."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

import flint
from flint import Limiter, errors
from flint.testing import ManualClock

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

EXCEPTIONS: list[flint.FlintError] = [
    errors.FlintError("message"),
    errors.NotConfiguredError("limit is not configured: api"),
    errors.LockedError("message"),
    errors.ClosedError("message"),
    errors.ForkedError("message"),
    errors.UnsupportedError("message"),
    errors.FlintOSError("message"),
    errors.FlintOSError(5, "message"),
    errors.FlintPermissionError(13, "message"),
    errors.DiskFullError(28, "message"),
    errors.PoisonedError(5, "message"),
    errors.CorruptionError("message"),
    errors.CorruptionError("message", "flint.aof", 4096, 17),
    errors.RateError("message\n  5/\n    ^", "5/", 2),
    errors.ConfigError("message"),
    errors.ConfigError("message", "flint.toml", 3, "limits.user:*"),
    errors.HistoryGoneError("message"),
    errors.TableFullError("message"),
    errors.ReadOnlyError("message"),
    errors.FlintServerError(503, "message"),
    errors.FlintConnectionError("message"),
    errors.RateLimitExceeded("message"),
    errors.RateLimitExceeded("api", 2, 1, "2023-11-14T22:14:20+00:00", "gcra", 0.5),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_results(limiter: Limiter, protocol: int) -> None:
    limiter.limit("clé\0", rate=3, per="1m", burst=7, algorithm="leaky_bucket")
    for result in [limiter.check("clé\0", 5), limiter.check("clé\0", 5)]:
        again = pickle.loads(pickle.dumps(result, protocol))
        assert again == result
        assert repr(again) == repr(result)
        assert again.retry_after_ns == result.retry_after_ns
        assert copy.copy(result) == copy.deepcopy(result) == result


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("error", EXCEPTIONS, ids=repr)
def test_exceptions(error: flint.FlintError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_every_exception_is_tried() -> None:
    named = {getattr(errors, name) for name in errors.__all__} - {flint.FlintWarning}
    assert {type(error) for error in EXCEPTIONS} == named


def test_attributes_of_exceptions() -> None:
    corruption = errors.CorruptionError("message", "flint.aof", 4096, 17)
    assert (corruption.segment, corruption.offset, corruption.sequence) == ("flint.aof", 4096, 17)
    exceeded = errors.RateLimitExceeded("api", 2, 1, "2023-11-14T22:14:20+00:00", "gcra", 0.5)
    assert (exceeded.key, exceeded.cost, exceeded.remaining) == ("api", 2, 1)
    assert (exceeded.algorithm, exceeded.retry_after) == ("gcra", 0.5)
    assert exceeded.reset_at == "2023-11-14T22:14:20+00:00"
    assert str(exceeded) == "rate limit exceeded for api: cost 2, 1 left, retry after 0.5 s"
    full = errors.DiskFullError(28, "no room")
    assert (full.errno, full.strerror) == (28, "no room")
    assert isinstance(errors.FlintPermissionError(13, "no"), PermissionError)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_limiters_cannot_be_pickled(limiter: Limiter, protocol: int) -> None:
    with pytest.raises(TypeError, match=r"cannot be pickled or copied.*of its own"):
        pickle.dumps(limiter, protocol)


def test_limiters_cannot_be_copied(data_dir: Path) -> None:
    with Limiter(data_dir) as limiter:
        for copying in [copy.copy, copy.deepcopy]:
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                copying(limiter)


def test_clocks_cannot_be_pickled(clock: ManualClock) -> None:
    """A copy would not move with the original."""
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(clock)
