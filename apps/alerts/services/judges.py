"""Who evaluates: one process per environment at a time, by a lease in the database."""

import uuid
from datetime import UTC, datetime, timedelta

from django.db.models import F, Q

from apps.alerts.models import Judge
from apps.alerts.services import acting, alert_rules, judging, switches
from apps.audit.models import Chain
from apps.core import clock
from apps.fleet.models import Environment

LEASE = timedelta(seconds=30)  # an evaluation takes a fraction of a second


def evaluate(environment_id: int, *, since: datetime, holder: uuid.UUID, grid: timedelta) -> bool:
    """Evaluate the environment's rules, unless that was begun at or after `since`.

    Returns whether there is nothing left to do: it was done here, or by somebody else. While
    another process evaluates what may be an older state, it is not.
    """
    judge = _judge(environment_id)
    if judge is None:
        return True  # the environment is gone
    if judge.started_at is not None and judge.started_at >= since:
        return True
    now = clock.now()
    if not _claim(judge, since, holder, now):
        return False
    alert_rules.ensure_defaults(environment_id)
    judging.judge(environment_id, seen_at=judge.evaluated_at)
    acting.look_after(environment_id)
    switches.tell_of_switches(environment_id)
    _release(judge, holder, now, grid)
    return True


def _judge(environment_id: int) -> Judge | None:
    """The environment's row; a new one tells of nothing that was switched before it."""
    found = Judge.objects.filter(pk=environment_id).first()
    if found is not None or not Environment.objects.filter(pk=environment_id).exists():
        return found
    chain = Chain.objects.filter(environment_id=environment_id).first()
    return Judge.objects.get_or_create(
        pk=environment_id, defaults={"entry": chain.sequence if chain else 0}
    )[0]


def _claim(judge: Judge, since: datetime, holder: uuid.UUID, now: datetime) -> bool:
    """Take the lease, if nobody holds it and nobody did what is wanted; a compare-and-swap."""
    free = Judge.objects.filter(
        Q(leased_until=None) | Q(leased_until__lte=now),
        Q(started_at=None) | Q(started_at__lt=since),
        pk=judge.pk,
    )
    claimed = {"holder": holder, "leased_until": now + LEASE, "started_at": now}
    return free.update(**claimed) == 1


def _release(judge: Judge, holder: uuid.UUID, began: datetime, grid: timedelta) -> None:
    """Give the lease back, and note how late on the grid it was and what was passed over."""
    point, last = _floor(began, grid), judge.started_at
    changes: dict[str, object] = {
        "holder": None,
        "leased_until": None,
        "evaluated_at": began,
        "took_seconds": (clock.now() - began).total_seconds(),
    }
    if last is None or last < point:  # the first since that point of the grid
        changes["lag_seconds"] = (began - point).total_seconds()
    if last is not None:
        passed = round((point - _floor(last, grid)) / grid) - 1
        changes["missed"] = F("missed") + max(0, passed)
    Judge.objects.filter(pk=judge.pk, holder=holder).update(**changes)


def _floor(instant: datetime, grid: timedelta) -> datetime:
    return instant - (instant - datetime.fromtimestamp(0, UTC)) % grid
