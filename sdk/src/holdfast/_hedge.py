"""Hedging: a second copy of an attempt that is slower than most, and whichever answers first.

The first copy runs in the caller's own task, so that a call that answers in good time costs a
timer and no task. A second copy that wins cancels it there, as a timeout would; a cancellation
from outside wins even if it comes in the same moment. Nobody returns before both copies are over.

Source: J. Dean and L. A. Barroso, *The Tail at Scale*; gRPC proposal A6, "Hedging Policy".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Literal

from holdfast._call import Call
from holdfast._retry import retry_after
from holdfast._scope import active
from holdfast.errors import DeadlineExceeded, Rejected

Attempt = Callable[[Call, Callable[[], None]], Coroutine[Any, Any, Any]]
"""Makes one attempt of a call, and says when it has passed the gates and is sent."""

_PASSING = ("transient", "unknown")  # classes of errors that may pass, where no retry says which


def may_hedge(call: Call) -> bool:
    """Whether a call whose policy hedges may itself be sent a second time."""
    outer = active()
    is_nested = outer is not None and outer.is_retry  # then copies would multiply
    return call.options.repeat == "policy" and not is_nested


async def attempt_hedged(call: Call, attempt: Attempt) -> Any:
    """Make one attempt of a call that may be sent a second time."""
    race = Race(call, attempt)
    try:
        return await race.run()
    finally:
        race.forget()


class SecondCopy(Call):
    """The second copy of an attempt: it waits at no gate, and one that refuses it is no news."""

    __slots__ = ()

    def __init__(self, first: Call) -> None:
        super().__init__(first.dependency, first.options, first.request)
        self.plan = first.plan
        self.made = first.made - 1  # the gates count it
        self.had_turn = first.had_turn
        self.deadline_at = first.deadline_at

    def patience(self) -> float:
        """None: it takes nothing that others wait for."""
        return 0.0

    def _is_repeated(self) -> bool:
        return True

    def _refused(self, counter: str, error: Exception) -> Exception:
        return error


class Race:
    """Two copies of one attempt, each in a task of its own.

    Both pass all the gates, and each settles for itself: what is decided here is only whose
    answer the caller gets.
    """

    __slots__ = (
        "_attempt",
        "_call",
        "_cancelling",
        "_cause",
        "_context",
        "_delay",
        "_has_won",
        "_is_over",
        "_is_paid",
        "_loop",
        "_second",
        "_sent_at",
        "_task",
        "_timer",
        "_was_sent",
    )

    def __init__(self, call: Call, attempt: Attempt) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("an attempt of a coroutine must run in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._context = copy_context()
        self._call = call
        self._attempt = attempt
        self._timer: asyncio.TimerHandle | None = None  # until it fires
        self._delay: float | None = None
        self._sent_at = 0.0
        self._cause: Literal["slow", "failed"] = "slow"
        self._second: asyncio.Task[Any] | None = None
        self._is_over = False  # the first copy
        self._is_paid = False  # the second one, and not sent
        self._was_sent = False  # likewise
        self._has_won = False  # likewise, while the first was under way

    async def run(self) -> Any:
        """The answer of whichever copy has one first; raises the later error if both fail."""
        try:
            value = await self._attempt(self._call, self._begin)
        except Exception as error:
            self._first_is_over()
            if not self._was_beaten() and not await self._is_up_to_second(error):
                raise
        except asyncio.CancelledError:
            self._first_is_over()
            if not self._was_beaten():
                await self._end_second()
                raise
        except BaseException:
            self._first_is_over()
            self._abandon_second()
            raise
        else:
            self._first_is_over(has_answered=True)
            if not self._was_beaten():  # else it was cancelled, and did not care
                await self._end_second()
                return value
        return self._answer_of_second()

    def forget(self) -> None:
        """Let go of the second copy, whose error would keep our frames."""
        self._second = None

    # -- the first copy ----------------------------------------------------------------------

    def _begin(self) -> None:
        """The first copy is sent: from now on it may turn out to be slow."""
        dependency, rules = self._call.dependency, self._call.plan.hedge
        self._sent_at = dependency.monotonic()
        self._delay = None if rules is None else rules.delay(dependency.durations)
        if self._delay is not None:
            self._timer = self._loop.call_later(self._delay, self._launch, "slow")

    def _first_is_over(self, *, has_answered: bool = False) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        dependency = self._call.dependency
        if self._has_won and self._delay is not None:
            dependency.durations.add(self._delay)
        elif has_answered:
            dependency.durations.add(dependency.monotonic() - self._sent_at)

    def _was_beaten(self) -> bool:
        """Whether the second copy cancelled the first one, and nobody else did."""
        return self._has_won and self._task.uncancel() <= self._cancelling

    async def _is_up_to_second(self, error: Exception) -> bool:
        """Whether the outcome is the second copy's, once that is over, now that the first failed.

        Unless the first was slow, the second copy is sent only now.
        """
        if not self._may_pass(error):
            await self._end_second()
            return False
        if self._timer is not None and not self._asks_for_time(error):
            self._launch("failed")
        second = self._second
        if second is None or (second.done() and not _is_good(second)):
            return False
        await self._wait_for(second)
        return self._was_sent and not second.cancelled()

    def _may_pass(self, error: Exception) -> bool:
        """Whether an error says nothing of what another copy gets."""
        if isinstance(error, Rejected | DeadlineExceeded):
            return False
        klass, retry = self._call.class_of(error), self._call.plan.retry
        if retry is None:
            return klass in _PASSING
        return klass in retry.classes and retry.classes[klass].retry

    def _asks_for_time(self, error: Exception) -> bool:
        return retry_after(error, self._call.dependency.shared.clock.wall) is not None

    # -- the second copy ---------------------------------------------------------------------

    def _launch(self, cause: Literal["slow", "failed"]) -> None:
        self._timer = None
        dependency = self._call.dependency
        if dependency.breaker.state != "closed" or not dependency.budget.take():
            return
        self._cause, self._is_paid = cause, True
        self._second = self._context.run(self._loop.create_task, self._run_second())
        self._second.add_done_callback(self._second_ended)

    async def _run_second(self) -> Any:
        copy = SecondCopy(self._call)
        try:
            return await self._attempt(copy, self._second_sent)
        except Exception:
            if not self._was_sent:
                self._call.dependency.stats.count("hedges.refused")
            raise
        finally:
            self._give_back()
            self._call.rescue = copy.rescue or self._call.rescue

    def _second_sent(self) -> None:
        self._was_sent, self._is_paid = True, False
        self._tell("launched")

    def _second_ended(self, second: asyncio.Task[Any]) -> None:
        self._give_back()  # if it was cancelled before it began
        if second.cancelled():
            return
        error = second.exception()  # asked for, so that nobody misses it
        if error is None and not self._is_over:
            self._has_won = True
            self._task.cancel()

    def _give_back(self) -> None:
        """Give the budget back what a copy has cost that is not sent."""
        if self._is_paid:
            self._is_paid = False
            self._call.dependency.budget.put_back()

    def _answer_of_second(self) -> Any:
        if self._second is None:
            raise RuntimeError("there is no second copy")
        value = self._second.result()  # in no variable here, which its error would keep alive
        self._tell("won")
        return value

    def _tell(self, what: Literal["launched", "won"]) -> None:
        dependency = self._call.dependency
        dependency.stats.count(f"hedges.{what}")
        data = {"cause": self._cause, "after": dependency.monotonic() - self._sent_at}
        dependency.shared.events.emit_sampled(_EVENTS[what], dependency.name, data)

    def _abandon_second(self) -> None:
        """Cancel the second copy where nothing can be waited for any more."""
        if self._second is not None and not self._loop.is_closed():
            self._second.cancel()

    async def _end_second(self) -> None:
        """Cancel the second copy, if there is one, and wait until it is over."""
        if self._second is not None:
            self._second.cancel()
            await self._wait_for(self._second)

    async def _wait_for(self, second: asyncio.Task[Any]) -> None:
        """Wait until a copy is over; one that is waited for in vain is cancelled."""
        cancelled: asyncio.CancelledError | None = None
        try:
            while not second.done():
                try:
                    await asyncio.wait((second,))
                except asyncio.CancelledError as error:
                    cancelled = error
                    second.cancel()
            if cancelled is not None:
                raise cancelled
        finally:
            cancelled = None  # kept here, it would keep this frame alive, which keeps the error


_EVENTS = {"launched": "hedge.launched", "won": "hedge.won"}


def _is_good(second: asyncio.Task[Any]) -> bool:
    return not second.cancelled() and second.exception() is None
