"""`holdfast.testing`, as a user's test would use it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast import CallTimeout, CircuitOpen, Holdfast, Letter
from holdfast.testing import LocalHoldfast

NO_RETRY: dict[str, Any] = {"retry": {"enabled": False}}


class TestLocalHoldfast:
    def test_it_is_a_holdfast_that_starts_nothing(self) -> None:
        before = threading.active_count()
        hf: Holdfast = LocalHoldfast()

        assert hf.start(wait=0) is False
        assert hf.call("api", lambda: 1) == 1

        assert threading.active_count() == before

    def test_the_example_of_its_docstring_holds(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("payments-api", breaker={"consecutive_failures": 2})
        hf.engage("read-only", kind="read_only", lease_seconds=60)

        assert hf.read_only
        hf.fake_clock.advance(61)
        assert not hf.read_only

    @pytest.mark.parametrize(
        ("pattern", "values"),
        [
            ("breaker", {"open_seconds": 0}),
            ("breaker", {"open_second": 5}),
            ("retry", {"backoff": "fibonacci"}),
        ],
    )
    def test_what_a_server_would_refuse_fails_the_test(
        self, pattern: str, values: dict[str, object]
    ) -> None:
        with pytest.raises(ValueError, match=pattern):
            LocalHoldfast().set_policy("api", **{pattern: values})

    def test_bad_flags_and_overrides_fail_too(self) -> None:
        hf = LocalHoldfast()

        with pytest.raises(ValueError, match="kind"):
            hf.engage("flag", kind="writeonly")
        with pytest.raises(ValueError, match="mode"):
            hf.override("api", "half_closed")

    def test_setting_one_pattern_leaves_the_others(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"open_seconds": 5})
        hf.set_policy("api", retry={"attempts": 2})

        settings = hf.explain("api")["settings"]

        assert settings["breaker.open_seconds"]["value"] == 5
        assert settings["retry.attempts"]["value"] == 2

    def test_ending_a_flag_ends_it(self) -> None:
        hf = LocalHoldfast()
        hf.engage("beta")
        hf.end("beta")

        assert not hf.flag("beta").enabled


def charge(order: str) -> str:
    return f"{order} charged"


async def charge_async(order: str) -> str:
    return charge(order)


WAYS: dict[str, Callable[[LocalHoldfast], Any]] = {
    "call": lambda hf: hf.call("bank", charge, "order 1"),
    "acall": lambda hf: asyncio.run(hf.acall("bank", charge_async, "order 1")),
    "try_call": lambda hf: hf.try_call("bank", charge, "order 1").unwrap(),
    "try_acall": lambda hf: asyncio.run(hf.try_acall("bank", charge_async, "order 1")).unwrap(),
    "guard": lambda hf: hf.guard("bank")(charge)("order 1"),
    "guard async": lambda hf: asyncio.run(hf.guard("bank")(charge_async)("order 1")),
}


@pytest.fixture
def hf() -> LocalHoldfast:
    return LocalHoldfast()


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def call(request: pytest.FixtureRequest, hf: LocalHoldfast) -> Callable[[], Any]:
    """The same call, made in every way there is."""
    return lambda: request.param(hf)


class TestFailing:
    def test_every_attempt_fails_and_nothing_is_called(self, hf: Any, call: Any) -> None:
        with (
            hf.failing("bank", TimeoutError("too slow")),
            pytest.raises(TimeoutError, match="slow"),
        ):
            call()

        assert hf.dependency("bank").stats()["failures"] == 3

    def test_only_for_a_while_and_only_this_dependency(self, hf: Any, call: Any) -> None:
        with hf.failing("other"):
            assert call() == "order 1 charged"
        with hf.failing("bank"), pytest.raises(ConnectionError):
            call()

        assert call() == "order 1 charged"

    def test_the_next_attempts_only(self, hf: Any, call: Any) -> None:
        with hf.failing("bank", times=2):
            assert call() == "order 1 charged"

        assert hf.dependency("bank").stats()["retries"] == 2

    def test_the_breaker_opens_as_it_would(self, hf: Any, call: Any) -> None:
        hf.set_policy("bank", breaker={"consecutive_failures": 1}, **NO_RETRY)

        with hf.failing("bank"), pytest.raises(ConnectionError):
            call()

        assert hf.dependency("bank").breaker.state == "open"

    def test_what_a_call_answered_before_is_the_cached_answer(self, hf: Any, call: Any) -> None:
        hf.set_policy("bank", fallback={"chain": [{"kind": "cached", "max_age_seconds": 60}]})
        pay = hf.guard("bank")(charge)
        first = (hf.call("bank", charge, "order 2"), pay("order 3"))

        with hf.failing("bank"):
            assert (hf.call("bank", charge, "order 2"), pay("order 3")) == first

    def test_within_another_the_inner_one_holds(self, hf: Any, call: Any) -> None:
        with hf.failing("bank"):
            with hf.answering("bank", "order 1 booked"):
                assert call() == "order 1 booked"
            with pytest.raises(ConnectionError):
                call()


class TestAnswering:
    def test_it_answers_and_counts_as_a_success(self, hf: Any, call: Any) -> None:
        with hf.answering("bank", "order 1 booked"):
            assert call() == "order 1 booked"

        assert hf.dependency("bank").stats()["successes"] == 1


class TestRejecting:
    def test_every_call_is_rejected(self, hf: Any, call: Any) -> None:
        with hf.rejecting("bank", reason="bank is moving"), pytest.raises(CircuitOpen) as refused:
            call()

        assert refused.value.override_reason == "bank is moving"
        assert call() == "order 1 charged"

    def test_an_override_there_was_is_there_again(self, hf: LocalHoldfast) -> None:
        hf.override("bank", "force_closed")

        with hf.rejecting("bank"):
            pass

        assert hf.dependency("bank").breaker.override == "force_closed"


class TestSlow:
    def test_a_call_takes_its_time_on_the_fake_clock(self, hf: Any, call: Any) -> None:
        hf.set_policy("bank", breaker={"slow_call_seconds": 2.0})
        before = hf.fake_clock.monotonic()

        with hf.slow("bank", 3.0):
            assert call() == "order 1 charged"

        assert hf.fake_clock.monotonic() == before + 3.0
        assert hf.dependency("bank").stats()["slow"] == 1

    def test_one_that_may_not_take_so_long_ends_when_its_time_is_up(
        self, hf: Any, call: Any
    ) -> None:
        hf.set_policy("bank", timeout={"attempt_seconds": 1.0}, **NO_RETRY)
        before = hf.fake_clock.monotonic()

        with hf.slow("bank", 30.0), pytest.raises(CallTimeout):
            call()

        assert hf.fake_clock.monotonic() == before + 1.0
        assert hf.dependency("bank").stats()["timeouts"] == 1


class TestKinds:
    def test_guarded_functions_stay_what_they_are(self, hf: LocalHoldfast) -> None:
        guarded = hf.guard("bank")(charge_async)

        assert inspect.iscoroutinefunction(guarded)
        assert (guarded.__name__, guarded.__doc__) == ("charge_async", charge_async.__doc__)

    def test_methods_of_every_kind_follow_the_script(self, hf: LocalHoldfast) -> None:
        class Till:
            @hf.guard("bank")
            def of_self(self) -> str:
                return "called"

            @hf.guard("bank")
            @classmethod
            def of_class(cls) -> str:
                return "called"

            @hf.guard("bank")
            @staticmethod
            def of_nobody() -> str:
                return "called"

        with hf.answering("bank", "scripted"):
            assert {Till().of_self(), Till.of_class(), Till.of_nobody()} == {"scripted"}
        assert {Till().of_self(), Till.of_class(), Till.of_nobody()} == {"called"}

    def test_generators_are_refused_as_ever(self, hf: LocalHoldfast) -> None:
        with pytest.raises(TypeError, match="generator"):

            @hf.guard("bank")
            def each() -> Iterator[int]:
                yield 1


class TestReset:
    def test_what_was_guarded_before_finds_everything_anew(self, hf: LocalHoldfast) -> None:
        pay = hf.guard("bank", dead_letter="pay")(charge)
        hf.set_policy("bank", breaker={"consecutive_failures": 1}, **NO_RETRY)
        hf.engage("read-only", kind="read_only")
        with hf.failing("bank"), pytest.raises(ConnectionError):
            pay("order 1")
        hf.set_stale()

        hf.reset()

        assert (hf.read_only, hf.dead_letters, hf.stats()["stale"]) == (False, [], False)
        assert hf.stats()["dependencies"] == {}
        assert pay("order 1") == "order 1 charged"
        assert hf.explain("bank")["settings"]["retry.enabled"]["value"] is True

    def test_handlers_stay(self, hf: LocalHoldfast) -> None:
        tried: list[Letter] = []
        hf.redrives("pay")(tried.append)
        hf.reset()
        hf.dead_letter("pay", {"order": 1})

        assert hf.redrive(hf.dead_letters[0]).outcome == "resolved"

    def test_nothing_is_over_for_the_next_test(self, hf: LocalHoldfast) -> None:
        pay = hf.guard("bank")(charge)
        hf.set_policy("bank", breaker={"consecutive_failures": 1}, **NO_RETRY)
        for _ in range(2):
            hf.reset()
            hf.set_policy("bank", breaker={"consecutive_failures": 1}, **NO_RETRY)
            with hf.failing("bank"), pytest.raises(ConnectionError):
                pay("order 1")

        assert hf.dependency("bank").stats()["calls"] == 1
