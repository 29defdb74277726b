"""Counters of one dependency. Cumulative, so that reading takes nothing away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from holdfast import histogram

COUNTS = ("calls", "successes", "failures", "timeouts", "slow", "cancelled")
REJECTED = ("open", "forced", "bulkhead", "rate_limit", "throttle", "budget", "degraded")
FALLBACKS = ("value", "function", "cached", "queue")
RECOVERIES = ("attempted", "succeeded")
HEDGES = ("launched", "won", "refused")


class Snapshot:
    """The counters at one moment."""

    __slots__ = ("counts", "latency")

    def __init__(self, counts: Mapping[str, int], latency: list[int]) -> None:
        self.counts = counts
        self.latency = latency

    def since(self, earlier: Snapshot | None) -> Snapshot:
        """What was added since an earlier moment."""
        if earlier is None:
            return self
        counts = {key: n - earlier.counts.get(key, 0) for key, n in self.counts.items()}
        latency = [new - old for new, old in zip(self.latency, earlier.latency, strict=True)]
        return Snapshot(counts, latency)

    def as_reported(self) -> dict[str, Any]:
        """The shape of reports, zeros included."""
        get = self.counts.get
        return {
            **{name: get(name, 0) for name in COUNTS},
            "rejected": {name: get(f"rejected.{name}", 0) for name in REJECTED},
            "retries": get("retries", 0),
            "recoveries": {name: get(f"recoveries.{name}", 0) for name in RECOVERIES},
            "fallbacks": {name: get(f"fallbacks.{name}", 0) for name in FALLBACKS},
            "latency": histogram.encode(self.latency),
        }

    def others(self) -> dict[str, Any]:
        """Counts that reports do not send: of hedges, ignored, late, ..."""
        plain = {key: n for key, n in self.counts.items() if key not in COUNTS and "." not in key}
        return plain | {"hedges": {name: self.counts.get(f"hedges.{name}", 0) for name in HEDGES}}


def share(part: int, whole: int) -> float | None:
    """`part` of `whole`; None of nothing."""
    return part / whole if whole else None


def summary(dependencies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All dependencies together, of the totals of each."""
    added: Counter[str] = Counter()
    states = Counter({"closed": 0, "half_open": 0, "open": 0})
    for each in dependencies:
        for name in ("calls", "successes", "failures", "in_flight", "waiting"):
            added[name] += each[name]
        added["rejected"] += sum(each["rejected"].values())
        added["rejected.bulkhead"] += each["rejected"]["bulkhead"]
        added.update({f"recoveries.{name}": n for name, n in each["recoveries"].items()})
        states[each["breaker"]["state"]] += 1
    attempted, succeeded = added["recoveries.attempted"], added["recoveries.succeeded"]
    return {
        "executions": added["calls"],
        "success_rate": share(added["successes"], added["successes"] + added["failures"]),
        "rejected": added["rejected"],
        "breakers": dict(states),
        "bulkheads": {
            "in_flight": added["in_flight"],
            "waiting": added["waiting"],
            "rejected": added["rejected.bulkhead"],
        },
        "recovery": {
            "attempted": attempted,
            "succeeded": succeeded,
            "rate": share(succeeded, attempted),
        },
    }


class Stats:
    """Counts attempts, rejections, retries and fallbacks. Safe for threads.

    Attributes:
        plain: Latencies of the successes that `_lane` counts by itself, without the lock.
        rejected_open, rejected_forced: Rejections it counts likewise.
    """

    __slots__ = ("_counts", "_latency", "_lock", "plain", "rejected_forced", "rejected_open")

    def __init__(self) -> None:
        self.plain = [0] * histogram.SIZE
        self.rejected_open = self.rejected_forced = 0
        self._latency = [0] * histogram.SIZE
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, *names: str) -> None:
        """Add one to each of these counters."""
        with self._lock:
            self._counts.update(names)

    def ended(self, seconds: float, names: tuple[str, ...]) -> None:
        """An attempt is over; counted once, whatever became of it."""
        bucket = histogram.index_of(seconds)
        with self._lock:
            self._latency[bucket] += 1
            for name in names:
                self._counts[name] += 1

    def snapshot(self) -> Snapshot:
        """All counters at this moment."""
        with self._lock:
            counts, latency = Counter(self._counts), self._latency[:]
        plain = self.plain[:]
        counts["successes"] += sum(plain)
        counts["rejected.open"] += self.rejected_open
        counts["rejected.forced"] += self.rejected_forced
        latency = [a + b for a, b in zip(latency, plain, strict=True)]
        counts["calls"] = sum(latency)  # each that ended is in there once, whatever became of it
        return Snapshot(counts, latency)

    def reset_after_fork(self) -> None:
        """Give up a lock that somebody in the parent may hold."""
        self._lock = threading.Lock()
