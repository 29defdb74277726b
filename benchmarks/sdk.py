"""What a guarded call costs, next to the bare one and other libraries': `python -m benchmarks.sdk`.

Every round runs every contestant in turn on the same function, which does nothing; ratios are taken
within a round, and medians over the rounds. Times are of this machine, ratios travel better.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import circuitbreaker  # type: ignore[import-untyped]  # it has none
import interlock
import pybreaker
import redress

from holdfast import CircuitOpen
from holdfast._document import Received, parse
from holdfast._engine import Engine

CALLS = 20_000  # of a contestant in a round
TURN = 100  # calls of a coroutine between two turns of its loop
TURNS = range(TURN)
POLICY: dict[str, dict[str, Any]] = {
    "fallback": {"on": ["transient", "timeout", "open"]},
    "retry": {"attempts": 3},
}
THREADS = 8
KIB = 1024

Ratios = dict[str, float]


class Target(NamedTuple):
    """A figure that must be reached."""

    text: str
    value: float
    limit: float

    def __str__(self) -> str:
        verdict = "yes" if self.value <= self.limit else "NO"
        return f"{self.text:68} {self.value:8.3f}  ≤ {self.limit:6.3f}  {verdict}"


def nothing() -> int:
    return 1


async def nothing_async() -> int:
    return 1


def instead(*_arguments: Any) -> int:
    return 2


def per_call(function: Callable[[], Any], calls: int = CALLS) -> float:
    """Nanoseconds."""
    times = range(calls)
    started = time.perf_counter()
    for _ in times:
        function()
    return (time.perf_counter() - started) / calls * 1e9


async def per_call_async(function: Callable[[], Awaitable[Any]], calls: int = CALLS) -> float:
    """Nanoseconds."""
    times = range(calls // TURN)
    started = time.perf_counter()
    for _ in times:
        for _ in TURNS:
            await function()
        await asyncio.sleep(0)  # the loop tidies up its timers when it comes to its turn
    return (time.perf_counter() - started) / calls * 1e9


# -- contestants ---------------------------------------------------------------------------------
def contestants() -> dict[str, Callable[[], Any]]:
    """A call that succeeds, guarded by each."""
    engine = Engine(defaults=POLICY)
    return {
        "bare call": nothing,
        "holdfast: all of it": engine.guard("api", fallback=instead)(nothing),
        "holdfast: hf.call": partial(engine.call, "api", nothing),
        "circuitbreaker": circuitbreaker.circuit(failure_threshold=5)(nothing),
        "pybreaker": pybreaker.CircuitBreaker()(nothing),
        "interlock-cb: pipeline": interlock_pipeline(),
        "redress: policy": redress_policy(),
    }


def interlock_pipeline() -> Callable[[], Any]:
    breaker = interlock.CircuitBreaker(name="api")
    builder = interlock.Pipeline.builder().fallback(instead).retry(attempts=3)
    pipeline = builder.circuit_breaker(breaker).bulkhead(25).build()
    return partial(pipeline.call, nothing)


def redress_policy() -> Callable[[], Any]:
    retry = redress.Retry(
        classifier=redress.default_classifier,
        strategy=redress.strategies.decorrelated_jitter(),
        max_attempts=3,
    )
    policy = redress.Policy(retry=retry, circuit_breaker=redress.CircuitBreaker())
    return partial(policy.call, nothing)


def contestants_async() -> dict[str, Callable[[], Awaitable[Any]]]:
    engine = Engine(defaults=POLICY)

    async def limited() -> int:
        async with asyncio.timeout(30):
            return await nothing_async()

    return {
        "bare await": nothing_async,
        "holdfast: all of it, with attempt timeout": engine.guard("api", fallback=instead)(
            nothing_async
        ),
        "asyncio.timeout": limited,
    }


def rejections() -> dict[str, Callable[[], Any]]:
    """The success, and calls of a breaker that is open."""
    engine = Engine(
        defaults={"breaker": {"consecutive_failures": 1, "open_seconds": 3_600, "open_jitter": 0}}
    )

    def fail() -> None:
        raise ValueError

    engine.try_call("down", fail)
    guarded = engine.guard("down")(nothing)

    def raised() -> None:
        try:
            guarded()
        except CircuitOpen:
            return
        raise AssertionError("the circuit must be open")

    return {
        "success": engine.guard("up")(nothing),
        "open: try_call": partial(engine.try_call, "down", nothing),
        "open: raised and caught": raised,
    }


# -- rounds --------------------------------------------------------------------------------------
def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def ratio(rounds: list[dict[str, float]], name: str, to: str) -> float:
    return statistics.median(each[name] / each[to] for each in rounds)


def table(title: str, rounds: list[dict[str, float]], base: str) -> None:
    print(f"\n{title} (n={len(rounds)} rounds of {CALLS})")
    for name, nanoseconds in medians(rounds).items():
        print(f"  {name:44} {nanoseconds:9.0f} ns   × {ratio(rounds, name, base):7.2f} {base}")


def sync_success(rounds: int) -> Iterator[Target]:
    functions = contestants()
    for function in functions.values():
        per_call(function, 500)
    found = [{name: per_call(each) for name, each in functions.items()} for _ in range(rounds)]
    table("Success, sync", found, "bare call")
    own = "holdfast: all of it"
    yield Target("sync success / circuitbreaker", ratio(found, own, "circuitbreaker"), 1)
    yield Target("sync success / pybreaker", ratio(found, own, "pybreaker"), 0.5)
    yield Target("sync success / redress", ratio(found, own, "redress: policy"), 1 / 10)
    pipeline = "interlock-cb: pipeline"
    yield Target("sync success / interlock-cb's pipeline", ratio(found, own, pipeline), 1 / 30)


def async_success(rounds: int) -> Iterator[Target]:
    async def run() -> list[dict[str, float]]:
        functions = contestants_async()
        for function in functions.values():
            await per_call_async(function, 500)
        found = []
        for _ in range(rounds):
            found.append({name: await per_call_async(each) for name, each in functions.items()})
            gc.collect()  # of a round's cancelled timers, so that the next does not pay for them
        return found

    found = asyncio.run(run())
    table("Success, async", found, "bare await")
    own = "holdfast: all of it, with attempt timeout"
    yield Target("async success / asyncio.timeout alone", ratio(found, own, "asyncio.timeout"), 1)


def open_circuit(rounds: int) -> Iterator[Target]:
    functions = rejections()
    for function in functions.values():
        per_call(function, 500)
    found = [{name: per_call(each) for name, each in functions.items()} for _ in range(rounds)]
    table("Open circuit", found, "success")
    yield Target("open, try_call / success", ratio(found, "open: try_call", "success"), 1)
    yield Target("open, raised / success", ratio(found, "open: raised and caught", "success"), 3)


def threads(rounds: int) -> Iterator[Target]:
    """The same number of calls of one dependency, by one thread and by eight."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        engine = Engine(defaults=POLICY | {"bulkhead": {"max_concurrent": 1_000}})
        guarded = engine.guard("api")(nothing)
        per_call(guarded, 500)
        found.append(
            {
                "bare, one thread": per_call(nothing, THREADS * CALLS),
                "bare, eight threads": in_threads(nothing),
                "guarded, one thread": per_call(guarded, THREADS * CALLS),
                "guarded, eight threads": in_threads(guarded),
            }
        )
        counted = engine.stats()["dependencies"]["api"]
        if (counted["successes"], counted["in_flight"]) != (2 * THREADS * CALLS + 500, 0):
            raise RuntimeError(f"counted {counted}")
    table("One breaker, per call", found, "guarded, one thread")
    share = statistics.median(_own_cost(each, "eight threads") for each in found)
    share /= statistics.median(_own_cost(each, "one thread") for each in found)
    yield Target("8 threads / 1 thread, what the guard adds to a call", share, 1.05)


def _own_cost(round_: dict[str, float], who: str) -> float:
    """Without what threads cost by themselves, which take turns."""
    return round_[f"guarded, {who}"] - round_[f"bare, {who}"]


def in_threads(function: Callable[[], Any]) -> float:
    """Nanoseconds of the wall clock for each of the calls that eight threads make."""
    workers = [threading.Thread(target=per_call, args=(function, CALLS)) for _ in range(THREADS)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - started) / (THREADS * CALLS) * 1e9


def slowdown(rounds: int) -> Iterator[Target]:
    """Of a call that takes 1 ms, guarded."""

    def work() -> None:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass

    guarded = Engine(defaults=POLICY).guard("api")(work)
    per_call(guarded, 150)
    shares = [per_call(guarded, 200) / per_call(work, 200) - 1 for _ in range(rounds)]
    yield Target("a guarded 1 ms call is slower by (%)", 100 * statistics.median(shares), 1)


def memory(dependencies: int, calls: int) -> Iterator[Target]:
    """Of each dependency, after many calls, whatever is shared left out."""
    engine = Engine(defaults=POLICY)
    engine.guard("first")(nothing)()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(dependencies):
        guarded = engine.guard(f"dependency-{number}", fallback=instead)(nothing)
        guarded()
    gc.collect()
    fresh = (tracemalloc.get_traced_memory()[0] - before) / dependencies
    tracemalloc.stop()
    for name in list(engine.stats()["dependencies"]):
        guarded = engine.guard(name)(nothing)
        per_call(guarded, calls // dependencies)
    tracemalloc.start()
    grown_from = tracemalloc.get_traced_memory()[0]
    for name in list(engine.stats()["dependencies"]):
        per_call(engine.guard(name)(nothing), 100)
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] - grown_from) / dependencies
    tracemalloc.stop()
    print(
        f"\nMemory of a dependency: {fresh / KIB:.1f} KiB, {grown:.0f} bytes more after {calls:,}"
    )
    yield Target("memory of a guarded dependency (KiB)", (fresh + max(0.0, grown)) / KIB, 16)


def hot_swap(seconds: float) -> Iterator[Target]:
    """A thousand policies a second under eight threads: what is lost, torn, or left over."""
    engine = Engine(defaults={})
    guarded = engine.guard("api")(partial(time.sleep, 0.0005))  # lets others run, as I/O does
    over = threading.Event()
    made = [0] * THREADS
    failures: list[Exception] = []

    def call(place: int) -> None:
        while not over.is_set():
            try:
                guarded()
            except Exception as error:  # noqa: BLE001 - counted
                failures.append(error)
            made[place] += 1

    workers = [
        threading.Thread(target=call, args=(place,), daemon=True) for place in range(THREADS)
    ]
    for worker in workers:
        worker.start()
    swaps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        size = 100 + swaps % 50
        policy = {"breaker": {"window_calls": size}, "bulkhead": {"max_concurrent": size}}
        meta = {"epoch": "bench", "revision": swaps + 1}
        document = parse({"meta": meta, "flags": {}, "dependencies": {"api": policy}})
        engine.apply(document, Received(server_time=time.time(), monotonic=time.monotonic()))
        swaps += 1
        time.sleep(max(0.0, started + swaps / 1_000 - time.perf_counter()))
    over.set()
    for worker in workers:
        worker.join()
    counted = engine.stats()["dependencies"]["api"]
    print(
        f"\nHot swap: {swaps / seconds:.0f} policies/s, {sum(made):,} calls, "
        f"window {counted['window']['calls']} of {size}"
    )
    wrong = len(failures) + abs(sum(made) - counted["calls"]) + counted["in_flight"]
    yield Target("hot swap: calls failed or not counted, places left taken", wrong, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    rounds: int = chosen.rounds
    targets = [
        *sync_success(rounds),
        *async_success(rounds),
        *open_circuit(rounds),
        *threads(rounds),
        *slowdown(rounds),
        *memory(200, 1_000_000),
        *hot_swap(3),
    ]
    print(f"\nPython {sys.version.split()[0]}\n")
    for target in targets:
        print(target)


if __name__ == "__main__":
    main()
