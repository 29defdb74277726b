"""How counts add up, when an instance is silent, and what a shown state means. No Django."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast import histogram

COUNTERS = (  # the columns of a window that add up
    "calls",
    "successes",
    "failures",
    "timeouts",
    "slow",
    "cancelled",
    "rejected_open",
    "rejected_forced",
    "rejected_bulkhead",
    "rejected_rate_limit",
    "rejected_throttle",
    "rejected_budget",
    "rejected_degraded",
    "retries",
    "recoveries_attempted",
    "recoveries_succeeded",
    "fallbacks_value",
    "fallbacks_function",
    "fallbacks_cached",
    "fallbacks_queue",
    "client_errors",
    "server_errors",
)
_INDEXES = frozenset(map(str, range(histogram.SIZE)))
MOVED = "breaker.state_changed"  # type of an event
WORST_FIRST = ("open", "half_open", "closed")
# Seconds between two points of a chart; all divide a day, and are whole numbers of windows.
STEPS = (10, 30, 60, 120, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400)
MOST_POINTS = 300
CALLS = tuple(name for name in COUNTERS if name not in {"client_errors", "server_errors"})
REJECTED = tuple(name for name in COUNTERS if name.startswith("rejected_"))
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LEAST_SAMPLES = 5  # calls below which a share or a quantile says nothing
FUTURE_TOLERANCE = timedelta(seconds=60)  # of an instance's clock
PAST_TOLERANCE = timedelta(days=7)


@dataclass
class Counts:
    """Numbers and a latency histogram that add up."""

    numbers: dict[str, int] = field(default_factory=dict)
    latency: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, number: int) -> None:
        if number:
            self.numbers[name] = self.numbers.get(name, 0) + number

    def time(self, reported: Iterable[Mapping[str, int]]) -> None:
        """Add histograms as they were reported: each bucket under one name ("07" is "7")."""
        added = self.latency
        for latency in reported:
            for given, count in latency.items():
                if count:
                    index = given if given in _INDEXES else str(int(given))
                    added[index] = added.get(index, 0) + count

    @classmethod
    def of_row(cls, row: Any) -> "Counts":
        """Counts that a row holds in columns of their names, zeros included."""
        return cls({name: getattr(row, name) for name in COUNTERS}, dict(row.latency))

    def add(self, other: "Counts") -> None:
        for name, number in other.numbers.items():
            self.numbers[name] = self.numbers.get(name, 0) + number
        histogram.merge(self.latency, other.latency)

    def __bool__(self) -> bool:
        return any(self.numbers.values()) or any(self.latency.values())

    def copy(self) -> "Counts":
        return Counts(dict(self.numbers), dict(self.latency))

    def get(self, name: str) -> int:
        return self.numbers.get(name, 0)

    @property
    def judged(self) -> int:
        """Calls that succeeded or failed; those rejected or cancelled say nothing."""
        return self.get("successes") + self.get("failures")

    @property
    def wanted(self) -> int:
        """Calls that succeeded, failed or were rejected; those cancelled say nothing."""
        return self.judged + sum(map(self.get, REJECTED))

    def error_rate(self) -> float | None:
        """Share of failures among judged calls; None below `LEAST_SAMPLES`."""
        return self.get("failures") / self.judged if self.judged >= LEAST_SAMPLES else None

    def availability(self) -> float | None:
        """Share of successes among the calls somebody wanted; None below `LEAST_SAMPLES`."""
        return self.get("successes") / self.wanted if self.wanted >= LEAST_SAMPLES else None

    def quantile(self, share: float) -> float | None:
        """Duration in seconds; None below `LEAST_SAMPLES`."""
        if histogram.total(self.latency) < LEAST_SAMPLES:
            return None
        return histogram.quantile(self.latency, share)


def floor(instant: datetime, span: int) -> datetime:
    """Start of the window of `span` seconds that `instant` lies in."""
    seconds = int(instant.timestamp())
    return datetime.fromtimestamp(seconds - seconds % span, UTC)


def step_of(since: datetime, until: datetime, lasting: Mapping[int, datetime]) -> int:
    """Seconds between the points of a chart: the fewest that give at most `MOST_POINTS`.

    `lasting` says since when there are windows, by their span; where the shorter ones are gone,
    steps are as long as the next.
    """
    for step in STEPS:
        is_there = floor(since, step) >= lasting[longest_in(lasting, step)]
        if is_there and (until - floor(since, step)).total_seconds() / step <= MOST_POINTS:
            return step
    return STEPS[-1]


def longest_in(spans: Iterable[int], step: int) -> int:
    """The longest of the spans that fill a step without a rest."""
    return max(span for span in spans if step % span == 0)


def call_figures(counts: Counts, seconds: float) -> dict[str, float | None]:
    """What is told of guarded calls, each share and quantile beside the number it was taken of."""
    return {
        **{name: counts.get(name) for name in CALLS},
        "per_second": _per_second(counts, seconds),
        "judged": counts.judged,
        "error_rate": counts.error_rate(),
        "wanted": counts.wanted,
        "availability": counts.availability(),
        **_durations(counts),
    }


def request_figures(counts: Counts, seconds: float) -> dict[str, float | None]:
    """What is told of a service's own requests; all shares are of `count`."""
    count = counts.get("calls")
    share = {
        name: counts.get(name) / count if count >= LEAST_SAMPLES else None
        for name in ("client_errors", "server_errors")
    }
    wrong = share["server_errors"]
    return {
        "count": count,
        "client_errors": counts.get("client_errors"),
        "server_errors": counts.get("server_errors"),
        "per_second": _per_second(counts, seconds),
        "client_error_rate": share["client_errors"],
        "server_error_rate": wrong,
        "availability": None if wrong is None else 1 - wrong,
        **_durations(counts),
    }


def _per_second(counts: Counts, seconds: float) -> float | None:
    return counts.get("calls") / seconds if seconds > 0 else None


def _durations(counts: Counts) -> dict[str, float | None]:
    """Quantiles in seconds, and of how many durations they are."""
    told = {name: counts.quantile(share) for name, share in SHARES.items()}
    return {"timed": histogram.total(counts.latency), **told}


def clamp(
    instant: datetime, received_at: datetime, *, past: timedelta = PAST_TOLERANCE
) -> datetime:
    """What an instance's clock says, or the time of receipt where it cannot be right.

    A minute in the future is tolerated, and `past` behind.
    """
    is_possible = received_at - past <= instant <= received_at + FUTURE_TOLERANCE
    return instant.astimezone(UTC) if is_possible else received_at


def worst(states: Iterable[str]) -> str:
    """The state that needs attention most; closed when there is none."""
    present = set(states)
    return next((state for state in WORST_FIRST if state in present), "closed")


def has_applied(
    epoch: UUID | None, revision: int | None, *, current_epoch: UUID | None, target: int
) -> bool:
    """Whether an instance runs what was published for it.

    With nothing ever published for its service (target 0) whoever reports is up to date.
    """
    if target == 0:
        return True
    return epoch == current_epoch and revision is not None and revision >= target


def nearest_rank(values: Collection[float], share: float) -> float | None:
    """The smallest of `values` that `share` of them do not exceed; None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Breakers that are in another state: `{dependency: (from, to)}`.

    A breaker is closed until something is heard of it.
    """
    return {
        name: (before.get(name, "closed"), state)
        for name, state in after.items()
        if before.get(name, "closed") != state
    }
