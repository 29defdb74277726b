"""Changes to silences: they hold back messages, never evaluation or resolution."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from apps.alerts.models import Notification, Silence
from apps.alerts.rules.bounds import LONGEST_SILENCE, SHORTEST_SILENCE, check_matchers
from apps.alerts.services.alert_rules import check_reach
from apps.audit import services as audit
from apps.core import bus, clock, leases
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, RuleBroken

LONGEST = timedelta(seconds=LONGEST_SILENCE)


@transaction.atomic
def create_silence(
    matchers: Sequence[Mapping[str, Any]],
    *,
    lease: timedelta,
    starts_at: datetime | None = None,
    reason: str,
    actor: Actor,
) -> Silence:
    """Hold back messages about alerts that every matcher holds of, for a time.

    Raises:
        RuleBroken: no matcher, no reason, a lease under a minute or over 30 days, or a start more
            than 30 days away.
        Forbidden: the actor is bound to one service.
    """
    check_reach(actor)
    leases.check_reason(reason)
    check_matchers(matchers)
    now = clock.now()
    start = max(starts_at or now, now)
    _check_times(lease, start - now)
    silence = Silence.objects.create(
        environment_id=actor.environment_id,
        matchers=[dict(each) for each in matchers],
        starts_at=start,
        ends_at=start + lease,
        reason=reason,
        author=actor.label[:150],
    )
    _tell("silence.created", silence, actor, reason)
    return silence


@transaction.atomic
def end_silence(silence_id: int, *, version: int | None, reason: str, actor: Actor) -> Silence:
    """End a silence now; what it held back and is still so is told.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: no reason.
        Conflict: it has ended.
    """
    silence = get_visible(Silence.objects.all(), actor=actor, pk=silence_id)
    check_reach(actor)
    leases.check_reason(reason)
    check_version(silence, version)
    now = clock.now()
    if silence.ends_at <= now:
        raise Conflict(_("This silence has ended."))
    before = silence.as_audited()
    swap(silence, version=version, starts_at=min(silence.starts_at, now), ends_at=now)
    held_back = Notification.objects.filter(
        environment_id=silence.environment_id, status=Notification.Status.SILENCED
    )
    held_back.update(due_at=now)  # each is looked at anew: another silence may mean it too
    bus.announce("notifications", environment_id=silence.environment_id)
    _tell("silence.ended", silence, actor, reason, before)
    return silence


def _check_times(lease: timedelta, delay: timedelta) -> None:
    errors: dict[str, list[str]] = {}
    if not timedelta(seconds=SHORTEST_SILENCE) <= lease <= LONGEST:
        errors["lease_seconds"] = [_("A silence holds from 60 seconds to 30 days.")]
    if delay > LONGEST:
        errors["starts_at"] = [_("It must start within 30 days.")]
    if errors:
        raise RuleBroken(_("Nothing was silenced."), errors=errors)


def _tell(
    action: str,
    silence: Silence,
    actor: Actor,
    reason: str,
    before: dict[str, Any] | None = None,
) -> None:
    audit.record(
        action,
        silence,
        actor=actor,
        environment_id=silence.environment_id,
        before=before,
        after=silence.as_audited(),
        reason=reason,
    )
    bus.announce("alerts", environment_id=silence.environment_id)
