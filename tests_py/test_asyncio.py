"""The coroutine methods, on the event loops of asyncio and (where it is installed) uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import flint
from flint import Limiter, RateLimitExceeded
from flint.testing import ManualClock

Returned = TypeVar("Returned")

DEADLINE_S = 60
ALLOW_BYTES = 40  # of an admission's record
COROUTINE_METHODS = [
    *("alimit", "aallow", "acheck", "aallow_all", "acheck_all", "astatus", "alist", "areset"),
    *("acompact", "aflush", "atop", "apeek", "aremove", "aacquire", "aclose", "adoctor"),
    *("ahistory", "arefresh"),
]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


class Runner:
    """Runs coroutines in new loops of one kind, in asyncio's debug mode unless told otherwise."""

    def __init__(self, kind: str) -> None:
        self.new_loop = LOOPS[kind]

    def __call__(self, main: Coroutine[Any, Any, Returned], *, debug: bool = True) -> Returned:
        with asyncio.Runner(debug=debug, loop_factory=self.new_loop) as runner:
            return runner.run(asyncio.wait_for(main, DEADLINE_S))


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Runner:
    return Runner(request.param)


def descriptors() -> set[str]:
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{path.name} {path.readlink()}")
    return found


def eventfds() -> int:
    gc.collect()
    return sum("eventfd" in name for name in descriptors())


class SlowLimiter(Limiter):
    """While it is held, the disk is so slow that nothing becomes durable. `ending` is a failure."""

    held = False
    ending: flint.FlintError | None = None

    def _durable(self, ticket: int, wait: bool, /) -> bool:
        if self.ending is not None:
            raise self.ending
        return not self.held and super()._durable(ticket, wait)

    def release(self) -> None:
        self.held = False
        assert self.allow("api")  # its sync wakes the loops


def open_always(data_dir: Path, **options: Any) -> SlowLimiter:
    limiter = SlowLimiter(data_dir, **options)
    limiter.limit("api", rate=1_000_000, per="1h")
    limiter.limit("one", rate=1, per="1d")
    return limiter


# ---- Answers -----------------------------------------------------------------------------------


def test_they_are_coroutine_functions() -> None:
    for name in COROUTINE_METHODS:
        assert inspect.iscoroutinefunction(getattr(Limiter, name)), name
        if name != "aclose":
            signature = inspect.signature(getattr(Limiter, name))
            assert list(signature.parameters) == list(
                inspect.signature(getattr(Limiter, name[1:])).parameters
            )


def test_importing_flint_loads_no_asyncio(run_python: Callable[..., str]) -> None:
    program = "import sys, flint, flint.testing; print('asyncio' in sys.modules)"
    assert run_python(program) == "False\n"


@pytest.mark.parametrize(
    ("where", "sync"), [("disk", "always"), ("disk", "batch"), (":memory:", "always")]
)
def test_every_method_answers_like_its_plain_form(
    data_dir: Path, run: Runner, where: str, sync: flint.Sync, clock: ManualClock
) -> None:
    async def main() -> None:
        path = data_dir if where == "disk" else where
        async with Limiter(path, sync=sync, clock=clock) as limiter:
            await limiter.alimit("api", rate=3, per="1m", burst=4)
            await limiter.alimit("api", rate=9, per="1m", if_absent=True)
            assert await limiter.aallow("api") is True
            result = await limiter.acheck("api", 2)
            assert (result.allowed, result.cost, result.remaining) == (True, 2, 1)
            denied = await limiter.acheck("api", cost=2)
            assert not denied
            assert denied.retry_after == 20.0
            assert await limiter.apeek("api")
            assert await limiter.acheck("new", rate=1, per="1h")
            assert await limiter.aallow("new", rate=1, per="1h") is False
            assert await limiter.aallow_all(item for item in ["api"]) is True
            answer = await limiter.acheck_all([("api", 1), "new"])
            assert (answer["allowed"], answer["denied_key"]) == (False, "api")
            status = await limiter.astatus("api")
            assert status == limiter.status("api")
            assert status is not None
            assert status["total_allowed"] == 3
            assert await limiter.alist() == limiter.list()
            assert await limiter.atop("allowed", 1) == limiter.top("allowed", 1)
            await limiter.areset("api")
            assert await limiter.aacquire("api", 4)
            await limiter.aflush()
            await limiter.acompact()
            await limiter.aremove("api")
            with pytest.raises(flint.NotConfiguredError, match="limit is not configured: api"):
                await limiter.acheck("api")
            with pytest.raises(ValueError, match="cost must be"):
                await limiter.acheck("api", 0)
            with pytest.raises(TypeError, match="items must be"):
                await limiter.acheck_all("api")
        assert limiter.closed
        with pytest.raises(flint.ClosedError):
            await limiter.acheck("api")

    run(main())


def test_admissions_are_on_disk_when_they_are_answered(data_dir: Path, run: Runner) -> None:
    async def main(limiter: Limiter) -> None:
        for number in range(20):
            before = limiter.info()["appended"]
            if number % 2:
                assert await limiter.acheck("api")
            else:
                assert await limiter.aallow_all(["api"])
            # More may have been appended since: a seal comes when it comes.
            assert limiter.info()["durable"] >= before + ALLOW_BYTES

    with open_always(data_dir) as limiter:
        run(main(limiter))


def test_denials_and_batch_mode_do_not_suspend(data_dir: Path) -> None:
    def completes_at_once(coroutine: Coroutine[Any, Any, object]) -> bool:
        try:
            coroutine.send(None)
        except StopIteration:
            return True
        coroutine.close()
        return False

    with open_always(data_dir / "always") as limiter:
        assert limiter.allow("one")
        assert completes_at_once(limiter.acheck("one"))
        assert completes_at_once(limiter.acheck_all(["one"]))
    with open_always(data_dir / "batch", sync="batch") as limiter:
        assert completes_at_once(limiter.acheck("api"))
        assert completes_at_once(limiter.aallow_all(["api"]))


def test_a_thousand_checks_share_syncs_and_use_no_threads(data_dir: Path, run: Runner) -> None:
    syncs = []

    async def main(limiter: Limiter) -> None:
        before = limiter.info()["syncs"]
        threads = threading.active_count()
        results = await asyncio.gather(*(limiter.acheck("api") for _ in range(1_000)))
        assert all(results)
        assert threading.active_count() == threads
        syncs.append(limiter.info()["syncs"] - before)

    with open_always(data_dir) as limiter:
        for _ in range(5):  # what is slow may meet the sync that comes in time
            run(main(limiter), debug=False)
        status = limiter.status("api")
        assert status is not None
        assert status["total_allowed"] == 5_000
    assert 1 <= min(syncs) <= 50


# ---- Loops and their ends ----------------------------------------------------------------------


def test_loops_in_threads(data_dir: Path, run: Runner) -> None:
    before = eventfds()
    answers: list[flint.Result] = []

    async def main(limiter: Limiter) -> None:
        for _ in range(20):
            answers.extend(await asyncio.gather(*(limiter.acheck("few") for _ in range(10))))

    with Limiter(data_dir) as limiter:
        limiter.limit("few", rate=300, per="1d")
        threads = [threading.Thread(target=lambda: run(main(limiter))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert len(answers) == 600
        assert sum(map(bool, answers)) == 300
        assert eventfds() == before


def test_cancelled_checks_stay_counted(data_dir: Path, run: Runner) -> None:
    async def main(limiter: SlowLimiter) -> None:
        limiter.held = True
        task = asyncio.ensure_future(limiter.acheck("api"))
        others = [asyncio.ensure_future(limiter.acheck("api")) for _ in range(3)]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        limiter.release()
        assert all(await asyncio.gather(*others))
        limiter.held = True
        alone = asyncio.ensure_future(limiter.acheck("api"))
        await asyncio.sleep(0)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        assert not limiter._watchers
        limiter.release()
        assert await limiter.acheck("api")

    before = eventfds()
    with open_always(data_dir) as limiter:
        run(main(limiter))
        status = limiter.status("api")
        assert status is not None
        assert status["total_allowed"] == 8
        assert eventfds() == before


def leave_calls_outstanding(limiter: Limiter, loop: asyncio.AbstractEventLoop) -> None:
    """Stops and closes `loop` while it waits for the disk."""
    tasks = []

    async def start() -> None:
        for _ in range(3):
            tasks.append(asyncio.ensure_future(limiter.acheck("api")))
        loop.call_soon(loop.stop)

    loop.create_task(start())
    loop.run_forever()
    assert len(limiter._watchers) == 1
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def test_a_loop_is_closed_with_calls_outstanding(data_dir: Path, run: Runner) -> None:
    before = eventfds()
    with open_always(data_dir) as limiter:
        for _ in range(5):
            loop = run.new_loop()
            limiter.held = True
            leave_calls_outstanding(limiter, loop)
            limiter.release()
            gone = weakref.ref(loop)
            del loop
            gc.collect()  # ends the coroutines
            assert not limiter._watchers
            gc.collect()
            assert gone() is None
        assert eventfds() == before
        assert run(limiter.acheck("api"))


def test_asyncio_run_ends_with_calls_outstanding(data_dir: Path, run: Runner) -> None:
    tasks: list[asyncio.Task[flint.Result]] = []

    async def main(limiter: Limiter) -> None:
        tasks.extend(asyncio.ensure_future(limiter.acheck("api")) for _ in range(5))
        await asyncio.sleep(0)

    before = eventfds()
    with open_always(data_dir) as limiter:
        limiter.held = True
        run(main(limiter))
        assert all(task.cancelled() for task in tasks)
        assert not limiter._watchers
        assert eventfds() == before


def test_an_idle_loop_keeps_no_limiter_open(data_dir: Path, run: Runner) -> None:
    async def main() -> None:
        limiter = open_always(data_dir)
        await limiter.acheck("api")
        del limiter
        Limiter(data_dir).close()  # the directory is free

    run(main())


# ---- Closing and poison ------------------------------------------------------------------------


@pytest.mark.parametrize("closing", ["in the loop", "aclose", "thread"])
def test_close_while_calls_are_outstanding(data_dir: Path, run: Runner, closing: str) -> None:
    """What was decided is on disk when close returns, so it is answered."""

    async def main(limiter: SlowLimiter) -> None:
        limiter.held = True
        tasks = [asyncio.ensure_future(limiter.acheck("api")) for _ in range(50)]
        await asyncio.sleep(0.02)
        assert limiter._watchers
        limiter.held = False
        if closing == "in the loop":
            limiter.close()
        elif closing == "aclose":
            await limiter.aclose()
        else:
            thread = threading.Thread(target=limiter.close)
            thread.start()
            await asyncio.gather(*tasks)
            thread.join(DEADLINE_S)
        assert all(await asyncio.gather(*tasks))
        with pytest.raises(flint.ClosedError):
            await limiter.acheck("api")
        assert not limiter._watchers

    before = eventfds()
    run(main(open_always(data_dir)))
    assert eventfds() == before
    with Limiter(data_dir) as limiter:
        status = limiter.status("api")
        assert status is not None
        assert status["total_allowed"] == 50


def test_close_races_with_checks_in_several_loops(data_dir: Path, run: Runner) -> None:
    limiter = open_always(data_dir)
    answered = []
    busy = threading.Barrier(4)

    async def main() -> None:
        answered.extend(await asyncio.gather(*(limiter.acheck("api") for _ in range(10))))
        await asyncio.get_running_loop().run_in_executor(None, busy.wait, DEADLINE_S)
        with contextlib.suppress(flint.ClosedError):
            while True:
                calls = (limiter.acheck("api") for _ in range(10))
                answers = await asyncio.gather(*calls, return_exceptions=True)
                answered.extend(answer for answer in answers if isinstance(answer, flint.Result))
                for answer in answers:
                    if isinstance(answer, BaseException):
                        raise answer

    threads = [threading.Thread(target=lambda: run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    busy.wait(DEADLINE_S)
    time.sleep(0.05)
    limiter.close()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    with Limiter(data_dir) as limiter:
        status = limiter.status("api")
        assert status is not None
        assert status["total_allowed"] == len(answered)


def break_log(data_dir: Path) -> None:
    """Makes every write to the log fail, under whoever has it open."""
    null = os.open("/dev/null", os.O_RDONLY)
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if path.readlink().parent == data_dir and path.readlink().name.startswith("flint.aof"):
                os.dup2(null, int(path.name), inheritable=False)
    os.close(null)


def test_a_log_that_fails_wakes_everyone(data_dir: Path, run: Runner) -> None:
    async def main(limiter: Limiter) -> None:
        assert await limiter.acheck("api")
        assert await limiter.acheck("one")
        break_log(data_dir)
        calls = (limiter.acheck("api") for _ in range(20))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {flint.PoisonedError}
        assert not limiter._watchers
        with pytest.raises(flint.PoisonedError):
            await limiter.acheck("api")
        assert not await limiter.acheck("one")  # denials need no disk

    before = eventfds()
    limiter = open_always(data_dir)
    run(main(limiter))
    with pytest.raises(flint.PoisonedError):
        limiter.close()
    assert eventfds() == before


@pytest.mark.parametrize("kind", [flint.PoisonedError, flint.ClosedError])
def test_failure_wakes_everyone(data_dir: Path, run: Runner, kind: type[flint.FlintError]) -> None:
    async def main(limiter: SlowLimiter) -> None:
        limiter.held = True
        tasks = [asyncio.ensure_future(limiter.acheck("api")) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        limiter.ending = kind("over")
        assert limiter.allow("api")  # its sync wakes the loop
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in errors] == [kind] * 20
        assert not limiter._watchers

    before = eventfds()
    with open_always(data_dir) as limiter:
        run(main(limiter))
        assert eventfds() == before


# ---- Decorator ---------------------------------------------------------------------------------


def test_decorated_coroutine_functions_use_no_thread(data_dir: Path, run: Runner) -> None:
    async def main(limiter: Limiter) -> None:
        threads = threading.active_count()

        @limiter.rate_limit(lambda name: f"user:{name}", rate=2, per="1h")
        async def greet(name: str) -> str:
            return name

        assert [await greet("a"), await greet("a"), await greet("b")] == ["a", "a", "b"]
        with pytest.raises(RateLimitExceeded):
            await greet("a")
        assert threading.active_count() == threads

    with Limiter(data_dir) as limiter:
        run(main(limiter))


def test_asynchronous_generator_functions(data_dir: Path, run: Runner) -> None:
    events: list[str] = []

    async def main(limiter: Limiter) -> None:
        @limiter.rate_limit("numbers", rate=3, per="1h")
        async def numbers(n: int) -> Any:
            """Counts."""
            try:
                for number in range(n):
                    try:
                        got = yield number
                        events.append(f"got {got}")
                    except KeyError:
                        events.append("thrown")
            finally:
                await asyncio.sleep(0)
                events.append("closed")

        assert inspect.isasyncgenfunction(numbers)
        assert numbers.__doc__ == "Counts."
        unused = numbers(1)
        assert limiter.peek("numbers").remaining == 3  # not before it is iterated
        assert [number async for number in numbers(2)] == [0, 1]
        generator: Any = numbers(9)
        assert await anext(generator) == 0
        assert await generator.asend("this") == 1
        assert await generator.athrow(KeyError()) == 2
        await generator.aclose()
        assert events == ["got None", "got None", "closed", "got this", "thrown", "closed"]
        assert [number async for number in unused] == [0]
        with pytest.raises(RateLimitExceeded):
            await anext(numbers(1))

    with Limiter(data_dir) as limiter:
        run(main(limiter))


def test_an_error_leaves_a_decorated_generator(limiter: Limiter, run: Runner) -> None:
    @limiter.rate_limit("failing", rate=3, per="1h")
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise LookupError("inside")

    async def main() -> None:
        with pytest.raises(LookupError, match="inside"):
            async for _ in failing():
                pass

    run(main())


def test_nothing_is_left_over(data_dir: Path, run: Runner) -> None:
    async def main() -> None:
        async with open_always(data_dir) as limiter:
            await asyncio.gather(*(limiter.acheck("api") for _ in range(100)))

    run(main())
    before = descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert descriptors() == before
    assert sys.exc_info() == (None, None, None)
