"""Fallbacks: who answers, for what, and what the caller gets if nobody does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import CircuitOpen, Degraded
from holdfast._failed import FailedCall
from holdfast.testing import LocalHoldfast

WAIT = 10.0


def make_holdfast(*chain: dict[str, Any], **patterns: Any) -> LocalHoldfast:
    hf = LocalHoldfast()
    given = {"retry": {"enabled": False}} | patterns
    if chain:
        given["fallback"] = {"chain": list(chain)} | given.get("fallback", {})
    hf.set_policy("api", **given)
    return hf


def fail(*args: Any) -> Any:
    raise ConnectionError("down")


class TestChain:
    def test_a_value_answers(self) -> None:
        hf = make_holdfast({"kind": "value", "value": {"text": "later"}})

        outcome = hf.try_call("api", fail)

        assert (outcome.value, outcome.source) == ({"text": "later"}, "value")
        assert hf.dependency("api").stats()["fallbacks"]["value"] == 1

    def test_null_is_an_answer_too(self) -> None:
        hf = make_holdfast({"kind": "value", "value": None})

        assert hf.try_call("api", fail).source == "value"

    def test_the_guards_function_gets_the_same_arguments(self) -> None:
        hf = make_holdfast({"kind": "function"})

        guarded = hf.guard("api", fallback=lambda symbol: f"cached {symbol}")(fail)

        assert guarded("ACME") == "cached ACME"

    def test_without_a_chain_the_guards_function_answers_alone(self) -> None:
        hf = make_holdfast()

        assert hf.guard("api", fallback=lambda: "mine")(fail)() == "mine"

    def test_an_empty_chain_switches_even_that_off(self) -> None:
        hf = make_holdfast(fallback={"chain": []})

        with pytest.raises(ConnectionError):
            hf.guard("api", fallback=lambda: "mine")(fail)()

    def test_a_function_may_be_registered_by_name(self) -> None:
        hf = make_holdfast({"kind": "function", "name": "quotes"})
        hf.register_fallback("quotes", lambda: "registered")

        assert hf.call("api", fail) == "registered"

    def test_the_first_that_works_answers(self) -> None:
        hf = make_holdfast(
            {"kind": "function", "name": "nobody"},
            {"kind": "cached"},
            {"kind": "value", "value": 3},
            {"kind": "value", "value": 4},
        )

        assert hf.call("api", fail) == 3

    async def test_an_async_function_is_awaited_and_an_ordinary_one_is_fine(self) -> None:
        hf = make_holdfast({"kind": "function"})

        async def down() -> Any:
            raise ConnectionError

        async def later() -> str:
            return "async"

        assert await hf.guard("api", fallback=later)(down)() == "async"
        assert await hf.guard("api", fallback=lambda: "plain")(down)() == "plain"

    def test_an_async_function_cannot_answer_an_ordinary_call(self) -> None:
        hf = make_holdfast({"kind": "function"})

        async def later() -> str:
            return "async"

        with pytest.raises(ConnectionError) as caught:
            hf.guard("api", fallback=later)(fail)()

        assert "async" in caught.value.__notes__[0]


class TestFailing:
    def test_the_caller_gets_the_original_error_with_a_note(self) -> None:
        hf = make_holdfast({"kind": "function"})

        with pytest.raises(ConnectionError, match="down") as caught:
            hf.guard("api", fallback=lambda: 1 / 0)(fail)()

        assert caught.value.__notes__ == [
            "holdfast: fallback function: ZeroDivisionError: division by zero"
        ]

    def test_a_failing_fallback_says_nothing_about_the_dependency(self) -> None:
        hf = make_holdfast({"kind": "function"}, breaker={"consecutive_failures": 2})

        hf.try_call("api", fail)

        assert hf.dependency("api").stats()["window"]["failed"] == 1

    def test_too_many_slow_fallbacks_do_not_pile_up(self) -> None:
        hf = make_holdfast({"kind": "function"}, fallback={"max_concurrent": 1})
        inside, leave = threading.Event(), threading.Event()

        def slow() -> str:
            inside.set()
            assert leave.wait(WAIT)
            return "slow"

        guarded = hf.guard("api", fallback=slow)(fail)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(guarded)
            assert inside.wait(WAIT)
            with pytest.raises(ConnectionError):
                guarded()
            leave.set()

            assert first.result(WAIT) == "slow"
        assert guarded() == "slow"

    def test_interrupting_it_gives_its_place_back(self) -> None:
        hf = make_holdfast({"kind": "function"}, fallback={"max_concurrent": 1})
        answers = iter([KeyboardInterrupt(), None])

        def interrupted() -> str:
            error = next(answers)
            if error is not None:
                raise error
            return "answer"

        guarded = hf.guard("api", fallback=interrupted)(fail)
        with pytest.raises(KeyboardInterrupt):
            guarded()

        assert guarded() == "answer"


class TestCauses:
    def test_a_permanent_error_reaches_the_caller(self) -> None:
        hf = make_holdfast({"kind": "value", "value": 1})

        with pytest.raises(PermissionError):
            hf.call("api", lambda: raising(PermissionError()))

    def test_a_mistake_in_the_code_is_not_papered_over(self) -> None:
        hf = make_holdfast({"kind": "value", "value": 1})

        with pytest.raises(KeyError):
            hf.call("api", lambda: raising(KeyError("typo")))

    def test_an_open_circuit_is_answered(self) -> None:
        hf = make_holdfast({"kind": "value", "value": 1}, breaker={"consecutive_failures": 1})
        hf.try_call("api", fail)

        assert hf.call("api", lambda: pytest.fail("was called")) == 1

    def test_causes_can_be_narrowed(self) -> None:
        hf = make_holdfast(
            {"kind": "value", "value": 1},
            breaker={"consecutive_failures": 1},
            fallback={"on": ["transient"]},
        )

        assert hf.call("api", fail) == 1
        with pytest.raises(CircuitOpen):
            hf.call("api", fail)

    def test_it_answers_once_after_all_attempts(self) -> None:
        hf = make_holdfast({"kind": "function"}, retry={"base_seconds": 0})
        answers: list[int] = []

        hf.guard("api", fallback=lambda: answers.append(1))(fail)()

        assert answers == [1]
        assert hf.dependency("api").stats()["calls"] == 3

    def test_a_timeout_is_answered_once(self) -> None:
        hf = make_holdfast(
            {"kind": "value", "value": 1}, timeout={"attempt_seconds": 1, "late_result": "raise"}
        )

        assert hf.call("api", lambda: hf.fake_clock.advance(2)) == 1
        assert hf.dependency("api").stats()["fallbacks"]["value"] == 1


def raising(error: Exception) -> Any:
    raise error


class TestCached:
    def flaky(self, hf: LocalHoldfast) -> Any:
        self.is_down = False

        def get(key: Any) -> str:
            if self.is_down:
                raise ConnectionError
            return f"value of {key}"

        return hf.guard("api")(get)

    def test_the_last_good_result_of_the_same_arguments_answers(self) -> None:
        hf = make_holdfast({"kind": "cached", "max_age_seconds": 60})
        get = self.flaky(hf)
        get("a")
        self.is_down = True

        assert get("a") == "value of a"
        with pytest.raises(ConnectionError):
            get("b")

    def test_a_result_too_old_does_not(self) -> None:
        hf = make_holdfast({"kind": "cached", "max_age_seconds": 60})
        get = self.flaky(hf)
        get("a")
        self.is_down = True
        hf.fake_clock.advance(61)

        with pytest.raises(ConnectionError):
            get("a")

    def test_with_a_key_one_result_answers_everybody(self) -> None:
        hf = make_holdfast({"kind": "cached", "key": "latest"})
        get = self.flaky(hf)
        get("a")
        self.is_down = True

        assert get(["not hashable"]) == "value of a"

    def test_arguments_that_cannot_be_a_key_are_no_trouble(self) -> None:
        hf = make_holdfast({"kind": "cached"})
        get = self.flaky(hf)

        assert get(["a"]) == "value of ['a']"

    def test_memory_is_bounded(self) -> None:
        hf = make_holdfast({"kind": "cached"})
        get = self.flaky(hf)

        for number in range(1_500):
            get(number)

        assert len(hf._engine.state_of("api").fallbacks._results) == 1_000


class TestQueue:
    def test_without_a_queue_it_does_not_pretend_success(self) -> None:
        hf = make_holdfast({"kind": "queue", "value": "accepted"})
        hf._engine.set_dead_letter_sink(None)

        with pytest.raises(ConnectionError) as caught:
            hf.call("api", fail)

        assert "no queue" in caught.value.__notes__[0]

    def test_a_taken_call_is_acknowledged_with_the_declared_value(self) -> None:
        hf = make_holdfast({"kind": "queue", "name": "send", "value": "accepted"})
        taken: list[FailedCall] = []

        def take(call: FailedCall) -> bool:
            taken.append(call)
            return True

        hf._engine.set_dead_letter_sink(take)

        assert hf.call("api", fail, "message") == "accepted"

        assert (taken[0].handler, taken[0].args) == ("send", ("message",))

    def test_a_queue_that_refuses_is_no_answer(self) -> None:
        hf = make_holdfast({"kind": "queue"})
        hf._engine.set_dead_letter_sink(lambda call: False)

        with pytest.raises(ConnectionError):
            hf.call("api", fail)


class TestFallbackFlags:
    def test_an_engaged_flag_answers_without_calling_or_counting(self) -> None:
        hf = make_holdfast({"kind": "value", "value": "simple"})
        hf.engage("simple", kind="fallback", dependencies=["api"])

        assert hf.call("api", lambda: pytest.fail("was called")) == "simple"

        stats = hf.dependency("api").stats()
        assert (stats["calls"], stats["window"]["calls"]) == (0, 0)
        assert stats["rejected"]["degraded"] == 1
        assert hf.dependency("api").is_degraded

    def test_without_a_fallback_it_rejects_with_the_operators_words(self) -> None:
        hf = make_holdfast()
        hf.engage("simple", kind="fallback", reason="provider is down")

        with pytest.raises(Degraded, match="provider is down"):
            hf.call("api", lambda: 1)

    def test_it_ends_by_itself(self) -> None:
        hf = make_holdfast()
        hf.engage("simple", kind="fallback", lease_seconds=60)
        hf.fake_clock.advance(60)

        assert hf.call("api", lambda: 1) == 1

    def test_it_leaves_other_dependencies_alone(self) -> None:
        hf = make_holdfast()
        hf.engage("simple", kind="fallback", dependencies=["other"])

        assert hf.call("api", lambda: 1) == 1

    def test_on_stale_revert_gives_the_dependency_back_in_silence(self) -> None:
        hf = make_holdfast()
        hf.engage("simple", kind="fallback", on_stale="revert")
        hf.set_stale()

        assert hf.call("api", lambda: 1) == 1
