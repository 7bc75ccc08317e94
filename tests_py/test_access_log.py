"""Four days of a public web server, one limit per client address, under every algorithm."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from reference import ALGORITHMS, BUCKETS, Algorithm, Limit

from flint import Limiter
from flint.testing import ManualClock

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SECOND_NS = 10**9
DAY_NS = 86_400 * SECOND_NS

COUNTS = [
    *((10, 60 * SECOND_NS, 10, algorithm, 8987) for algorithm in BUCKETS),
    (10, 60 * SECOND_NS, 10, "fixed_window_counter", 8271),
    (10, 60 * SECOND_NS, 10, "sliding_window_log", 8271),
    (10, 60 * SECOND_NS, 10, "sliding_window_counter", 8271),
    *((30, DAY_NS, 30, algorithm, 8681) for algorithm in BUCKETS),
    (30, DAY_NS, 30, "fixed_window_counter", 8515),
    (30, DAY_NS, 30, "sliding_window_log", 8459),
    (30, DAY_NS, 30, "sliding_window_counter", 8489),
    *((30, DAY_NS, 60, algorithm, 9027) for algorithm in BUCKETS),
]


@pytest.fixture(scope="module")
def requests() -> list[tuple[int, str]]:
    load = runpy.run_path(str(EXAMPLES / "access_log.py"))["requests"]
    found: list[tuple[int, str]] = load(EXAMPLES / "data" / "access.log.gz")
    return found


def test_the_log(requests: list[tuple[int, str]]) -> None:
    assert len(requests) == 10_000
    assert len({address for _, address in requests}) == 1753
    assert [time for time, _ in requests] == sorted(time for time, _ in requests)
    # Equal times keep the order of their lines, which in the log are 15, 48, 1, 35 and 37.
    assert requests[:5] == [
        (1_431_857_100, "83.149.9.216"),
        (1_431_857_100, "66.249.73.185"),
        (1_431_857_103, "83.149.9.216"),
        (1_431_857_103, "46.105.14.53"),
        (1_431_857_103, "110.136.166.128"),
    ]


@pytest.mark.parametrize(("rate", "per_ns", "burst", "algorithm", "allowed"), COUNTS)
def test_counts(
    requests: list[tuple[int, str]],
    rate: int,
    per_ns: int,
    burst: int,
    algorithm: Algorithm,
    allowed: int,
) -> None:
    clock = ManualClock(requests[0][0])
    limiter = Limiter(":memory:", clock=clock)
    limiter.limit("ip:*", rate=rate, per_ns=per_ns, burst=burst, algorithm=algorithm)
    references: dict[str, Limit] = {}
    admitted = 0
    for number, (time_s, address) in enumerate(requests):
        now_ns = time_s * SECOND_NS
        clock.set_ns(now_ns)
        if address not in references:
            references[address] = ALGORITHMS[algorithm](rate, per_ns, burst)
        reference = references[address]
        expected = reference.admits(now_ns, 1)
        if expected:
            reference.admit(now_ns, 1)
        assert limiter.check(f"ip:{address}").allowed == expected, number
        admitted += expected
    assert admitted == allowed
