"""Error recovery: errors that repeat are noticed once, and each rule does what it says, rarely."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from holdfast import CircuitOpen
from holdfast._engine import Engine
from holdfast._recovery import names_of
from holdfast.testing import LocalHoldfast

WAIT = 10.0


class Busy(ConnectionError):
    """An error of the service's own."""


class Refused(ValueError):
    """Another."""


def fail() -> None:
    raise Busy


def ruled(action: str, *, match: str = "transient", count: int = 2, **more: Any) -> LocalHoldfast:
    """A Holdfast with one rule on errors of `api` that repeat; nothing else acts there."""
    hf = LocalHoldfast()
    rule = {"match": match, "action": action, **more}
    hf.set_policy(
        "api",
        recovery={"rules": [rule], "pattern_count": count, "pattern_window_seconds": 60},
        retry={"enabled": False},
        breaker={"enabled": False},
    )
    return hf


def try_twice(hf: LocalHoldfast) -> None:
    for _ in range(2):
        hf.try_call("api", fail)


def events(hf: LocalHoldfast, kind: str) -> list[dict[str, Any]]:
    return [each["data"] for each in hf.collect()["events"] if each["type"] == kind]


class TestPatterns:
    def test_the_same_error_often_enough_is_told(self) -> None:
        hf = ruled("escalate", match="other", count=3)
        for _ in range(3):
            hf.try_call("api", fail)

        assert events(hf, "error_pattern.detected") == [
            {"error": f"{__name__}.Busy", "class": "transient", "count": 3, "window_seconds": 60.0}
        ]

    def test_it_needs_no_rule(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", retry={"enabled": False}, breaker={"enabled": False})
        for _ in range(10):
            hf.try_call("api", fail)

        assert len(events(hf, "error_pattern.detected")) == 1

    def test_errors_spread_over_more_than_the_window_make_none(self) -> None:
        hf = ruled("escalate", count=3)
        for _ in range(6):
            hf.try_call("api", fail)
            hf.fake_clock.advance(31)

        assert hf.collect()["events"] == []

    def test_different_errors_make_none_together(self) -> None:
        hf = ruled("escalate", count=2)

        hf.try_call("api", fail)
        hf.try_call("api", lambda: [][1])

        assert hf.collect()["events"] == []

    def test_an_error_that_goes_on_is_told_once_per_window(self) -> None:
        hf = ruled("escalate", match="other", count=2)
        for _ in range(100):
            hf.try_call("api", fail)
        told = len(events(hf, "error_pattern.detected"))
        hf.fake_clock.advance(61)

        try_twice(hf)

        assert (told, len(events(hf, "error_pattern.detected"))) == (1, 1)

    def test_every_failed_attempt_counts(self) -> None:
        hf = ruled("escalate", count=3)
        hf.set_policy("api", retry={"attempts": 3})

        hf.try_call("api", fail)

        assert len(events(hf, "error_pattern.detected")) == 1

    def test_calls_that_were_not_made_are_no_errors(self) -> None:
        hf = ruled("escalate")
        hf.override("api", "force_open")

        try_twice(hf)

        assert events(hf, "error_pattern.detected") == []

    def test_no_more_than_a_hundred_types_are_remembered(self) -> None:
        hf = ruled("escalate", count=5)

        for number in range(300):
            error = type(f"Error{number}", (ConnectionError,), {})
            hf.try_call("api", _raiser(error))

        assert len(hf._engine.state_of("api").recovery._seen) == 100


def _raiser(kind: type[Exception]) -> Any:
    def raise_it() -> None:
        raise kind

    return raise_it


class TestMatching:
    @pytest.mark.parametrize(
        "match", ["transient", "Busy", f"{__name__}.Busy", "ConnectionError", "OSError"]
    )
    def test_by_class_of_error_and_by_name(self, match: str) -> None:
        hf = ruled("escalate", match=match)

        try_twice(hf)

        assert [each["match"] for each in events(hf, "recovery.escalated")] == [match]

    @pytest.mark.parametrize("match", ["permanent", "Exception1", "Bus", "object", "shop.Busy"])
    def test_others_are_left_alone(self, match: str) -> None:
        hf = ruled("escalate", match=match)

        try_twice(hf)

        assert events(hf, "recovery.escalated") == []

    def test_libraries_errors_by_package_and_name(self) -> None:
        httpx = pytest.importorskip("httpx")

        names = names_of(httpx.ConnectTimeout)

        assert {"httpx.ConnectTimeout", "httpx.TransportError", "TimeoutException"} <= names

    def test_the_first_that_matches_is_applied_alone(self) -> None:
        hf = ruled("escalate")
        rules = [
            {"match": "Busy", "action": "escalate", "cooldown_seconds": 3_600},
            {"match": "transient", "action": "isolate"},
        ]
        hf.set_policy("api", recovery={"rules": rules, "pattern_count": 2})

        for _ in range(3):
            try_twice(hf)

        assert hf.dependency("api").breaker.override is None


class TestCooldown:
    def test_a_rule_rests_between_two_actions(self) -> None:
        hf = ruled("escalate", cooldown_seconds=30)
        for _ in range(10):
            try_twice(hf)
        first = len(events(hf, "recovery.escalated"))
        hf.fake_clock.advance(31)

        for _ in range(10):
            try_twice(hf)

        assert (first, len(events(hf, "recovery.escalated"))) == (1, 1)

    def test_a_new_policy_that_keeps_the_rule_keeps_its_rest(self) -> None:
        hf = ruled("escalate", cooldown_seconds=30)
        try_twice(hf)
        hf.collect()
        rule = {"match": "transient", "action": "escalate", "cooldown_seconds": 30}

        hf.set_policy("api", recovery={"rules": [rule], "pattern_count": 3})
        for _ in range(3):
            hf.try_call("api", fail)

        assert events(hf, "recovery.escalated") == []


class TestIsolate:
    def test_callers_are_kept_away_for_a_while(self) -> None:
        hf = ruled("isolate", isolate_seconds=300)
        try_twice(hf)

        refusal = hf.try_call("api", lambda: 1).rejection

        assert isinstance(refusal, CircuitOpen)
        assert refusal.override_reason == f"{__name__}.Busy repeats"
        hf.fake_clock.advance(301)
        assert hf.call("api", lambda: 1) == 1

    def test_an_operators_word_is_not_overruled(self) -> None:
        hf = ruled("isolate")
        hf.override("api", "force_closed")

        try_twice(hf)

        assert hf.dependency("api").breaker.override == "force_closed"

    def test_an_operators_later_word_ends_it(self) -> None:
        hf = ruled("isolate")
        try_twice(hf)

        hf.override("api", "force_closed")

        assert hf.call("api", lambda: 1) == 1

    def test_it_ends_with_its_rule(self) -> None:
        hf = ruled("isolate")
        try_twice(hf)

        hf.set_policy("api", recovery={"rules": []})

        assert hf.call("api", lambda: 1) == 1

    def test_for_0_seconds_it_does_nothing(self) -> None:
        hf = ruled("isolate", isolate_seconds=0)

        try_twice(hf)

        assert hf.call("api", lambda: 1) == 1


class TestFallback:
    def test_the_chain_answers_whatever_the_cause_for_a_while(self) -> None:
        hf = ruled("fallback", match="permanent", isolate_seconds=100)
        hf.set_policy("api", fallback={"chain": [{"kind": "value", "value": "simple"}]})
        guarded = hf.guard("api", errors={"permanent": Refused})(_raiser(Refused))
        with pytest.raises(Refused):
            guarded()

        assert [guarded(), guarded()] == ["simple", "simple"]

        hf.fake_clock.advance(101)
        with pytest.raises(Refused):
            guarded()

    def test_other_errors_are_not_hidden(self) -> None:
        hf = ruled("fallback", match="permanent")
        hf.set_policy("api", fallback={"chain": [{"kind": "value", "value": "simple"}]})
        refuse = hf.guard("api", errors={"permanent": Refused})(_raiser(Refused))
        with pytest.raises(Refused):
            refuse()
        assert refuse() == "simple"

        with pytest.raises(MemoryError):
            hf.call("api", _raiser(MemoryError))


class TestRetry:
    def test_the_call_gets_further_attempts(self) -> None:
        hf = ruled("retry", attempts=2, delay_seconds=5)
        hf.try_call("api", fail)
        answers = iter([Busy, Busy, None])

        def sometimes() -> str:
            error = next(answers)
            if error is not None:
                raise error
            return "at last"

        outcome = hf.try_call("api", sometimes)

        assert (outcome.value, outcome.attempts) == ("at last", 3)
        assert hf.fake_clock.slept == [5.0, 5.0]
        assert hf.collect()["dependencies"]["api"]["recoveries"] == {"attempted": 1, "succeeded": 1}

    def test_no_more_than_it_says(self) -> None:
        hf = ruled("retry", attempts=2, cooldown_seconds=0)
        hf.try_call("api", fail)

        outcome = hf.try_call("api", fail)

        assert outcome.attempts == 3
        assert isinstance(outcome.error, Busy)
        assert hf.collect()["dependencies"]["api"]["recoveries"] == {"attempted": 1, "succeeded": 0}

    def test_what_must_not_be_repeated_is_not(self) -> None:
        hf = ruled("retry", attempts=2)
        hf.set_policy("api", retry={"enabled": False, "idempotent": False})
        hf.try_call("api", fail)

        assert hf.try_call("api", fail).attempts == 1

    def test_never_beyond_the_deadline(self) -> None:
        hf = ruled("retry", attempts=2, delay_seconds=5)
        hf.set_policy("api", timeout={"total_seconds": 4})
        hf.try_call("api", fail)

        assert hf.try_call("api", fail).attempts == 1
        assert hf.fake_clock.slept == []

    def test_never_against_the_budget(self) -> None:
        hf = ruled("retry", attempts=5)
        hf.set_policy("api", retry={"attempts": 3, "budget_tokens": 1})

        try_twice(hf)

        assert hf.dependency("api").stats()["calls"] == 2


class TestRestart:
    def test_the_services_function_is_called(self) -> None:
        hf = ruled("restart", attempts=3, delay_seconds=2)
        outcomes = iter([OSError("down"), None])
        calls = []

        def reconnect() -> None:
            calls.append(hf.fake_clock.monotonic())
            error = next(outcomes)
            if error:
                raise error

        hf.register_restart("api", reconnect)
        try_twice(hf)

        assert calls == [1_002.0, 1_004.0]
        collected = hf.collect()
        assert collected["dependencies"]["api"]["recoveries"] == {"attempted": 1, "succeeded": 1}
        assert collected["events"][-1]["data"] == {
            "action": "restart",
            "succeeded": True,
            "attempts": 2,
            "error": None,
        }

    def test_one_that_never_works_is_told(self) -> None:
        hf = ruled("restart", attempts=2)
        hf.register_restart("api", _raiser(PermissionError))

        try_twice(hf)

        ended = events(hf, "recovery.ended")
        assert ended == [
            {"action": "restart", "succeeded": False, "attempts": 2, "error": "PermissionError"}
        ]

    def test_without_a_function_it_says_so(self) -> None:
        hf = ruled("restart")

        try_twice(hf)

        assert events(hf, "recovery.ended")[0]["error"] == "no function is registered"
        assert hf.collect()["dependencies"]["api"]["recoveries"]["attempted"] == 0

    def test_the_call_does_not_wait_for_it_and_there_is_one_at_a_time(self) -> None:
        engine = Engine(defaults={"recovery": {"pattern_count": 2, "rules": [RESTART]}, **ALONE})
        begun, leave = threading.Semaphore(0), threading.Event()

        def restart() -> None:
            begun.release()
            leave.wait(WAIT)

        engine.register_restart("api", restart)
        for _ in range(4):
            engine.try_call("api", fail)

        assert begun.acquire(timeout=WAIT)
        assert not begun.acquire(blocking=False)
        leave.set()

    def test_a_system_without_threads_harms_no_call_and_is_asked_again(self) -> None:
        def no_thread(work: object) -> None:
            raise RuntimeError("can't start new thread")

        defaults: dict[str, Any] = {"recovery": {"pattern_count": 1, "rules": [RESTART]}, **ALONE}
        engine = Engine(defaults=defaults, spawn=no_thread)

        errors = [engine.try_call("api", fail).error for _ in range(2)]

        assert [type(error) for error in errors] == [Busy, Busy]
        ended = [each for each in engine.collect()["events"] if each["type"] == "recovery.ended"]
        assert [each["data"]["error"] for each in ended] == ["can't start new thread"] * 2

    def test_a_coroutine_function_is_refused_when_it_is_named(self) -> None:
        async def restart() -> None: ...

        with pytest.raises(TypeError):
            LocalHoldfast().register_restart("api", restart)


RESTART = {"match": "transient", "action": "restart", "cooldown_seconds": 0.0}
ALONE = {"retry": {"enabled": False}, "breaker": {"enabled": False}}


class TestEscalate:
    def test_it_is_told_with_priority(self) -> None:
        hf = ruled("escalate")

        try_twice(hf)

        assert events(hf, "recovery.escalated") == [
            {
                "action": "escalate",
                "match": "transient",
                "error": f"{__name__}.Busy",
                "class": "transient",
                "priority": "high",
            }
        ]


class TestSuccess:
    def test_a_call_that_succeeds_asks_nothing_of_it(self) -> None:
        hf = ruled("escalate")
        hf._engine.state_of("api").recovery = None  # type: ignore[assignment]  # so that asking fails

        assert hf.call("api", lambda: 1) == 1
