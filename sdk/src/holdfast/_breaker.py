"""The circuit breaker: one state machine per dependency and process, for threads and coroutines.

It never waits and runs no thread; time passes when somebody asks. Admission has two phases: a
free `peek` before anything is spent on the call, and `admit`, last before the call, whose ticket
`settle` takes back. A ticket of an earlier generation says nothing about the present state.

Source: M. Nygard, *Release It!* (2nd ed.), "Circuit Breaker".
"""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from holdfast._breaker_rules import BreakerRules, Override, Refusal, Ticket
from holdfast._window import FAILED, IDLE, OK, SHUT, SLOW, carry_over, new_window
from holdfast.errors import CircuitOpen

State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "neutral"]
Emit = Callable[[str, dict[str, Any]], None]

SURPLUS_RETRY_AFTER = 1.0  # seconds; a guess for callers who meet a half-open breaker
_OBSERVING = ("force_closed", "metrics_only")


class Breaker:
    """Stop calling a dependency that keeps failing.

    closed → open when a rule is met, open → half-open when the open time is over, half-open →
    closed or open by the results of trial calls. Instants passed in are monotonic seconds.

    Attributes:
        ledger, consecutive, generation: What `_lane` reads, and settles a plain success with. The
            ledger is the window, while the breaker is enabled.
        detour: Whether a call must ask `peek` and `admit`; False while it is plainly closed.
        refusing: Why every call is refused until then; None while it is not that simple.
    """

    def __init__(
        self,
        name: str,
        rules: BreakerRules,
        *,
        now: float,
        emit: Emit,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.rules = rules
        self.state: State = "closed"
        self.since = now
        self.generation = 0
        self.probes_lost = 0
        self._rand = rand
        self._emit = emit
        self._lock = threading.RLock()
        self._pending: deque[tuple[str, dict[str, Any]]] = deque()
        self._window = new_window(rules.window, rules.window_calls, rules.window_seconds, now)
        self.consecutive = 0
        self._rounds = 0
        self._spread = 0.0
        self._probes: dict[Ticket, float] = {}
        self._results = [0, 0, 0]  # done, failed, slow: of the trial calls so far
        self._last_failure: str | None = None
        self._overrides: dict[str, Override] = {}
        self._override: Override | None = None
        self._running: dict[Ticket, float] = {}  # kept only while hung calls count
        self._would_open = False
        self.detour = False
        self.refusing: Refusal | None = None
        self.ledger: Any = IDLE  # a count or a time window; the lane tells them apart by `ring`
        self._signpost()

    # -- asking ------------------------------------------------------------------------------

    @property
    def override(self) -> Override | None:
        """The override in force; one whose lease is over may still show until the next call."""
        return self._override

    def half_open_ready(self, now: float) -> bool:
        """Whether it is open and the next call will try the dependency again."""
        with self._lock:
            return self.state == "open" and self._remaining(now) <= 0

    def counts(self, now: float) -> dict[str, int]:
        """Calls, failed and slow ones in the window, and failures in a row."""
        with self._lock:
            self._window.expire(now)
            return {
                "calls": self._window.total,
                "failed": self._window.failed,
                "slow": self._window.slow,
                "consecutive_failures": self.consecutive,
            }

    # -- admission ---------------------------------------------------------------------------

    def peek(self, now: float) -> CircuitOpen | None:
        """Why a call would be refused, without taking anything; None if it may go on."""
        if not self.detour:
            return None
        with self._lock:
            self._catch_up(now)
            refusal = self._refusal(now)
        self._flush()
        return refusal

    def admit(self, now: float) -> Ticket | CircuitOpen:
        """A ticket for one call, which must be settled, or why there is none."""
        if not self.detour:
            return Ticket(self.generation, now)
        with self._lock:
            self._catch_up(now)
            admitted = self._refusal(now) or self._issue(now)
        self._flush()
        return admitted

    def settle(
        self,
        ticket: Ticket,
        outcome: Outcome,
        now: float,
        *,
        slow: bool | None = None,
        klass: str | None = None,
        failure: str | None = None,
    ) -> None:
        """Take a ticket back with what became of the call.

        Args:
            slow: Whether it was, by the policy it began with; by the present rules if None.
            klass: Error class, if it raised: one of `trip_on` opens the breaker at once.
            failure: Name of the exception's class.
        """
        if slow is None:
            slow = 0 < self.rules.slow_call_seconds < now - ticket.started
        with self._lock:
            was_probe = self._probes.pop(ticket, None) is not None
            self._running.pop(ticket, None)
            if ticket.generation == self.generation and not self._is_off():
                if outcome == "failure":
                    self._last_failure = failure
                self._learn(outcome, now, slow=slow, klass=klass, was_probe=was_probe)
        self._flush()

    # -- operators and policies --------------------------------------------------------------

    def configure(self, rules: BreakerRules, now: float) -> None:
        """Follow new rules from now on, keeping state, window, probes and start of open time."""
        with self._lock:
            old, self.rules = self.rules, rules
            shape = (rules.window, rules.window_calls, rules.window_seconds)
            if shape != (old.window, old.window_calls, old.window_seconds):
                self.ledger = SHUT  # nothing is written to the old one behind our back
                window = new_window(*shape, now)
                carry_over(self._window, window, now)
                window.is_clean = window.is_clean and not self.consecutive  # which a success ends
                self._window = window
            if rules.enabled != old.enabled:
                self.generation += 1
            if self.state == "half_open":
                self._judge_probes(now)
            self._signpost()
        self._flush()

    def set_override(self, source: str, override: Override | None, now: float) -> None:
        """Set or, with None, release the override of one source; others stay as they are.

        force_open beats all other modes; among those the one set last wins.
        """
        with self._lock:
            self._end_leases(now)  # a new one does not prolong what was over
            self._overrides.pop(source, None)
            if override is not None:
                self._overrides[source] = override
            self._follow_overrides("set" if override else "released", now)
        self._flush()

    def sweep(self, now: float) -> None:
        """Notice what only time does: ended leases, lost probes, hung calls."""
        with self._lock:
            self._catch_up(now)
        self._flush()

    def reset_after_fork(self) -> None:
        """Forget the parent's calls and locks; the child keeps state, window and overrides."""
        self._lock = threading.RLock()
        self.generation += 1  # the parent's tickets are no good here
        self._pending.clear()
        self._probes.clear()
        self._running.clear()
        self._results = [0, 0, 0]
        self._signpost()  # another thread may have been in the middle of a change

    # -- below: only with the lock held, but for `_flush` ------------------------------------

    def _signpost(self) -> None:
        """Say to those who read without the lock which way calls go; last in every change.

        A ticket issued in the very moment of a transition carries a generation in whose state it
        is no probe, and `_learn` leaves it out.
        """
        rules, override = self.rules, self._override
        self.ledger = self._window if rules.enabled else IDLE
        is_watched = rules.enabled and rules.hung_call_seconds > 0
        self.detour = self.state != "closed" or override is not None or is_watched
        self.refusing = None
        if override is not None and override.mode == "force_open":
            until = math.inf if override.deadline is None else override.deadline
            self.refusing = Refusal(until, forced=True, reason=override.reason, failure=None)
        elif override is None and rules.enabled and self.state == "open":
            until = self.since + rules.open_for(self._rounds, self._spread)
            self.refusing = Refusal(until, forced=False, reason=None, failure=self._last_failure)

    def _is_off(self) -> bool:
        if self._override is not None:
            return self._override.mode in ("disabled", "force_open")
        return not self.rules.enabled

    def _end_leases(self, now: float) -> None:
        if any(_is_over(override, now) for override in self._overrides.values()):
            self._follow_overrides("lease_ended", now)

    def _catch_up(self, now: float) -> None:
        self._end_leases(now)
        if self.state == "half_open" and self._override is None:
            self._reclaim_lost(now)
        if self.rules.hung_call_seconds:
            self._check_hung(now)

    def _reclaim_lost(self, now: float) -> None:
        lost = [ticket for ticket, lease in self._probes.items() if now >= lease]
        for ticket in lost:
            del self._probes[ticket]
            self.probes_lost += 1
            self._count_probe(failed=True, slow=False, now=now)
            if self.state != "half_open":
                return

    def _refusal(self, now: float) -> CircuitOpen | None:
        override = self._override
        if override is not None and override.mode == "force_open":
            left = None if override.deadline is None else max(0.0, override.deadline - now)
            return CircuitOpen(
                self.name, retry_after=left, forced=True, override_reason=override.reason
            )
        if override is not None or not self.rules.enabled or self.state == "closed":
            return None
        if self.state == "open":
            left = self._remaining(now)
            return self._refused(left) if left > 0 else None
        return None if self._has_place() else self._refused(SURPLUS_RETRY_AFTER)

    def _refused(self, retry_after: float) -> CircuitOpen:
        return CircuitOpen(
            self.name,
            retry_after=retry_after,
            state=self.state,
            last_failure=self._last_failure,
        )

    def _issue(self, now: float) -> Ticket:
        machine_decides = self._override is None and self.rules.enabled
        if machine_decides and self.state == "open":
            self._move("half_open", "open_time_over", now)
            self._results = [0, 0, 0]
            self._signpost()
        ticket = Ticket(self.generation, now)
        if machine_decides and self.state == "half_open":
            self._probes[ticket] = now + self.rules.probe_lease_seconds
        elif self.rules.hung_call_seconds:
            self._running[ticket] = now
        return ticket

    def _has_place(self) -> bool:
        running, needed = len(self._probes), self.rules.probes_needed
        return running < self.rules.half_open_concurrent and self._results[0] + running < needed

    def _learn(
        self, outcome: Outcome, now: float, *, slow: bool, klass: str | None, was_probe: bool
    ) -> None:
        if outcome == "neutral" and not slow:
            return
        if self.state == "closed":
            self._record(outcome, slow=slow, klass=klass, now=now)
        elif was_probe and self._override is None:
            trips = klass is not None and klass in self.rules.trip_on
            self._count_probe(failed=outcome == "failure" or trips, slow=slow, now=now)

    def _record(self, outcome: Outcome, *, slow: bool, klass: str | None, now: float) -> None:
        if outcome == "failure":
            self.consecutive += 1
        elif outcome == "success":
            self.consecutive = 0
        code = (FAILED if outcome == "failure" else OK) | (SLOW if slow else OK)
        window, needed = self._window, self.rules.minimum_calls
        window.expire(now)
        before = window.total
        window.record(code, now)
        trips = klass is not None and klass in self.rules.trip_on
        if code == OK and not trips and not before < needed <= window.total:
            return  # a success cannot raise a rate; it can complete the calls needed to judge
        cause = "trip_on" if trips else self._cause_to_open(now)
        if cause is not None:
            self._open_or_note(cause, now)

    def _cause_to_open(self, now: float) -> str | None:
        rules, window = self.rules, self._window
        if 0 < rules.consecutive_failures <= self.consecutive:
            return "consecutive_failures"
        hung = self._count_hung(now)
        judged = window.total + hung
        if judged < rules.minimum_calls:
            return None
        if window.total and window.failed / window.total >= rules.failure_rate:
            return "failure_rate"
        if window.slow + hung and (window.slow + hung) / judged >= rules.slow_call_rate:
            return "slow_call_rate"
        return None

    def _count_hung(self, now: float) -> int:
        limit = self.rules.hung_call_seconds
        if not limit:
            return 0
        count = 0
        for started in self._running.values():  # oldest first
            if now - started <= limit:
                break
            count += 1
        return count

    def _check_hung(self, now: float) -> None:
        if self.state != "closed" or self._is_off() or not self._count_hung(now):
            return
        self._window.expire(now)
        cause = self._cause_to_open(now)
        if cause is not None:
            self._open_or_note(cause, now)

    def _open_or_note(self, cause: str, now: float) -> None:
        if self._override is None:
            self._open(cause, now)
        elif self._override.mode == "metrics_only" and not self._would_open:
            self._would_open = True
            self._pending.append(("breaker.would_open", {"cause": cause, "rate": self._rate()}))

    def _count_probe(self, *, failed: bool, slow: bool, now: float) -> None:
        self._results[0] += 1
        self._results[1] += failed
        self._results[2] += slow
        self._judge_probes(now)

    def _judge_probes(self, now: float) -> None:
        """Decide as early as the outcome cannot change any more, both ways."""
        rules, (done, failed, slow) = self.rules, self._results
        needed = rules.probes_needed
        too_failed = 1 if rules.half_open_successes else _ceil(rules.failure_rate * needed)
        too_slow = _ceil(rules.slow_call_rate * needed)
        if failed >= too_failed or slow >= too_slow:
            self._open("probes_failed", now)
        elif done - failed > needed - too_failed and done - slow > needed - too_slow:
            self._close("probes_succeeded", now)

    def _open(self, cause: str, now: float) -> None:
        self._rounds += 1
        self._spread = 2 * self._rand() - 1
        self._probes.clear()
        self._move("open", cause, now)
        self._signpost()

    def _close(self, cause: str, now: float) -> None:
        self._rounds = 0
        self.consecutive = 0
        self._probes.clear()
        rules = self.rules
        self._move("closed", cause, now)
        self._window = new_window(rules.window, rules.window_calls, rules.window_seconds, now)
        self._signpost()

    def _move(self, state: State, cause: str, now: float) -> None:
        data = {"from": self.state, "to": state, "cause": cause, "rate": self._rate()}
        self.state, self.since = state, now
        self.generation += 1
        self._running.clear()
        self._pending.append(("breaker.state_changed", data | {"generation": self.generation}))

    def _rate(self) -> float:
        return self._window.failed / self._window.total if self._window.total else 0.0

    def _remaining(self, now: float) -> float:
        return self.since + self.rules.open_for(self._rounds, self._spread) - now

    def _follow_overrides(self, cause: str, now: float) -> None:
        for source in [key for key, each in self._overrides.items() if _is_over(each, now)]:
            del self._overrides[source]
        in_order = list(self._overrides.values())
        forced = [each for each in in_order if each.mode == "force_open"]
        in_force = forced or in_order
        old, self._override = self._override, in_force[-1] if in_force else None
        self._signpost()
        if _mode(old) == _mode(self._override):
            return
        self.generation += 1
        self._would_open = False
        data = {"from": _mode(old), "to": _mode(self._override), "cause": cause}
        self._pending.append(("breaker.override_changed", data))

    def _flush(self) -> None:
        """Hand events on, after the lock is released: a listener may call back or be slow."""
        while self._pending:
            try:
                kind, data = self._pending.popleft()
            except IndexError:  # another thread handed it on
                return
            self._emit(kind, data)


def _is_over(override: Override, now: float) -> bool:
    return override.deadline is not None and now >= override.deadline


def _mode(override: Override | None) -> str | None:
    return None if override is None else override.mode


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)  # 0.07 × 100 is a hair above 7
