"""The adaptive throttle: whose refusals raise the share, and that some calls always go out."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import CircuitOpen, RateLimited, Throttled
from holdfast._engine import Engine
from holdfast._throttle import MOST, Throttle
from holdfast.testing import FakeClock, LocalHoldfast

WAIT = 10.0
NO_RETRY = {"enabled": False}
NO_BREAKER = {"enabled": False}


def throttled(**more: Any) -> LocalHoldfast:
    """A Holdfast whose calls to `api` are throttled; its dice always show 0.5."""
    hf = LocalHoldfast()
    settings = {"retry": NO_RETRY, "breaker": NO_BREAKER, **more}
    hf.set_policy("api", throttle={"enabled": True}, **settings)
    return hf


def figures(hf: LocalHoldfast) -> tuple[int, int, float]:
    """Calls that are judged, how many of them were accepted, and the share that is refused."""
    found = hf.dependency("api").stats()["throttle"]
    return found["calls"], found["accepted"], found["share"]


def rejected(hf: LocalHoldfast) -> int:
    return int(hf.dependency("api").stats()["rejected"]["throttle"])


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


fail = raising(ConnectionError())


class TestShare:
    @pytest.mark.parametrize(
        ("good", "bad", "share"),
        [(0, 0, 0.0), (5, 5, 0.0), (4, 6, 2 / 11), (30, 70, 40 / 101), (1, 99, MOST)],
    )
    def test_is_that_of_the_book_and_never_all(self, good: int, bad: int, share: float) -> None:
        throttle = Throttle()
        for accepted in [True] * good + [False] * bad:
            throttle.ended(throttle.sent(1_000.0), accepted)

        assert throttle.figures(1_000.0)["share"] == pytest.approx(share)

    def test_refusals_of_its_own_do_not_raise_it(self) -> None:
        hf = throttled()
        for answer in (fail, fail, fail, lambda: 1):
            hf.fake_clock.advance(0.1)
            throttle = hf._engine.state_of("api").throttle
            ticket = throttle.sent(hf.fake_clock.monotonic())
            throttle.ended(ticket, answer is not fail)
        before = figures(hf)

        for _ in range(50):
            hf.try_call("api", lambda: 1)

        assert before[0] == 4
        assert figures(hf)[0] == 4 + 50 - rejected(hf)

    def test_what_is_older_than_two_minutes_is_forgotten(self) -> None:
        hf = throttled()
        for _ in range(9):
            hf.try_call("api", fail)
            hf.fake_clock.advance(10)
        assert figures(hf)[2] > 0
        hf.fake_clock.advance(120)

        assert figures(hf) == (0, 0, 0.0)
        assert hf.call("api", lambda: 7) == 7

    def test_it_slides(self) -> None:
        throttle = Throttle()
        counts = {}
        for second in range(0, 300, 5):
            throttle.ended(throttle.sent(float(second)), accepted=second >= 150)
            counts[second] = throttle.counts(float(second))

        assert [counts[at] for at in (145, 205, 265)] == [(24, 0), (24, 12), (24, 24)]

    def test_an_hour_without_calls_leaves_nothing_behind(self) -> None:
        throttle = Throttle()
        for second in range(10_000):
            throttle.ended(throttle.sent(second * 7.0), accepted=False)

        assert len(throttle._buckets) <= 13


class TestAccepting:
    @pytest.mark.parametrize(
        ("error", "counted"),
        [
            (ConnectionError(), (1, 0)),
            (MemoryError(), (1, 0)),
            (LookupError(), (1, 0)),
            (PermissionError(), (1, 1)),
            (CircuitOpen("inner"), (0, 0)),
        ],
        ids=["transient", "critical", "unknown", "permanent: it answered", "rejected further in"],
    )
    def test_is_judged_by_the_class_of_error(
        self, error: Exception, counted: tuple[int, int]
    ) -> None:
        hf = throttled()
        hf.try_call("api", raising(error))

        assert figures(hf)[:2] == counted

    @pytest.mark.parametrize("effect", ["failure", "ignore"])
    def test_an_answer_is_one_whatever_the_breaker_makes_of_it(self, effect: str) -> None:
        hf = throttled(breaker={"permanent_effect": effect})
        hf.try_call("api", raising(PermissionError()))

        assert figures(hf)[:2] == (1, 1)

    def test_an_interrupted_call_says_nothing(self) -> None:
        hf = throttled()
        with pytest.raises(KeyboardInterrupt):
            hf.call("api", raising(KeyboardInterrupt()))

        assert figures(hf)[:2] == (0, 0)

    async def test_a_cancelled_one_neither(self) -> None:
        hf = throttled()
        call = asyncio.create_task(hf.acall("api", asyncio.Event().wait))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        assert figures(hf)[:2] == (0, 0)

    def test_each_attempt_is_a_call(self) -> None:
        hf = throttled(retry={"attempts": 5})

        outcome = hf.try_call("api", fail)

        assert (outcome.attempts, figures(hf)[:2], rejected(hf)) == (3, (2, 0), 1)


class TestUnderWay:
    async def test_many_at_once_after_a_pause_are_all_sent(self) -> None:
        """None of them has an answer yet: that says nothing against the dependency."""
        hf, answer = throttled(), asyncio.Event()
        calls = [asyncio.create_task(hf.acall("api", answer.wait)) for _ in range(20)]
        await asyncio.sleep(0)
        under_way = figures(hf)
        answer.set()
        await asyncio.gather(*calls)

        assert (under_way, figures(hf)) == ((0, 0, 0.0), (20, 20, 0.0))

    async def test_those_that_hang_count_before_they_end(self) -> None:
        hf, answer = throttled(timeout={"attempt_seconds": 0}), asyncio.Event()
        calls = [asyncio.create_task(hf.acall("api", answer.wait)) for _ in range(9)]
        await asyncio.sleep(0)
        hf.fake_clock.advance(20)

        refused = (await hf.try_acall("api", answer.wait)).rejection
        answer.set()
        await asyncio.gather(*calls)

        assert isinstance(refused, Throttled)
        assert refused.share == pytest.approx(0.9)


class TestRefusing:
    def test_a_refused_call_is_not_made_and_says_why(self) -> None:
        hf = overloaded()

        refused = hf.try_call("api", lambda: pytest.fail("was called")).rejection

        assert isinstance(refused, Throttled)
        assert (refused.reason, refused.retry_after) == ("throttled", None)
        assert str(refused) == "api: 90% of the calls are left out, since too few are accepted"
        assert hf.collect()["dependencies"]["api"]["rejected"]["throttle"] == 1

    async def test_coroutines_likewise(self) -> None:
        hf = overloaded()

        with pytest.raises(Throttled):
            await hf.acall("api", asyncio.Event().wait)

    def test_some_calls_always_go_out_so_that_it_notices_the_end(self) -> None:
        engine = Engine(FakeClock(), defaults=_policy(), rand=random.Random(3).random)
        for _ in range(1_000):
            engine.try_call("api", fail)
        sent = engine.dependency("api").stats()["calls"]
        until = 0
        while engine.dependency("api").stats()["throttle"]["share"] > 0:
            engine.try_call("api", lambda: 1)
            until += 1

        assert 60 < sent < 200
        assert until < 2_000

    def test_a_dependency_that_takes_six_of_ten_is_left_alone(self) -> None:
        engine = Engine(FakeClock(), defaults=_policy(), rand=random.Random(5).random)
        dice = random.Random(5)
        for _ in range(2_000):
            engine.try_call("api", (lambda: 1) if dice.random() < 0.6 else fail)

        assert engine.dependency("api").stats()["rejected"]["throttle"] < 100

    def test_it_is_not_retried_and_the_breaker_does_not_hear_of_it(self) -> None:
        hf = overloaded()
        hf.set_policy("api", retry={"attempts": 5}, breaker={"consecutive_failures": 3})

        outcome = hf.try_call("api", lambda: 1)

        assert (outcome.attempts, hf.dependency("api").breaker.state) == (1, "closed")
        assert hf.dependency("api").stats()["window"]["calls"] == 0

    def test_a_fallback_answers_as_for_a_rate_limit(self) -> None:
        hf = overloaded()
        chain = [{"kind": "value", "value": "later"}]
        hf.set_policy("api", fallback={"chain": chain})
        assert hf.call("api", lambda: "now") == "later"

        hf.set_policy("api", fallback={"chain": chain, "on": ["open"]})
        assert isinstance(hf.try_call("api", lambda: 1).error, Throttled)

    def test_it_is_told_at_most_once_a_second(self) -> None:
        hf = overloaded()
        for _ in range(4):
            hf.try_call("api", lambda: 1)

        told = [each["data"] for each in hf.collect()["events"]]

        assert told == [{"share": 0.9, "count": 1}, {"share": 0.9, "count": 3}]

    def test_off_or_switched_off_nothing_is_refused(self) -> None:
        hf = overloaded()
        hf.set_policy("api", throttle={"enabled": False})

        assert [hf.call("api", lambda: 1) for _ in range(30)] == [1] * 30
        assert LocalHoldfast().dependency("api").stats()["throttle"]["calls"] == 0


class TestOrder:
    def test_an_open_circuit_is_told_first(self) -> None:
        hf = overloaded()
        hf.override("api", "force_open")

        assert isinstance(hf.try_call("api", lambda: 1).error, CircuitOpen)

    def test_a_refused_call_takes_no_turn(self) -> None:
        hf = overloaded()
        hf.set_policy("api", rate_limit={"enabled": True, "calls": 1})
        for _ in range(3):
            assert isinstance(hf.try_call("api", lambda: 1).error, Throttled)
        hf.set_policy("api", throttle={"enabled": False})

        assert hf.call("api", lambda: 1) == 1

    def test_what_another_gate_refuses_was_not_sent(self) -> None:
        hf = throttled(rate_limit={"enabled": True, "calls": 1})
        hf.call("api", lambda: 1)
        for _ in range(20):
            assert isinstance(hf.try_call("api", lambda: 1).error, RateLimited)

        assert figures(hf) == (1, 1, 0.0)

    async def test_a_second_copy_is_refused_without_a_word(self) -> None:
        hf = throttled(hedge={"enabled": True, "after_seconds": 0.001})
        throttle = hf._engine.state_of("api").throttle

        async def slowly() -> int:
            for _ in range(9):  # others fail meanwhile
                throttle.ended(throttle.sent(hf.fake_clock.monotonic()), accepted=False)
            await asyncio.sleep(0.005)
            return 7

        assert await hf.acall("api", slowly) == 7
        assert hf.dependency("api").stats()["hedges"]["refused"] == 1
        assert rejected(hf) == 0


class TestSharing:
    def test_threads_count_together(self) -> None:
        throttle, barrier = Throttle(), threading.Barrier(4)

        def work(accepted: bool) -> None:
            barrier.wait(WAIT)
            for turn in range(2_000):
                throttle.ended(throttle.sent(turn / 100), accepted)

        with ThreadPoolExecutor(4) as pool:
            for job in [pool.submit(work, number % 2 == 0) for number in range(4)]:
                job.result(WAIT)

        assert throttle.counts(20.0) == (8_000, 4_000)

    def test_a_child_starts_without_the_calls_of_its_parent(self) -> None:
        hf = overloaded()

        hf._engine.reset_after_fork()

        assert hf.call("api", lambda: 7) == 7

    def test_a_call_under_way_in_the_moment_of_a_fork_counts_in_the_parent_only(self) -> None:
        hf = throttled()

        hf.call("api", hf._engine.reset_after_fork)

        assert figures(hf) == (0, 0, 0.0)


def overloaded() -> LocalHoldfast:
    """A Holdfast of which nine in ten calls are refused: more than half, as its dice show."""
    hf = throttled()
    throttle = hf._engine.state_of("api").throttle
    for _ in range(9):
        throttle.ended(throttle.sent(hf.fake_clock.monotonic()), accepted=False)
    return hf


def _policy() -> dict[str, Any]:
    return {"throttle": {"enabled": True}, "retry": NO_RETRY, "breaker": NO_BREAKER}
