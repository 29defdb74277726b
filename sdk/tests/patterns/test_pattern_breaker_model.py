"""Guarded calls against a plain model of the breaker: whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import os
import types
from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast import CircuitOpen, spec
from holdfast.testing import LocalHoldfast
from sdk.tests.patterns.plain_breaker import SURPLUS, PlainBreaker, Running

LONGER = int(os.environ.get("HOLDFAST_STRESS", "1"))
"""How many times as much as in an ordinary run."""

MOST_RUNNING = 8
REFUSED = {"forced": "forced", "open": "open", SURPLUS: "open"}  # as statistics name it
ERRORS: dict[str, tuple[type[Exception], str]] = {
    "transient": (ConnectionError, "failure"),
    "unknown": (KeyError, "failure"),
    "critical": (MemoryError, "failure"),
    "permanent": (PermissionError, "permanent"),
}

POLICIES = st.fixed_dictionaries(
    {
        "window_calls": st.integers(3, 8),
        "minimum_calls": st.integers(1, 8),
        "open_jitter": st.just(0),
    },
    optional={
        "enabled": st.sampled_from([True, True, True, False]),
        "window": st.sampled_from(["count", "time"]),
        "window_seconds": st.sampled_from([10, 20, 40]),
        "failure_rate": st.sampled_from([0.25, 0.5, 1]),
        "consecutive_failures": st.sampled_from([0, 0, 2, 3]),
        "slow_call_seconds": st.sampled_from([0, 2]),
        "slow_call_rate": st.sampled_from([0.5, 1]),
        "open_seconds": st.sampled_from([4, 8]),
        "open_max_seconds": st.sampled_from([8, 20]),
        "half_open_calls": st.integers(1, 4),
        "half_open_concurrent": st.integers(1, 3),
        "half_open_successes": st.sampled_from([0, 0, 1]),
        "probe_lease_seconds": st.sampled_from([0, 3]),
        "permanent_effect": st.sampled_from(["success", "failure", "ignore"]),
        "trip_on": st.sampled_from([[], [], ["critical"], ["permanent"]]),
    },
)


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Suspend a coroutine until somebody sends or throws something into it; needs no loop."""
    yield


def refuse() -> None:
    raise ConnectionError


async def wait() -> str:
    await pause()
    return "answer"


class Guarded(RuleBasedStateMachine):
    """Calls through an engine, by its fast lane and the long way, and the model beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.hf = LocalHoldfast()
        gates: dict[str, Any] = {"timeout": {"attempt_seconds": 0}, "retry": {"enabled": False}}
        self.hf.set_policy("api", **gates)
        self.model = PlainBreaker(self.rules_of({}), self.hf.fake_clock.monotonic())
        self.under_way: list[tuple[Any, Running]] = []
        self.counted = dict.fromkeys(
            ["successes", "failures", "cancelled", "ignored", "slow", "open", "forced"], 0
        )

    def rules_of(self, policy: dict[str, Any]) -> dict[str, Any]:
        return dict(spec.effective_pattern({"breaker": policy}, "breaker"))

    # -- calls -----------------------------------------------------------------------------------

    @rule(number=st.integers(1, 3))
    def begin(self, number: int) -> None:
        for _ in range(min(number, MOST_RUNNING - len(self.under_way))):
            expected = self.model.begin()
            call = self.hf.acall("api", wait)
            if isinstance(expected, Running):
                call.send(None)
                self.under_way.append((call, expected))
            else:
                with pytest.raises(CircuitOpen):
                    call.send(None)
                self.counted[REFUSED[expected]] += 1

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, MOST_RUNNING - 1))
    def succeed(self, which: int) -> None:
        call, begun = self.take(which)
        assert answer_of(call) == "answer"
        self.ended(begun, "success", "successes")

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, MOST_RUNNING - 1), klass=st.sampled_from([*ERRORS]))
    def fail(self, which: int, klass: str) -> None:
        call, begun = self.take(which)
        error, outcome = ERRORS[klass]
        throw(call, error())
        if outcome == "permanent":
            outcome = begun.rules["permanent_effect"]
        names = {"success": "successes", "failure": "failures", "ignore": "ignored"}
        self.ended(begun, "neutral" if outcome == "ignore" else outcome, names[outcome], klass)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, MOST_RUNNING - 1), closed=st.booleans())
    def cancel(self, which: int, closed: bool) -> None:
        call, begun = self.take(which)
        if closed:
            call.close()
        else:
            throw(call, asyncio.CancelledError())
        self.ended(begun, "neutral", "cancelled")

    @rule(number=st.integers(1, 8))
    def make_calls_that_succeed(self, number: int) -> None:
        """One after the other: this is what the fast lane is for."""
        for _ in range(number):
            self.make_call(int, "success", "successes")

    @rule(number=st.integers(1, 3))
    def make_calls_that_fail(self, number: int) -> None:
        for _ in range(number):
            self.make_call(refuse, "failure", "failures")

    # -- time, operators, policies ---------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.25, 1.0, 1.0, 3.0, 8.0, 25.0]),
        is_reported=st.booleans(),
    )
    def advance(self, seconds: float, is_reported: bool) -> None:
        self.hf.fake_clock.advance(seconds)
        self.model.now = self.hf.fake_clock.monotonic()
        if is_reported:
            self.hf.collect()
            self.model.notice_time()

    @precondition(lambda self: self.model.state == "open")
    @rule()
    def wait_for_the_next_trial(self) -> None:
        self.hf.override("api", None)
        self.model.set_override(None, None)
        self.advance(self.model.time_to_trial(), is_reported=False)

    @rule(
        mode=st.sampled_from(
            [None, None, None, "force_open", "force_closed", "disabled", "metrics_only"]
        ),
        lease=st.sampled_from([None, 2.0, 5.0]),
    )
    def override(self, mode: str | None, lease: float | None) -> None:
        self.hf.override("api", mode, lease_seconds=lease)
        self.model.set_override(mode, lease)

    @initialize(policy=POLICIES)
    def begin_with(self, policy: dict[str, Any]) -> None:
        self.configure(policy)

    @rule(policy=POLICIES)
    def configure(self, policy: dict[str, Any]) -> None:
        self.hf.set_policy("api", breaker=policy)
        self.model.configure(self.rules_of(policy))

    # -- comparing -------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        stats = self.hf.dependency("api").stats()
        assert stats["breaker"]["state"] == self.model.state
        assert stats["breaker"]["override"] == self.model.override
        assert stats["window"] == self.model.counts()
        assert stats["probes_lost"] == self.model.probes_lost
        assert stats["in_flight"] == len(self.under_way)

    @invariant()
    def count_each_call_once(self) -> None:
        stats = self.hf.dependency("api").stats()
        seen = {name: stats.get(name, 0) for name in self.counted} | {
            name: stats["rejected"][name] for name in ("open", "forced")
        }
        ended = ("successes", "failures", "cancelled", "ignored")
        assert seen == self.counted
        assert stats["calls"] == sum(self.counted[name] for name in ended)

    def make_call(self, function: Callable[[], Any], outcome: str, counter: str) -> None:
        expected = self.model.begin()
        made = self.hf.try_call("api", function)
        assert (made.rejection is None) is isinstance(expected, Running)
        if isinstance(expected, str):
            self.counted[REFUSED[expected]] += 1
        else:
            self.ended(expected, outcome, counter)

    def take(self, which: int) -> tuple[Any, Running]:
        return self.under_way.pop(which % len(self.under_way))

    def ended(self, begun: Running, outcome: str, counter: str, klass: str = "") -> None:
        limit = begun.rules["slow_call_seconds"]
        self.counted["slow"] += 0 < limit < self.model.now - begun.started
        self.counted[counter] += 1
        self.model.end(begun, outcome, klass)

    def teardown(self) -> None:
        for call, _ in self.under_way:
            call.close()


def answer_of(call: Any) -> Any:
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits again")


def throw(call: Any, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        call.throw(error)
    assert caught.value is error


TestBreakerAgainstItsModel = Guarded.TestCase
TestBreakerAgainstItsModel.settings = settings(
    max_examples=60 * LONGER,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
