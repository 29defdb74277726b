"""One run of a check: claimed by one process of all, and its result written by that one."""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from apps.core import bus, clock
from apps.core.sealing import CannotOpen
from apps.health import rules
from apps.health.models import Check, Result, Transition
from apps.health.probes.outcomes import Outcome
from apps.health.targets import Target

log = structlog.get_logger(__name__)

LEASE_MARGIN = 15.0  # seconds beyond the deadline for which a run is nobody else's


@dataclass(frozen=True)
class Claimed:
    """A run that is this process's alone until its lease ends; the result names the claim."""

    check_id: int
    claim: uuid.UUID
    target: Target | None  # None: its secret cannot be opened any more
    slow_seconds: float | None
    due_at: datetime


def claim_due(limit: int, *, ahead: float = 0.0) -> list[Claimed]:
    """Claim up to `limit` checks that are due within `ahead` seconds, the longest overdue first.

    In one transaction, past what another process is claiming just now: of several, one gets each.
    What a process claimed and never finished is due again when its lease ends.
    """
    now = clock.now()
    due = Check.objects.filter(enabled=True, next_at__lte=now + timedelta(seconds=ahead))
    if limit <= 0 or not due.exists():  # nothing to lock for
        return []
    with transaction.atomic():
        free = due.select_for_update(skip_locked=True, of=("self",))
        checks = list(free.order_by("next_at")[:limit])
        return _claim_all(checks, from_now=ahead)


def _claim_all(checks: list[Check], *, from_now: float) -> list[Claimed]:
    """Claim rows that are locked; one statement for all that have the same deadline."""
    own, now = uuid.uuid4(), clock.now()
    by_timeout: dict[float, list[int]] = defaultdict(list)
    for check in checks:
        by_timeout[check.timeout_seconds].append(check.pk)
    for timeout, ids in by_timeout.items():
        lease = timedelta(seconds=from_now + timeout + LEASE_MARGIN)
        Check.objects.filter(pk__in=ids).update(next_at=now + lease, claim=own)
    return [_claimed(check, own) for check in checks]


def claim(check: Check) -> Claimed | None:
    """Take the run of `check`, over whoever has it; None if it was taken or changed meanwhile."""
    own = uuid.uuid4()
    lease = timedelta(seconds=check.timeout_seconds + LEASE_MARGIN)
    here = Check.objects.filter(
        pk=check.pk, version=check.version, next_at=check.next_at, enabled=True
    )
    if not here.update(next_at=clock.now() + lease, claim=own):
        return None
    return _claimed(check, own)


def _claimed(check: Check, own: uuid.UUID) -> Claimed:
    """`check` as it was before it was claimed."""
    due_at = check.next_at or clock.now()
    return Claimed(check.pk, own, target_of(check), check.slow_seconds, due_at)


def target_of(check: Check) -> Target | None:
    try:
        return check.target()
    except CannotOpen:
        return None


def record(claimed: Claimed, outcome: Outcome) -> bool:
    """Write what came of a run; False if the claim is no longer the newest, and nothing is written.

    Safe to call twice: a claim ends with its result.
    """
    return record_all([(claimed, outcome)]) == 1


@transaction.atomic
def record_all(ended: Iterable[tuple[Claimed, Outcome]]) -> int:
    """Write what came of runs, all or nothing; how many still had the newest claim.

    Of the others nothing is written. Safe to call twice: a claim ends with its result.
    """
    runs = {(claimed.check_id, claimed.claim): (claimed, outcome) for claimed, outcome in ended}
    wanted = Check.objects.filter(pk__in=[check_id for check_id, _claim in runs])
    now, results = clock.now(), []
    for check in wanted.select_for_update(of=("self",)).order_by("pk"):
        if check.claim is None or (check.pk, check.claim) not in runs:
            continue
        claimed, outcome = runs[check.pk, check.claim]
        results.append(_record_one(check, outcome.slower_than(claimed.slow_seconds), now))
    Result.objects.bulk_create(results)
    return len(results)


def _record_one(check: Check, outcome: Outcome, now: datetime) -> Result:
    """Write `check` as it is after a run, and return the result that is to be written."""
    verdict = verdict_of(check, outcome)
    Check.objects.filter(pk=check.pk).update(claim=None, **after(check, outcome, verdict, now))
    if verdict.status != check.status:
        move(check, verdict.status, detail=outcome.detail, at=now)
    return Result(
        subject=check,
        at=now,
        mark=outcome.mark,
        latency_seconds=outcome.latency,
        detail=outcome.detail,
    )


def verdict_of(check: Check, outcome: Outcome) -> rules.Verdict:
    needed = rules.Confirmation(
        check.failures_to_confirm, check.successes_to_recover, settings.HEALTH_ALERT_THRESHOLD
    )
    return rules.judge(check.status, check.recent, outcome.mark, needed)


def after(check: Check, outcome: Outcome, verdict: rules.Verdict, now: datetime) -> dict[str, Any]:
    """The runner's columns after a run."""
    return {
        "next_at": now + timedelta(seconds=_wait(check, verdict)),
        "status": verdict.status,
        "since": check.since if verdict.status == check.status and check.since else now,
        "observed_at": now,
        "latency_seconds": outcome.latency,
        "recent": verdict.recent,
        "detail": outcome.detail,
        "facts": dict(outcome.facts),
        "started_at": None,
        "started_run": None,
    }


def _wait(check: Check, verdict: rules.Verdict) -> float:
    """Seconds to the next run; a heartbeat was missed, and is missed again in an interval."""
    if check.kind == Check.Kind.HEARTBEAT:
        return check.interval_seconds
    return rules.wait_seconds(
        interval=check.interval_seconds,
        retry=check.retry_seconds,
        is_confirmed=verdict.is_confirmed,
        jitter=random.uniform(-1, 1),
    )


def move(check: Check, status: str, *, detail: str, at: datetime) -> None:
    """Note that `check` leaves its status for another, and tell everybody once that is committed.

    Part of a caller's transaction, which writes the check's own row.
    """
    Transition.objects.create(
        subject=check, at=at, from_status=check.status, to_status=status, detail=detail
    )
    log.info("check.moved", check_id=check.pk, before=check.status, after=status, detail=detail)
    bus.announce("health", environment_id=check.environment_id)
