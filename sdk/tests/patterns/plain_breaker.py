"""The breaker as the documentation describes it: slow, without locks or short cuts, by lists.

Written from the rules and not from the code, to be compared with it. It never waits: time passes
when somebody asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

BUCKETS = 10
SURPLUS = "half-open"


@dataclass(slots=True, eq=False)
class Running:
    """A call under way: when it began, in which epoch of the breaker, and under which settings."""

    started: float
    epoch: int
    rules: dict[str, Any]


@dataclass(slots=True)
class Recorded:
    """An outcome in the window."""

    at: float
    failed: bool
    slow: bool


@dataclass(slots=True)
class PlainBreaker:
    """States and rules by the book; `rules` are effective settings."""

    rules: dict[str, Any]
    now: float
    state: str = "closed"
    since: float = 0.0
    epoch: int = 0
    rounds: int = 0
    in_a_row: int = 0
    probes_lost: int = 0
    window: list[Recorded] = field(default_factory=list)
    probes: dict[int, tuple[Running, float]] = field(default_factory=dict)
    results: list[Recorded] = field(default_factory=list)
    asked: tuple[str, float] | None = None  # the operator's last word: mode and end of its lease
    override: str | None = None  # what is known to be in force

    # -- what is visible -------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """The window, as statistics show it."""
        self._forget_old()
        return {
            "calls": len(self.window),
            "failed": sum(each.failed for each in self.window),
            "slow": sum(each.slow for each in self.window),
            "consecutive_failures": self.in_a_row,
        }

    def time_to_trial(self) -> float:
        """Seconds until it is open for long enough."""
        return max(0.0, self.since + self._open_time() - self.now)

    # -- what happens ----------------------------------------------------------------------------

    def begin(self) -> Running | str:
        """A call begins; why it is refused otherwise."""
        self.notice_time()
        if self.override == "force_open":
            return "forced"
        decides = self.override is None and self.rules["enabled"]
        if decides and self.state == "open":
            if self.now < self.since + self._open_time():
                return "open"
            self._move("half_open")
            self.results = []
        if decides and self.state == "half_open":
            return self._begin_probe()
        return Running(self.now, self.epoch, self.rules)

    def end(self, call: Running, outcome: str, klass: str = "") -> None:
        """A call ends: "success", "failure" or "neutral"."""
        was_probe = self.probes.pop(id(call), None) is not None
        limit = call.rules["slow_call_seconds"]
        slow = 0 < limit < self.now - call.started
        is_deaf = self.override in ("disabled", "force_open") or (
            self.override is None and not self.rules["enabled"]
        )
        if call.epoch != self.epoch or is_deaf or (outcome == "neutral" and not slow):
            return
        trips = klass in self.rules["trip_on"]
        seen = Recorded(self.now, outcome == "failure", slow)
        if self.state == "closed":
            self._record(seen, outcome, trips=trips)
        elif was_probe and self.override is None:
            self.results.append(Recorded(self.now, seen.failed or trips, slow))
            self._judge_probes()

    def set_override(self, mode: str | None, lease: float | None) -> None:
        """An operator says, or takes back, an override."""
        self._follow_override()
        until = math.inf if lease is None else self.now + lease
        self.asked = None if mode is None else (mode, until)
        self._follow_override()

    def configure(self, rules: dict[str, Any]) -> None:
        """New settings: state, window and start of the open time stay."""
        old, self.rules = self.rules, rules
        self._reshape(old)
        if old["enabled"] != rules["enabled"]:
            self.epoch += 1
        if self.state == "half_open":
            self._judge_probes()
        self._follow_override()

    def notice_time(self) -> None:
        """Leases that are over, of overrides and of trial calls."""
        if self.asked is not None and self.now >= self.asked[1]:
            self._follow_override()
        if self.override is None:
            self._give_up_lost_probes()

    # -- the rules -------------------------------------------------------------------------------

    def _record(self, seen: Recorded, outcome: str, *, trips: bool) -> None:
        if outcome == "failure":
            self.in_a_row += 1
        elif outcome == "success":
            self.in_a_row = 0
        self._forget_old()
        before = len(self.window)
        self.window.append(seen)
        self._forget_old()
        completes = before < self._minimum() <= len(self.window)
        went_wrong = seen.failed or seen.slow or trips
        is_due = trips or ((went_wrong or completes) and self._is_bad())
        if is_due and self.override is None:
            self._open()

    def _is_bad(self) -> bool:
        rules, counts = self.rules, self.counts()
        if 0 < rules["consecutive_failures"] <= self.in_a_row:
            return True
        calls = counts["calls"]
        if calls < self._minimum():
            return False
        is_failing: bool = counts["failed"] >= rules["failure_rate"] * calls
        return is_failing or 0 < rules["slow_call_rate"] * calls <= counts["slow"]

    def _minimum(self) -> int:
        rules = self.rules
        least: int = rules["minimum_calls"]
        return min(least, rules["window_calls"]) if rules["window"] == "count" else least

    def _forget_old(self) -> None:
        rules = self.rules
        if rules["window"] == "count":
            self.window = self.window[-rules["window_calls"] :]
        else:
            width = rules["window_seconds"] / BUCKETS
            oldest = math.floor(self.now / width) - BUCKETS
            self.window = [each for each in self.window if math.floor(each.at / width) > oldest]

    def _reshape(self, old: dict[str, Any]) -> None:
        rules, self.rules = self.rules, old
        self._forget_old()
        self.rules = rules
        shape = ("window", "window_calls", "window_seconds")
        if all(old[key] == rules[key] for key in shape):
            return
        if (old["window"], rules["window"]) != ("count", "count"):  # only counts survive
            counts = self.counts_of(self.window)
            if rules["window"] == "count":
                counts = _scaled(counts, rules["window_calls"])
            self.window = [
                Recorded(self.now, place < counts[1], place < counts[2])
                for place in range(counts[0])
            ]
        self._forget_old()

    @staticmethod
    def counts_of(window: list[Recorded]) -> tuple[int, int, int]:
        """Calls, failed and slow ones."""
        return len(window), sum(e.failed for e in window), sum(e.slow for e in window)

    def _open_time(self) -> float:
        rules = self.rules
        grown = rules["open_seconds"] * rules["open_multiplier"] ** (self.rounds - 1)
        return float(min(grown, max(rules["open_max_seconds"], rules["open_seconds"])))

    def _begin_probe(self) -> Running | str:
        running = len(self.probes)
        has_place = running < self.rules["half_open_concurrent"]
        if not has_place or len(self.results) + running >= self._probes_needed():
            return SURPLUS
        call = Running(self.now, self.epoch, self.rules)
        rules = self.rules
        lease = rules["probe_lease_seconds"] or max(rules["slow_call_seconds"], 10.0) + 1
        self.probes[id(call)] = (call, self.now + lease)
        return call

    def _probes_needed(self) -> int:
        return int(self.rules["half_open_successes"] or self.rules["half_open_calls"])

    def _give_up_lost_probes(self) -> None:
        for key, (_, lease) in list(self.probes.items()):
            if self.state == "half_open" and self.now >= lease:
                del self.probes[key]
                self.probes_lost += 1
                self.results.append(Recorded(self.now, failed=True, slow=False))
                self._judge_probes()

    def _judge_probes(self) -> None:
        """Decide as soon as the trial calls that are still to come cannot change it."""
        rules, needed = self.rules, self._probes_needed()
        done, failed, slow = self.counts_of(self.results)
        for_failed = 1 if rules["half_open_successes"] else _ceil(rules["failure_rate"] * needed)
        for_slow = _ceil(rules["slow_call_rate"] * needed)
        if failed >= for_failed or slow >= for_slow:
            self._open()
        elif failed + (needed - done) < for_failed and slow + (needed - done) < for_slow:
            self._close()

    def _open(self) -> None:
        self.rounds += 1
        self.probes.clear()
        self._move("open")

    def _close(self) -> None:
        self.rounds = self.in_a_row = 0
        self.window = []
        self.probes.clear()
        self._move("closed")

    def _move(self, state: str) -> None:
        self.state, self.since = state, self.now
        self.epoch += 1

    def _follow_override(self) -> None:
        is_over = self.asked is None or self.now >= self.asked[1]
        mode = None if is_over or self.asked is None else self.asked[0]
        if mode != self.override:
            self.override = mode
            self.epoch += 1


def _scaled(counts: tuple[int, int, int], size: int) -> tuple[int, int, int]:
    calls, failed, slow = counts
    share = min(1.0, size / calls) if calls else 1.0
    return min(calls, size), round(failed * share), round(slow * share)


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)
