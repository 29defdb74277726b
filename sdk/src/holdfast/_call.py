"""The state and the decisions of one guarded call; the shells around it are in `_pipeline`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from holdfast._breaker import Outcome as BreakerOutcome
from holdfast._breaker_rules import Ticket
from holdfast._bulkhead import Bulkhead
from holdfast._classify import classify, is_timeout
from holdfast._dependency import Dependency
from holdfast._events import log
from holdfast._fallback import Request
from holdfast._options import Options
from holdfast._plan import Plan
from holdfast._rate_limit import Turn
from holdfast._recovery import RecoveryRule
from holdfast._remedies import take_note
from holdfast._retry import Attempts, StopReason, is_repeatable
from holdfast._scope import Scope, active
from holdfast._stats import Stats
from holdfast._throttle import Bucket
from holdfast.errors import (
    BulkheadFull,
    CallTimeout,
    CircuitOpen,
    DeadlineExceeded,
    Degraded,
    RateLimited,
    Rejected,
    Throttled,
)


class Call:
    """The state and the decisions of one guarded call."""

    __slots__ = (
        "attempts",
        "deadline_at",
        "dependency",
        "first_failed_at",
        "had_turn",
        "is_left_behind",
        "limit",
        "made",
        "options",
        "place",
        "plan",
        "request",
        "rescue",
        "rescued",
        "sent",
        "source",
        "stats",
        "stop",
        "turn",
    )

    def __init__(self, dependency: Dependency, options: Options, request: Request) -> None:
        self.dependency = dependency
        self.options = options
        self.request = request
        self.plan = dependency.plan
        self.made = 0  # attempts that reached the dependency or a gate
        self.attempts: Attempts | None = None  # made on the first failure only
        self.place: Bulkhead | None = None
        self.stats: Stats = dependency.stats  # that counted the attempt under way as begun
        self.turn: Turn | None = None  # taken, and not yet used
        self.had_turn = False  # used one
        self.sent: Bucket | None = None  # as the throttle counts it
        self.limit: float | None = None
        self.rescue: RecoveryRule | None = None  # grants attempts beyond those of the retry
        self.rescued = 0
        self.source = "call"
        self.stop: StopReason | None = None
        self.first_failed_at: float | None = None  # UTC timestamp
        self.is_left_behind = False  # on a thread that is still busy with it
        self.deadline_at = self._overall_deadline()

    def has_begun(self, plan: Plan, place: Bulkhead, stats: Stats) -> None:
        """Take over a first attempt that `_lane` began: it passed the gates, and has its place."""
        self.plan, self.place, self.stats = plan, place, stats
        self.deadline_at = self._overall_deadline()  # by that plan
        self.made = 1
        self.limit = plan.limit or None

    def has_ended(self, ticket: Ticket, failed: Exception | None) -> Exception | None:
        """Settle the first attempt that `_lane` made; returns why it failed.

        It `failed`, or returned later than the policy takes.
        """
        try:
            if failed is None:
                self.ended_well(ticket)
            else:
                self.ended_badly(ticket, failed)
        except CallTimeout as error:
            return error
        finally:
            self.leave_gates()
        return failed

    # -- gates, in their order ---------------------------------------------------------------

    def open_gates(self) -> None:
        """Pass the gates that cost nothing.

        Raises:
            DeadlineExceeded, Degraded, CircuitOpen, Throttled: the attempt must not be made.
        """
        self.made += 1
        self.is_left_behind = False
        dependency = self.dependency
        now = dependency.shared.clock.monotonic()
        if self.deadline_at is not None and now >= self.deadline_at:
            limit = self.plan.timeout.total_seconds
            raise self._refused("timeouts", DeadlineExceeded(dependency.name, seconds=limit))
        if dependency.degrading:
            flag = dependency.engaged_flag(now)
            if flag is not None:
                reason = flag.entry["reason"]
                raise self.rejected(Degraded(dependency.name, flag=flag.key, flag_reason=reason))
        refusal = dependency.breaker.peek(now)
        if refusal is not None:
            try:
                raise self.rejected(refusal)
            finally:
                del refusal  # kept here, it would keep this frame alive, which keeps the error
        if self.plan.throttles:
            share = dependency.throttle.refuses(now, dependency.shared.rand)
            if share is not None:
                raise self.rejected(Throttled(dependency.name, share=share))

    def remaining(self) -> float | None:
        """Seconds until the call's deadline; None if it has none."""
        if self.deadline_at is None:
            return None
        return self.deadline_at - self.dependency.shared.clock.monotonic()

    def patience(self) -> float | None:
        """Seconds it may wait at a gate, whatever that allows; None for no limit of its own."""
        return self.remaining()

    def take_turn(self) -> float:
        """Take a turn of the rate limit; returns the seconds until it comes.

        Raises:
            RateLimited: it comes later than the rules or the deadline allow.
        """
        rules, dependency = self.plan.rate_limit, self.dependency
        if rules is None or (self.had_turn and rules.scope == "call"):
            return 0.0
        now = dependency.shared.clock.monotonic()
        try:
            self.turn = dependency.rate_limiter.take(rules, now, self.patience())
        except RateLimited as error:
            raise self.rejected(error) from None
        return self.turn.wait

    def took_place(self) -> None:
        """Remember the place in the bulkhead that must be given back."""
        self.place = self.dependency.bulkhead

    def leave_gates(self) -> None:
        """Give back the place, unless an abandoned thread still holds it, and an unused turn."""
        if self.turn is not None:
            self.dependency.rate_limiter.give_back(self.turn)
            self.turn = None
        if self.place is not None:
            place, self.place = self.place, None
            place.release()

    def rejected(self, error: Rejected) -> Exception:
        """Count what a gate refused; returns it, to be raised."""
        name = _REJECTED[error.reason]
        if isinstance(error, CircuitOpen) and error.forced:
            name = "forced"
        return self._refused(f"rejected.{name}", error)

    def admit(self) -> Ticket:
        """The breaker's ticket, and how long the attempt may take.

        Raises:
            CircuitOpen: it opened while we waited, or the trial calls are all under way.
        """
        dependency = self.dependency
        now = dependency.shared.clock.monotonic()
        admitted = dependency.breaker.admit(now)
        if isinstance(admitted, CircuitOpen):
            try:
                raise self.rejected(admitted)
            finally:
                del admitted  # as above
        if self.plan.throttles:
            self.sent = dependency.throttle.sent(now)
        if self.turn is not None:
            self.turn, self.had_turn = None, True
        self.limit = self._attempt_limit(now)
        self.stats = dependency.stats
        return admitted

    # -- how an attempt ended ----------------------------------------------------------------

    def ended_well(self, ticket: Ticket) -> None:
        """Settle an attempt that returned.

        Raises:
            CallTimeout: it returned too late, and the policy refuses late results.
        """
        now = self.dependency.shared.clock.monotonic()
        if self.limit is not None and now - ticket.started > self.limit:
            if self.plan.timeout.late_result == "raise":
                raise self._came_too_late(ticket)
            self._settle(ticket, now, "success", ("successes", "timeouts", "late"))
        else:
            self._settle(ticket, now, "success", ("successes",))

    def ended_badly(self, ticket: Ticket, error: Exception) -> None:
        """Settle an attempt that raised, by the error's class."""
        klass = self.class_of(error)
        outcome: BreakerOutcome = "failure"
        names: tuple[str, ...] = ("failures",)
        if klass in ("ignored", "rejected"):
            outcome, names = "neutral", ("ignored",)
        elif klass == "permanent":
            outcome, names = _PERMANENT[self.plan.breaker.permanent_effect]
        if is_timeout(error):
            names = (*names, "timeouts")
        now = self.dependency.shared.clock.monotonic()
        self._settle(ticket, now, outcome, names, klass=klass, failure=type(error).__name__)
        if klass not in ("ignored", "rejected"):
            self.rescue = take_note(self.dependency, error, klass, now) or self.rescue

    def was_cancelled(self, ticket: Ticket) -> None:
        """Settle an attempt that somebody else ended: it says nothing of the dependency."""
        now = self.dependency.shared.clock.monotonic()
        self._settle(ticket, now, "neutral", ("cancelled",))

    def class_of(self, error: Exception) -> str:
        """The error's class, by the author's rules first."""
        return classify(error, self.options.rules + self.dependency.error_rules())

    def timeout_error(self) -> CallTimeout:
        """A fresh error that says which limit was exceeded."""
        left = self.remaining()
        kind = DeadlineExceeded if left is not None and left <= 0 else CallTimeout
        return kind(self.dependency.name, seconds=self.limit or 0.0)

    # -- between and after attempts ----------------------------------------------------------

    def succeeded(self, value: Any) -> None:
        """The call has a result: refill the budget, remember the result if a fallback wants it."""
        dependency = self.dependency
        if self.plan.budget is not None:
            dependency.budget.succeeded()
        if self.made > 1:
            dependency.stats.count("recoveries.succeeded")
        if self.plan.fallback.caches:
            now = dependency.shared.clock.monotonic()
            dependency.fallbacks.keep(self.plan.fallback, self.request, value, now)

    def wait_before_next(self, error: Exception) -> float | None:
        """Seconds until the next attempt, or None if the error is final."""
        if self.first_failed_at is None:
            self.first_failed_at = self.dependency.shared.clock.wall()
        klass = self.class_of(error)
        answer = self._next_wait(error, klass)
        if isinstance(answer, StopReason):
            wait = self._wait_by_rule(error, answer)
            if wait is None:
                self.stop = None if self.plan.retry is None else answer
                self._stopped(error, klass, answer)
                return None
            answer = wait
        self._about_to_retry(klass, answer)
        return answer

    def open_scope(self) -> Scope | None:
        """What the function inside may know of this attempt; None if there is nothing to know."""
        outer = active()
        is_retry = self._is_repeated() or (outer is not None and outer.is_retry)
        if self.limit is None and not is_retry:
            return None
        monotonic = self.dependency.shared.clock.monotonic
        at = None if self.limit is None else monotonic() + self.limit
        return Scope(at, monotonic, is_retry=is_retry)

    # -- below: only for the above -----------------------------------------------------------

    def _overall_deadline(self) -> float | None:
        total = self.plan.timeout.total_seconds
        outer = active()
        left = None if outer is None else outer.remaining()
        if not total and left is None:
            return None
        now = self.dependency.shared.clock.monotonic()
        return now + min(total or math.inf, math.inf if left is None else left)

    def _attempt_limit(self, now: float) -> float | None:
        own = self.plan.timeout.attempt_seconds or None
        if self.deadline_at is None:
            return own
        left = max(0.0, self.deadline_at - now)
        return left if own is None else min(own, left)

    def _came_too_late(self, ticket: Ticket) -> CallTimeout:
        error = self.timeout_error()
        self.ended_badly(ticket, error)
        return error

    def _is_repeated(self) -> bool:
        return self.made > 1

    def _refused(self, counter: str, error: Exception) -> Exception:
        """Count why the attempt is not made and tell of it; returns the error, to be raised."""
        self.dependency.stats.count(counter)
        kind, said = _TOLD.get(type(error), ("", ""))
        if kind:
            data = {said: getattr(error, said)}
            self.dependency.shared.events.emit_sampled(kind, self.dependency.name, data)
        return error

    def _settle(
        self,
        ticket: Ticket,
        now: float,
        outcome: BreakerOutcome,
        names: tuple[str, ...],
        *,
        klass: str | None = None,
        failure: str | None = None,
    ) -> None:
        elapsed = now - ticket.started
        slow = 0 < self.plan.breaker.slow_call_seconds < elapsed
        if slow:
            names = (*names, "slow")
        self.stats.ended(elapsed, names)
        if self.sent is not None:
            sent, self.sent = self.sent, None
            self.dependency.throttle.ended(sent, _was_accepted(outcome, klass))
        self.dependency.breaker.settle(
            ticket, outcome, now, slow=slow, klass=klass, failure=failure
        )

    def _next_wait(self, error: Exception, klass: str) -> float | StopReason:
        rules, shared = self.plan.retry, self.dependency.shared
        if rules is None:
            return StopReason.NOT_RETRYABLE
        if self.attempts is None:
            self.attempts = Attempts(rules, self.options.repeat)
        return self.attempts.next_wait(
            error,
            klass,
            budget=self.dependency.budget,
            remaining=self.remaining(),
            rand=shared.rand,
            wall=shared.clock.wall,
        )

    def _wait_by_rule(self, error: Exception, reason: StopReason) -> float | None:
        """Seconds until a further attempt a rule of error recovery grants, if it may be made."""
        rule = self.rescue
        if rule is None or self.rescued >= rule.attempts or reason not in _RESCUED:
            return None
        is_idempotent = self.plan.effective["retry"]["idempotent"]
        may_repeat = is_repeatable(error, self.options.repeat, is_idempotent=is_idempotent)
        outer, left = active(), self.remaining()
        is_nested = outer is not None and outer.is_retry
        if not may_repeat or is_nested or (left is not None and rule.delay_seconds >= left):
            return None
        self.rescued += 1
        return rule.delay_seconds

    def _about_to_retry(self, klass: str, wait: float) -> None:
        dependency, attempt = self.dependency, self.made + 1
        dependency.stats.count(*(["retries", "recoveries.attempted"][: 2 if attempt == 2 else 1]))
        data = {"attempt": attempt, "delay": wait, "class": klass}
        log.info("retry.attempted", extra={"dependency": dependency.name, **data})
        dependency.shared.events.emit("retry.attempted", dependency.name, data, report=False)

    def _stopped(self, error: Exception, klass: str, reason: StopReason) -> None:
        dependency, events = self.dependency, self.dependency.shared.events
        data = {"attempts": self.made, "class": klass, "reason": reason.value}
        if reason is StopReason.BUDGET_EXHAUSTED:
            dependency.stats.count("rejected.budget")
            events.emit_sampled("retry.budget_exhausted", dependency.name, data)
        elif self.made > 1:
            events.emit_sampled("retry.exhausted", dependency.name, data)
        if self.made > 1 or reason is StopReason.BUDGET_EXHAUSTED:
            add_note(error, f"holdfast: {dependency.name}: {self.made} attempts, {reason.value}")


_PERMANENT: Mapping[str, tuple[BreakerOutcome, tuple[str, ...]]] = {
    "success": ("success", ("successes", "permanent")),
    "failure": ("failure", ("failures", "permanent")),
    "ignore": ("neutral", ("ignored", "permanent")),
}
_RESCUED = (StopReason.ATTEMPTS_EXHAUSTED, StopReason.NOT_RETRYABLE)
"""Reasons to stop that a rule of error recovery may overrule; never budget or deadline."""

_REJECTED = {
    "open": "open",
    "bulkhead_full": "bulkhead",
    "rate_limited": "rate_limit",
    "throttled": "throttle",
    "degraded": "degraded",
}

_TOLD: Mapping[type[Exception], tuple[str, str]] = {
    RateLimited: ("rate_limit.rejected", "retry_after"),
    BulkheadFull: ("bulkhead.rejected", "cause"),
    Throttled: ("throttle.rejected", "share"),
}
"""The event that tells of a refusal, and what it says: a member of the error."""


def _was_accepted(outcome: BreakerOutcome, klass: str | None) -> bool | None:
    """Whether the dependency took a call on; None if nobody knows. An answer means it did."""
    if klass == "permanent":
        return True
    return None if outcome == "neutral" else outcome == "success"


def add_note(error: Exception, text: str) -> None:
    """Add a line to an exception, once."""
    # An exception object that is raised again and again must not collect notes without end.
    if text not in getattr(error, "__notes__", ()):
        error.add_note(text)
