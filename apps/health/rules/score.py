"""What a health score is made of, what it was lost to, and how much of it is known. No Django.

A score is 100 · Σ w·s / Σ w over the terms that are known. A term's share s is 1 while nothing is
wrong and 0 when all is; one taken of too little is left out, and shows as coverage.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from holdfast import histogram

HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = "healthy", "degraded", "unhealthy", "unknown"
WORST_FIRST = (UNHEALTHY, DEGRADED, HEALTHY)
OF_CHECK = {"up": HEALTHY, "degraded": DEGRADED, "down": UNHEALTHY, "unknown": UNKNOWN}

AVAILABILITY, LATENCY, SATURATION, BREAKER = "availability", "latency", "saturation", "breaker"
DEAD_LETTERS, CHECKS, CAP, SERVICE = "dead_letters", "checks", "cap", "service"
WEIGHTS = {AVAILABILITY: 4, CHECKS: 4, LATENCY: 2, BREAKER: 2, SATURATION: 1, DEAD_LETTERS: 1}
OPTIONAL = 0.5  # what a service can do without weighs so much of what is critical to it
CAPS = {UNHEALTHY: 40, DEGRADED: 70}  # the most a score is while something critical is so
LEAST_SAMPLES = 20  # calls below which a share says nothing
LEAST_RESULTS = 5  # of checks
LEAST_COVERAGE = 0.2  # below it there is no score
FULL_LETTERS = 100  # dead letters that wait for somebody: so many are as bad as it gets
TOLERATED = 4  # times the latency target: so long is half as good
DOWN_BELOW = 0.5  # share of successes below which a dependency is down
MOST_DEDUCTIONS = 3


@dataclass(frozen=True)
class Term:
    """One thing that a score is made of."""

    kind: str
    subject: str  # slug of a dependency; "" for what is the service's own
    share: float | None  # None: not enough data
    samples: int = 0  # what the share was taken of
    weight: float = 0.0

    @property
    def lost(self) -> float:
        return 0.0 if self.share is None else self.weight * (1 - self.share)


@dataclass(frozen=True)
class Deduction:
    """Points that a score was lost to, and by what."""

    kind: str
    subject: str
    points: float
    share: float  # of the term; 0 for a cap and for a service
    samples: int  # what the share was taken of; the most that a cap leaves; a service's score


@dataclass(frozen=True)
class Score:
    """0 to 100; None while too little of it is known."""

    points: int | None
    coverage: float  # share of the weights that is known
    deductions: tuple[Deduction, ...] = ()  # the largest, at most `MOST_DEDUCTIONS`


@dataclass(frozen=True)
class Cap:
    """Something critical that is down or degraded."""

    subject: str
    status: str


def score(terms: Iterable[Term], caps: Iterable[Cap] = ()) -> Score:
    """The score of these terms, at most what the worst of `caps` leaves."""
    every = [term for term in terms if term.weight > 0]
    known = [term for term in every if term.share is not None]
    weight = sum(term.weight for term in known)
    coverage = weight / sum(term.weight for term in every) if every else 0.0
    if coverage < LEAST_COVERAGE:
        return Score(None, coverage)
    raw = 100 * (1 - sum(term.lost for term in known) / weight)
    lost = [_deduction(term, 100 * term.lost / weight) for term in known if term.lost > 0]
    cap = min(caps, key=lambda each: CAPS.get(each.status, 100), default=None)
    most = 100 if cap is None else CAPS.get(cap.status, 100)
    if cap is not None and raw > most:
        lost.append(Deduction(CAP, cap.subject, raw - most, 0.0, most))
    return Score(round(min(raw, most)), coverage, largest(lost))


def largest(deductions: Iterable[Deduction]) -> tuple[Deduction, ...]:
    in_order = sorted(deductions, key=lambda each: (-each.points, each.subject, each.kind))
    return tuple(in_order[:MOST_DEDUCTIONS])


def _deduction(term: Term, points: float) -> Deduction:
    return Deduction(term.kind, term.subject, points, term.share or 0.0, term.samples)


# -- shares ---------------------------------------------------------------------------------------
def part(good: float, samples: int, *, least: int = LEAST_SAMPLES) -> float | None:
    """`good` as a share of `samples`; None of too few."""
    return good / samples if samples >= max(1, least) else None


def apdex(latency: Mapping[str, int], target: float) -> float:
    """How many durations were within the target, and half of those within `TOLERATED` times it."""
    good = _good(target)
    return sum(count * good[int(index)] for index, count in latency.items())


@lru_cache(maxsize=1024)
def _good(target: float) -> list[float]:
    """How good a duration of each bucket is."""
    middles = map(histogram.middle, range(histogram.SIZE))
    return [1.0 if at <= target else 0.5 if at <= TOLERATED * target else 0.0 for at in middles]


def of_breakers(states: Mapping[str, int]) -> float | None:
    """Closed counts 1, half-open 0.5, open 0, over the instances that say."""
    said = sum(states.values())
    return part(states.get("closed", 0) + 0.5 * states.get("half_open", 0), said, least=1)


def of_letters(waiting: int) -> float:
    return 1 - min(1.0, waiting / FULL_LETTERS)


# -- statuses -------------------------------------------------------------------------------------
def worst(statuses: Iterable[str]) -> str:
    """The status that needs attention most; what is unknown says nothing beside what is known."""
    present = set(statuses)
    return next((status for status in WORST_FIRST if status in present), UNKNOWN)


def at_most_degraded(status: str) -> str:
    """What the status of something one can do without makes of those that use it."""
    return DEGRADED if status == UNHEALTHY else status


def of_successes(share: float | None, threshold: float) -> str:
    if share is None:
        return UNKNOWN
    if share < DOWN_BELOW:
        return UNHEALTHY
    return DEGRADED if share < threshold else HEALTHY


def of_states(states: Mapping[str, int]) -> str:
    """Breakers that are all open keep everybody out; some that are not closed keep some."""
    said = sum(states.values())
    if not said:
        return UNKNOWN
    if states.get("open", 0) == said:
        return UNHEALTHY
    return HEALTHY if states.get("closed", 0) == said else DEGRADED
