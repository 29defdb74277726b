"""The bulkhead: no place is ever lost or given twice, whoever waits and however they leave."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import BulkheadFull
from holdfast._bulkhead import Bulkhead, BulkheadRules
from holdfast.testing import LocalHoldfast

WAIT = 10.0


def rules(concurrent: int = 1, waiting: int = 0, wait_seconds: float = 0.0) -> BulkheadRules:
    return BulkheadRules(
        max_concurrent=concurrent, max_waiting=waiting, max_wait_seconds=wait_seconds
    )


@pytest.fixture
def holder() -> Iterator[Bulkhead]:
    """A bulkhead of one place, which is taken."""
    bulkhead = Bulkhead("api", rules(waiting=10, wait_seconds=WAIT))
    bulkhead.acquire()
    yield bulkhead
    assert bulkhead.waiting == 0


async def until_waiting(bulkhead: Bulkhead, count: int) -> None:
    async with asyncio.timeout(WAIT):
        while bulkhead.waiting != count:  # noqa: ASYNC110 - the bulkhead announces no waiters
            await asyncio.sleep(0)


class TestRefusing:
    def test_full_without_a_queue_refuses_at_once(self) -> None:
        bulkhead = Bulkhead("api", rules(concurrent=2))
        bulkhead.acquire()
        bulkhead.acquire()

        with pytest.raises(BulkheadFull) as caught:
            bulkhead.acquire()

        assert (caught.value.cause, caught.value.limit, bulkhead.used) == ("full", 2, 2)

    async def test_a_full_queue_says_so(self) -> None:
        bulkhead = Bulkhead("api", rules(waiting=1, wait_seconds=WAIT))
        bulkhead.acquire()
        task = asyncio.create_task(bulkhead.acquire_async())
        await until_waiting(bulkhead, 1)

        with pytest.raises(BulkheadFull, match="queue_full"):
            bulkhead.acquire()

        bulkhead.release()
        await task

    def test_waiting_too_long_gives_up_and_leaves_the_queue(self, holder: Bulkhead) -> None:
        holder.configure(rules(waiting=10, wait_seconds=0.01))

        with pytest.raises(BulkheadFull, match="wait_timeout"):
            holder.acquire()

    async def test_a_coroutine_gives_up_alike(self, holder: Bulkhead) -> None:
        holder.configure(rules(waiting=10, wait_seconds=0.01))

        with pytest.raises(BulkheadFull, match="wait_timeout"):
            await holder.acquire_async()

    def test_nobody_waits_longer_than_the_caller_can(self, holder: Bulkhead) -> None:
        with pytest.raises(BulkheadFull, match="full"):
            holder.acquire(longest=0.0)

    def test_a_refused_call_never_reaches_the_breaker(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", bulkhead={"max_concurrent": 1}, breaker={"consecutive_failures": 1})

        outcome = hf.call("api", lambda: hf.try_call("api", lambda: 1))

        stats = hf.dependency("api").stats()
        assert isinstance(outcome.error, BulkheadFull)
        assert stats["window"]["calls"] == 1
        assert (stats["rejected"]["bulkhead"], stats["breaker"]["state"]) == (1, "closed")

    def test_a_refused_call_is_not_retried(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", bulkhead={"max_concurrent": 1})

        outcome = hf.call("api", lambda: hf.try_call("api", lambda: 1))

        assert outcome.attempts == 1
        assert hf.fake_clock.slept == []


class TestWaiting:
    async def test_first_come_first_served(self, holder: Bulkhead) -> None:
        order: list[int] = []

        async def take(number: int) -> None:
            await holder.acquire_async()
            order.append(number)
            holder.release()

        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(take(number)))
            await until_waiting(holder, number + 1)
        holder.release()
        await asyncio.gather(*tasks)

        assert order == [0, 1, 2, 3, 4]
        assert holder.used == 0

    async def test_nobody_overtakes_those_who_wait(self, holder: Bulkhead) -> None:
        task = asyncio.create_task(holder.acquire_async())
        await until_waiting(holder, 1)
        holder.release()  # the place is promised to the task, which has not run yet

        with pytest.raises(BulkheadFull):
            holder.acquire(longest=0.0)

        await task

    async def test_a_waiter_cancelled_in_the_moment_of_its_grant_passes_the_place_on(
        self, holder: Bulkhead
    ) -> None:
        first = asyncio.create_task(holder.acquire_async())
        await until_waiting(holder, 1)
        second = asyncio.create_task(holder.acquire_async())
        await until_waiting(holder, 2)

        holder.release()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.wait_for(second, WAIT)

        assert first.cancelled()
        assert holder.used == 1

    async def test_a_cancelled_waiter_leaves_the_queue(self, holder: Bulkhead) -> None:
        task = asyncio.create_task(holder.acquire_async())
        await until_waiting(holder, 1)

        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        holder.release()
        assert holder.used == 0

    async def test_random_cancellations_and_releases_never_lose_a_place(self) -> None:
        dice = random.Random(7)
        bulkhead = Bulkhead("api", rules(concurrent=3, waiting=1_000, wait_seconds=WAIT))

        async def use() -> None:
            await bulkhead.acquire_async()
            try:
                for _ in range(dice.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                bulkhead.release()

        for _ in range(300):
            tasks = [asyncio.create_task(use()) for _ in range(12)]
            for task in dice.sample(tasks, 6):
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (bulkhead.used, bulkhead.waiting) == (0, 0)

    def test_threads_that_time_out_while_places_come_free_never_lose_one(self) -> None:
        bulkhead = Bulkhead("api", rules(concurrent=2, waiting=100, wait_seconds=0.0005))
        most, running, lock = [0], [0], threading.Lock()

        def use(_: int) -> None:
            try:
                bulkhead.acquire()
            except BulkheadFull:
                return
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.0004)
            with lock:
                running[0] -= 1
            bulkhead.release()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(use, range(600)))

        assert (bulkhead.used, bulkhead.waiting) == (0, 0)
        assert most[0] <= 2

    def test_threads_and_two_event_loops_share_one_count(self) -> None:
        bulkhead = Bulkhead("api", rules(concurrent=3, waiting=1_000, wait_seconds=WAIT))
        most, running, lock = [0], [0], threading.Lock()

        def enter() -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])

        def leave() -> None:
            with lock:
                running[0] -= 1
            bulkhead.release()

        async def use() -> None:
            await bulkhead.acquire_async()
            enter()
            await asyncio.sleep(0)
            leave()

        async def many() -> None:
            await asyncio.gather(*(use() for _ in range(50)))

        def threaded() -> None:
            for _ in range(50):
                bulkhead.acquire()
                enter()
                leave()

        with ThreadPoolExecutor(4) as pool:
            jobs: list[Any] = [pool.submit(asyncio.run, many()) for _ in range(2)]
            jobs += [pool.submit(threaded) for _ in range(2)]
            for job in jobs:
                job.result(WAIT)

        assert (bulkhead.used, bulkhead.waiting) == (0, 0)
        assert 1 <= most[0] <= 3

    def test_a_place_granted_to_a_loop_that_is_gone_passes_on(self, holder: Bulkhead) -> None:
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(holder.acquire_async())
        while holder.waiting != 1:
            loop.run_until_complete(asyncio.sleep(0))
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what we test
        loop.close()

        holder.release()

        assert holder.used == 0


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, even where the shell that started us in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestInterrupts:
    def test_a_waiting_thread_that_is_interrupted_leaves_the_queue(
        self, holder: Bulkhead, interruptible: None
    ) -> None:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            while not holder.waiting:
                threading.Event().wait(0.001)
            threading.Event().wait(0.02)  # it counts as waiting an instant before it does
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            holder.acquire()
        thread.join(WAIT)

        holder.release()
        assert holder.used == 0


class TestResizing:
    async def test_more_places_wake_those_who_wait(self, holder: Bulkhead) -> None:
        tasks = [asyncio.create_task(holder.acquire_async()) for _ in range(2)]
        await until_waiting(holder, 2)

        holder.configure(rules(concurrent=3, waiting=10, wait_seconds=WAIT))
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT)

        assert holder.used == 3

    def test_fewer_places_take_effect_as_calls_end_and_block_nobody(self) -> None:
        bulkhead = Bulkhead("api", rules(concurrent=3))
        for _ in range(3):
            bulkhead.acquire()

        bulkhead.configure(rules(concurrent=1))
        bulkhead.release()
        bulkhead.release()

        with pytest.raises(BulkheadFull):
            bulkhead.acquire()
        bulkhead.release()
        bulkhead.acquire()

    def test_switched_off_while_calls_run_keeps_the_count_right(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", bulkhead={"max_concurrent": 1})

        hf.call("api", lambda: hf.set_policy("api", bulkhead={"enabled": False}))
        hf.call("api", lambda: hf.call("api", lambda: 1))
        hf.set_policy("api", bulkhead={"max_concurrent": 1})

        assert hf.call("api", lambda: 1) == 1
