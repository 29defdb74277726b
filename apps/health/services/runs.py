"""One run of a check: claimed by one process of all, and its result written by that one."""

import random
import uuid
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


def claim_due(limit: int) -> list[Claimed]:
    """Claim up to `limit` checks that are due, the longest overdue first.

    Each by a compare-and-swap on the instant it was due at: of several processes one gets it. What
    a process claimed and never finished is due again when its lease ends.
    """
    due = Check.objects.filter(enabled=True, next_at__lte=clock.now()).order_by("next_at")[:limit]
    return [claimed for check in due if (claimed := claim(check)) is not None]


def claim(check: Check) -> Claimed | None:
    """Take the run of `check`, over whoever has it; None if it was taken or changed meanwhile."""
    own = uuid.uuid4()
    lease = timedelta(seconds=check.timeout_seconds + LEASE_MARGIN)
    here = Check.objects.filter(
        pk=check.pk, version=check.version, next_at=check.next_at, enabled=True
    )
    if not here.update(next_at=clock.now() + lease, claim=own):
        return None
    return Claimed(check.pk, own, target_of(check), check.slow_seconds)


def target_of(check: Check) -> Target | None:
    try:
        return check.target()
    except CannotOpen:
        return None


@transaction.atomic
def record(claimed: Claimed, outcome: Outcome) -> bool:
    """Write what came of a run; False if the claim is no longer the newest, and nothing is written.

    Safe to call twice: a claim ends with its result.
    """
    mine = Check.objects.filter(pk=claimed.check_id, claim=claimed.claim)
    check = mine.first()
    if check is None:
        return False
    outcome = outcome.slower_than(claimed.slow_seconds)
    verdict = verdict_of(check, outcome)
    now = clock.now()
    if not mine.update(claim=None, **after(check, outcome, verdict, now)):
        return False
    Result.objects.create(
        subject=check,
        at=now,
        mark=outcome.mark,
        latency_seconds=outcome.latency,
        detail=outcome.detail,
    )
    if verdict.status != check.status:
        move(check, verdict.status, detail=outcome.detail, at=now)
    return True


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
