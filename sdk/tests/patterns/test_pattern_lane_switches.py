"""The fast lane writes without a lock: whatever another thread does, at whatever moment."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import BulkheadFull, _scope
from holdfast._breaker import Breaker
from holdfast._bulkhead import Bulkhead
from holdfast._dependency import Dependency
from holdfast._lane import run, run_async
from holdfast._stats import Stats
from holdfast.testing import LocalHoldfast
from sdk.tests.patterns.switching import Scene, explore

WAIT = 10.0
MINUTE = {"window": "time", "window_seconds": 60, "minimum_calls": 10_000}
HOUR = MINUTE | {"window_seconds": 3_600}
TEN = {"window_calls": 10, "minimum_calls": 10}
TWENTY = {"window_calls": 20, "minimum_calls": 20}


def holdfast(**patterns: Any) -> LocalHoldfast:
    hf = LocalHoldfast()
    off: dict[str, Any] = {"retry": {"enabled": False}, "timeout": {"attempt_seconds": 0}}
    hf.set_policy("api", **(off | patterns))
    return hf


def state_of(hf: LocalHoldfast) -> Dependency:
    return hf._engine.state_of("api")


def fail() -> None:
    raise ConnectionError


TWO_FAILED_THEN_ONE: list[Callable[[], Any]] = [fail, fail, *[int] * 12, fail]


class Queue:
    """A bulkhead of one place, which is taken, and a thread that wants it next."""

    def __init__(self, wait: float = WAIT) -> None:
        limits = {"max_concurrent": 1, "max_waiting": 10, "max_wait_seconds": wait}
        self.hf = holdfast(bulkhead=limits)
        self.bulkhead = state_of(self.hf).bulkhead
        self.bulkhead.acquire()
        self.order: list[str] = []
        self.most = 0
        self.waiter = threading.Thread(target=self.enter, args=("waiter",), daemon=True)

    def start_waiter(self) -> None:
        self.waiter.start()
        while not self.bulkhead.waiting:
            threading.Event().wait(0.0002)

    def enter(self, name: str) -> None:
        def inside() -> None:
            self.order.append(name)
            self.most = max(self.most, self.bulkhead.used)

        self.hf.call("api", inside)

    def leave(self) -> None:
        """As the lane does it."""
        if self.bulkhead.is_awaited:
            self.bulkhead.release()
        else:
            self.bulkhead.used -= 1

    def check(self) -> None:
        assert (self.bulkhead.used, self.bulkhead.waiting, self.most) == (0, 0, 1)


class TestBulkhead:
    def test_nobody_takes_the_place_that_is_passed_on_to_a_waiter(self) -> None:
        def make() -> Scene:
            queue = Queue()
            queue.start_waiter()

            def check() -> None:
                queue.waiter.join(WAIT)
                queue.check()
                assert queue.order == ["waiter", "other"]

            return Scene(
                work=queue.bulkhead.release, meanwhile=lambda: queue.enter("other"), check=check
            )

        assert explore(make, within=Bulkhead.release) > 3

    def test_a_place_given_back_in_the_moment_somebody_queues_is_not_overlooked(self) -> None:
        def make() -> Scene:
            queue = Queue(wait=0.3)
            return Scene(
                work=lambda: queue.hf.try_call("api", lambda: queue.order.append("work")),
                meanwhile=queue.leave,
                check=lambda: assert_equal((queue.order, queue.bulkhead.used), (["work"], 0)),
            )

        assert explore(make, within=Bulkhead._take_or_queue) > 3

    def test_nor_is_it_where_a_coroutine_queues(self) -> None:
        def make() -> Scene:
            queue = Queue(wait=0.3)

            async def work() -> None:
                queue.order.append("work")

            return Scene(
                work=lambda: asyncio.run(ignoring_full(queue.hf.acall("api", work))),
                meanwhile=queue.leave,
                check=lambda: assert_equal((queue.order, queue.bulkhead.used), (["work"], 0)),
            )

        assert explore(make, within=Bulkhead._take_or_queue) > 3


async def ignoring_full(call: Any) -> None:
    with contextlib.suppress(BulkheadFull):
        await call


def assert_equal(seen: Any, expected: Any) -> None:
    assert seen == expected


class TestWindows:
    @pytest.mark.parametrize(
        ("old", "new"), [(MINUTE, HOUR), (HOUR, MINUTE), (MINUTE, TWENTY), (TEN, MINUTE)]
    )
    def test_a_call_that_ends_while_its_window_is_replaced_is_not_lost(
        self, old: dict[str, Any], new: dict[str, Any]
    ) -> None:
        def make() -> Scene:
            hf = holdfast(breaker=old)
            for _ in range(5):
                hf.call("api", int)
            return Scene(
                work=lambda: hf.set_policy("api", breaker=new),
                meanwhile=lambda: hf.call("api", int),
                check=lambda: assert_equal(hf.dependency("api").stats()["window"]["calls"], 6),
            )

        assert explore(make, within=Breaker.configure) > 3

    def test_a_full_window_that_is_replaced_keeps_its_failures(self) -> None:
        def make() -> Scene:
            hf = holdfast(breaker=TEN | {"failure_rate": 1})
            for function in TWO_FAILED_THEN_ONE:
                hf.try_call("api", function)
            return Scene(
                work=lambda: hf.set_policy("api", breaker=TWENTY | {"failure_rate": 1}),
                meanwhile=lambda: hf.call("api", int),
                check=lambda: assert_equal(hf.dependency("api").stats()["window"]["failed"], 1),
            )

        assert explore(make, within=Breaker.configure) > 3

    def test_a_late_success_is_never_left_in_a_bucket_that_is_over(self) -> None:
        def make() -> Scene:
            hf = holdfast(breaker=MINUTE)
            hf.call("api", int)
            read_before = hf.fake_clock.monotonic()
            state_of(hf).monotonic = lambda: read_before
            hf.fake_clock.advance(60)

            def check() -> None:
                hf.fake_clock.advance(120)
                assert hf.dependency("api").stats()["window"]["calls"] == 0

            return Scene(
                work=hf.dependency("api").stats, meanwhile=lambda: hf.call("api", int), check=check
            )

        assert explore(make, within=Breaker.counts) > 3


class TestForks:
    def test_a_child_made_in_the_middle_of_a_transition_is_not_stuck_in_it(self) -> None:
        def make() -> Scene:
            hf = holdfast(breaker={"consecutive_failures": 1})
            children: list[Breaker] = []

            def fork() -> None:
                children.append(copy.copy(state_of(hf).breaker))
                children[0].reset_after_fork()

            def check() -> None:
                assert children[0].detour is (children[0].state != "closed")

            return Scene(work=lambda: hf.try_call("api", fail), meanwhile=fork, check=check)

        assert explore(make, within=Breaker.settle) > 3


class TestPolicies:
    def test_no_call_begins_on_half_a_policy(self) -> None:
        def make() -> Scene:
            hf = holdfast()
            state = state_of(hf)
            passed: list[bool] = []

            def calls() -> None:
                for _ in range(3):
                    is_limited = state.plan.rate_limit is not None
                    passed.append(hf.try_call("api", int).ok and is_limited)

            limit = {"enabled": True, "calls": 1, "per_seconds": 3_600}
            return Scene(
                work=lambda: hf.set_policy("api", rate_limit=limit),
                meanwhile=calls,
                check=lambda: assert_equal(sum(passed) <= 1, True),
            )

        assert explore(make, within=Dependency.follow) > 3

    def test_counts_go_out_once_whenever_a_report_is_made(self) -> None:
        def make() -> Scene:
            hf = holdfast()
            hf.call("api", int)
            sent: list[dict[str, Any]] = []

            def collect() -> None:
                sent.append(hf.collect()["dependencies"]["api"])

            def check() -> None:
                collect()
                assert sum(each["calls"] for each in sent) == 2
                assert sum(each["successes"] for each in sent) == 2

            return Scene(work=collect, meanwhile=lambda: hf.call("api", int), check=check)

        assert explore(make, within=Stats.snapshot) > 3


def opens(hf: LocalHoldfast) -> None:
    hf.try_call("api", fail)
    assert hf.dependency("api").breaker.state == "open"


def forces_and_releases(hf: LocalHoldfast) -> None:
    hf.override("api", "force_open")
    hf.override("api", None)


def forks(hf: LocalHoldfast) -> None:
    hf._engine.reset_after_fork()


EVENTS: list[Callable[[LocalHoldfast], Any]] = [
    opens,
    forks,
    lambda hf: hf.set_policy("api", breaker=MINUTE),
    lambda hf: hf.set_policy("api", breaker={"enabled": False}),
    lambda hf: hf.set_policy("api", bulkhead={"enabled": False}),
    lambda hf: hf.set_policy("api", bulkhead={"max_concurrent": 1}),
    lambda hf: hf.set_policy("api", timeout={"total_seconds": 9}),
    lambda hf: hf.override("api", "disabled"),
    forces_and_releases,
    lambda hf: hf.try_call("api", int),
]
NAMES = ["opens", "forks", "window", "off", "no bulkhead", "smaller bulkhead", "deadline",
         "disabled", "forced and released", "call"]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
class TestCalls:
    @pytest.fixture(autouse=True, params=[True, False], ids=["scoped", "unscoped"])
    def _scopes(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """With and without anybody who asks how much time is left: `holdfast.testing` does."""
        monkeypatch.setattr(_scope, "is_asked_for", request.param)

    @pytest.fixture
    def worlds(self, event: Callable[[LocalHoldfast], Any]) -> Callable[..., Scene]:
        def make(work: Callable[[LocalHoldfast], Any]) -> Scene:
            breaker = TEN | {"consecutive_failures": 1}
            hf = holdfast(breaker=breaker, timeout={"attempt_seconds": WAIT})
            for _ in range(10):
                hf.call("api", int)
            before = hf.dependency("api").stats()["calls"]
            made: list[int] = []

            def check() -> None:
                stats = hf.dependency("api").stats()
                outcomes = ("successes", "failures", "cancelled", "ignored")
                assert stats["in_flight"] == 0
                assert stats["calls"] == sum(stats.get(each, 0) for each in outcomes)
                assert event is forks or before < stats["calls"] <= before + 2
                assert stats["window"]["failed"] <= stats["window"]["calls"]

            return Scene(
                work=lambda: work(hf), meanwhile=lambda: made.append(event(hf)), check=check
            )

        return make

    def test_whatever_comes_between_a_success_is_counted_and_gives_its_place_back(
        self, worlds: Callable[..., Scene]
    ) -> None:
        assert (
            explore(lambda: worlds(lambda hf: hf.try_call("api", int)), within=run, deep=False) > 3
        )

    def test_whatever_comes_between_a_failure_is_counted_and_gives_its_place_back(
        self, worlds: Callable[..., Scene]
    ) -> None:
        assert (
            explore(lambda: worlds(lambda hf: hf.try_call("api", fail)), within=run, deep=False) > 3
        )

    def test_whatever_comes_between_a_coroutine_is_counted_and_gives_its_place_back(
        self, worlds: Callable[..., Scene]
    ) -> None:
        async def answer() -> None:
            return None

        def work(hf: LocalHoldfast) -> None:
            asyncio.run(hf.try_acall("api", answer))

        assert explore(lambda: worlds(work), within=run_async, deep=False) > 3
