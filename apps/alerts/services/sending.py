"""Claiming messages and writing down what came of each: the row is the queue.

A claim is a compare-and-swap on the number of attempts, and a lease: whoever dies with a message
in hand leaves it to the next when the lease is over. What was confirmed is never sent again.
"""

from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from apps.alerts.models import Alert, Channel, Notification, Silence
from apps.alerts.rules import attempts
from apps.alerts.rules.matching import matches
from apps.alerts.transports import Message, Receipt
from apps.audit import services as audit
from apps.core import clock
from apps.core.actor import automation
from apps.core.sealing import CannotOpen, unseal

log = structlog.get_logger(__name__)

Status = Notification.Status
LOOKED_AT = 200  # due messages of one look


@dataclass(frozen=True)
class Claim:
    """A message this process may try to send now, and where to."""

    notification_id: int
    channel_id: int
    attempt: int
    kind: str
    address: str
    message: Message


def claim_due(*, busy: frozenset[int] = frozenset(), most: int = LOOKED_AT) -> list[Claim]:
    """Claim up to `most` messages, the oldest due one of each channel that is not busy.

    Channels that were quick last time go first.
    """
    due = Notification.objects.due(clock.now()).exclude(channel__in=busy)
    due = due.select_related("channel", "environment", "transition__alert__service")
    claims: list[Claim] = []
    taken = set(busy)
    for row in due.order_by("channel__took_seconds", "pk")[:LOOKED_AT]:
        if len(claims) == most:
            break
        if row.channel_id not in taken and (found := claim(row)) is not None:
            taken.add(row.channel_id)
            claims.append(found)
    return claims


def claim(row: Notification) -> Claim | None:
    """Claim a message to send it; None if somebody else does, or it is not wanted now."""
    if not _is_wanted(row) or _waits_for_earlier(row):
        return None
    now = clock.now()
    mine = Notification.objects.due(now).filter(pk=row.pk, attempts=row.attempts)
    changes: dict[str, Any] = {"status": Status.WAITING, "due_at": now + attempts.LEASE}
    if mine.update(attempts=F("attempts") + 1, **changes) != 1:
        return None  # another process was quicker
    try:
        address = unseal(row.channel.sealed_address)
    except CannotOpen:
        with transaction.atomic():
            _give_up(row.channel, _("Its address was sealed under a SECRET_KEY that is gone."))
        return None
    return Claim(
        row.pk,
        row.channel_id,
        row.attempts + 1,
        row.channel.kind,
        address,
        Message(row.title, row.body, row.document, row.document.get("status") == "firing"),
    )


def _is_wanted(row: Notification) -> bool:
    """Whether a message is still to be sent now; else it is put off or dropped."""
    if not row.channel.enabled and row.about != Notification.About.TEST:
        _finish(row, Status.DROPPED, _("The channel is disabled."))
        return False
    if row.transition is None:
        return True
    alert = row.transition.alert
    is_beginning = row.transition.to_state != Alert.State.RESOLVED
    silence = _silence_of(alert)
    if is_beginning and silence is not None:
        _put_off(row, silence, is_over=not alert.is_open)
        return False
    if is_beginning and row.status == Status.SILENCED and not alert.is_open:
        _finish(row, Status.DROPPED, _("It was over before the silence was."))
        return False
    if not is_beginning and not _was_told(row, alert):
        _finish(row, Status.DROPPED, _("Of its beginning nobody was told."))
        return False
    return True


def _waits_for_earlier(row: Notification) -> bool:
    """Whether the channel is still to be told how the same alert began."""
    return row.transition is not None and (
        Notification.objects.filter(
            channel=row.channel_id,
            transition__alert=row.transition.alert_id,
            pk__lt=row.pk,
            status__in=[Status.WAITING, Status.SILENCED],
        ).exists()
    )


def _was_told(row: Notification, alert: Alert) -> bool:
    wanted = [Status.WAITING, Status.SENT, Status.SILENCED]
    earlier = Notification.objects.filter(
        channel=row.channel_id, transition__alert=alert, pk__lt=row.pk, status__in=wanted
    )
    return earlier.exists()


def _silence_of(alert: Alert) -> Silence | None:
    """The silence that holds longest of those that mean the alert now."""
    labels = alert.labels()
    active = Silence.objects.filter(environment=alert.environment_id).active(clock.now())
    return next(
        (each for each in active.order_by("-ends_at") if matches(each.matchers, labels)), None
    )


def _put_off(row: Notification, silence: Silence, *, is_over: bool) -> None:
    """Until the silence ends; of what is over by then nobody is told."""
    if is_over:
        _finish(row, Status.DROPPED, _("It was silenced: %(why)s") % {"why": silence.reason})
        return
    Notification.objects.filter(pk=row.pk, attempts=row.attempts).update(
        status=Status.SILENCED, due_at=silence.ends_at
    )


def _finish(row: Notification, status: str, why: str) -> None:
    now = clock.now()
    line = {"at": clock.rfc3339(now), "outcome": why, "seconds": 0.0}
    Notification.objects.filter(pk=row.pk, attempts=row.attempts).due(now).update(
        status=status, finished_at=now, log=[*row.log, line]
    )


@transaction.atomic
def settle(claim: Claim, receipt: Receipt) -> None:
    """Write down what came of an attempt, and when the next is, if there is one.

    A process that was given up on meanwhile may still say that it delivered.
    """
    row = Notification.objects.select_related("channel").get(pk=claim.notification_id)
    now = clock.now()
    outcome = "delivered" if receipt.is_delivered else receipt.error
    line = {"at": clock.rfc3339(now), "outcome": outcome, "seconds": round(receipt.seconds, 3)}
    changes: dict[str, Any] = {"log": [*row.log, line]}
    if receipt.is_delivered:
        changes |= {"status": Status.SENT, "finished_at": now}
    elif row.attempts == claim.attempt:
        wait = None if receipt.is_permanent else attempts.wait_after(claim.attempt)
        is_test = row.about == Notification.About.TEST
        if wait is None or is_test:
            changes |= {"status": Status.FAILED, "finished_at": now}
        else:
            changes |= {"due_at": now + wait}
    Notification.objects.filter(pk=row.pk).exclude(status=Status.SENT).update(**changes)
    Channel.objects.filter(pk=row.channel_id).update(took_seconds=receipt.seconds)
    log.info(
        "notification.attempted",
        notification_id=row.pk,
        channel_id=row.channel_id,
        attempt=claim.attempt,
        delivered=receipt.is_delivered,
        status=receipt.status,
    )
    if receipt.is_permanent:
        why = _("The receiver answered %(status)s: it is gone for good.")
        _give_up(row.channel, why % {"status": f"HTTP {receipt.status}"})


def _give_up(channel: Channel, why: str) -> None:
    """Disable a channel that cannot be told anything, with a word for people."""
    before = channel.as_audited()
    rows = Channel.objects.filter(pk=channel.pk, enabled=True)
    if rows.update(enabled=False, disabled_reason=why, version=F("version") + 1) != 1:
        return
    channel.refresh_from_db()
    Notification.objects.filter(
        channel=channel, status__in=[Status.WAITING, Status.SILENCED]
    ).update(status=Status.FAILED, finished_at=clock.now())
    audit.record(
        "channel.disabled",
        channel,
        actor=automation("notifications", channel.environment_id),
        environment_id=channel.environment_id,
        before=before,
        after=channel.as_audited(),
        reason=why,
    )
