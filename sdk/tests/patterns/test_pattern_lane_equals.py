"""The fast lane and the long way: the same calls have the same results, counts and states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import _dependency, _scope, deadline
from holdfast._outcome import Outcome
from holdfast.testing import LocalHoldfast
from sdk.tests.patterns.test_pattern_breaker_model import LONGER

Step = tuple[str, Any]

ERRORS: list[type[BaseException]] = [
    ConnectionError, TimeoutError, KeyError, PermissionError, MemoryError, StopIteration,
    KeyboardInterrupt, GeneratorExit, asyncio.CancelledError,
]  # fmt: skip
SECONDS = st.sampled_from([0.0, 0.0005, 0.001, 0.1, 2.0, 5.0])
BREAKERS = st.fixed_dictionaries(
    {"window_calls": st.integers(2, 5), "minimum_calls": st.integers(1, 5)},
    optional={
        "enabled": st.sampled_from([True, True, False]),
        "window": st.sampled_from(["count", "time"]),
        "window_seconds": st.just(10),
        "failure_rate": st.sampled_from([0.3, 0.5, 1]),
        "consecutive_failures": st.sampled_from([0, 0, 3]),
        "slow_call_seconds": st.sampled_from([0, 1]),
        "half_open_calls": st.integers(1, 2),
        "permanent_effect": st.sampled_from(["success", "failure", "ignore"]),
    },
)
PATTERNS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "breaker": BREAKERS,
    "timeout": st.fixed_dictionaries(
        {"attempt_seconds": st.sampled_from([0, 1, 3])},
        optional={
            "late_result": st.sampled_from(["return", "raise"]),
            "total_seconds": st.sampled_from([0, 0, 4]),
        },
    ),
    "retry": st.fixed_dictionaries(
        {"attempts": st.integers(1, 3), "budget_tokens": st.sampled_from([4, 100])},
        optional={"enabled": st.booleans()},
    ),
    "bulkhead": st.fixed_dictionaries({"max_concurrent": st.integers(1, 2)}),
    "fallback": st.fixed_dictionaries(
        {"chain": st.sampled_from([[], [{"kind": "cached"}], [{"kind": "function"}]])}
    ),
}
CALLS = st.tuples(
    st.sampled_from(["call", "acall", "guarded", "nested"]),
    st.lists(
        st.tuples(st.sampled_from([None, None, None, *ERRORS]), SECONDS), min_size=1, max_size=3
    ),
)
POLICIES = st.sampled_from([*PATTERNS]).flatmap(
    lambda name: st.tuples(st.just("policy"), PATTERNS[name].map(lambda values: {name: values}))
)
SUCCESSES = st.tuples(st.just("successes"), st.integers(2, 8))
OTHERS = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([1.0, 6.0, 12.0, 40.0])),
    st.tuples(
        st.just("override"),
        st.sampled_from([None, None, "force_open", "force_closed", "disabled", "metrics_only"]),
    ),
)
FIRST = st.tuples(st.just("policy"), st.fixed_dictionaries({}, optional=PATTERNS))
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(CALLS, CALLS, CALLS, SUCCESSES, SUCCESSES, POLICIES, OTHERS), min_size=4, max_size=25
)


class World:
    """Plays the steps and writes down what becomes of each."""

    def __init__(self) -> None:
        self.hf = LocalHoldfast()
        self.hf.set_policy("api", breaker={"window_calls": 4, "minimum_calls": 4})
        self.events: list[Any] = []
        self.hf.on_event(lambda event: self.events.append((event.type, event.data)))
        self.script: list[tuple[type[BaseException] | None, float]] = []
        self.guarded = self.hf.guard("api", fallback=lambda: "instead")(self.answer)

    def answer(self) -> Any:
        kind, seconds = self.script.pop(0) if self.script else (None, 0.0)
        self.hf.fake_clock.advance(seconds)
        if kind is not None:
            raise kind("scripted")
        return deadline.remaining()

    async def answer_later(self) -> Any:
        return self.answer()

    def outer(self) -> Any:
        return self.hf.call("api", self.answer)

    def play(self, step: Step) -> Any:
        name, value = step
        doing: Callable[[Any], Any] = getattr(self, f"do_{name}", self.do_call)
        self.name = name
        return doing(value), self.seen()

    def do_call(self, script: Any) -> Any:
        self.script = list(script)
        ways: dict[str, Callable[[], Any]] = {
            "call": lambda: told(self.hf.try_call("api", self.answer)),
            "guarded": self.guarded,
            "nested": lambda: self.hf.call("api", self.outer),
        }
        try:
            return repr(ways[self.name]())
        except BaseException as error:  # noqa: BLE001 - all of them are results here
            return repr(error), getattr(error, "__notes__", [])

    def do_acall(self, script: Any) -> Any:
        self.script = list(script)
        try:
            return repr(asyncio.run(self.hf.acall("api", self.answer_later)))
        except BaseException as error:  # noqa: BLE001 - all of them are results here
            return repr(error), getattr(error, "__notes__", [])

    def do_successes(self, number: int) -> None:
        """Fill the window with them, which makes the fast lane likely."""
        self.script = []
        for _ in range(number):
            self.hf.try_call("api", self.answer)

    def do_policy(self, patterns: Any) -> None:
        self.hf.set_policy("api", **patterns)

    def do_advance(self, seconds: float) -> None:
        self.hf.fake_clock.advance(seconds)

    def do_override(self, mode: str | None) -> None:
        self.hf.override("api", mode)

    def seen(self) -> Any:
        return self.hf.dependency("api").stats(), self.hf.fake_clock.slept[:], self.events[:]


def told(outcome: Outcome[Any]) -> Any:
    return outcome.ok, outcome.value, repr(outcome.error), outcome.source, outcome.attempts


def played(steps: list[Step], *, by_the_lane: bool) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_dependency, "HAS_GIL", by_the_lane)  # without one nobody takes the lane
        world = World()
        return [world.play(step) for step in steps]


def compare(steps: list[Step]) -> None:
    by_the_lane, the_long_way = played(steps, by_the_lane=True), played(steps, by_the_lane=False)

    for step, short, long in zip(steps, by_the_lane, the_long_way, strict=True):
        assert short == long, step


@settings(
    max_examples=120 * LONGER,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(FIRST, STEPS)
def test_both_ways_have_the_same_results(first: Step, steps: list[Step]) -> None:
    compare([first, *steps])


@pytest.mark.parametrize("window", ["count", "time"])
@pytest.mark.parametrize("minimum", [3, 4, 5])
def test_the_success_that_completes_the_minimum_is_judged_on_both(
    window: str, minimum: int
) -> None:
    rules = {"window": window, "window_calls": 5, "minimum_calls": minimum, "failure_rate": 0.5}
    failed = ("call", [(PermissionError, 0.0)])
    steps: list[Step] = [("policy", {"breaker": rules | {"permanent_effect": "failure"}})]

    compare([*steps, failed, failed, *[("call", [(None, 0.0)])] * 4])


def test_a_success_ends_a_row_of_failures_that_the_window_has_forgotten() -> None:
    """As one failed call of four is none of two, where a window in between kept the counts only."""
    two, minute = {"window_calls": 2, "minimum_calls": 1}, {"window": "time"}
    succeeded, failed = ("call", [(None, 0.0)]), ("call", [(ConnectionError, 0.0)])
    steps: list[Step] = [("policy", {"retry": {"enabled": False}}), *[succeeded] * 3, failed]

    compare([*steps, ("policy", {"breaker": minute}), ("policy", {"breaker": two}), succeeded])


def test_the_lane_is_taken_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above compare the long way with itself."""
    monkeypatch.setattr(_scope, "is_asked_for", False)
    hf = LocalHoldfast()
    hf.set_policy("api", breaker={"window_calls": 10, "minimum_calls": 10})

    for _ in range(25):
        hf.call("api", int)

    assert sum(hf._engine.state_of("api").stats.plain) == 15  # once the window was full
