"""Threads and event loops at once, switched as often as CPython can: totals are exact in the end.

HOLDFAST_STRESS=20 makes them twenty times as long.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import BulkheadFull
from holdfast.testing import LocalHoldfast
from sdk.tests.patterns.test_pattern_breaker_model import LONGER

pytestmark = pytest.mark.unmeasured
WAIT = 60.0
THREADS = 8
NO_RETRY: dict[str, Any] = {"retry": {"enabled": False}}
NEVER = 10_000  # calls that would have to be judged
WINDOWS: dict[str, dict[str, Any]] = {
    "count": {"window_calls": 50, "minimum_calls": 50, "failure_rate": 1},
    "time": {"window": "time", "window_seconds": 3_600, "minimum_calls": NEVER},
    "none": {"enabled": False},
}


@pytest.fixture(autouse=True)
def _switching_fast() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], Any], *others: Callable[[], Any]) -> list[Any]:
    """Run it in eight threads that begin together, and others once beside them."""
    together = threading.Barrier(THREADS + len(others))

    def begin(number: int) -> Any:
        together.wait(WAIT)
        return others[number - THREADS]() if number >= THREADS else work(number)

    with ThreadPoolExecutor(THREADS + len(others)) as pool:
        return list(pool.map(begin, range(THREADS + len(others)), timeout=WAIT))


def fail() -> None:
    raise ConnectionError


async def answer() -> None:
    await asyncio.sleep(0)


class TestTotals:
    @pytest.mark.parametrize("window", WINDOWS)
    def test_no_call_of_eight_threads_is_lost_or_counted_twice(self, window: str) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker=WINDOWS[window], **NO_RETRY)
        rounds = 400 * LONGER

        def work(number: int) -> None:
            for _ in range(rounds):
                hf.call("api", int)
                hf.try_call("api", int)
                hf.try_call("api", fail if number % 2 else int)

        in_threads(work)

        stats, calls = hf.dependency("api").stats(), 3 * rounds * THREADS
        expected = {"count": 50, "time": calls, "none": 0}[window]
        assert (stats["calls"], stats["failures"]) == (calls, rounds * THREADS // 2)
        assert (stats["successes"], stats["in_flight"]) == (calls - rounds * THREADS // 2, 0)
        assert sum(stats["latency"].values()) == calls
        assert stats["window"]["calls"] == expected

    def test_a_count_window_counts_what_is_in_it(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker=WINDOWS["count"], **NO_RETRY)

        in_threads(lambda number: [
            hf.try_call("api", fail if (number + each) % 9 == 0 else int)
            for each in range(300 * LONGER)
        ])  # fmt: skip

        window = hf._engine.state_of("api").breaker._window
        held = window.outcomes()  # type: ignore[union-attr]  # a count window
        assert (len(held), sum(each & 1 for each in held)) == (window.total, window.failed)

    def test_buckets_that_roll_under_way_add_up_and_are_never_negative(self) -> None:
        hf = LocalHoldfast()
        rolling = {"window": "time", "window_seconds": 1, "minimum_calls": NEVER}
        hf.set_policy("api", breaker=rolling, **NO_RETRY)
        seen: list[int] = []

        def work(number: int) -> None:
            for each in range(300 * LONGER):
                hf.try_call("api", fail if (number + each) % 4 == 0 else int)
                hf.fake_clock.advance(0.01)
                seen.append(min(hf.dependency("api").stats()["window"].values()))

        in_threads(work)
        hf.fake_clock.advance(10)

        assert min(seen) >= 0
        counts = hf.dependency("api").stats()["window"]
        assert (counts["calls"], counts["failed"], counts["slow"]) == (0, 0, 0)

    def test_threads_and_two_event_loops_share_one_count(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker=WINDOWS["time"], **NO_RETRY)
        rounds = 300 * LONGER

        async def many() -> None:
            for _ in range(rounds):
                await asyncio.gather(hf.acall("api", answer), hf.acall("api", answer))

        def loop() -> None:
            asyncio.run(many())

        in_threads(lambda number: [hf.call("api", int) for _ in range(rounds)], loop, loop)

        stats = hf.dependency("api").stats()
        assert stats["successes"] == stats["window"]["calls"] == rounds * (THREADS + 4)
        assert stats["in_flight"] == 0


class TestBreaker:
    def test_it_opens_once_and_closes_once_however_many_are_there(self) -> None:
        hf = LocalHoldfast()
        breaker = {"consecutive_failures": 5, "half_open_successes": 2, "half_open_concurrent": 2}
        hf.set_policy("api", breaker=breaker, **NO_RETRY)
        moves: list[str] = []
        hf.on_event(lambda event: moves.append(event.data.get("to", event.type)))

        in_threads(lambda number: [hf.try_call("api", fail) for _ in range(50 * LONGER)])
        hf.fake_clock.advance(30)
        in_threads(lambda number: [hf.try_call("api", int) for _ in range(50 * LONGER)])

        assert [move for move in moves if "." not in move] == ["open", "half_open", "closed"]
        assert hf.dependency("api").in_flight == 0


A: dict[str, Any] = {"retry": {"attempts": 2, "base_seconds": 0, "budget_tokens": 0},
     "fallback": {"chain": [{"kind": "value", "value": 2}]}}  # fmt: skip
B: dict[str, Any] = {"retry": {"attempts": 3, "base_seconds": 0, "budget_tokens": 0},
     "fallback": {"chain": [{"kind": "value", "value": 3}]}}  # fmt: skip


class TestHotSwap:
    def swap(self, hf: LocalHoldfast, stop: threading.Event, policies: list[Any]) -> None:
        number = 0
        while not stop.wait(0.001):
            number += 1
            hf.set_policy("api", **policies[number % len(policies)])

    def test_no_call_sees_half_of_each_policy(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"enabled": False}, **A)
        stop, seen = threading.Event(), set[tuple[Any, int]]()

        def work(number: int) -> None:
            for _ in range(60 * LONGER):
                outcome = hf.try_call("api", fail)
                seen.add((outcome.value, outcome.attempts))

        swapping = threading.Thread(target=self.swap, args=(hf, stop, [A, B]))
        swapping.start()
        in_threads(work)
        stop.set()
        swapping.join(WAIT)

        assert seen <= {(2, 2), (3, 3)}
        assert hf.dependency("api").in_flight == 0

    def test_no_call_is_lost_from_windows_that_are_replaced(self) -> None:
        hf = LocalHoldfast()
        hour = {"breaker": WINDOWS["time"]}
        half = {"breaker": WINDOWS["time"] | {"window_seconds": 1_800}}
        hf.set_policy("api", **hour, **NO_RETRY)
        stop, rounds = threading.Event(), 1_000 * LONGER
        swapping = threading.Thread(target=self.swap, args=(hf, stop, [hour, half]))

        swapping.start()
        in_threads(lambda number: [hf.call("api", int) for _ in range(rounds)])
        stop.set()
        swapping.join(WAIT)

        stats = hf.dependency("api").stats()
        assert stats["window"]["calls"] == stats["successes"] == rounds * THREADS
        assert stats["in_flight"] == 0


class TestBulkhead:
    async def test_ten_thousand_random_schedules_lose_no_place(self) -> None:
        dice = random.Random(11)
        hf = LocalHoldfast()
        places = {"max_concurrent": 1, "max_waiting": 10, "max_wait_seconds": WAIT}
        hf.set_policy("api", bulkhead=places, breaker={"enabled": False}, **NO_RETRY)
        bulkhead = hf._engine.state_of("api").bulkhead
        most = 0

        async def use() -> None:
            nonlocal most
            most = max(most, bulkhead.used)
            for _ in range(dice.randrange(2)):
                await asyncio.sleep(0)

        for _ in range(10_000 * LONGER):
            calls = [asyncio.ensure_future(hf.acall("api", use)) for _ in range(3)]
            for _ in range(dice.randrange(5)):
                await asyncio.sleep(0)
            calls[dice.randrange(3)].cancel()
            if dice.randrange(4) == 0:  # one that may find the place free
                calls.append(asyncio.ensure_future(hf.acall("api", use)))
            await asyncio.wait(calls)
            assert (bulkhead.used, bulkhead.waiting) == (0, 0)

        assert most == 1

    def test_threads_that_wait_by_the_lane_are_all_woken_and_never_too_many(self) -> None:
        hf = LocalHoldfast()
        places = {"max_concurrent": 2, "max_waiting": 100, "max_wait_seconds": WAIT}
        hf.set_policy("api", bulkhead=places, **NO_RETRY)
        inside, most = [0], [0]
        lock = threading.Lock()

        def use() -> None:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0)  # lets others come
            with lock:
                inside[0] -= 1

        in_threads(lambda number: [hf.call("api", use) for _ in range(150 * LONGER)])

        stats = hf.dependency("api").stats()
        assert (stats["in_flight"], stats["waiting"], most[0]) == (0, 0, 2)
        assert stats["successes"] == 150 * LONGER * THREADS

    def test_threads_that_give_up_in_the_moment_of_a_grant_lose_no_place(self) -> None:
        hf = LocalHoldfast()
        places = {"max_concurrent": 1, "max_waiting": 100, "max_wait_seconds": 0.0003}
        hf.set_policy("api", bulkhead=places, **NO_RETRY)
        refused: list[str] = []

        def work(number: int) -> None:
            for _ in range(60 * LONGER):
                outcome = hf.try_call("api", time.sleep, 0.0002)
                if isinstance(outcome.error, BulkheadFull):
                    refused.append(outcome.error.cause)

        in_threads(work)

        stats = hf.dependency("api").stats()
        assert (stats["in_flight"], stats["waiting"]) == (0, 0)
        assert stats["successes"] + len(refused) == 60 * LONGER * THREADS
        assert hf.call("api", int) == 0
