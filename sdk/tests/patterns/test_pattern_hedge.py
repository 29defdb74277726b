"""Hedging: when a second copy is sent, whose answer counts, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast._engine import Engine
from holdfast._hedge_delay import KEPT, LEAST, Durations
from holdfast._options import Options
from holdfast._retry import Budget
from holdfast.errors import CallTimeout, CircuitOpen
from holdfast.testing import LocalHoldfast

SOON = 0.001  # seconds until a second copy in these tests
NEVER = 60.0
WAIT = 10.0
NO_RETRY = {"enabled": False}
AT_ONCE = {"base_seconds": 0.0}


def hedging(after: float = SOON, **more: Any) -> LocalHoldfast:
    """A Holdfast whose calls to `api` have a second copy."""
    hf = LocalHoldfast()
    hf.set_policy("api", hedge={"enabled": True, "after_seconds": after}, **more)
    return hf


class Copies:
    """A function of a dependency; each of its calls answers when the test says what."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[Any]] = []

    async def __call__(self) -> Any:
        copy = asyncio.get_running_loop().create_future()
        self.sent.append(copy)
        return await copy

    async def number(self, count: int) -> None:
        """Wait until so many are sent."""
        async with asyncio.timeout(WAIT):
            while len(self.sent) < count:  # noqa: ASYNC110 - it counts what others begin
                await asyncio.sleep(SOON / 4)


def stats(hf: LocalHoldfast) -> dict[str, Any]:
    return hf.dependency("api").stats()


def hedges(hf: LocalHoldfast) -> tuple[int, int, int]:
    """Second copies that were sent, that won, and that a gate refused."""
    counted = stats(hf)["hedges"]
    return counted["launched"], counted["won"], counted["refused"]


async def quick(answer: Any = 1) -> Any:
    return answer


async def twice_as_long_as_needed() -> None:
    """Let pass what would be time for a second copy."""
    await asyncio.sleep(5 * SOON)


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    """No task outlives a call, and no error of one goes unnoticed."""
    unnoticed: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: unnoticed.append(context))
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= {asyncio.current_task()}
    assert unnoticed == []


class TestWhen:
    async def test_a_call_that_answers_in_good_time_is_sent_once(self) -> None:
        hf = hedging(NEVER)

        assert await hf.acall("api", quick, 7) == 7
        assert (stats(hf)["calls"], hedges(hf)) == (1, (0, 0, 0))

    async def test_a_slow_one_is_sent_again_and_the_first_good_answer_counts(self) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)

        copies.sent[1].set_result("second")

        assert await call == "second"
        assert copies.sent[0].cancelled()
        assert hedges(hf) == (1, 1, 0)

    async def test_the_first_copy_may_still_win(self) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)

        copies.sent[0].set_result("first")

        assert await call == "first"
        assert copies.sent[1].cancelled()
        assert hedges(hf) == (1, 0, 0)

    async def test_there_is_one_extra_copy_and_no_third(self) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)
        await twice_as_long_as_needed()
        assert len(copies.sent) == 2

        copies.sent[1].set_result(1)
        await call

    def test_ordinary_functions_are_sent_once(self) -> None:
        hf = hedging()

        assert hf.call("api", lambda: 1) == 1
        assert hf.explain("api")["hedge"] == {"functions": "async", "after_seconds": SOON}

    async def test_where_the_policy_says_not_idempotent_nothing_is_sent_twice(self) -> None:
        hf = hedging(retry={"idempotent": False})
        await self.is_sent_once(hf, hf.acall("api", twice_as_long_as_needed))
        assert hf.explain("api")["hedge"] is None

    @pytest.mark.parametrize("repeat", ["unsent", "never"])
    async def test_what_its_author_says_not_to_repeat_is_sent_once(self, repeat: Any) -> None:
        hf = hedging()
        options = Options(repeat=repeat)
        call = hf._engine.try_with_async("api", twice_as_long_as_needed, options)
        await self.is_sent_once(hf, call)

    async def test_within_another_guards_retry_nothing_is_sent_twice(self) -> None:
        hf = hedging()
        hf.set_policy("outer", retry=AT_ONCE)
        made: list[int] = []

        async def outer() -> None:
            made.append(1)
            if len(made) == 1:
                raise ConnectionError
            await hf.acall("api", twice_as_long_as_needed)

        await self.is_sent_once(hf, hf.acall("outer", outer))

    async def test_within_a_second_copy_nothing_is_sent_twice_or_retried(self) -> None:
        hf, outer, inner = hedging(), Copies(), Copies()
        hf.set_policy("outer", hedge={"enabled": True, "after_seconds": SOON}, retry=AT_ONCE)

        async def call_on() -> Any:
            if not outer.sent:
                return await outer()
            return await hf.acall("api", inner)

        call = asyncio.create_task(hf.acall("outer", call_on))
        await inner.number(1)
        await twice_as_long_as_needed()
        inner.sent[0].set_exception(ConnectionError())
        await twice_as_long_as_needed()
        outer.sent[0].set_result("first")

        assert await call == "first"
        assert (len(inner.sent), stats(hf)["retries"]) == (1, 0)

    async def test_a_half_open_breaker_is_not_asked_twice(self) -> None:
        hf = hedging(breaker={"consecutive_failures": 1, "half_open_concurrent": 5}, retry=NO_RETRY)
        hf.try_call("api", _fail)
        hf.fake_clock.advance(60)

        await self.is_sent_once(hf, hf.acall("api", twice_as_long_as_needed))
        assert hf.dependency("api").breaker.state == "half_open"

    async def is_sent_once(self, hf: LocalHoldfast, call: Awaitable[Any]) -> None:
        await call

        assert (stats(hf)["calls"] - stats(hf)["failures"], hedges(hf)) == (1, (0, 0, 0))


class TestObservedDelay:
    async def test_until_enough_was_observed_nothing_is_sent_twice(self) -> None:
        hf = hedging(0)
        assert hf.explain("api")["hedge"]["after_seconds"] is None

        await hf.acall("api", twice_as_long_as_needed)

        assert hedges(hf) == (0, 0, 0)

    async def test_then_the_slowest_twentieth_is(self) -> None:
        hf, copies = hedging(0), Copies()
        for _ in range(LEAST):
            await hf.acall("api", quick)
        assert hf.explain("api")["hedge"]["after_seconds"] == SOON  # no timer is finer

        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)
        copies.sent[1].set_result(1)
        await call

    def test_it_is_the_95th_percentile(self) -> None:
        durations = Durations()
        for number in random.Random(7).sample(range(1, 101), 100):
            durations.add(number)
        assert durations.quantile == pytest.approx(95, abs=2)

    def test_only_the_newest_count(self) -> None:
        durations = Durations()
        for seconds in [9.0] * KEPT + [2.0] * KEPT:
            durations.add(seconds)

        assert durations.quantile == 2.0

    def test_calls_that_lose_do_not_draw_it_down_nor_up(self) -> None:
        """Every tenth hangs, and loses each time: the wait must stay where the good ones are."""
        durations = Durations()
        for number in range(2_000):
            wait = durations.quantile or NEVER
            durations.add(wait if number >= LEAST and number % 10 == 0 else 1.0)

        assert durations.quantile == 1.0

    async def test_failures_are_not_observed(self) -> None:
        hf = hedging(0, retry=NO_RETRY, breaker={"enabled": False})
        for _ in range(2 * LEAST):
            await hf.try_acall("api", _fail_async)

        assert hf.explain("api")["hedge"]["after_seconds"] is None


class TestBudget:
    async def test_a_second_copy_takes_a_token(self) -> None:
        hf, copies = hedging(retry={"budget_tokens": 10, "budget_refill": 0.5}), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)

        assert stats(hf)["budget_tokens"] == 9
        copies.sent[1].set_result(1)
        await call
        assert stats(hf)["budget_tokens"] == 9.5

    async def test_an_exhausted_budget_sends_none_and_fails_nothing(self) -> None:
        hf = hedging(retry={"budget_tokens": 2})

        assert await hf.acall("api", _slowly, 7) == 7
        assert hedges(hf) == (0, 0, 0)

    async def test_retries_that_are_off_leave_hedges_their_budget(self) -> None:
        hf = hedging(retry={"enabled": False, "budget_tokens": 4, "budget_refill": 0.01})

        for _ in range(4):
            await hf.acall("api", _slowly, 7)

        assert hedges(hf) == (2, 0, 0)

    def test_half_of_it_stays_for_those_that_fail(self) -> None:
        budget = Budget(10, 0.1)

        assert [budget.take() for _ in range(7)] == [True] * 4 + [False] * 3
        assert budget.tokens == 6

    def test_no_budget_means_no_limit(self) -> None:
        budget = Budget(0, 0.1)

        assert all(budget.take() for _ in range(1_000))
        budget.put_back()
        assert (budget.tokens, budget.is_spent) == (0, False)


class TestFailures:
    async def test_a_failure_that_may_pass_sends_the_second_copy_at_once(self) -> None:
        hf, answers = hedging(NEVER), iter([ConnectionError(), 7])

        assert await hf.acall("api", _next_of, answers) == 7
        assert (hedges(hf), stats(hf)["retries"]) == ((1, 1, 0), 0)

    @pytest.mark.parametrize("error", [PermissionError(), MemoryError()], ids=["final", "critical"])
    async def test_any_other_failure_ends_the_call(self, error: Exception) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)

        copies.sent[0].set_exception(error)

        with pytest.raises(type(error)):
            await call
        assert copies.sent[1].cancelled()

    async def test_who_asks_for_time_is_not_asked_at_once(self) -> None:
        hf = hedging(NEVER, retry={"base_seconds": 0, "attempts": 2})
        answers = iter([_Busy(), 7])

        assert await hf.acall("api", _next_of, answers) == 7
        assert (hedges(hf), hf.fake_clock.slept) == ((0, 0, 0), [5.0])

    async def test_after_one_fails_the_other_is_waited_for(self) -> None:
        for failing, good in ((0, 1), (1, 0)):
            hf, copies = hedging(), Copies()
            call = asyncio.create_task(hf.acall("api", copies))
            await copies.number(2)

            copies.sent[failing].set_exception(ConnectionError())
            await twice_as_long_as_needed()
            copies.sent[good].set_result(good)

            assert await call == good
            assert len(copies.sent) == 2

    async def test_if_both_fail_the_later_error_counts(self) -> None:
        for first, later in ((0, 1), (1, 0)):
            hf, copies = hedging(retry=NO_RETRY), Copies()
            call = asyncio.create_task(hf.acall("api", copies))
            await copies.number(2)

            copies.sent[first].set_exception(ConnectionError("earlier"))
            await twice_as_long_as_needed()
            copies.sent[later].set_exception(ConnectionError("later"))

            with pytest.raises(ConnectionError, match="later"):
                await call
            assert stats(hf)["failures"] == 2

    async def test_an_attempt_is_both_copies_and_each_copy_is_a_call(self) -> None:
        hf = hedging(NEVER, retry={"attempts": 3, **AT_ONCE})
        outcome = await hf.try_acall("api", _fail_async)

        assert (outcome.attempts, stats(hf)["retries"]) == (3, 2)
        assert (stats(hf)["calls"], stats(hf)["failures"], hedges(hf)) == (6, 6, (3, 0, 0))
        assert stats(hf)["window"]["calls"] == 6

    async def test_without_retries_the_classes_that_may_pass_are_hedged(self) -> None:
        hf = hedging(NEVER, retry=NO_RETRY)

        assert await hf.acall("api", _next_of, iter([TimeoutError(), 7])) == 7
        with pytest.raises(PermissionError):
            await hf.acall("api", _next_of, iter([PermissionError(), 7]))

    async def test_an_error_keeps_nothing_alive(self) -> None:
        """Else each failure in an outage would stay until the collector comes by."""

        class Big:
            pass

        hf, alive = hedging(NEVER, retry=NO_RETRY), []

        async def fail() -> None:
            big = Big()
            alive.append(weakref.ref(big))
            raise ConnectionError

        gc.disable()
        try:
            outcome = await hf.try_acall("api", fail)
            assert isinstance(outcome.error, ConnectionError)
            del outcome
            await asyncio.sleep(0)
            assert [each() for each in alive] == [None, None]
        finally:
            gc.enable()


class TestGates:
    async def test_without_a_place_there_is_no_second_copy_and_no_rejection(self) -> None:
        hf = hedging(bulkhead={"max_concurrent": 1, "max_waiting": 5, "max_wait_seconds": NEVER})

        assert await hf.acall("api", _slowly, 7) == 7
        self.is_no_news(hf)

    async def test_without_a_turn_likewise(self) -> None:
        hf = hedging(rate_limit={"enabled": True, "calls": 1, "max_wait_seconds": NEVER})

        assert await hf.acall("api", _slowly, 7) == 7
        self.is_no_news(hf)
        assert hf.fake_clock.slept == []

    async def test_a_circuit_that_opened_meanwhile_likewise(self) -> None:
        hf = hedging(NEVER, breaker={"consecutive_failures": 1}, retry=NO_RETRY)

        with pytest.raises(ConnectionError):
            await hf.acall("api", _fail_async)
        assert hedges(hf) == (0, 0, 0)

    async def test_a_flag_engaged_meanwhile_likewise(self) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(1)
        hf.engage("simple", kind="fallback", dependencies=["api"])
        await twice_as_long_as_needed()
        copies.sent[0].set_result(7)

        assert await call == 7
        self.is_no_news(hf)

    async def test_a_call_that_is_refused_is_not_sent_a_second_time(self) -> None:
        hf = hedging()
        hf.override("api", "force_open")

        with pytest.raises(CircuitOpen):
            await hf.acall("api", quick)
        assert hedges(hf) == (0, 0, 0)

    async def test_waiting_for_a_place_is_not_being_slow(self) -> None:
        rules = {"max_concurrent": 1, "max_waiting": 1, "max_wait_seconds": WAIT}
        hf = hedging(bulkhead=rules)
        places = hf._engine.state_of("api").bulkhead
        places.acquire()
        call = asyncio.create_task(hf.acall("api", quick))
        await twice_as_long_as_needed()
        places.release()

        await call
        assert hedges(hf) == (0, 0, 0)

    async def test_each_copy_has_its_place_and_gives_it_back_when_it_ends(self) -> None:
        hf, copies = hedging(bulkhead={"max_concurrent": 2}), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)
        both = hf.dependency("api").in_flight
        copies.sent[0].set_exception(ConnectionError())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        one = hf.dependency("api").in_flight
        copies.sent[1].set_result(1)
        await call

        assert (both, one, hf.dependency("api").in_flight) == (2, 1, 0)

    async def test_a_loser_says_nothing_to_the_breaker(self) -> None:
        hf, copies = hedging(breaker={"consecutive_failures": 1}), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)
        copies.sent[1].set_result(1)
        await call

        counted = stats(hf)
        assert (counted["calls"], counted["successes"], counted["cancelled"]) == (2, 1, 1)
        assert (counted["window"]["calls"], counted["failures"]) == (1, 0)

    def is_no_news(self, hf: LocalHoldfast) -> None:
        """A copy a gate refused is no call that was refused, and its token is given back."""
        assert hedges(hf) == (0, 0, 1)
        collected = hf.collect()
        assert sum(collected["dependencies"]["api"]["rejected"].values()) == 0
        assert collected["events"] == []
        assert stats(hf)["budget_tokens"] == 100


class TestTime:
    async def test_each_copy_has_the_time_of_an_attempt(self) -> None:
        hf = hedging(20 * SOON, timeout={"attempt_seconds": 40 * SOON}, retry=NO_RETRY)

        with pytest.raises(CallTimeout):
            await hf.acall("api", Copies())

        assert (stats(hf)["timeouts"], stats(hf)["calls"], hedges(hf)) == (2, 2, (1, 0, 0))

    async def test_a_first_copy_that_ran_out_of_time_is_replaced_at_once(self) -> None:
        hf = hedging(NEVER, timeout={"attempt_seconds": 5 * SOON}, retry=NO_RETRY)
        made: list[int] = []

        async def hangs_once() -> int:
            made.append(1)
            if len(made) == 1:
                await asyncio.Event().wait()
            return 7

        assert await hf.acall("api", hangs_once) == 7

    async def test_both_end_with_the_deadline_of_the_call(self) -> None:
        engine = Engine(defaults={"hedge": {"enabled": True, "after_seconds": SOON},
                                  "timeout": {"total_seconds": 50 * SOON}})  # fmt: skip
        copies = Copies()

        with pytest.raises(CallTimeout):
            await engine.acall("api", copies)

        assert [copy.cancelled() for copy in copies.sent] == [True, True]
        assert engine.dependency("api").in_flight == 0


class TestCancellation:
    @pytest.mark.parametrize("ended", [None, 0, 1], ids=["both run", "one failed", "other failed"])
    async def test_from_outside_it_ends_both(self, ended: int | None) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)
        if ended is not None:
            copies.sent[ended].set_exception(ConnectionError())
            await twice_as_long_as_needed()

        call.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await call

        assert [copy.done() for copy in copies.sent] == [True, True]
        assert (hf.dependency("api").in_flight, hedges(hf)) == (0, (1, 0, 0))

    @pytest.mark.parametrize("steps", range(7))
    @pytest.mark.parametrize("winner", [0, 1])
    async def test_it_wins_even_in_the_moment_of_the_answer(self, winner: int, steps: int) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(2)

        copies.sent[winner].set_result(7)
        for _ in range(steps):
            await asyncio.sleep(0)
        was_in_time = call.cancel()

        if was_in_time:
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            assert await call == 7
        assert hf.dependency("api").in_flight == 0

    async def test_a_task_that_was_beaten_is_not_left_as_if_cancelled(self) -> None:
        hf, copies = hedging(), Copies()

        async def calling() -> Any:
            answer = await hf.acall("api", copies)
            task = asyncio.current_task()
            async with asyncio.timeout(WAIT):
                await asyncio.sleep(0)
            return answer, task is not None and task.cancelling()

        call = asyncio.create_task(calling())
        await copies.number(2)
        copies.sent[1].set_result(7)

        assert await call == (7, 0)

    async def test_a_timeout_around_the_call_is_the_callers(self) -> None:
        hf, copies = hedging(), Copies()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50 * SOON):
                await hf.acall("api", copies)

        assert [copy.cancelled() for copy in copies.sent] == [True, True]

    async def test_a_first_copy_that_does_not_care_is_waited_for(self) -> None:
        hf, copies, swallowed = hedging(), Copies(), asyncio.Event()

        async def stubborn() -> Any:
            if copies.sent:
                return await copies()
            try:
                return await copies()
            except asyncio.CancelledError:
                swallowed.set()
                await asyncio.sleep(SOON)
                return "swallowed"

        call = asyncio.create_task(hf.acall("api", stubborn))
        await copies.number(2)
        copies.sent[1].set_result("second")

        assert await call == "second"
        assert swallowed.is_set()
        assert stats(hf)["successes"] == 2

    async def test_a_first_copy_that_makes_an_error_of_it_changes_nothing(self) -> None:
        hf, copies = hedging(), Copies()

        async def converts() -> Any:
            try:
                return await copies()
            except asyncio.CancelledError:
                raise ConnectionError from None

        call = asyncio.create_task(hf.acall("api", converts))
        await copies.number(2)
        copies.sent[1].set_result("second")

        assert await call == "second"

    async def test_a_second_copy_that_does_not_care_is_waited_for(self) -> None:
        hf, copies = hedging(), Copies()
        ended = asyncio.Event()

        async def stubborn() -> Any:
            is_first = not copies.sent
            try:
                return await copies()
            except asyncio.CancelledError:
                if not is_first:
                    await asyncio.sleep(5 * SOON)
                    ended.set()
                raise

        call = asyncio.create_task(hf.acall("api", stubborn))
        await copies.number(2)
        copies.sent[0].set_result("first")
        for _ in range(3):
            await asyncio.sleep(0)
        for _ in range(3):  # whoever cancels while it is waited for is heard, and waits too
            call.cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await call
        assert hf.dependency("api").in_flight == 0

    async def test_in_a_storm_nothing_is_lost_or_left(self) -> None:
        hf = hedging(bulkhead={"max_concurrent": 40}, retry={"attempts": 2, **AT_ONCE},
                     breaker={"enabled": False})  # fmt: skip
        dice = random.Random(11)

        async def unsteady() -> int:
            await asyncio.sleep(dice.choice((0, 0, SOON, 2 * SOON, 4 * SOON)))
            if dice.random() < 0.3:
                raise ConnectionError
            return 1

        async def calls() -> None:
            for _ in range(8):
                await hf.try_acall("api", unsteady)

        tasks = [asyncio.create_task(calls()) for _ in range(60)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(SOON / 2)
            dice.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        counted = stats(hf)
        ended = counted["successes"] + counted["failures"] + counted["cancelled"]
        assert (counted["in_flight"], counted["waiting"]) == (0, 0)
        assert counted["calls"] == ended > 100
        assert counted["hedges"]["launched"] > 10

    def test_one_client_serves_one_event_loop_after_the_other(self) -> None:
        hf = hedging()

        for _ in range(3):
            assert asyncio.run(hf.acall("api", _slowly, 7)) == 7

        assert hedges(hf)[0] == 3


user: ContextVar[str] = ContextVar("user", default="nobody")


class TestContext:
    async def test_both_copies_see_the_callers_variables(self) -> None:
        hf, copies, seen = hedging(), Copies(), []
        user.set("ana")

        async def who() -> Any:
            seen.append(user.get())
            return await copies()

        call = asyncio.create_task(hf.acall("api", who))
        await copies.number(2)
        copies.sent[1].set_result(1)
        await call

        assert seen == ["ana", "ana"]

    async def test_what_the_first_copy_sets_the_caller_sees_and_the_second_does_not(self) -> None:
        hf, seen = hedging(NEVER), []

        async def sets_and_fails_once() -> int:
            seen.append(user.get())
            user.set("set inside")
            if len(seen) == 1:
                raise ConnectionError
            return 1

        before = user.get()
        await hf.acall("api", sets_and_fails_once)

        assert seen == [before, before]
        assert user.get() == "set inside"


class TestTelling:
    async def test_events_say_why_and_when(self) -> None:
        hf = hedging(NEVER)
        for _ in range(3):
            await hf.acall("api", _next_of, iter([ConnectionError(), 7]))

        told = [(each["type"], each["data"]) for each in hf.collect()["events"]]

        assert told == [
            ("hedge.launched", {"cause": "failed", "after": 0.0, "count": 1}),
            ("hedge.won", {"cause": "failed", "after": 0.0, "count": 1}),
            ("hedge.launched", {"cause": "failed", "after": 0.0, "count": 2}),
            ("hedge.won", {"cause": "failed", "after": 0.0, "count": 2}),
        ]

    async def test_switched_off_while_a_call_is_under_way_that_call_goes_on_as_it_began(
        self,
    ) -> None:
        hf, copies = hedging(), Copies()
        call = asyncio.create_task(hf.acall("api", copies))
        await copies.number(1)
        hf.set_policy("api", hedge={"enabled": False})
        await copies.number(2)
        copies.sent[1].set_result(7)

        assert await call == 7


class _Busy(ConnectionError):
    """As an HTTP client says it."""

    class response:
        headers = {"Retry-After": "5"}


def _fail() -> None:
    raise ConnectionError


async def _fail_async() -> None:
    raise ConnectionError


async def _slowly(answer: int) -> int:
    await twice_as_long_as_needed()
    return answer


async def _next_of(answers: Any) -> Any:
    answer = next(answers)
    if isinstance(answer, Exception):
        raise answer
    return answer
