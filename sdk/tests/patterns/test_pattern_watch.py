"""Timeouts of coroutines, one timer per loop: who is cancelled, by whom, and what stays behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import CallTimeout, _scope
from holdfast._engine import Engine
from holdfast._watch import Watch

WAIT = 10.0
SOON = 0.01  # seconds: the limit of an attempt


@pytest.fixture(autouse=True, params=[True, False], ids=["scoped", "unscoped"])
def _scopes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without anybody in the process who asks how much time is left."""
    monkeypatch.setattr(_scope, "is_asked_for", request.param)


def make_engine(seconds: float = SOON, **patterns: Any) -> Engine:
    policy: dict[str, Any] = {"retry": {"enabled": False}, "timeout": {"attempt_seconds": seconds}}
    return Engine(defaults=policy | patterns)


def task() -> asyncio.Task[Any]:
    current = asyncio.current_task()
    assert current is not None
    return current


async def hang() -> None:
    await asyncio.Event().wait()


def watch_of(engine: Engine) -> Watch:
    (watch,) = engine.state_of("api").watches._by_loop.values()
    return watch


class TestCancellation:
    @pytest.mark.parametrize("first", ["outside", "timer"])
    async def test_one_from_outside_wins_in_the_same_turn_of_the_loop(self, first: str) -> None:
        engine = make_engine()
        loop = asyncio.get_running_loop()

        async def meet() -> None:
            time.sleep(2 * SOON)  # noqa: ASYNC251 - past its time, before the timer can fire
            if first == "outside":
                loop.call_soon(task().cancel)
            else:
                loop.call_at(loop.time() - SOON / 2, task().cancel)
            await hang()

        running = asyncio.create_task(engine.acall("api", meet))
        await asyncio.wait([running])

        stats = engine.dependency("api").stats()
        assert running.cancelled()
        assert running.cancelling() == 1
        assert (stats["cancelled"], stats["timeouts"], stats["in_flight"]) == (1, 0, 0)

    async def test_a_swallowed_one_leaves_nothing_behind_in_the_task(self) -> None:
        engine = make_engine()

        async def swallow() -> str:
            try:
                await hang()
            except asyncio.CancelledError:
                return "late"
            return "never"

        assert await engine.acall("api", swallow) == "late"
        await asyncio.sleep(0)

        assert task().cancelling() == 0
        assert engine.dependency("api").stats()["timeouts"] == 1

    async def test_one_that_came_before_is_not_taken_for_ours(self) -> None:
        engine = make_engine()
        outcomes: list[str] = []

        async def cleans_up() -> None:
            try:
                await hang()
            finally:
                outcome = await engine.try_acall("api", hang)
                outcomes.append(type(outcome.error).__name__)

        running = asyncio.create_task(cleans_up())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

        assert outcomes == ["CallTimeout"]
        assert running.cancelled()

    async def test_closing_a_coroutine_that_was_begun_by_hand_cancels_nobody(self) -> None:
        engine = make_engine()
        call = engine.acall("api", hang)
        call.send(None)

        call.close()
        await asyncio.sleep(3 * SOON)

        assert task().cancelling() == 0
        assert engine.dependency("api").stats()["cancelled"] == 1


class TestNesting:
    async def test_the_inner_call_of_an_outer_that_times_out_is_merely_cancelled(self) -> None:
        outer, inner = make_engine(), make_engine(WAIT)

        outcome = await outer.try_acall("outer", inner.acall, "inner", hang)

        assert isinstance(outcome.error, CallTimeout)
        assert outcome.error.dependency == "outer"
        assert inner.dependency("inner").stats()["timeouts"] == 0
        assert inner.dependency("inner").stats()["cancelled"] == 1

    async def test_both_out_of_time_at_once_is_one_timeout_and_no_cancellation(self) -> None:
        engine = make_engine()

        async def blocks_inside() -> None:
            time.sleep(2 * SOON)  # noqa: ASYNC251 - past the time of both
            await hang()

        outcome = await engine.try_acall("api", engine.acall, "api", blocks_inside)
        await asyncio.sleep(0)

        assert isinstance(outcome.error, CallTimeout)
        assert task().cancelling() == 0
        assert engine.dependency("api").in_flight == 0

    async def test_calls_side_by_side_end_in_their_own_time(self) -> None:
        engine = make_engine()
        began = time.monotonic()

        async def later(number: int) -> float:
            await asyncio.sleep(number * SOON / 4)
            await engine.try_acall("api", hang)
            return time.monotonic() - began - number * SOON / 4

        lasted = await asyncio.gather(*(later(number) for number in range(8)))

        assert min(lasted) >= SOON * 0.99
        assert engine.dependency("api").stats()["timeouts"] == 8


class TestLoops:
    def test_two_in_two_threads_do_not_see_each_other(self) -> None:
        engine = make_engine()

        async def use() -> list[str]:
            outcomes = await asyncio.gather(*(engine.try_acall("api", hang) for _ in range(5)))
            return [type(each.error).__name__ for each in outcomes]

        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(asyncio.run, use()) for _ in range(2)]
            ended = [name for job in jobs for name in job.result(WAIT)]

        assert ended == ["CallTimeout"] * 10
        assert engine.dependency("api").in_flight == 0

    def test_one_that_is_closed_with_calls_under_way_is_forgotten(self) -> None:
        engine = make_engine(WAIT)
        call = engine.acall("api", hang)

        async def begin_and_leave() -> None:
            call.send(None)

        asyncio.run(begin_and_leave())
        outcome = asyncio.run(engine.try_acall("api", asyncio.sleep, 0))
        call.close()

        stats = engine.dependency("api").stats()
        assert outcome.ok
        assert list(watch_of(engine).running) == []
        assert (stats["cancelled"], stats["failures"], stats["in_flight"]) == (1, 0, 0)

    def test_a_decorated_function_with_a_queue_serves_one_after_the_other(self) -> None:
        queue = {"max_concurrent": 1, "max_waiting": 5, "max_wait_seconds": WAIT}
        engine = make_engine(WAIT, bulkhead=queue)

        @engine.guard("api")
        async def answer() -> int:
            await asyncio.sleep(0)
            return 1

        async def many() -> list[int]:
            return await asyncio.gather(*(answer() for _ in range(5)))

        assert asyncio.run(many()) == asyncio.run(many()) == [1] * 5

    def test_a_timer_that_is_pending_does_not_keep_the_interpreter_from_ending(self) -> None:
        program = (
            "import asyncio\n"
            "from holdfast._engine import Engine\n"
            "e = Engine(defaults={'timeout': {'attempt_seconds': 3600}})\n"
            "async def quick(): return 1\n"
            "async def main():\n"
            "    global left\n"
            "    left = asyncio.create_task(e.acall('api', asyncio.sleep, 3600))\n"
            "    print(await e.acall('api', quick))\n"
            "asyncio.run(main())\n"
            "print(e.dependency('api').in_flight)\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        )

        assert (done.stdout.split(), done.stderr) == (["1", "0"], "")


class TestLimits:
    async def test_a_new_one_holds_for_new_attempts_and_the_old_for_those_under_way(self) -> None:
        engine = make_engine(WAIT)
        old = asyncio.create_task(engine.acall("api", hang))
        await asyncio.sleep(0)
        state = engine.state_of("api")
        state.follow(make_engine(SOON).state_of("api").plan)

        outcome = await engine.try_acall("api", hang)

        assert isinstance(outcome.error, CallTimeout)
        assert not old.done()
        old.cancel()
        await asyncio.wait([old])

    async def test_what_is_over_is_not_watched_any_more(self) -> None:
        engine = make_engine(WAIT)

        await asyncio.gather(*(engine.acall("api", asyncio.sleep, 0) for _ in range(20)))

        assert list(watch_of(engine).running) == []
