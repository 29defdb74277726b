"""Guarding: any kind of function in, the same kind out."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from holdfast import CircuitOpen, DeadlineExceeded, Rejected
from holdfast.errors import BulkheadFull, CallTimeout, Degraded, RateLimited, ReadOnly, Throttled
from holdfast.testing import LocalHoldfast

HF = LocalHoldfast()


@HF.guard("api")
def module_level(number: int) -> int:
    """Doubles."""
    return 2 * number


@HF.guard("api")
async def module_level_async(number: int) -> int:
    return 2 * number


class Client:
    factor = 3

    @HF.guard("api")
    def method(self, number: int) -> int:
        return self.factor * number

    @HF.guard("api")
    @classmethod
    def of_class(cls, number: int) -> int:
        return cls.factor * number

    @classmethod
    @HF.guard("api")
    def of_class_inside(cls, number: int) -> int:
        return cls.factor * number

    @HF.guard("api")
    @staticmethod
    def static(number: int) -> int:
        return 3 * number

    @HF.guard("api")
    async def later(self, number: int) -> int:
        return self.factor * number


class Callable:
    def __call__(self, number: int) -> int:
        return 4 * number


class AsyncCallable:
    async def __call__(self, number: int) -> int:
        return 4 * number


class TestKinds:
    @pytest.mark.parametrize(
        "function",
        [
            module_level,
            Client().method,
            Client.of_class,
            Client.of_class_inside,
            Client.static,
            HF.guard("api")(Client().method),
            HF.guard("api")(functools.partial(max, 1)),
            HF.guard("api")(Callable()),
            HF.guard("api")(functools.singledispatch(lambda number: number)),
            HF.guard("api")(int),
        ],
    )
    def test_ordinary_functions(self, function: Any) -> None:
        calls = HF.dependency("api").stats()["calls"]

        assert function(6) in (6, 12, 18, 24)

        assert HF.dependency("api").stats()["calls"] > calls
        assert not inspect.iscoroutinefunction(function)

    @pytest.mark.parametrize(
        "function",
        [
            module_level_async,
            Client().later,
            HF.guard("api")(functools.partial(module_level_async)),
            HF.guard("api")(AsyncCallable()),
            HF.guard("api")(functools.partial(AsyncCallable())),
        ],
    )
    async def test_coroutine_functions(self, function: Any) -> None:
        assert inspect.iscoroutinefunction(function)
        assert await function(6) in (12, 18, 24)

    def test_generators_are_refused_where_they_are_decorated(self) -> None:
        def items() -> Iterator[int]:
            yield 1

        async def later() -> AsyncIterator[int]:
            yield 1

        for function in (items, later, functools.partial(items)):
            with pytest.raises(TypeError, match="generator"):
                HF.guard("api")(function)

    def test_a_coroutine_function_is_not_called_by_call(self) -> None:
        hf = LocalHoldfast()

        with pytest.raises(TypeError, match="acall"):
            hf.call("api", module_level_async.__wrapped__, 1)  # type: ignore[attr-defined]  # of functools.wraps

        stats = hf.dependency("api").stats()
        assert (stats["calls"], stats["failures"]) == (1, 0)

    async def test_an_ordinary_function_is_not_called_by_acall(self) -> None:
        hf = LocalHoldfast()

        with pytest.raises(TypeError, match="by call"):
            await hf.acall("api", int)  # type: ignore[arg-type]  # what types forbid too

        assert hf.dependency("api").stats()["failures"] == 0

    def test_decorating_needs_no_loop_and_serves_several(self) -> None:
        assert asyncio.run(module_level_async(1)) == 2
        assert asyncio.run(module_level_async(2)) == 4

    def test_names_and_signatures_stay(self) -> None:
        assert module_level.__name__ == "module_level"
        assert module_level.__doc__ == "Doubles."
        assert list(inspect.signature(module_level).parameters) == ["number"]

    def test_decorated_functions_can_be_pickled(self) -> None:
        assert pickle.loads(pickle.dumps(module_level))(4) == 8

    def test_an_unknown_error_class_is_refused(self) -> None:
        with pytest.raises(ValueError, match="temporary"):
            HF.guard("api", errors={"temporary": OSError})


class TestErrorRules:
    def test_a_services_own_classes_decide(self) -> None:
        hf = LocalHoldfast()
        calls: list[int] = []

        @hf.guard("api", errors={"permanent": [ConnectionError], "ignored": LookupError})
        def refused(error: type[Exception]) -> None:
            calls.append(1)
            raise error

        for error in (ConnectionError, KeyError):
            with pytest.raises(error):
                refused(error)

        assert len(calls) == 2
        assert hf.dependency("api").stats()["failures"] == 0

    def test_a_rule_that_raises_counts_as_failure_and_holds_nothing(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", bulkhead={"max_concurrent": 1}, retry={"enabled": False})

        @hf.guard("api", errors={"permanent": lambda error: bool(1 / 0)})
        def refused() -> None:
            raise ConnectionError

        for _ in range(2):
            with pytest.raises(ConnectionError):
                refused()

        stats = hf.dependency("api").stats()
        assert (stats["failures"], stats["in_flight"]) == (2, 0)


class TestOutcome:
    def test_a_value(self) -> None:
        outcome = HF.try_call("api", lambda: 5)

        assert (outcome.ok, outcome.unwrap(), outcome.source, outcome.attempts) == (
            True,
            5,
            "call",
            1,
        )

    async def test_an_error_of_a_coroutine(self) -> None:
        async def fails() -> None:
            raise KeyError("own")

        outcome = await LocalHoldfast().try_acall("api", fails)

        assert (outcome.ok, outcome.rejection, outcome.source) == (False, None, "none")
        with pytest.raises(KeyError):
            outcome.unwrap()

    def test_a_rejection(self) -> None:
        hf = LocalHoldfast()
        hf.override("api", "force_open", reason="maintenance")

        rejection = hf.try_call("api", lambda: 1).rejection

        assert isinstance(rejection, CircuitOpen)
        assert "maintenance" in str(rejection)


ERRORS = [
    CircuitOpen("api", retry_after=1.5, last_failure="ConnectionError"),
    CircuitOpen("api", state="half_open"),
    CircuitOpen("api", forced=True),
    BulkheadFull("api", cause="queue_full", limit=3),
    RateLimited("api", retry_after=2),
    Throttled("api", share=0.5),
    Degraded("api", flag="simple"),
    ReadOnly(flag="read-only", flag_reason="failing over"),
    Rejected("api"),
    CallTimeout("api", seconds=3),
    DeadlineExceeded("api", seconds=3),
]


class TestErrors:
    @pytest.mark.parametrize("error", ERRORS, ids=repr)
    def test_they_survive_pickling_whole(self, error: Exception) -> None:
        copy = pickle.loads(pickle.dumps(error))

        assert (type(copy), str(copy), repr(copy)) == (type(error), str(error), repr(error))

    @pytest.mark.parametrize("error", ERRORS, ids=repr)
    def test_they_name_the_dependency(self, error: Exception) -> None:
        assert str(error).startswith(("api: ", "writes: "))

    async def test_an_error_that_reached_the_caller_keeps_nothing_alive(self) -> None:
        """Else each failure in an outage would stay, with all it worked on, until collected."""
        hf, alive = LocalHoldfast(), []
        hf.set_policy("api", retry={"attempts": 2, "base_seconds": 0})

        class Big:
            pass

        def fail() -> None:
            big = Big()
            alive.append(weakref.ref(big))
            raise ConnectionError

        async def fail_async() -> None:
            fail()

        gc.disable()
        try:
            hf.try_call("api", fail)
            await hf.try_acall("api", fail_async)
            assert [each() for each in alive] == [None] * 4
        finally:
            gc.enable()

    def test_rejections_and_timeouts_are_told_apart(self) -> None:
        assert {isinstance(error, Rejected) for error in ERRORS[:9]} == {True}
        assert {isinstance(error, TimeoutError) for error in ERRORS[9:]} == {True}
        assert not issubclass(CallTimeout, Rejected)


class TestPassThrough:
    def test_with_everything_off_calls_go_straight_through(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy(
            "api",
            breaker={"enabled": False},
            retry={"enabled": False},
            timeout={"attempt_seconds": 0},
            bulkhead={"enabled": False},
        )
        calls: list[int] = []

        def work(fail: bool) -> str:
            calls.append(1)
            if fail:
                raise ConnectionError("mine")
            return "value"

        for _ in range(200):
            assert hf.call("api", work, False) == "value"
            with pytest.raises(ConnectionError) as caught:
                hf.call("api", work, True)

        assert len(calls) == 400
        assert not hasattr(caught.value, "__notes__")
