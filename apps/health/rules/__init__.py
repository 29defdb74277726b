"""What the results of a check mean: confirmation, recovery, degradation. No Django."""

from collections.abc import Iterable
from dataclasses import dataclass

OK, IMPAIRED, FAILED = "o", "s", "f"  # a result's mark; impaired: it answered, too slow or strained
WINDOW = 20  # results whose share of successes is judged; fewer are not
UP, DEGRADED, DOWN, UNKNOWN = "up", "degraded", "down", "unknown"
WORST_FIRST = (DOWN, DEGRADED, UNKNOWN, UP)
JITTER = 0.1  # share of the wait between two runs, either way


@dataclass(frozen=True)
class Confirmation:
    """How many results in a row it takes, and which share of successes is enough."""

    failures: int = 3  # until it is down
    successes: int = 2  # until it is no longer
    threshold: float = 0.95


@dataclass(frozen=True)
class Verdict:
    """The status after a result, and the marks that the next one is judged with."""

    status: str
    recent: str
    is_confirmed: bool  # else the next look comes sooner


def judge(before: str, recent: str, mark: str, needed: Confirmation) -> Verdict:
    """The status of a check that was `before`, after one more result.

    Down takes `failures` in a row, and leaving it `successes` in a row. What it then recovered from
    is forgotten, so that an outage already told does not count again as degradation.
    """
    marks = (recent + mark)[-WINDOW:]
    failing, passing = _run(marks, FAILED), _run(marks, OK + IMPAIRED)
    if failing:
        status = _while_failing(before, marks, failing, needed)
        return Verdict(status, marks, is_confirmed=status == DOWN)
    if before == DOWN:
        if passing < needed.successes:
            return Verdict(DOWN, marks, is_confirmed=False)
        marks = marks[-passing:]
    return Verdict(_while_passing(before, marks, needed), marks, is_confirmed=True)


def _while_failing(before: str, marks: str, failing: int, needed: Confirmation) -> str:
    if failing >= needed.failures:
        return DOWN
    if before == UP and _is_below(marks, needed.threshold):
        return DEGRADED
    return before


def _while_passing(before: str, marks: str, needed: Confirmation) -> str:
    still = before == DEGRADED and IMPAIRED in marks[-needed.successes :]
    if still or _run(marks, IMPAIRED) >= needed.failures or _is_below(marks, needed.threshold):
        return DEGRADED
    return UP


def _is_below(marks: str, threshold: float) -> bool:
    return len(marks) >= WINDOW and (success_rate(marks) or 0.0) < threshold


def _run(marks: str, kinds: str) -> int:
    """How many marks at the end are of these kinds."""
    return len(marks) - len(marks.rstrip(kinds))


def success_rate(marks: str) -> float | None:
    """Share of successes among recent results; None before the first."""
    return 1 - marks.count(FAILED) / len(marks) if marks else None


def wait_seconds(*, interval: float, retry: float, is_confirmed: bool, jitter: float) -> float:
    """Seconds to the next run; `jitter` from -1 to 1 spreads it, so that checks do not march."""
    wait = interval if is_confirmed else min(interval, retry)
    return wait * (1 + JITTER * jitter)


def worst(statuses: Iterable[str]) -> str:
    """The status that needs attention most; up when there is none."""
    present = set(statuses)
    return next((status for status in WORST_FIRST if status in present), UP)


HEALTH_OF = {UP: "pass", DEGRADED: "warn", UNKNOWN: "warn", DOWN: "fail"}
SCORE_OF = {"pass": "healthy", "warn": "degraded", "fail": "unhealthy"}


def health_of(answers: Iterable[str]) -> str:
    """The worst of pass, warn and fail; pass when there is none."""
    present = set(answers)
    return next((answer for answer in ("fail", "warn") if answer in present), "pass")
