"""Everything one process knows about one dependency: the plan, and the state beside it.

State lives as long as the process and follows new plans; a plan never holds state.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from holdfast._breaker import Breaker
from holdfast._breaker_rules import Override
from holdfast._bulkhead import Bulkhead, BulkheadRules
from holdfast._classify import Rules
from holdfast._document import Received
from holdfast._events import Events
from holdfast._failed import Sink
from holdfast._fallback import Fallbacks
from holdfast._flags import Flag, Lease, lease_of
from holdfast._hedge_delay import Durations
from holdfast._plan import Plan
from holdfast._rate_limit import RateLimiter
from holdfast._recovery import Recovery, RecoveryRules, in_background
from holdfast._retry import Budget
from holdfast._stats import Snapshot, Stats, share
from holdfast._throttle import Throttle
from holdfast._timeout import Threads
from holdfast._watch import Watches
from holdfast.clock import Clock


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all dependencies of one engine have in common.

    Attributes:
        sink: Takes calls that become dead letters; None until one is installed.
        stale: Whether Holdfast has not been heard for too long.
        restarts: Dependency → the service's function that restarts what talks to it.
        spawn: Runs such a function, away from the call.
        rules: Dependency, or "" for all → the service's own classes of errors.
    """

    clock: Clock
    events: Events
    threads: Threads
    rand: Callable[[], float] = random.random
    functions: dict[str, Callable[..., Any]]
    sink: Sink | None = None
    stale: bool = False
    restarts: dict[str, Callable[[], object]] = field(default_factory=dict)
    spawn: Callable[[Callable[[], None]], None] = in_background
    rules: dict[str, Rules] = field(default_factory=dict)


class Dependency:
    """One dependency as the calls see it.

    `plan` is replaced by a single store; a call that has loaded it finishes on it.

    Attributes:
        detour: Whether every call must take the long way, through `_pipeline`.
        monotonic: The clock.
        watches: The timeouts of coroutines.
    """

    def __init__(self, name: str, plan: Plan, shared: Shared) -> None:
        self.name = name
        self.plan = plan
        self.shared = shared
        self.stats = Stats()
        self.fallbacks = Fallbacks(name)
        self.recovery = Recovery(plan.recovery)
        self.monotonic = shared.clock.monotonic
        if type(shared.clock) is Clock:  # without a frame of Python's around it
            self.monotonic = time.monotonic
        self.watches = Watches()
        self.degrading: tuple[Flag, ...] = ()
        self.breaker = Breaker(
            name,
            plan.breaker,
            now=shared.clock.monotonic(),
            emit=self._emit,
            rand=shared.rand,
        )
        self.rate_limiter = RateLimiter(name, plan.rate_limit)
        self.bulkhead = Bulkhead(name, _places_of(plan))
        self.budget = Budget(*(plan.budget or (0.0, 0.0)))
        self.durations = Durations()
        self.throttle = Throttle()
        self._collected: Snapshot | None = None
        self._override_entry: Mapping[str, Any] | None = None
        self._override_lease = Lease(None)
        self._signpost()

    @property
    def in_flight(self) -> int:
        """Calls under way, those left behind on a thread included."""
        return self.bulkhead.used

    def error_rules(self) -> Rules:
        """The service's own classes of errors; those for this dependency come first."""
        rules = self.shared.rules
        return rules.get(self.name, ()) + rules.get("", ())

    def follow(self, plan: Plan) -> None:
        """Put a new plan in force, keeping windows, states, places and budget."""
        old = self.plan
        if plan is old:
            return
        if plan.breaker != old.breaker:
            self.breaker.configure(plan.breaker, self.shared.clock.monotonic())
        if plan.rate_limit is not None and plan.rate_limit != old.rate_limit:
            self.rate_limiter.configure(plan.rate_limit, self.shared.clock.monotonic())
        if plan.bulkhead != old.bulkhead:
            self.bulkhead.configure(_places_of(plan))
        if plan.budget is not None and plan.budget != old.budget:
            self.budget.configure(*plan.budget)
        if plan.recovery != old.recovery:
            self._follow_recovery(plan.recovery)
        self.detour = True  # until the signpost of the new plan stands
        self.plan = plan
        self._signpost()

    def degrade(self, flags: tuple[Flag, ...]) -> None:
        """Follow the fallback flags that may keep calls away."""
        self.degrading = flags
        self._signpost()

    def follow_override(self, entry: Mapping[str, Any] | None, received: Received) -> None:
        """Put the override of the policy in force, or release it.

        A lease that did not change never grows, however often it is received, unless what it was
        came from the disk. Whoever sets one decides: an isolation by a rule of error recovery ends.
        """
        override = None
        if entry is not None:
            lease = lease_of(entry, received)
            if entry == self._override_entry:
                lease = self._override_lease.renewed(lease)
            override = Override(mode=entry["mode"], reason=entry["reason"], deadline=lease.deadline)
            self._override_lease = lease
            self.breaker.set_override(ISOLATION, None, self.shared.clock.monotonic())
        self._override_entry = entry
        self.breaker.set_override("policy", override, self.shared.clock.monotonic())

    def isolate(self, seconds: float, reason: str, now: float) -> None:
        """Keep callers away for a while, unless an operator said something else."""
        self.breaker.sweep(now)
        if seconds > 0 and self.breaker.override is None:
            override = Override(mode="force_open", reason=reason, deadline=now + seconds)
            self.breaker.set_override(ISOLATION, override, now)

    def engaged_flag(self, now: float) -> Flag | None:
        """The fallback flag that keeps calls away right now."""
        for flag in self.degrading:
            if flag.is_engaged(now, stale=self.shared.stale):
                return flag
        return None

    def collect(self) -> dict[str, Any]:
        """What a report says of it: counts since last asked, and the state now."""
        self.breaker.sweep(self.shared.clock.monotonic())
        current = self.stats.snapshot()
        added, self._collected = current.since(self._collected), current
        state = {"breaker": self.breaker_state(), "in_flight": self.in_flight}
        return added.as_reported() | state

    def totals(self) -> dict[str, Any]:
        """Counts since the process started, those reports leave out, and the state now."""
        snapshot = self.stats.snapshot()
        now = self.shared.clock.monotonic()
        counted = snapshot.as_reported()
        judged = counted["successes"] + counted["failures"]
        recoveries = counted["recoveries"]
        return {
            **counted,
            **snapshot.others(),
            "success_rate": share(counted["successes"], judged),
            "recovery_rate": share(recoveries["succeeded"], recoveries["attempted"]),
            "in_flight": self.in_flight,
            "waiting": self.bulkhead.waiting,
            "probes_lost": self.breaker.probes_lost,
            "budget_tokens": self.budget.tokens,
            "throttle": self.throttle.figures(now),
            "window": self.breaker.counts(now),
            "breaker": self.breaker_state(),
        }

    def breaker_state(self) -> dict[str, Any]:
        """The breaker in the shape of reports."""
        clock, breaker = self.shared.clock, self.breaker
        since = clock.wall() - (clock.monotonic() - breaker.since)
        override = breaker.override
        return {
            "state": breaker.state,
            "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds"),
            "generation": breaker.generation,
            "override": None if override is None else override.mode,
        }

    def reset_after_fork(self) -> None:
        """A child keeps policy and states and starts with no calls, locks or counts.

        What counts calls under way is replaced: a call that was under way in the parent, and ends
        here as well, settles with what the parent left behind and nobody asks any more.
        """
        self.breaker.reset_after_fork()
        self.rate_limiter.reset_after_fork()
        self.bulkhead.reset_after_fork()
        self.budget.reset_after_fork()
        self.fallbacks.reset_after_fork()
        self.recovery.reset_after_fork()
        self.durations.reset_after_fork()
        self.stats.reset_after_fork()
        self.bulkhead = Bulkhead(self.name, self.bulkhead.rules)
        self.fallbacks = self.fallbacks.successor()
        self.stats = Stats()
        self.throttle = Throttle()
        self._collected = None

    def _signpost(self) -> None:
        self.detour = not (HAS_GIL and self.plan.is_plain) or bool(self.degrading)

    def _follow_recovery(self, rules: RecoveryRules) -> None:
        self.recovery.configure(rules)
        if all(rule.action != "isolate" for rule in rules.rules):
            self.breaker.set_override(ISOLATION, None, self.shared.clock.monotonic())

    def _emit(self, kind: str, data: dict[str, Any]) -> None:
        self.shared.events.emit(kind, self.name, data)


ISOLATION = "recovery"
"""Source of the override by which a rule of error recovery keeps callers away."""

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a few lines in a row are one step for other threads, which `_lane` relies on."""


def _places_of(plan: Plan) -> BulkheadRules:
    """Rules of the bulkhead, which counts calls where it does not limit them too."""
    unlimited = BulkheadRules(max_concurrent=plan.places, max_waiting=0, max_wait_seconds=0.0)
    return plan.bulkhead or unlimited
