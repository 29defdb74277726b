"""The states of an alert, as Prometheus and Grafana have them. Pure: no clock, no database.

Nothing → pending at the first evaluation that finds the condition met → firing once it was met for
`for_` without a break; one evaluation that does not meet it ends a pending one. A firing alert is
resolved when the value is back within the *resolve* threshold and has been so for `keep_firing`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from apps.alerts.rules.kinds import Kind, Reading

PENDING, FIRING, NO_DATA, RESOLVED = "pending", "firing", "no_data", "resolved"
OPEN = (PENDING, FIRING, NO_DATA)
# A pending alert nobody looked at for longer starts anew: what happened meanwhile is not known.
LONGEST_GAP = timedelta(hours=1)


@dataclass(frozen=True)
class Terms:
    """When a rule's alert fires and resolves. `no_data`: ok, alert, keep_last or no_data."""

    kind: Kind
    threshold: float
    resolve_threshold: float | None = None
    for_: timedelta = timedelta(0)
    keep_firing: timedelta = timedelta(0)
    min_samples: int = 0
    no_data: str = "keep_last"


@dataclass(frozen=True)
class Memory:
    """What is remembered of a subject between evaluations."""

    state: str
    active_at: datetime  # when the condition was first met, or the data first missed
    fired_at: datetime | None = None
    unmet_at: datetime | None = None  # of a firing one: since when the condition is not met


def step(
    before: Memory | None, reading: Reading, terms: Terms, now: datetime, seen_at: datetime | None
) -> Memory | None:
    """The state after one more evaluation; None: nothing is the matter.

    `seen_at` is when the evaluation before this one was.
    """
    if before is not None and before.state == PENDING and _was_lost(seen_at, now):
        before = None
    met = is_met(reading, terms, is_firing=before is not None and before.fired_at is not None)
    if met is None:
        return _without_data(before, terms, now)
    return _met(before, terms, now) if met else _unmet(before, terms, now)


def is_met(reading: Reading, terms: Terms, *, is_firing: bool) -> bool | None:
    """Whether the condition holds; None: there is too little to say.

    An alert that fires is judged by the resolve threshold, so that a value at the edge does not
    make it flap.
    """
    if reading.value is None or (terms.kind.sampled and reading.samples < terms.min_samples):
        return None
    limit = terms.threshold
    if is_firing and terms.resolve_threshold is not None:
        limit = terms.resolve_threshold
    return reading.is_beyond(limit, terms.kind)


def _was_lost(seen_at: datetime | None, now: datetime) -> bool:
    return seen_at is not None and now - seen_at > LONGEST_GAP


def _met(before: Memory | None, terms: Terms, now: datetime) -> Memory:
    if before is not None and before.fired_at is not None:
        return replace(before, state=FIRING, unmet_at=None)
    goes_on = before is not None and before.state == PENDING and before.unmet_at is None
    active_at = before.active_at if before is not None and goes_on else now
    if now - active_at >= terms.for_:
        return Memory(FIRING, active_at, fired_at=now)
    return Memory(PENDING, active_at)


def _unmet(before: Memory | None, terms: Terms, now: datetime) -> Memory | None:
    if before is None or before.state == PENDING:
        return None
    unmet_at = before.unmet_at or now
    if before.fired_at is None or now - unmet_at >= terms.keep_firing:
        return replace(before, state=RESOLVED, unmet_at=unmet_at)
    return replace(before, state=FIRING, unmet_at=unmet_at)


def _without_data(before: Memory | None, terms: Terms, now: datetime) -> Memory | None:
    if terms.no_data == "keep_last":
        return before
    if terms.no_data == "alert":
        return _met(before, terms, now)
    if terms.no_data == "ok":
        return _unmet(before, terms, now)
    if before is not None and before.state != PENDING:
        return replace(before, state=NO_DATA)
    since = before.active_at if before is not None else now
    is_over = now - since >= terms.for_
    return Memory(NO_DATA if is_over else PENDING, since, unmet_at=since)


def is_told(before: Memory | None, after: Memory) -> bool:
    """Whether people are told of having come from `before` to `after`.

    Of what begins to fire, of data missing where nothing fired, and of the end of either.
    """
    if before is not None and before.state == after.state:
        return False
    if after.state == FIRING:
        return before is None or before.fired_at is None
    return after.state == RESOLVED or (after.state == NO_DATA and after.fired_at is None)
