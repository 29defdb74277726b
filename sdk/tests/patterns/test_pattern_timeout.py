"""Timeouts: exact for coroutines, cooperative or on a thread for functions."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast import BulkheadFull, CallTimeout, DeadlineExceeded, deadline
from holdfast._engine import Engine
from holdfast._timeout import AttemptTimer, Job, Threads
from holdfast.clock import Clock
from holdfast.testing import START, FakeClock, LocalHoldfast

WAIT = 10.0
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def make_engine(**patterns: Any) -> Engine:
    """An engine on the real clock: threads and loops wait in real time."""
    return Engine(defaults={"retry": {"enabled": False}} | patterns)


def too_late() -> CallTimeout:
    return CallTimeout("api", seconds=0.01)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Keeps a function waiting until the test is over, or lets it go."""
    event = threading.Event()
    yield event
    event.set()


class TestCoroutines:
    async def test_an_attempt_ends_when_its_time_is_up(self) -> None:
        engine = make_engine(timeout={"attempt_seconds": 0.01})

        with pytest.raises(CallTimeout) as caught:
            await engine.acall("api", asyncio.Event().wait)

        assert caught.value.seconds == 0.01
        assert engine.dependency("api").stats()["timeouts"] == 1
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # in a task

    async def test_no_limit_is_no_limit(self) -> None:
        engine = make_engine(timeout={"attempt_seconds": 0})

        async def remaining() -> float | None:
            return deadline.remaining()

        assert await engine.acall("api", remaining) is None

    async def test_the_total_deadline_cuts_the_attempt_short(self) -> None:
        engine = make_engine(timeout={"attempt_seconds": 30, "total_seconds": 0.01})

        with pytest.raises(DeadlineExceeded):
            await engine.acall("api", asyncio.Event().wait)

    async def test_a_cancellation_from_outside_wins_in_the_same_moment(self) -> None:
        timer_and_cancel_met = asyncio.Event()

        async def body() -> None:
            with AttemptTimer(1_000, too_late) as timer:
                timer._fire()
                asyncio.current_task().cancel()  # type: ignore[union-attr]  # in a task
                timer_and_cancel_met.set()
                await asyncio.sleep(WAIT)

        task = asyncio.create_task(body())
        await asyncio.gather(task, return_exceptions=True)

        assert timer_and_cancel_met.is_set()
        assert task.cancelled()

    async def test_the_functions_own_error_passes_even_after_time_is_up(self) -> None:
        engine = make_engine(timeout={"attempt_seconds": 0.01})

        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise LookupError("mine") from None

        with pytest.raises(LookupError, match="mine"):
            await engine.acall("api", stubborn)

    async def test_the_functions_own_timeout_error_passes_unchanged(self) -> None:
        engine = make_engine()
        own = TimeoutError("mine")

        async def raises() -> None:
            raise own

        with pytest.raises(TimeoutError) as caught:
            await engine.acall("api", raises)

        assert caught.value is own

    async def test_nested_limits_each_convert_their_own(self) -> None:
        engine = make_engine(timeout={"attempt_seconds": 0.01})

        async def outer() -> str:
            with pytest.raises(CallTimeout):
                await engine.acall("inner", asyncio.Event().wait)
            return "inner alone ended"

        engine_outer = make_engine(timeout={"attempt_seconds": WAIT})
        assert await engine_outer.acall("outer", outer) == "inner alone ended"

    async def test_what_it_sets_in_the_context_is_seen_by_the_caller(self) -> None:
        engine = make_engine()

        async def sets() -> None:
            VARIABLE.set("changed")

        await engine.acall("api", sets)

        assert VARIABLE.get() == "changed"

    async def test_a_background_task_does_not_inherit_a_deadline_that_is_over(self) -> None:
        engine = make_engine(timeout={"attempt_seconds": WAIT})
        go_on = asyncio.Event()

        async def background() -> float | None:
            await go_on.wait()
            return deadline.remaining()

        async def starts_one() -> asyncio.Task[float | None]:
            return asyncio.create_task(background())

        task = await engine.acall("api", starts_one)
        go_on.set()

        assert await task is None

    @pytest.mark.parametrize(("late_result", "ok"), [("return", True), ("raise", False)])
    async def test_a_result_that_comes_too_late(self, late_result: str, ok: bool) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", timeout={"attempt_seconds": 1, "late_result": late_result},
                      retry={"enabled": False})  # fmt: skip

        async def blocks_the_loop() -> str:
            hf.fake_clock.advance(2)
            return "late"

        outcome = await hf.try_acall("api", blocks_the_loop)

        assert outcome.ok is ok
        assert hf.dependency("api").stats()["timeouts"] == 1


class TestFunctions:
    def test_they_can_ask_how_much_time_is_left(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", timeout={"attempt_seconds": 7})

        def ask() -> float | None:
            hf.fake_clock.advance(2)
            return deadline.remaining()

        assert hf.call("api", ask) == pytest.approx(5.0)
        assert deadline.remaining(default=3.0) == 3.0

    def test_an_inner_limit_never_exceeds_the_one_around_it(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("outer", timeout={"attempt_seconds": 3})
        hf.set_policy("inner", timeout={"attempt_seconds": 60})

        left = hf.call("outer", lambda: hf.call("inner", deadline.remaining))

        assert left == pytest.approx(3.0)

    @pytest.mark.parametrize(("late_result", "ok"), [("return", True), ("raise", False)])
    def test_a_late_result_is_counted_and_treated_as_the_policy_says(
        self, late_result: str, ok: bool
    ) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", timeout={"attempt_seconds": 1, "late_result": late_result},
                      retry={"enabled": False})  # fmt: skip

        outcome = hf.try_call("api", lambda: hf.fake_clock.advance(2))

        stats = hf.dependency("api").stats()
        assert outcome.ok is ok
        assert (stats["timeouts"], stats["calls"]) == (1, 1)
        assert (stats["successes"], stats["failures"]) == (int(ok), int(not ok))


ON_THREAD = {"enforce": "thread", "attempt_seconds": 0.02}


class TestThreads:
    def test_the_caller_goes_on_when_time_is_up(self, gate: threading.Event) -> None:
        engine = make_engine(timeout=ON_THREAD)

        with pytest.raises(CallTimeout):
            engine.call("api", gate.wait, WAIT)

        assert engine.stats()["abandoned_threads"] == 1

    def test_an_abandoned_call_keeps_its_place_until_it_really_ends(
        self, gate: threading.Event
    ) -> None:
        engine = make_engine(timeout=ON_THREAD, bulkhead={"max_concurrent": 1})
        engine.try_call("api", gate.wait, WAIT)

        while_running = engine.try_call("api", lambda: 1)
        gate.set()

        assert isinstance(while_running.error, BulkheadFull)
        assert until(lambda: engine.try_call("api", lambda: 1).ok)
        assert until(lambda: engine.stats()["abandoned_threads"] == 0)

    def test_context_variables_reach_the_thread(self) -> None:
        engine = make_engine(timeout={"enforce": "thread", "attempt_seconds": WAIT})
        VARIABLE.set("from the caller")

        assert engine.call("api", VARIABLE.get) == "from the caller"
        assert engine.call("api", lambda: deadline.remaining()) == pytest.approx(WAIT, abs=2)

    def test_a_call_left_behind_cannot_begin_others(self, gate: threading.Event) -> None:
        engine = make_engine(timeout=ON_THREAD)
        outcomes: list[Any] = []

        def goes_on() -> None:
            gate.wait(WAIT)
            outcomes.append(engine.try_call("other", lambda: 1))

        engine.try_call("api", goes_on)
        gate.set()

        assert until(lambda: outcomes)
        assert isinstance(outcomes[0].error, DeadlineExceeded)

    def test_what_the_function_raises_reaches_the_caller(self) -> None:
        engine = make_engine(timeout={"enforce": "thread", "attempt_seconds": WAIT})

        with pytest.raises(LookupError):
            engine.call("api", dict[str, int]().__getitem__, "missing")

    def test_threads_are_reused_and_bounded(self, gate: threading.Event) -> None:
        threads = Threads(most=2)
        for _ in range(2):
            threads.start("api", Job(lambda: gate.wait(WAIT)))

        with pytest.raises(BulkheadFull, match="threads"):
            threads.start("api", Job(lambda: None))

        gate.set()
        last: Job[int] = Job(lambda: 7)
        assert until(lambda: started(threads, last))
        assert last.wait(WAIT)
        assert last.result() == 7

    def test_a_full_set_of_threads_says_nothing_about_the_dependency(
        self, gate: threading.Event
    ) -> None:
        engine = make_engine(timeout=ON_THREAD, breaker={"consecutive_failures": 1})
        engine._shared.threads = Threads(most=0)

        outcome = engine.try_call("api", lambda: 1)

        assert isinstance(outcome.error, BulkheadFull)
        assert engine.dependency("api").breaker.state == "closed"
        assert engine.dependency("api").stats()["rejected"]["bulkhead"] == 1

    def test_an_abandoned_thread_does_not_keep_the_interpreter_from_ending(self) -> None:
        program = (
            "import threading\n"
            "from holdfast._engine import Engine\n"
            "e = Engine(defaults={'timeout': {'enforce': 'thread', 'attempt_seconds': 0.01},\n"
            "                     'retry': {'enabled': False}})\n"
            "print(type(e.try_call('api', threading.Event().wait).error).__name__)\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        )

        assert done.stdout.strip() == "CallTimeout"


def started(threads: Threads, job: Job[Any]) -> bool:
    try:
        threads.start("api", job)
    except BulkheadFull:
        return False
    return True


def until(condition: Any) -> bool:
    """Whether a condition comes true in time; for what another thread does."""
    end = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


class TestClocks:
    async def test_the_real_clock_really_waits(self) -> None:
        clock = Clock()
        began = clock.monotonic()

        clock.sleep(0.002)
        await clock.sleep_async(0.002)

        assert clock.monotonic() - began >= 0.004
        assert clock.wall() > START

    async def test_waits_between_attempts_take_no_time(self) -> None:
        clock = FakeClock()

        clock.sleep(5)
        await clock.sleep_async(6)

        assert (clock.monotonic(), clock.slept) == (1_011.0, [5, 6])
