"""The rate limit in guarded calls: who gets a turn, who pays for it, and who is told to wait."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import CircuitOpen, RateLimited
from holdfast._rate_limit import RateLimiter, RateLimitRules
from holdfast.testing import FakeClock, LocalHoldfast

WAIT = 10.0


def limited(calls: int = 1, *, wait: float = 0.0, scope: str = "attempt", **more: Any) -> Any:
    """A Holdfast whose calls to `api` are limited to so many per second."""
    hf = LocalHoldfast()
    rate = {"enabled": True, "calls": calls, "max_wait_seconds": wait, "scope": scope}
    hf.set_policy("api", rate_limit=rate, **more)
    return hf


def fail() -> None:
    raise ConnectionError


class StuckClock(FakeClock):
    """A clock on which somebody who waits in a coroutine waits until cancelled."""

    async def sleep_async(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


class TestRefusing:
    def test_beyond_the_rate_the_call_is_not_made_and_says_when_to_come_back(self) -> None:
        hf = limited(calls=4)
        for _ in range(4):
            hf.call("api", lambda: 1)

        outcome = hf.try_call("api", lambda: pytest.fail("was called"))

        assert isinstance(outcome.error, RateLimited)
        assert outcome.error.retry_after == pytest.approx(0.25)
        assert hf.collect()["dependencies"]["api"]["rejected"]["rate_limit"] == 1

    async def test_a_coroutine_is_refused_alike(self) -> None:
        hf = limited()

        async def answer() -> int:
            return 1

        await hf.acall("api", answer)

        with pytest.raises(RateLimited):
            await hf.acall("api", answer)

    def test_after_the_time_it_named_there_is_a_turn(self) -> None:
        hf = limited()
        hf.call("api", lambda: 1)
        refusal = hf.try_call("api", lambda: 1).rejection
        assert refusal is not None
        assert refusal.retry_after is not None

        hf.fake_clock.advance(refusal.retry_after)

        assert hf.call("api", lambda: 2) == 2

    def test_a_refusal_reaches_neither_breaker_nor_retry(self) -> None:
        hf = limited(breaker={"consecutive_failures": 1})
        hf.call("api", lambda: 1)

        outcome = hf.try_call("api", lambda: 1)

        assert outcome.attempts == 1
        assert hf.dependency("api").breaker.state == "closed"
        assert hf.dependency("api").stats()["window"]["calls"] == 1

    def test_the_fallback_answers_by_default(self) -> None:
        hf = limited(fallback={"chain": [{"kind": "value", "value": "later"}]})
        hf.call("api", lambda: "now")

        assert hf.call("api", lambda: "now") == "later"

    def test_it_is_told_at_most_once_a_second(self) -> None:
        hf = limited()
        for _ in range(5):
            hf.try_call("api", lambda: 1)

        told = [each for each in hf.collect()["events"] if each["type"] == "rate_limit.rejected"]

        assert [each["data"]["count"] for each in told] == [1, 3]

    def test_switched_off_nobody_asks(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", rate_limit={"enabled": False, "calls": 1})

        assert [hf.call("api", lambda: 1) for _ in range(50)] == [1] * 50


class TestWaiting:
    def test_a_turn_that_comes_in_time_is_waited_for(self) -> None:
        hf = limited(wait=2)

        results = [hf.try_call("api", lambda: 1).ok for _ in range(4)]

        assert results == [True] * 4
        assert hf.fake_clock.slept == pytest.approx([1, 1, 1])

    async def test_coroutines_wait_alike(self) -> None:
        hf = limited(wait=2)

        async def answer() -> int:
            return 1

        await asyncio.gather(*(hf.acall("api", answer) for _ in range(2)))

        assert hf.fake_clock.slept == pytest.approx([1])

    def test_who_cannot_wait_that_long_is_refused_without_waiting(self) -> None:
        hf = limited(wait=60, timeout={"total_seconds": 0.5})
        hf.call("api", lambda: 1)

        with pytest.raises(RateLimited):
            hf.call("api", lambda: 1)

        assert hf.fake_clock.slept == []

    def test_waiting_is_no_slow_call(self) -> None:
        hf = limited(wait=2, breaker={"slow_call_seconds": 0.5})

        for _ in range(2):
            hf.call("api", lambda: 1)

        assert hf.dependency("api").stats()["slow"] == 0

    async def test_a_cancelled_wait_gives_its_turn_back(self) -> None:
        hf = LocalHoldfast(StuckClock())
        hf.set_policy("api", rate_limit={"enabled": True, "calls": 1, "max_wait_seconds": 1})
        hf.call("api", lambda: 1)

        async def answer() -> int:
            return 1

        for _ in range(3):
            waiting = asyncio.create_task(hf.acall("api", answer))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        assert hf.fake_clock.slept == pytest.approx([1, 1, 1])

    def test_an_interrupt_while_waiting_gives_the_turn_back(self) -> None:
        class Interrupted(FakeClock):
            def sleep(self, seconds: float) -> None:
                raise KeyboardInterrupt

        hf = LocalHoldfast(Interrupted())
        hf.set_policy("api", rate_limit={"enabled": True, "calls": 1, "max_wait_seconds": 1})
        hf.call("api", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            hf.call("api", lambda: 1)

        hf.fake_clock.advance(1)

        assert hf.call("api", lambda: 2) == 2


class TestWhoPays:
    def test_each_attempt_takes_a_turn(self) -> None:
        hf = limited(calls=2)

        outcome = hf.try_call("api", fail)

        assert isinstance(outcome.error, RateLimited)
        assert hf.dependency("api").stats()["calls"] == 2

    def test_per_call_the_attempts_after_the_first_are_free(self) -> None:
        hf = limited(calls=1, scope="call")

        outcome = hf.try_call("api", fail)

        assert isinstance(outcome.error, ConnectionError)
        assert hf.dependency("api").stats()["calls"] == 3

    def test_an_open_circuit_costs_no_turn(self) -> None:
        hf = limited(calls=1)
        hf.override("api", "force_open")
        for _ in range(3):
            assert isinstance(hf.try_call("api", lambda: 1).error, CircuitOpen)
        hf.override("api", None)

        assert hf.call("api", lambda: 1) == 1

    def test_a_full_bulkhead_costs_no_turn(self) -> None:
        hf = limited(calls=2, bulkhead={"max_concurrent": 1})

        hf.call("api", lambda: [hf.try_call("api", lambda: 1) for _ in range(3)])

        assert hf.call("api", lambda: 1) == 1

    def test_a_call_that_fails_has_used_its_turn(self) -> None:
        hf = limited(calls=1, retry={"enabled": False})
        hf.try_call("api", fail)

        assert isinstance(hf.try_call("api", lambda: 1).error, RateLimited)


class TestHotSwap:
    def test_other_changes_leave_the_turns_alone(self) -> None:
        hf = limited()
        hf.call("api", lambda: 1)

        hf.set_policy("api", breaker={"open_seconds": 9})

        assert isinstance(hf.try_call("api", lambda: 1).error, RateLimited)

    def test_switching_it_off_and_on_again_saves_nothing_up(self) -> None:
        hf = limited()
        hf.call("api", lambda: 1)
        hf.set_policy("api", rate_limit={"enabled": False})
        hf.call("api", lambda: 1)

        hf.set_policy("api", rate_limit={"enabled": True, "calls": 1})

        assert isinstance(hf.try_call("api", lambda: 1).error, RateLimited)

    def test_a_higher_rate_holds_for_the_next_call(self) -> None:
        hf = limited()
        hf.call("api", lambda: 1)
        hf.set_policy("api", rate_limit={"enabled": True, "calls": 100})

        assert hf.call("api", lambda: 2) == 2


class TestSharing:
    def test_threads_never_get_more_turns_than_there_are(self) -> None:
        rules = RateLimitRules(interval=0.01, burst=50, max_wait_seconds=0, scope="attempt")
        limiter = RateLimiter("api", rules)
        together = threading.Barrier(4)

        def take_many() -> int:
            together.wait(WAIT)
            return sum(_gets_one(limiter, rules) for _ in range(100))

        with ThreadPoolExecutor(4) as pool:
            taken = [pool.submit(take_many) for _ in range(4)]

        assert sum(each.result(WAIT) for each in taken) == 50

    def test_a_forked_child_does_not_begin_with_a_new_burst(self) -> None:
        hf = limited()
        hf.call("api", lambda: 1)

        hf._engine.reset_after_fork()

        assert isinstance(hf.try_call("api", lambda: 1).error, RateLimited)


def _gets_one(limiter: RateLimiter, rules: RateLimitRules) -> bool:
    try:
        limiter.take(rules, now=0.0)
    except RateLimited:
        return False
    return True
