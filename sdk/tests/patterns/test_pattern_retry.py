"""Retry within guarded calls; waits and stop reasons are in sdk/conformance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import CallTimeout, CircuitOpen, DeadlineExceeded
from holdfast._retry import Budget
from holdfast.testing import LocalHoldfast

WAIT = 10.0
NO_JITTER = {"jitter": "none"}


def make_holdfast(**patterns: Any) -> LocalHoldfast:
    hf = LocalHoldfast()
    hf.set_policy("api", **({"retry": NO_JITTER} | patterns))
    return hf


class Flaky:
    """Fails so many times with an error, then answers."""

    def __init__(self, failures: int, error: Callable[[], Exception] = ConnectionError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error()
        return "answer"

    async def later(self) -> str:
        await asyncio.sleep(0)
        return self()


class TestRetrying:
    def test_it_answers_after_failures_and_waits_in_between(self) -> None:
        hf, flaky = make_holdfast(), Flaky(2)

        assert hf.call("api", flaky) == "answer"

        assert hf.fake_clock.slept == pytest.approx([0.1, 0.2])
        assert hf.dependency("api").stats()["recoveries"] == {"attempted": 1, "succeeded": 1}

    async def test_a_coroutine_is_retried_alike(self) -> None:
        hf, flaky = make_holdfast(), Flaky(2)

        assert await hf.acall("api", flaky.later) == "answer"

        assert hf.fake_clock.slept == pytest.approx([0.1, 0.2])

    def test_the_last_error_is_the_functions_own_with_a_note(self) -> None:
        hf, flaky = make_holdfast(), Flaky(9)

        with pytest.raises(ConnectionError) as caught:
            hf.call("api", flaky)

        assert flaky.calls == 3
        assert caught.value.__notes__ == ["holdfast: api: 3 attempts, attempts_exhausted"]

    def test_each_attempt_counts_once(self) -> None:
        hf = make_holdfast()

        hf.try_call("api", Flaky(9))

        stats = hf.dependency("api").stats()
        assert (stats["calls"], stats["failures"], stats["retries"]) == (3, 3, 2)
        assert stats["window"]["calls"] == 3
        assert sum(stats["latency"].values()) == 3

    def test_an_error_raised_again_and_again_does_not_collect_notes(self) -> None:
        hf, error = make_holdfast(), ConnectionError()

        for _ in range(50):
            hf.try_call("api", Flaky(9, lambda: error))

        assert len(error.__notes__) <= 3

    @pytest.mark.parametrize("attempts", [1, 2, 5])
    def test_the_number_of_attempts_is_taken_literally(self, attempts: int) -> None:
        hf = make_holdfast(retry={"attempts": attempts}, breaker={"enabled": False})
        flaky = Flaky(99)

        hf.try_call("api", flaky)

        assert flaky.calls == attempts

    def test_switched_off_means_one_attempt_and_the_error_untouched(self) -> None:
        hf, flaky = make_holdfast(retry={"enabled": False}), Flaky(1)

        with pytest.raises(ConnectionError) as caught:
            hf.call("api", flaky)

        assert flaky.calls == 1
        assert not hasattr(caught.value, "__notes__")

    def test_calls_side_by_side_have_counts_of_their_own(self) -> None:
        hf = make_holdfast(
            breaker={"enabled": False}, retry={"base_seconds": 0, "budget_tokens": 0}
        )
        flakies = [Flaky(2) for _ in range(40)]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda flaky: hf.call("api", flaky), flakies))

        assert answers == ["answer"] * 40
        assert {flaky.calls for flaky in flakies} == {3}

    async def test_coroutines_and_threads_on_one_function_keep_their_counts_and_waits_apart(
        self,
    ) -> None:
        hf = make_holdfast(
            breaker={"enabled": False}, retry=NO_JITTER | {"attempts": 4, "budget_tokens": 0}
        )

        @hf.guard("api")
        async def later(flaky: Flaky) -> str:
            return await flaky.later()

        @hf.guard("api")
        def now(flaky: Flaky) -> str:
            return flaky()

        flakies = [Flaky(number % 4) for number in range(24)]
        side_by_side = [asyncio.to_thread(now, each) for each in flakies[:12]]
        answers = await asyncio.gather(*side_by_side, *(later(each) for each in flakies[12:]))

        waits = [wait for each in flakies for wait in (0.1, 0.2, 0.4)[: each.failures]]
        assert answers == ["answer"] * 24
        assert [each.calls for each in flakies] == [each.failures + 1 for each in flakies]
        assert sorted(hf.fake_clock.slept) == pytest.approx(sorted(waits))

    @pytest.mark.parametrize("attempts", [0, None])
    def test_no_attempt_at_all_is_refused_and_not_taken_for_some_other_number(
        self, attempts: Any
    ) -> None:
        with pytest.raises(ValueError, match=r"retry\.attempts"):
            make_holdfast(retry={"attempts": attempts})

    def test_it_stops_when_the_circuit_opens(self) -> None:
        hf = make_holdfast(breaker={"consecutive_failures": 2}, retry=NO_JITTER | {"attempts": 5})
        flaky = Flaky(99)

        outcome = hf.try_call("api", flaky)

        assert flaky.calls == 2
        assert isinstance(outcome.error, CircuitOpen)

    def test_it_can_wait_for_the_circuit(self) -> None:
        hf = make_holdfast(
            breaker={"consecutive_failures": 1, "half_open_successes": 1, "open_seconds": 3},
            retry=NO_JITTER | {"attempts": 5, "when_open": "wait"},
        )

        assert hf.call("api", Flaky(1)) == "answer"

        assert hf.fake_clock.slept == pytest.approx([0.1, 2.9])

    async def test_cancelled_in_its_sleep_it_ends_at_once(self) -> None:
        hf = make_holdfast()
        asleep = asyncio.Event()

        async def sleep_for_ever(seconds: float) -> None:
            asleep.set()
            await asyncio.Event().wait()

        hf.fake_clock.sleep_async = sleep_for_ever  # type: ignore[method-assign]  # our seam
        flaky = Flaky(9)
        task = asyncio.create_task(hf.acall("api", flaky.later))
        await asyncio.wait_for(asleep.wait(), WAIT)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        stats = hf.dependency("api").stats()
        assert flaky.calls == 1
        assert (stats["in_flight"], stats["budget_tokens"]) == (0, 99)  # paid for one failure

    async def test_a_rule_for_all_errors_does_not_retry_a_cancellation(self) -> None:
        hf = make_holdfast()
        calls = 0

        @hf.guard("api", errors={"transient": [BaseException, lambda error: True]})
        async def cancelled() -> None:
            nonlocal calls
            calls += 1
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await cancelled()

        stats = hf.dependency("api").stats()
        assert calls == 1
        assert (stats["cancelled"], stats["failures"], stats["in_flight"]) == (1, 0, 0)

    async def test_a_cancelled_attempt_is_never_retried(self) -> None:
        hf = make_holdfast()
        calls = 0

        async def cancelled() -> None:
            nonlocal calls
            calls += 1
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await hf.acall("api", cancelled)

        assert calls == 1

    def test_a_group_is_retried_only_if_all_of_it_may_pass(self) -> None:
        hf = make_holdfast()
        passing = Flaky(9, lambda: ExceptionGroup("both", [ConnectionError(), TimeoutError()]))
        mixed = Flaky(9, lambda: ExceptionGroup("both", [ConnectionError(), PermissionError()]))

        hf.try_call("api", passing)
        hf.try_call("api", mixed)

        assert (passing.calls, mixed.calls) == (3, 1)


class TestDeadline:
    def test_sleep_never_passes_the_total_deadline(self) -> None:
        hf = make_holdfast(
            timeout={"total_seconds": 1}, retry=NO_JITTER | {"base_seconds": 0.6, "attempts": 9}
        )
        flaky = Flaky(99)

        with pytest.raises(ConnectionError) as caught:
            hf.call("api", flaky)

        assert flaky.calls == 2
        assert hf.fake_clock.slept == pytest.approx([0.6])
        assert "deadline" in caught.value.__notes__[0]

    def test_an_inner_call_is_bound_by_the_deadline_around_it(self) -> None:
        hf = make_holdfast(timeout={"total_seconds": 5})
        hf.set_policy("inner", timeout={"attempt_seconds": 60})

        def outer() -> None:
            hf.fake_clock.advance(6)
            hf.call("inner", lambda: pytest.fail("was called"))

        with pytest.raises(DeadlineExceeded):
            hf.call("api", outer)

        assert hf.dependency("inner").stats()["calls"] == 0

    def test_a_deadline_is_a_timeout_to_whoever_catches_timeouts(self) -> None:
        assert issubclass(DeadlineExceeded, CallTimeout)
        assert issubclass(CallTimeout, TimeoutError)


class TestBudget:
    def test_an_exhausted_budget_still_lets_every_first_attempt_through(self) -> None:
        hf = make_holdfast(
            breaker={"enabled": False}, retry=NO_JITTER | {"budget_tokens": 2, "base_seconds": 0}
        )
        hf.try_call("api", Flaky(9))
        flaky = Flaky(9)

        hf.try_call("api", flaky)

        assert flaky.calls == 1
        assert hf.dependency("api").stats()["rejected"]["budget"] == 2

    async def test_calls_that_wait_for_their_retry_have_paid_once_each(self) -> None:
        hf = make_holdfast(breaker={"enabled": False}, retry=NO_JITTER | {"attempts": 2})
        flakies = [Flaky(1) for _ in range(20)]
        left: list[float] = []

        async def wait_for_the_others(seconds: float) -> None:
            left.append(hf.dependency("api").stats()["budget_tokens"])
            while len(left) < len(flakies):  # noqa: ASYNC110 - all of them wait at the same time
                await asyncio.sleep(0)

        hf.fake_clock.sleep_async = wait_for_the_others  # type: ignore[method-assign]  # our seam
        await asyncio.gather(*(hf.acall("api", each.later) for each in flakies))

        assert left == [100 - number for number in range(1, 21)]

    def test_few_calls_may_always_retry_with_a_fresh_budget(self) -> None:
        budget = Budget(100, 0.1)

        assert all(budget.failed() for _ in range(49))
        assert not budget.failed()

    def test_success_refills_no_further_than_full(self) -> None:
        budget = Budget(4, 1)
        for _ in range(3):
            budget.failed()

        for _ in range(50):
            budget.succeeded()

        assert budget.tokens == 4

    def test_a_new_size_keeps_the_share_that_is_left(self) -> None:
        budget = Budget(100, 0.1)
        for _ in range(50):
            budget.failed()

        budget.configure(10, 0.1)

        assert budget.tokens == pytest.approx(5)


class TestNesting:
    def test_attempts_of_nested_guards_add_up_instead_of_multiplying(self) -> None:
        hf = LocalHoldfast()
        for name in ("outer", "inner"):
            hf.set_policy(name, breaker={"enabled": False}, retry={"base_seconds": 0})
        flaky = Flaky(99)

        hf.try_call("outer", lambda: hf.call("inner", flaky))

        assert flaky.calls == 5  # 3 in the first outer attempt, then 1 in each

    def test_the_next_call_retries_as_ever(self) -> None:
        hf = make_holdfast(breaker={"enabled": False})
        hf.try_call("api", Flaky(9))
        flaky = Flaky(9)

        hf.try_call("api", flaky)

        assert flaky.calls == 3
