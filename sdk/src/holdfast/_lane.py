"""The fast lane: a guarded call that nothing stands in the way of, without a lock or an object.

A call takes it while its breaker is plainly closed, a place is free and the policy asks for no
other gate; and as long as its first attempt succeeds in good time. In every other case it goes, or
goes on, the long way through `_pipeline`, with the same state and the same results.

What other threads may change meanwhile is read and written in *one step*: lines in a row without a
call or a loop, in between which no other thread gets under the global interpreter lock (a test
looks at their byte code). Where there is no such lock nobody comes here, see `HAS_GIL`.
"""

from __future__ import annotations

from asyncio import current_task, get_running_loop
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType
from typing import Any

from holdfast import _scope
from holdfast._breaker_rules import Ticket
from holdfast._call import Call
from holdfast._dependency import Dependency
from holdfast._fallback import Request
from holdfast._options import Options
from holdfast._outcome import TurnedAway
from holdfast._pipeline import (
    begin,
    call_async,
    call_sync,
    refuse_coroutine,
)
from holdfast._scope import Scope, active, current, leave
from holdfast._watch import is_ours
from holdfast.errors import CallTimeout
from holdfast.histogram import EDGES

SHORTEST = EDGES[0]
Calls = list[Call]
"""Gets a call that goes the long way, for whoever asks what became of it."""


def run(  # noqa: C901 - one frame on purpose: another one costs a tenth of the whole
    dependency: Dependency,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Options,
    calls: Calls | None = None,
) -> Any:
    """Make a guarded call of an ordinary function in this thread."""
    # One step, up to the signposts.
    plan, breaker, places = dependency.plan, dependency.breaker, dependency.bulkhead
    is_scoped = _scope.is_asked_for
    if dependency.detour or breaker.detour or (is_scoped and active() is not None):
        if breaker.refusing is not None and (refused := turned_away(dependency, options)):
            raise refused.error
        return call_sync(_new(dependency, function, args, kwargs, options, calls))
    stats, generation, monotonic = dependency.stats, breaker.generation, dependency.monotonic
    started = monotonic()
    if places.used >= plan.places:  # one step, with the line that takes it
        return call_sync(_new(dependency, function, args, kwargs, options, calls))
    places.used += 1
    try:
        if is_scoped and plan.limit:
            value = _in_scope(started + plan.limit, monotonic, function, args, kwargs)
        else:
            value = function(*args, **kwargs)
        if type(value) is CoroutineType:
            refuse_coroutine(value)
        elapsed = monotonic() - started
        bucket = 0 if elapsed <= SHORTEST else bisect_left(EDGES, elapsed)
        is_settled = is_free = False
        if elapsed <= plan.patience:
            ledger = breaker.ledger  # one step, up to the end
            if ledger.is_clean:
                is_settled = True
            elif breaker.generation == generation and not breaker.consecutive:
                ring = ledger.ring
                if ring is not None:
                    place = ledger.next
                    if not ring[place] and not ledger.is_filling:
                        ledger.next = place + 1 if place < ledger.last else 0
                        is_settled = True
                elif (
                    started + elapsed < ledger.until
                    and ledger.total + 1 != breaker.rules.minimum_calls
                ):
                    ledger.bucket[0] += 1
                    ledger.total += 1
                    is_settled = True
            if is_settled:
                stats.plain[bucket] += 1
                if not places.is_awaited:
                    places.used -= 1
                    is_free = True
    except Exception as error:  # noqa: BLE001 - all a function raises is judged, then raised
        failed: Exception | None = error
    except BaseException:
        call = _new(dependency, function, args, kwargs, options, calls)
        call.has_begun(plan, places, stats)
        call.was_cancelled(Ticket(generation, started))
        call.leave_gates()
        raise
    else:
        if is_settled:
            if not is_free:
                places.release()
            if dependency.budget.is_spent and plan.retry is not None:
                dependency.budget.succeeded()
            if plan.caches:
                request = Request(function=function, args=args, kwargs=kwargs)
                dependency.fallbacks.keep(plan.fallback, request, value, started + elapsed)
            return value
        failed = None
    try:
        call = _new(dependency, function, args, kwargs, options, calls)
        call.has_begun(plan, places, stats)
        failed = call.has_ended(Ticket(generation, started), failed)
        if failed is not None:
            return call_sync(call, failed)
        call.succeeded(value)
        return value
    finally:
        failed = None  # kept here, it would keep this frame alive, which keeps the error


async def run_async(  # noqa: C901 - as above
    dependency: Dependency,
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Options,
    calls: Calls | None = None,
) -> Any:
    """Make a guarded call of a coroutine function in this task."""
    # One step, up to the signposts.
    plan, breaker, places = dependency.plan, dependency.breaker, dependency.bulkhead
    is_scoped = _scope.is_asked_for
    if dependency.detour or breaker.detour or (is_scoped and active() is not None):
        if breaker.refusing is not None and (refused := turned_away(dependency, options)):
            raise refused.error
        return await call_async(_new(dependency, function, args, kwargs, options, calls))
    stats, generation, monotonic = dependency.stats, breaker.generation, dependency.monotonic
    started = monotonic()
    if places.used >= plan.places:  # one step, with the line that takes it
        return await call_async(_new(dependency, function, args, kwargs, options, calls))
    places.used += 1
    try:
        if not plan.limit:
            value = await begin(function, args, kwargs)
        else:
            loop = get_running_loop()
            task = current_task(loop)
            if task is None:
                raise RuntimeError("an attempt of a coroutine must run in a task")
            cancelling = task.cancelling()
            watch = dependency.watches.of(loop, plan.limit)
            number, running = watch.begin(task), watch.running
            try:
                if is_scoped:
                    at = started + plan.limit
                    value = await _in_scope_async(at, monotonic, function, args, kwargs)
                else:
                    value = await begin(function, args, kwargs)
            except BaseException as error:
                if running.pop(number, None) is None and is_ours(task, cancelling, error):
                    raise CallTimeout(dependency.name, seconds=plan.limit) from None
                raise
            if running.pop(number, None) is None:  # cancelled, and did not care
                task.uncancel()
        elapsed = monotonic() - started
        bucket = 0 if elapsed <= SHORTEST else bisect_left(EDGES, elapsed)
        is_settled = is_free = False
        if elapsed <= plan.patience:
            ledger = breaker.ledger  # one step, up to the end
            if ledger.is_clean:
                is_settled = True
            elif breaker.generation == generation and not breaker.consecutive:
                ring = ledger.ring
                if ring is not None:
                    place = ledger.next
                    if not ring[place] and not ledger.is_filling:
                        ledger.next = place + 1 if place < ledger.last else 0
                        is_settled = True
                elif (
                    started + elapsed < ledger.until
                    and ledger.total + 1 != breaker.rules.minimum_calls
                ):
                    ledger.bucket[0] += 1
                    ledger.total += 1
                    is_settled = True
            if is_settled:
                stats.plain[bucket] += 1
                if not places.is_awaited:
                    places.used -= 1
                    is_free = True
    except Exception as error:  # noqa: BLE001 - all a function raises is judged, then raised
        failed: Exception | None = error
    except BaseException:
        call = _new(dependency, function, args, kwargs, options, calls)
        call.has_begun(plan, places, stats)
        call.was_cancelled(Ticket(generation, started))
        call.leave_gates()
        raise
    else:
        if is_settled:
            if not is_free:
                places.release()
            if dependency.budget.is_spent and plan.retry is not None:
                dependency.budget.succeeded()
            if plan.caches:
                request = Request(function=function, args=args, kwargs=kwargs)
                dependency.fallbacks.keep(plan.fallback, request, value, started + elapsed)
            return value
        failed = None
    try:
        call = _new(dependency, function, args, kwargs, options, calls)
        call.has_begun(plan, places, stats)
        failed = call.has_ended(Ticket(generation, started), failed)
        if failed is not None:
            return await call_async(call, failed)
        call.succeeded(value)
        return value
    finally:
        failed = None  # kept here, it would keep this frame alive, which keeps the error


def turned_away(dependency: Dependency, options: Options) -> TurnedAway | None:
    """What becomes of the call if the breaker is open and that is the end of it; else None."""
    refusal = dependency.breaker.refusing
    if refusal is None or dependency.detour or not options.is_bare:
        return None
    left = refusal.until - dependency.monotonic()
    if left <= 0 or not dependency.plan.refuses_plainly:
        return None
    if refusal.forced:
        dependency.stats.rejected_forced += 1
    else:
        dependency.stats.rejected_open += 1
    outcome: TurnedAway = _bare(TurnedAway)
    outcome.dependency = dependency.name
    outcome.left = left
    outcome.refusal = refusal
    return outcome


_bare = object.__new__


def _in_scope(
    at: float,
    monotonic: Callable[[], float],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call a function that may ask how much time it has left."""
    scope = Scope(at, monotonic, is_retry=False)
    token = current.set(scope)
    try:
        return function(*args, **kwargs)
    finally:
        scope.is_over = True
        current.reset(token)


async def _in_scope_async(
    at: float,
    monotonic: Callable[[], float],
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """As `_in_scope`, for a coroutine function."""
    scope = Scope(at, monotonic, is_retry=False)
    token = current.set(scope)
    try:
        return await begin(function, args, kwargs)
    finally:
        scope.is_over = True
        leave(token)


def _new(
    dependency: Dependency,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Options,
    calls: Calls | None,
) -> Call:
    """A call for the long way."""
    call = Call(dependency, options, Request(function=function, args=args, kwargs=kwargs))
    if calls is not None:
        calls.append(call)
    return call
