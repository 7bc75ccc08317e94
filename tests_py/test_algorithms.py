"""The engine's algorithms against the reference in fractions, and against what a limit promises."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ALGORITHMS, BUCKETS, Algorithm, Decision, Limit, slow_retry_after_ns

from flint import Limiter
from flint.testing import ManualClock

MAX = 2**62
SECOND_NS = 10**9
YEAR_NS = 365 * 86_400 * SECOND_NS

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None)  # no deadline: sanitizers are slow


class Config(NamedTuple):
    algorithm: Algorithm
    rate: int
    per_ns: int
    burst: int

    def reference(self) -> Limit:
        return ALGORITHMS[self.algorithm](self.rate, self.per_ns, self.burst)


class Step(NamedTuple):
    """One check. The last decision chooses wait and cost, so that they hit edges."""

    wait: str
    cost: str
    share: int  # of 64 parts, where one is needed


WAITS: dict[str, Callable[[Limit, Decision, int], int]] = {
    "nothing": lambda _limit, _last, _share: 0,
    "one nanosecond": lambda _limit, _last, _share: 1,
    "just before retry": lambda _limit, last, _share: max(last.retry_after_ns - 1, 0),
    "retry": lambda _limit, last, _share: last.retry_after_ns,
    "just before reset": lambda _limit, last, _share: max(last.reset_after_ns - 1, 0),
    "reset": lambda _limit, last, _share: last.reset_after_ns,
    "one unit": lambda limit, _last, _share: ceil(Fraction(limit.per_ns, limit.rate)),
    "one period": lambda limit, _last, _share: limit.per_ns,
    "part of a period": lambda limit, _last, share: limit.per_ns * share // 64,
    "years": lambda _limit, _last, share: share * YEAR_NS,
}
COSTS: dict[str, Callable[[Limit, Decision, int], int]] = {
    "one": lambda _limit, _last, _share: 1,
    "what remains": lambda _limit, last, _share: max(last.remaining, 1),
    "one more than remains": lambda limit, last, _share: min(last.remaining + 1, limit.burst),
    "part of burst": lambda limit, _last, share: max(limit.burst * share // 64, 1),
    "burst": lambda limit, _last, _share: limit.burst,
}


def quantities(largest: int = MAX) -> st.SearchStrategy[int]:
    edges = {2**bits + by for bits in range(63) for by in (-1, 0, 1)}
    return st.one_of(
        st.integers(1, min(largest, 12)),
        st.sampled_from(sorted(edge for edge in edges if 1 <= edge <= largest)),
        st.integers(1, largest),
    )


@st.composite
def configs(draw: st.DrawFn, algorithm: Algorithm | None = None) -> Config:
    chosen = draw(st.sampled_from([algorithm] if algorithm else list(ALGORITHMS)))
    rate = draw(quantities())
    per_ns = draw(quantities())
    burst = rate
    if chosen in BUCKETS and draw(st.booleans()):
        burst = draw(quantities(min(MAX * rate // per_ns, MAX)))
    return Config(chosen, rate, per_ns, burst)


small_configs = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 15))
# Flint begins to count at a wall clock before 2116 only.
starts = st.one_of(st.integers(0, 100), st.integers(0, 4_607_280_000_000_000_000 - 1))
steps = st.builds(
    Step,
    st.sampled_from(sorted(WAITS)),
    st.sampled_from(sorted(COSTS)),
    st.integers(0, 64),
)


def small(algorithm: Algorithm, numbers: tuple[int, int, int]) -> Config:
    rate, per_ns, burst = numbers
    return Config(algorithm, rate, per_ns, burst if algorithm in BUCKETS else rate)


class Subject:
    """A limiter in memory with its clock in our hand."""

    def __init__(self, start_ns: int) -> None:
        self.clock = ManualClock(0)
        self.clock.set_ns(start_ns)
        self.limiter = Limiter(":memory:", clock=self.clock)

    def wait(self, wait_ns: int) -> int:
        """Advances, at most to the end of time; returns the time it is then."""
        self.clock.set_ns(min(self.clock.now_ns + wait_ns, MAX))
        return self.clock.now_ns

    def configure(self, key: str, config: Config) -> None:
        self.limiter.limit(
            key,
            rate=config.rate,
            per_ns=config.per_ns,
            burst=config.burst,
            algorithm=config.algorithm,
        )

    def check(self, key: str, cost: int) -> Decision:
        result = self.limiter.check(key, cost=cost)
        return Decision(
            result.allowed, result.remaining, result.reset_after_ns, result.retry_after_ns
        )

    def would_retry_after_ns(self, key: str, cost: int) -> int:
        result = self.limiter.peek(key, cost=cost)
        assert result.allowed == (result.retry_after_ns == 0)
        return result.retry_after_ns


def run(subject: Subject, reference: Limit, last: Decision, step: Step) -> Decision:
    """Makes one step on both sides, and holds every field of the answers against each other."""
    now_ns = subject.wait(WAITS[step.wait](reference, last, step.share))
    cost = COSTS[step.cost](reference, last, step.share)
    assert subject.would_retry_after_ns("key", cost) == reference.retry_after_ns(now_ns, cost)
    assert subject.limiter.peek("key", cost=cost).limit == reference.burst
    expected = reference.check(now_ns, cost)
    assert subject.check("key", cost) == expected
    return expected


@each_algorithm
@examples(200)
@given(data=st.data(), start_ns=starts, script=st.lists(steps, max_size=25))
def test_equals_the_reference(
    algorithm: Algorithm, data: st.DataObject, start_ns: int, script: list[Step]
) -> None:
    config = data.draw(configs(algorithm))
    subject = Subject(start_ns)
    subject.configure("key", config)
    reference = config.reference()
    last = reference.peek(start_ns)
    for step in script:
        last = run(subject, reference, last, step)


@examples(400)
@given(
    first=configs(),
    start_ns=starts,
    script=st.lists(st.one_of(steps, configs(), st.just("the same")), max_size=25),
)
def test_equals_the_reference_when_it_is_reconfigured(
    first: Config, start_ns: int, script: list[Step | Config | str]
) -> None:
    config = first
    subject = Subject(start_ns)
    subject.configure("key", config)
    reference = config.reference()
    last = reference.peek(start_ns)
    for step in script:
        if isinstance(step, Step):
            last = run(subject, reference, last, step)
            continue
        if isinstance(step, Config):
            config = step
        now_ns = subject.wait(0)
        subject.configure("key", config)
        reference = reference.reconfigure(now_ns, *config)
        last = reference.peek(now_ns)


@each_algorithm
@pytest.mark.parametrize(
    ("rate", "per_ns"),
    [
        (1, 1),
        (3, 1),
        (MAX, 1),
        (MAX, MAX),
        (MAX - 1, MAX),
        (1, MAX),
        (1, 10 * YEAR_NS),
        (1_000_000_007, 30 * YEAR_NS),
        (30, 86_400 * SECOND_NS),
    ],
)
def test_extremes(algorithm: Algorithm, rate: int, per_ns: int) -> None:
    config = Config(algorithm, rate, per_ns, rate)
    start_ns = 1_431_857_103 * SECOND_NS
    subject = Subject(start_ns)
    subject.configure("key", config)
    reference = config.reference()
    last = reference.peek(start_ns)
    for wait, cost in [
        ("nothing", "burst"),
        ("nothing", "one"),
        ("just before retry", "one"),
        ("one nanosecond", "one"),
        ("nothing", "burst"),
        ("just before retry", "burst"),
        ("one nanosecond", "burst"),
        ("reset", "part of burst"),
        ("years", "what remains"),
        ("nothing", "one"),
        ("one period", "one"),
        ("years", "burst"),
    ]:
        last = run(subject, reference, last, Step(wait, cost, 21))


@examples(100)
@given(
    numbers=small_configs,
    script=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)), max_size=40),
)
def test_the_three_faces_of_the_bucket_agree(
    numbers: tuple[int, int, int], script: list[tuple[int, int]]
) -> None:
    subject = Subject(0)
    for algorithm in BUCKETS:
        subject.configure(algorithm, small(algorithm, numbers))
    for wait_ns, cost in script:
        subject.wait(wait_ns)
        answers = {subject.check(algorithm, min(cost, numbers[2])) for algorithm in BUCKETS}
        assert len(answers) == 1


@each_algorithm
@examples(100)
@given(
    numbers=small_configs,
    script=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)), max_size=60),
)
def test_no_span_admits_more_than_its_bound(
    algorithm: Algorithm, numbers: tuple[int, int, int], script: list[tuple[int, int]]
) -> None:
    config = small(algorithm, numbers)
    subject = Subject(1000)
    subject.configure("key", config)
    admitted: list[tuple[int, int]] = []
    for wait_ns, asked in script:
        now_ns = subject.wait(wait_ns)
        cost = min(asked, config.burst)
        subject.limiter.peek("key", cost=cost)
        if subject.check("key", cost).allowed:
            admitted.append((now_ns, cost))
    for first, (from_ns, _) in enumerate(admitted):
        total = 0
        for to_ns, cost in admitted[first:]:
            total += cost
            assert total <= most_in_span(config, to_ns - from_ns)


def most_in_span(config: Config, span_ns: int) -> Fraction:
    """What a limit may admit from one moment to another, both included."""
    if config.algorithm in BUCKETS:
        return config.burst + Fraction(span_ns * config.rate, config.per_ns)
    if config.algorithm == "sliding_window_log":
        return Fraction(config.rate * (span_ns // config.per_ns + 1))
    windows_touched = ceil(Fraction(span_ns, config.per_ns)) + 1
    return Fraction(config.rate * windows_touched)


@each_algorithm
@examples(100)
@given(
    numbers=small_configs,
    script=st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 15), st.lists(st.integers(1, 15), max_size=4)),
        max_size=30,
    ),
)
def test_peeks_and_denials_change_nothing(
    algorithm: Algorithm, numbers: tuple[int, int, int], script: list[tuple[int, int, list[int]]]
) -> None:
    config = small(algorithm, numbers)
    subject = Subject(0)
    subject.configure("polled", config)
    subject.configure("quiet", config)
    for wait_ns, asked, polls in script:
        subject.wait(wait_ns)
        for poll in polls:
            if subject.would_retry_after_ns("polled", min(poll, config.burst)):
                assert not subject.check("polled", min(poll, config.burst)).allowed
        cost = min(asked, config.burst)
        assert subject.check("polled", cost) == subject.check("quiet", cost)


@each_algorithm
@examples(30)
@given(numbers=small_configs, start_ns=st.integers(0, 100))
def test_long_run_rate_of_who_takes_all_there_is(
    algorithm: Algorithm, numbers: tuple[int, int, int], start_ns: int
) -> None:
    """A client that comes back exactly when it is told gets all of the rate, and no more."""
    config = small(algorithm, numbers)
    rate, per_ns = config.rate, config.per_ns
    if algorithm in BUCKETS:
        # Room for what flows in during the last nanosecond of a wait, so that nothing is lost.
        config = config._replace(burst=max(config.burst, 1 + ceil(Fraction(rate, per_ns))))
    subject = Subject(start_ns)
    subject.configure("key", config)
    admitted = 0
    now_ns = start_ns
    for _ in range(150):
        decision = subject.check("key", 1)
        admitted += decision.allowed
        if decision.allowed:
            continue
        elapsed_ns = now_ns - start_ns
        if algorithm in BUCKETS:
            assert admitted == config.burst + elapsed_ns * rate // per_ns
        elif algorithm == "sliding_window_counter":
            ended = now_ns // per_ns - start_ns // per_ns
            least = rate - ceil(Fraction(rate, per_ns))  # the estimate's last step is never taken
            assert least * ended <= admitted <= rate * (ended + 1)
        else:
            assert admitted == rate * (elapsed_ns // per_ns + 1)
        now_ns = subject.wait(decision.retry_after_ns)


@each_algorithm
@examples(100)
@given(
    numbers=small_configs,
    script=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)), max_size=30),
)
def test_the_references_retry_is_the_first_moment(
    algorithm: Algorithm, numbers: tuple[int, int, int], script: list[tuple[int, int]]
) -> None:
    reference = small(algorithm, numbers).reference()
    now_ns = 0
    for wait_ns, asked in script:
        now_ns += wait_ns
        cost = min(asked, reference.burst)
        assert reference.retry_after_ns(now_ns, cost) == slow_retry_after_ns(
            reference, now_ns, cost
        )
        reference.check(now_ns, cost)
