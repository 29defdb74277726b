"""One guarded call the long way, from the outside in:

fallback chain → total deadline → retry and its budget → hedging → per copy: flag and breaker peek →
throttle → rate limiter → bulkhead → breaker ticket → attempt timeout → the function.

`Call` takes every decision; what ends in `_sync` and `_async` only waits and runs, each in its own
way. The breaker's ticket is taken last, so that no later gate can lose a trial call, and the free
peek comes first, so that an open circuit costs neither a turn, a place nor a queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import Token
from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import Any, NoReturn

from holdfast._aftermath import Aftermath
from holdfast._call import Call, add_note
from holdfast._fallback import Link, NoAnswer
from holdfast._hedge import attempt_hedged, may_hedge
from holdfast._scope import Scope, current, leave
from holdfast._timeout import Job, run_limited
from holdfast.errors import BulkheadFull, Misused

LONGEST_NOTE = 200


def call_sync(call: Call, failed: Exception | None = None) -> Any:
    """Make a guarded call in this thread; or go on with it after an attempt that `failed`."""
    try:
        while True:
            if failed is not None:
                wait = call.wait_before_next(failed)
                if wait is None:
                    return _answer_sync(call, failed)
                call.dependency.shared.clock.sleep(wait)
            try:
                value = _attempt_sync(call)
            except Exception as error:  # noqa: BLE001 - judged, then raised
                failed = error
            else:
                call.succeeded(value)
                return value
    finally:
        failed = None  # kept here, it would keep this frame alive, which keeps the error


async def call_async(call: Call, failed: Exception | None = None) -> Any:
    """As `call_sync`, for a coroutine function, in this task."""
    try:
        while True:
            if failed is not None:
                wait = call.wait_before_next(failed)
                if wait is None:
                    return await _answer_async(call, failed)
                await call.dependency.shared.clock.sleep_async(wait)
            try:
                if call.plan.hedge is not None and may_hedge(call):
                    value = await attempt_hedged(call, _attempt_async)
                else:
                    value = await _attempt_async(call)
            except Exception as error:  # noqa: BLE001 - judged, then raised
                failed = error
            else:
                call.succeeded(value)
                return value
    finally:
        failed = None  # kept here, it would keep this frame alive, which keeps the error


def _attempt_sync(call: Call) -> Any:
    call.open_gates()
    try:
        if call.plan.rate_limit is not None:
            _await_turn_sync(call)
        try:
            call.dependency.bulkhead.acquire(call.patience())
        except BulkheadFull as error:
            raise call.rejected(error) from None
        call.took_place()
        ticket = call.admit()
        try:
            value = _run_sync(call)
        except Exception as error:
            call.ended_badly(ticket, error)
            raise
        except BaseException:
            call.was_cancelled(ticket)
            raise
        call.ended_well(ticket)
        return value
    finally:
        call.leave_gates()


async def _attempt_async(call: Call, begun: Callable[[], None] | None = None) -> Any:
    call.open_gates()
    try:
        if call.plan.rate_limit is not None:
            await _await_turn_async(call)
        try:
            await call.dependency.bulkhead.acquire_async(call.patience())
        except BulkheadFull as error:
            raise call.rejected(error) from None
        call.took_place()
        ticket = call.admit()
        try:
            if begun is not None:
                begun()
            value = await _run_async(call)
        except Exception as error:
            call.ended_badly(ticket, error)
            raise
        except BaseException:
            call.was_cancelled(ticket)
            raise
        call.ended_well(ticket)
        return value
    finally:
        call.leave_gates()


def _await_turn_sync(call: Call) -> None:
    wait = call.take_turn()
    if wait:
        call.dependency.shared.clock.sleep(wait)


async def _await_turn_async(call: Call) -> None:
    wait = call.take_turn()
    if wait:
        await call.dependency.shared.clock.sleep_async(wait)


def _run_sync(call: Call) -> Any:
    function, args, kwargs = call.request.function, call.request.args, call.request.kwargs
    scope = call.open_scope()
    token = None if scope is None else current.set(scope)
    try:
        if call.plan.timeout.enforce == "thread" and call.limit is not None:
            value = _run_on_thread(call, partial(function, *args, **kwargs), call.limit)
        else:
            value = function(*args, **kwargs)
    finally:
        _close_scope(scope, token, is_left_behind=call.is_left_behind)
    if type(value) is CoroutineType:
        refuse_coroutine(value)
    return value


async def _run_async(call: Call) -> Any:
    function, args, kwargs = call.request.function, call.request.args, call.request.kwargs
    scope = call.open_scope()
    token = None if scope is None else current.set(scope)
    try:
        if call.limit is None:
            return await begin(function, args, kwargs)
        work = partial(begin, function, args, kwargs)
        return await run_limited(work, call.limit, call.timeout_error)
    finally:
        _close_scope(scope, token)


def begin(
    function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Awaitable[Any]:
    """What there is to await of a coroutine function.

    Raises:
        Misused: it is an ordinary function.
    """
    awaitable = function(*args, **kwargs)
    if type(awaitable) is not CoroutineType and not isawaitable(awaitable):
        raise Misused("an ordinary function must be called by call, or decorated by guard")
    return awaitable


def refuse_coroutine(value: CoroutineType[Any, Any, Any]) -> NoReturn:
    """Raise for a coroutine that nobody would await."""
    value.close()
    raise Misused("a coroutine function must be called by acall, or decorated by guard")


def _close_scope(
    scope: Scope | None, token: Token[Scope | None] | None, *, is_left_behind: bool = False
) -> None:
    if scope is not None and token is not None:
        scope.is_over = not is_left_behind
        leave(token)


def _run_on_thread(call: Call, work: Callable[[], Any], limit: float) -> Any:
    job: Job[Any] = Job(work)
    threads = call.dependency.shared.threads
    try:
        threads.start(call.dependency.name, job)
    except BulkheadFull as error:
        raise call.rejected(error) from None
    call.is_left_behind = True  # whatever keeps us from seeing its end, an interrupt too
    try:
        call.is_left_behind = not job.wait(limit)
    finally:
        if call.is_left_behind:  # its place stays taken until it really ends
            place, call.place = call.place, None
            threads.abandon(job, place.release if place is not None else _nothing)
    if call.is_left_behind:
        call.dependency.stats.count("abandoned")
        raise call.timeout_error()
    return job.result()


def _answer_sync(call: Call, error: Exception) -> Any:
    after = Aftermath(call)
    for link in after.links(error):
        try:
            value = (
                _fallback_sync(call, after.function_of(link))
                if link.kind == "function"
                else after.look_up(link, error)
            )
        except Exception as failure:  # noqa: BLE001 - the caller gets the original error
            _note_failure(error, link, failure)
        else:
            after.answered(link, error)
            return value
    after.failed(error)
    try:
        raise error
    finally:
        del error  # as above


async def _answer_async(call: Call, error: Exception) -> Any:
    after = Aftermath(call)
    for link in after.links(error):
        try:
            value = (
                await _fallback_async(call, after.function_of(link))
                if link.kind == "function"
                else after.look_up(link, error)
            )
        except Exception as failure:  # noqa: BLE001 - the caller gets the original error
            _note_failure(error, link, failure)
        else:
            after.answered(link, error)
            return value
    after.failed(error)
    try:
        raise error
    finally:
        del error  # as above


def _fallback_sync(call: Call, function: Callable[..., Any]) -> Any:
    fallbacks = call.dependency.fallbacks  # of this process, should the function fork
    fallbacks.enter(call.plan.fallback)
    try:
        value = function(*call.request.args, **call.request.kwargs)
    finally:
        fallbacks.leave()
    if type(value) is CoroutineType:
        value.close()
        raise NoAnswer("the function is async, and the call is not")
    return value


async def _fallback_async(call: Call, function: Callable[..., Any]) -> Any:
    fallbacks = call.dependency.fallbacks  # of this process, should the function fork
    fallbacks.enter(call.plan.fallback)
    try:
        value = function(*call.request.args, **call.request.kwargs)
        return await value if isawaitable(value) else value
    finally:
        fallbacks.leave()


def _note_failure(error: Exception, link: Link, failure: Exception) -> None:
    text = f"{type(failure).__name__}: {failure}"[:LONGEST_NOTE]
    add_note(error, f"holdfast: fallback {link.kind}: {text}")


def _nothing() -> None:
    """Called when an abandoned call that held no place ends."""
