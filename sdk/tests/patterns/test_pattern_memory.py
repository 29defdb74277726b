"""Memory: a guarded dependency costs little for ever, and an error nothing that stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest

from holdfast import CircuitOpen
from holdfast._engine import Engine
from holdfast.testing import LocalHoldfast
from sdk.tests.patterns.test_pattern_breaker_model import LONGER

pytestmark = pytest.mark.unmeasured
KIB = 1_024
MOST = 16 * KIB  # of one dependency under the default policy, its compiled policy included
CALLS = 100_000
NEVER_COUNTED = (type, ModuleType, FunctionType, BuiltinFunctionType)
OFF = {"retry": {"enabled": False}}
NEVER_OPEN = OFF | {"breaker": {"enabled": False}}
OPENED = OFF | {"breaker": {"consecutive_failures": 1, "open_seconds": 600}}


def fail() -> None:
    raise ConnectionError


async def answer() -> None:
    return None


async def fail_later() -> None:
    raise ConnectionError


async def hang() -> None:
    await asyncio.Event().wait()


def reachable(root: Any) -> dict[int, Any]:
    """Everything an object holds, itself included."""
    found: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in found and not isinstance(each, NEVER_COUNTED):
            found[id(each)] = each
            waiting += gc.get_referents(each)
    return found


def size_of(engine: Engine, name: str) -> int:
    """Bytes that a dependency holds and another one does not."""
    shared = reachable(engine.state_of("other"))
    own = reachable(engine.state_of(name))
    return sum(sys.getsizeof(each) for key, each in own.items() if key not in shared)


async def call_both(engine: Engine, number: int) -> None:
    for _ in range(number):
        await engine.acall("api", answer)
        engine.try_call("api", fail)
        engine.try_call("api", int)
        engine.try_call("other", int)


class TestDependencies:
    def test_they_cost_little_however_often_they_are_called(self) -> None:
        engine = Engine(defaults={})

        for _ in range(CALLS * LONGER):
            engine.call("api", int)

        assert 2 * KIB < size_of(engine, "api") <= MOST

    def test_nor_do_failures_and_coroutines_add_up(self) -> None:
        engine = Engine(defaults=NEVER_OPEN)
        asyncio.run(call_both(engine, 100))
        before = size_of(engine, "api")

        asyncio.run(call_both(engine, 2_000))

        assert size_of(engine, "api") - before < KIB

    def test_event_loops_that_are_closed_are_forgotten(self) -> None:
        engine = Engine(defaults={})

        for _ in range(20):
            asyncio.run(engine.acall("api", answer))

        held = [each for each in reachable(engine.state_of("api")).values() if is_loop(each)]
        assert len(held) <= 1


def is_loop(value: object) -> bool:
    return isinstance(value, asyncio.AbstractEventLoop)


def depth_of_rejection(engine: Engine) -> int:
    """Frames in the traceback of a refused call."""
    with pytest.raises(CircuitOpen) as caught:
        engine.call("api", int)
    traceback, depth = caught.value.__traceback__, 0
    while traceback is not None:
        traceback, depth = traceback.tb_next, depth + 1
    return depth


def refuse_many(engine: Engine, number: int) -> None:
    for _ in range(number // 2):
        engine.try_call("api", int)
        with contextlib.suppress(CircuitOpen):
            engine.call("api", int)


class TestRejections:
    @pytest.mark.parametrize(
        ("fallback", "number"),
        [({}, CALLS // 5 * LONGER), ({"chain": [{"kind": "queue"}]}, CALLS // 50 * LONGER)],
        ids=["fast lane", "long way"],
    )
    def test_masses_of_them_leave_nothing_behind(
        self, fallback: dict[str, Any], number: int
    ) -> None:
        engine = Engine(defaults=OPENED | {"fallback": fallback})
        engine.try_call("api", fail)
        depth = depth_of_rejection(engine)
        refuse_many(engine, 100)

        tracemalloc.start()
        try:
            refuse_many(engine, 100)
            before, _ = tracemalloc.get_traced_memory()
            refuse_many(engine, number)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert after - before < 4 * KIB
        assert depth_of_rejection(engine) == depth


def open_it(hf: LocalHoldfast) -> None:
    hf.try_call("api", fail)


def use_the_turn(hf: LocalHoldfast) -> None:
    hf.call("api", int)


def degrade(hf: LocalHoldfast) -> None:
    hf.engage("simple", kind="fallback", dependencies=["api"])


def take_the_place(hf: LocalHoldfast) -> None:
    hf._engine.state_of("api").bulkhead.acquire()


def nothing(hf: LocalHoldfast) -> None:
    return None


async def succeed_late(hf: LocalHoldfast) -> None:
    hf.call("api", hf.fake_clock.advance, 2.0)


async def fail_late(hf: LocalHoldfast) -> None:
    def late() -> None:
        hf.fake_clock.advance(2)
        fail()

    hf.call("api", late)


async def call(hf: LocalHoldfast) -> None:
    hf.call("api", int)


async def call_failing(hf: LocalHoldfast) -> None:
    hf.call("api", fail)


async def await_answer(hf: LocalHoldfast) -> None:
    await hf.acall("api", answer)


async def await_failing(hf: LocalHoldfast) -> None:
    await hf.acall("api", fail_later)


async def await_hanging(hf: LocalHoldfast) -> None:
    await hf.acall("api", hang)


NO_ANSWER = {"chain": [{"kind": "function", "name": "nobody registered it"}]}
Errors = tuple[dict[str, Any], Callable[[LocalHoldfast], None], Callable[[LocalHoldfast], Any]]
ERRORS: dict[str, Errors] = {
    "failure": (NEVER_OPEN, nothing, call_failing),
    "retried": ({"retry": {"base_seconds": 0}, "breaker": {"enabled": False}},
                nothing, call_failing),
    "fallbacks failed": (NEVER_OPEN | {"fallback": NO_ANSWER}, nothing, call_failing),
    "open": (OPENED, open_it, call),
    "open, fallbacks failed": (OPENED | {"fallback": NO_ANSWER}, open_it, call),
    "open to coroutines": (OPENED | {"fallback": NO_ANSWER}, open_it, await_answer),
    "rate limited": (OFF | {"rate_limit": {"enabled": True, "calls": 1, "per_seconds": 3_600}},
                     use_the_turn, call),
    "degraded": (OFF, degrade, call),
    "full": (OFF | {"bulkhead": {"max_concurrent": 1}}, take_the_place, call),
    "full to coroutines": (OFF | {"bulkhead": {"max_concurrent": 1}}, take_the_place, await_answer),
    "late": (NEVER_OPEN | {"timeout": {"attempt_seconds": 1, "late_result": "raise"}},
             nothing, succeed_late),
    "after the deadline": (NEVER_OPEN | {"timeout": {"total_seconds": 1}}, nothing, fail_late),
    "coroutine": (NEVER_OPEN, nothing, await_failing),
    "timeout": (NEVER_OPEN | {"timeout": {"attempt_seconds": 0.001}}, nothing, await_hanging),
    "deadline": (NEVER_OPEN | {"timeout": {"total_seconds": 0.001}}, nothing, await_hanging),
    "hedged": (NEVER_OPEN | {"hedge": {"enabled": True}}, nothing, await_failing),
}  # fmt: skip


async def fail_by(use: Callable[[LocalHoldfast], Any], hf: LocalHoldfast) -> None:
    with contextlib.suppress(Exception):
        await use(hf)
        pytest.fail("it raised no error")


@pytest.fixture
def _uncollected() -> Iterator[None]:
    gc.disable()
    gc.freeze()  # of all that was there before nothing is looked for
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_freed_without_the_garbage_collector(name: str) -> None:
    """One that holds itself by a frame keeps arguments and locals alive for seconds or more."""
    policy, prepare, use = ERRORS[name]
    hf = LocalHoldfast()
    hf.set_policy("api", **policy)
    prepare(hf)
    await fail_by(use, hf)
    gc.collect()

    for _ in range(10):
        await fail_by(use, hf)

    assert gc.collect() < 10
