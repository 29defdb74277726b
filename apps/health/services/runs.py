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
from django.utils.translation import gettext as _

from apps.core import bus, clock
from apps.core.sealing import CannotOpen
from apps.health import rules
from apps.health.lookout import Lookout
from apps.health.models import Check, Result, Transition
from apps.health.probes.outcomes import LONGEST_DETAIL, Outcome
from apps.health.rules import standing
from apps.health.rules.standing import Above, Doubt
from apps.health.targets import Target, place_of

log = structlog.get_logger(__name__)

LEASE_MARGIN = 15.0  # seconds beyond the deadline for which a run is nobody else's
ABOVE = "__".join(["parent"] * standing.DEEPEST)


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
    """Write what came of one run; False if its claim is no longer the newest."""
    return record_all([(claimed, outcome)]) == 1


@transaction.atomic
def record_all(ended: Iterable[tuple[Claimed, Outcome]], lookout: Lookout | None = None) -> int:
    """Write what came of runs, all or nothing; how many still had the newest claim.

    Of the others nothing is written. Safe to call twice: a claim ends with its result. What fails
    for the first time has others looked at: its parent, and places that tell whether it is the
    prober that is cut off.
    """
    runs = {(claimed.check_id, claimed.claim): (claimed, outcome) for claimed, outcome in ended}
    rows = Check.objects.filter(pk__in=[check_id for check_id, _claim in runs]).order_by("pk")
    lookout, now = lookout or Lookout(), clock.now()
    results: list[Result] = []
    anew: list[Check] = []
    for check in rows.select_related(ABOVE).select_for_update(of=("self",)):
        if check.claim is None or (check.pk, check.claim) not in runs:
            continue
        claimed, outcome = runs[check.pk, check.claim]
        outcome = outcome.slower_than(claimed.slow_seconds)
        if _see(check, outcome, lookout):
            anew.append(check)
        is_cut_off = not outcome.is_ok and lookout.doubts(check.pk)
        results.append(_record_one(check, outcome, now, is_cut_off=is_cut_off))
    Result.objects.bulk_create(results)
    if anew:
        _hurry(anew)
    return len(results)


def _see(check: Check, outcome: Outcome, lookout: Lookout) -> bool:
    """Tell the lookout; whether it is a first failure. What is known to be down is no news."""
    place = place_of(check.kind, check.address)
    blamed = any(each.status == rules.DOWN for each in _above(check))
    if not place or check.status == rules.DOWN or (blamed and not outcome.is_ok):
        return False
    return lookout.saw(check.pk, place, has_failed=not outcome.is_ok)


def _record_one(check: Check, outcome: Outcome, now: datetime, *, is_cut_off: bool) -> Result:
    """Write `check` as it is after a run, and return the result that is to be written."""
    columns = after(check, outcome, now=now, is_cut_off=is_cut_off)
    Check.objects.filter(pk=check.pk).update(claim=None, **columns)
    if columns["status"] != check.status:
        move(check, columns["status"], detail=columns["detail"], at=now)
    return Result(
        subject=check,
        at=now,
        mark=outcome.mark,
        latency_seconds=outcome.latency,
        detail=outcome.detail,
    )


def after(
    check: Check, outcome: Outcome, *, now: datetime, is_cut_off: bool = False
) -> dict[str, Any]:
    """The runner's columns after a run, with what holds its status against the result."""
    needed = rules.Confirmation(
        check.failures_to_confirm, check.successes_to_recover, settings.HEALTH_ALERT_THRESHOLD
    )
    found = rules.judge(check.status, check.recent, outcome.mark, needed)
    raw = (check.raw + outcome.mark)[-standing.FLAP_RESULTS :]
    flaps = standing.is_flapping(check.is_flapping, raw)
    doubt = Doubt(flaps, _above(check), is_cut_off)
    verdict = standing.held(check.status, found, outcome.mark, doubt)
    blamed = doubt.blamed if verdict.status == rules.UNKNOWN and not outcome.is_ok else ""
    detail = outcome.detail
    if blamed:
        words = {"parent": blamed, "detail": detail}
        detail = (_("because of %(parent)s: %(detail)s") % words)[:LONGEST_DETAIL]
    return {
        "next_at": now + timedelta(seconds=_wait(check, verdict)),
        "status": verdict.status,
        "since": check.since if verdict.status == check.status and check.since else now,
        "observed_at": now,
        "latency_seconds": outcome.latency,
        "recent": verdict.recent,
        "raw": raw,
        "is_flapping": flaps,
        "because_of": blamed,
        "detail": detail,
        "facts": dict(outcome.facts),
        "started_at": None,
        "started_run": None,
    }


def _above(check: Check) -> list[Above]:
    """Its parents that run, the nearest first."""
    found, each = [], check
    for _level in range(standing.DEEPEST):
        if each.parent is None:
            break
        each = each.parent
        if each.enabled and not each.is_stale:
            found.append(Above(each.name, each.status, each.raw.endswith(rules.FAILED)))
    return found


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


def _hurry(anew: Iterable[Check]) -> None:
    """Have parents of what fails anew looked at now, and a few unrelated places besides."""
    now = clock.now()
    old = Check.objects.filter(
        enabled=True, claim=None, observed_at__lt=now - timedelta(seconds=SEEN_SECONDS)
    )
    askable = old.exclude(kind=Check.Kind.HEARTBEAT)
    parents = [check.parent_id for check in anew if check.parent_id is not None]
    places = {place_of(check.kind, check.address) for check in anew} | {""}
    chosen: dict[str, int] = {}
    longest_ago = askable.order_by("observed_at").values_list("pk", "kind", "address")
    for pk, kind, address in longest_ago[:LOOKED_THROUGH]:
        place = place_of(kind, address)
        if place not in places and len(chosen) < SECOND_OPINIONS:
            chosen.setdefault(place, pk)
    askable.filter(pk__in=[*parents, *chosen.values()]).update(next_at=now)


SEEN_SECONDS = 3.0  # what was seen since is fresh enough
SECOND_OPINIONS, LOOKED_THROUGH = 8, 100  # places asked, of so many checks


def move(check: Check, status: str, *, detail: str, at: datetime) -> None:
    """Note that `check` leaves its status for another, and tell everybody once that is committed.

    Part of a caller's transaction, which writes the check's own row.
    """
    Transition.objects.create(
        subject=check, at=at, from_status=check.status, to_status=status, detail=detail
    )
    log.info("check.moved", check_id=check.pk, before=check.status, after=status, detail=detail)
    bus.announce("health", environment_id=check.environment_id)
