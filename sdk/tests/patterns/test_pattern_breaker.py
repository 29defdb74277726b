"""The breaker within guarded calls and under threads; its pure behaviour is in sdk/conformance."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import CallTimeout, CircuitOpen, spec
from holdfast._breaker import Breaker
from holdfast._breaker_rules import BreakerRules, Ticket
from holdfast._window import CountWindow, TimeWindow
from holdfast.testing import LocalHoldfast

WAIT = 10.0  # seconds until a test that waits gives up


def make_breaker(events: list[tuple[str, Any]] | None = None, **settings: Any) -> Breaker:
    effective = spec.effective_pattern({"breaker": settings}, "breaker")
    heard = events if events is not None else []
    return Breaker(
        "api",
        BreakerRules.of(effective, 0.0),
        now=0.0,
        emit=lambda kind, data: heard.append((kind, data)),
        rand=lambda: 0.5,
    )


def make_holdfast(**patterns: Any) -> LocalHoldfast:
    hf = LocalHoldfast()
    hf.set_policy("api", **({"retry": {"enabled": False}} | patterns))
    return hf


def fail() -> None:
    raise ConnectionError("refused")


def open_circuit(hf: LocalHoldfast) -> None:
    hf.try_call("api", fail)
    assert hf.dependency("api").breaker.state == "open"


@pytest.fixture
def _switching_fast() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


ONE_FAILURE = {"consecutive_failures": 1, "half_open_successes": 1}


class TestGuardedCalls:
    def test_an_open_circuit_rejects_without_calling(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        open_circuit(hf)

        with pytest.raises(CircuitOpen) as caught:
            hf.call("api", lambda: pytest.fail("was called"))

        assert caught.value.retry_after == pytest.approx(30.0)
        assert caught.value.last_failure == "ConnectionError"

    def test_the_first_success_after_the_wait_closes_it(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        open_circuit(hf)
        hf.fake_clock.advance(30)

        assert hf.dependency("api").breaker.half_open_ready
        assert hf.call("api", lambda: "back") == "back"
        assert hf.dependency("api").breaker.state == "closed"

    def test_a_permanent_error_as_last_probe_leaves_half_open(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        open_circuit(hf)
        hf.fake_clock.advance(30)

        hf.try_call("api", raising(FileNotFoundError()))

        assert hf.dependency("api").breaker.state == "closed"

    def test_an_ignored_error_as_last_probe_gives_its_place_back(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE | {"permanent_effect": "ignore"})
        open_circuit(hf)
        hf.fake_clock.advance(30)

        hf.try_call("api", raising(FileNotFoundError()))

        assert hf.dependency("api").breaker.state == "half_open"
        assert hf.call("api", lambda: 1) == 1
        assert hf.dependency("api").breaker.state == "closed"

    async def test_a_cancelled_only_probe_gives_its_place_back(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        open_circuit(hf)
        hf.fake_clock.advance(30)
        began = asyncio.Event()

        async def hang() -> None:
            began.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(hf.acall("api", hang))
        await asyncio.wait_for(began.wait(), WAIT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert hf.dependency("api").breaker.state == "half_open"
        assert hf.call("api", lambda: 1) == 1

    async def test_a_storm_of_cancellations_opens_nothing(self) -> None:
        hf = make_holdfast(breaker={"minimum_calls": 1, "consecutive_failures": 1})

        for _ in range(50):
            calls = [asyncio.create_task(hf.acall("api", asyncio.Event().wait)) for _ in range(20)]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)

        stats = hf.dependency("api").stats()
        assert (stats["cancelled"], stats["window"]["calls"], stats["in_flight"]) == (1_000, 0, 0)
        assert hf.dependency("api").breaker.state == "closed"

    def test_a_turn_that_comes_too_late_never_costs_a_probe(self) -> None:
        limit = {"enabled": True, "calls": 1, "per_seconds": 600}
        hf = make_holdfast(breaker=ONE_FAILURE | {"half_open_concurrent": 1}, rate_limit=limit)
        open_circuit(hf)
        hf.fake_clock.advance(30)

        assert hf.try_call("api", lambda: 1).rejection is not None
        hf.fake_clock.advance(600)

        assert hf.call("api", lambda: "back") == "back"
        assert hf.dependency("api").breaker.state == "closed"

    def test_a_full_bulkhead_never_costs_a_probe(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE, bulkhead={"max_concurrent": 1})
        open_circuit(hf)
        hf.fake_clock.advance(30)

        def inner() -> Any:
            return hf.try_call("api", lambda: 1)  # its place is taken by the call around it

        outcome = hf.call("api", inner)

        assert outcome.rejection is not None
        assert hf.dependency("api").breaker.state == "closed"

    def test_a_call_within_a_call_of_the_same_dependency_counts_once_each(self) -> None:
        hf = make_holdfast()

        hf.call("api", lambda: hf.call("api", lambda: hf.call("api", lambda: 1)))

        assert hf.dependency("api").stats()["calls"] == 3

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_the_end_of_the_program_is_no_failure(self, kind: type[BaseException]) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE, retry={"attempts": 3})

        with pytest.raises(kind):
            hf.call("api", raising(kind()))

        stats = hf.dependency("api").stats()
        assert (stats["calls"], stats["failures"], stats["in_flight"]) == (1, 0, 0)
        assert hf.dependency("api").breaker.state == "closed"

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_nor_is_it_within_a_coroutine(self, kind: type[BaseException]) -> None:
        hf = make_holdfast(
            breaker=ONE_FAILURE, retry={"attempts": 3}, timeout={"attempt_seconds": 0}
        )

        async def end() -> None:
            raise kind

        call = hf.acall("api", end)
        with pytest.raises(kind):
            call.send(None)  # by hand: a loop would end with it

        stats = hf.dependency("api").stats()
        assert (stats["cancelled"], stats["failures"], stats["in_flight"]) == (1, 0, 0)
        assert hf.dependency("api").breaker.state == "closed"

    def test_stop_iteration_is_neither_failure_nor_retried(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE, retry={"attempts": 3})

        with pytest.raises(StopIteration):
            hf.call("api", next, iter(()))

        assert hf.dependency("api").stats()["calls"] == 1
        assert hf.dependency("api").breaker.state == "closed"

    def test_a_jump_of_the_wall_clock_changes_nothing(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        open_circuit(hf)

        hf.fake_clock.jump_wall(+3_600)
        assert hf.try_call("api", lambda: 1).rejection is not None

        hf.fake_clock.jump_wall(-7_200)
        hf.fake_clock.advance(30)
        assert hf.call("api", lambda: 1) == 1

    def test_rejections_in_masses_leave_no_trace_behind(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        open_circuit(hf)

        errors = [hf.try_call("api", lambda: 1).error for _ in range(2_000)]

        lengths = {traceback_length(error) for error in (errors[0], errors[-1])}
        assert len(lengths) == 1
        assert len({id(error) for error in errors}) == 2_000

    def test_a_timeout_is_a_failure(self) -> None:
        hf = make_holdfast(
            breaker=ONE_FAILURE, timeout={"attempt_seconds": 1, "late_result": "raise"}
        )

        with pytest.raises(CallTimeout):
            hf.call("api", lambda: hf.fake_clock.advance(2))

        assert hf.dependency("api").breaker.state == "open"

    @pytest.mark.parametrize("minimum", [9, 10])
    def test_a_success_in_a_full_window_opens_nothing_whatever_the_new_threshold(
        self, minimum: int
    ) -> None:
        whole = {"window_calls": 10, "minimum_calls": minimum}
        hf = make_holdfast(breaker=whole | {"failure_rate": 1})
        for _ in range(4):
            hf.try_call("api", fail)
        for _ in range(6):
            hf.call("api", int)
        hf.set_policy("api", breaker=whole | {"failure_rate": 0.2})

        hf.call("api", int)
        after_success = hf.dependency("api").breaker.state
        hf.try_call("api", fail)

        assert (after_success, hf.dependency("api").breaker.state) == ("closed", "open")

    def test_metrics_only_says_once_that_it_would_have_opened(self) -> None:
        hf = make_holdfast(breaker=ONE_FAILURE)
        hf.override("api", "metrics_only")

        for _ in range(5):
            hf.try_call("api", fail)

        told = [event["type"] for event in hf.collect()["events"]]
        assert told.count("breaker.would_open") == 1
        assert hf.dependency("api").breaker.state == "closed"


def raising(error: BaseException) -> Any:
    def raise_it() -> None:
        raise error

    return raise_it


def traceback_length(error: Exception | None) -> int:
    assert error is not None
    length, traceback = 0, error.__traceback__
    while traceback is not None:
        length, traceback = length + 1, traceback.tb_next
    return length


@pytest.mark.usefixtures("_switching_fast")
class TestThreads:
    def test_simultaneous_failures_open_once(self) -> None:
        events: list[tuple[str, Any]] = []
        breaker = make_breaker(events, consecutive_failures=8)
        tickets = [breaker.admit(0.0) for _ in range(64)]

        with ThreadPoolExecutor(8) as pool:
            for ticket in tickets:
                assert isinstance(ticket, Ticket)
                pool.submit(breaker.settle, ticket, "failure", 1.0)

        assert breaker.state == "open"
        assert [kind for kind, _ in events] == ["breaker.state_changed"]

    def test_threads_that_meet_the_end_of_the_wait_share_the_places(self) -> None:
        breaker = make_breaker(consecutive_failures=1, half_open_concurrent=2)
        first = breaker.admit(0.0)
        assert isinstance(first, Ticket)
        breaker.settle(first, "failure", 0.0)

        def arrive(_: int) -> bool:
            return isinstance(breaker.admit(30.0), Ticket)

        with ThreadPoolExecutor(8) as pool:
            admitted = list(pool.map(arrive, range(400)))

        assert sum(admitted) == 2

    def test_totals_of_a_count_window_add_up(self) -> None:
        breaker = make_breaker(window_calls=10_000, minimum_calls=10_000)

        def work(outcome: Any) -> None:
            for _ in range(500):
                ticket = breaker.admit(0.0)
                assert isinstance(ticket, Ticket)
                breaker.settle(ticket, outcome, 0.0)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, ["success", "failure"] * 4))

        counts = breaker.counts(0.0)
        assert (counts["calls"], counts["failed"]) == (4_000, 2_000)

    def test_totals_of_a_rolling_time_window_never_go_negative(self) -> None:
        breaker = make_breaker(window="time", window_seconds=1, minimum_calls=10_000)

        def work(offset: int) -> None:
            for step in range(400):
                ticket = breaker.admit(step / 50)
                assert isinstance(ticket, Ticket)
                breaker.settle(ticket, "failure", (step + offset) / 50)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

        assert min(breaker.counts(9.0).values()) >= 0
        assert breaker.counts(1_000.0)["calls"] == 0

    def test_a_slow_function_does_not_hold_others_up(self) -> None:
        hf = make_holdfast()
        inside, leave = threading.Event(), threading.Event()

        def slow() -> None:
            inside.set()
            assert leave.wait(WAIT)

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(hf.call, "api", slow)
            assert inside.wait(WAIT)
            assert hf.call("api", lambda: "quick") == "quick"
            leave.set()
            running.result(WAIT)


class TestWindows:
    def test_idle_for_long_forgets_all_buckets_slow_calls_included(self) -> None:
        window = TimeWindow(10, 0.0)
        for second in range(10):
            window.record(3, float(second))

        window.expire(25.0)

        assert (window.total, window.failed, window.slow) == (0, 0, 0)

    def test_a_clock_that_seems_to_go_back_harms_nothing(self) -> None:
        window = TimeWindow(10, 100.0)
        window.record(1, 105.0)

        window.record(1, 101.0)  # another thread read the clock earlier

        assert (window.total, window.failed) == (2, 2)

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_counts_equal_what_the_ring_holds(self, size: int) -> None:
        window = CountWindow(size)
        for step in range(50):
            window.record(step % 4, 0.0)

        held = window.outcomes()

        assert window.total == len(held) == size
        assert window.failed == sum(each & 1 for each in held)
        assert window.slow == sum(each >> 1 for each in held)


class TestOpenTime:
    def test_many_rounds_stay_finite_and_positive(self) -> None:
        effective = spec.effective_pattern({"breaker": {"open_multiplier": 10}}, "breaker")
        rules = BreakerRules.of(effective, 0.0)

        times = [rules.open_for(rounds, spread) for rounds in (1, 64, 10_000) for spread in (-1, 1)]

        assert all(0 < seconds <= 300 * 1.2 for seconds in times)

    def test_without_jitter_it_is_exact(self) -> None:
        effective = spec.effective_pattern({"breaker": {"open_jitter": 0}}, "breaker")

        assert BreakerRules.of(effective, 0.0).open_for(1, 0.7) == 30.0
