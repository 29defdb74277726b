"""What Holdfast switches by itself: in shadow unless armed, never while frozen, never over people.

Everything here runs in the transaction of the transition it follows from, or in one of its own.

A fallback flag skips the very calls that some rules judge by: while it is engaged, nothing tells
whether the dependency is back. So the lease of such a flag is not renewed. When it is over the
calls say how things are, and if the alert still fires after a while the flag is engaged again.
"""

from datetime import timedelta

import structlog
from django.db import transaction
from django.utils.translation import gettext as _

from apps.alerts.models import Action, Alert, AlertEnvironmentSettings, Engagement
from apps.alerts.rules import kinds
from apps.core import clock
from apps.core.actor import Actor, automation
from apps.core.errors import Conflict, DomainError
from apps.degradation import selectors as degradation_reads
from apps.degradation import services as degradation
from apps.degradation.models import Flag

log = structlog.get_logger(__name__)

AUTOMATION = "alert action"
RENEW_BEFORE = timedelta(seconds=30)  # the end of a lease; the shortest lease is a minute
PROBE = timedelta(seconds=60)  # of calls, before a flag that hides them is engaged again
Outcome = Engagement.Outcome


def engage_for(alert: Alert) -> None:
    """Do, or in shadow write down, what the actions of the alert's rule say."""
    actions = Action.objects.filter(rule=alert.rule_id).select_related("service", "rule")
    for action in actions.order_by("pk"):
        if not Engagement.objects.filter(action=action, outcome=Outcome.ENGAGED).exists():
            _engage(action, alert)


def release_after(alert: Alert) -> None:
    """End what actions engaged because of the alert's rule, once none of its alerts fires."""
    if _is_firing(alert.rule_id):
        return
    held = Engagement.objects.filter(action__rule=alert.rule_id, outcome=Outcome.ENGAGED)
    for engagement in held.select_related("action").order_by("pk"):
        if not is_frozen(alert.environment_id):
            _release(engagement, alert)


def look_after(environment_id: int) -> None:
    """Renew leases of what alerts still need, and notice what people took over."""
    held = Engagement.objects.filter(environment_id=environment_id, outcome=Outcome.ENGAGED)
    for engagement in held.select_related("action__rule", "alert").order_by("pk"):
        with transaction.atomic():
            _look_after(engagement)
    hiding = Action.objects.filter(
        environment_id=environment_id,
        mode=Action.Mode.ARMED,
        flag_kind=Action.FlagKind.FALLBACK,
        rule__kind__in=kinds.OF_CALLS,
    )
    for action in hiding.select_related("service", "rule").order_by("pk"):
        if (alert := _still_needed_for(action)) and not is_frozen(environment_id):
            with transaction.atomic():
                _engage(action, alert)


def is_frozen(environment_id: int) -> bool:
    """Whether somebody stopped all automatic actions of the environment."""
    return AlertEnvironmentSettings.objects.filter(pk=environment_id, frozen=True).exists()


def blast_radius(action: Action) -> str:
    """Whom engaging it would hit now, in words."""
    if action.flag_kind == Action.FlagKind.FALLBACK:
        flag = Flag(
            environment_id=action.environment_id,
            service_id=action.service_id,
            dependencies=action.dependencies,
        )
        return str(degradation_reads.impact_of(flag))
    return str(degradation_reads.impact(action.environment_id, service_id=action.service_id))


def _is_firing(rule_id: int | None) -> bool:
    return Alert.objects.open().filter(rule=rule_id, fired_at__isnull=False).exists()


def _still_needed_for(action: Action) -> Alert | None:
    """The alert that fires on although calls had their time since the action's flag lapsed.

    None as well if the flag was engaged for as long as the action may, since the alert fired.
    """
    now = clock.now()
    last = Engagement.objects.filter(action=action).order_by("-pk").first()
    if last is None or last.outcome != Outcome.LEFT or not last.ended_at:
        return None
    firing = Alert.objects.filter(rule=action.rule_id, state=Alert.State.FIRING, unmet_at=None)
    alert = firing.order_by("fired_at").first()
    if alert is None or now - last.ended_at < PROBE:
        return None
    since = Engagement.objects.filter(action=action, at__gte=alert.fired_at).order_by("pk").first()
    end = (since.at if since else now) + timedelta(seconds=action.max_lease_seconds)
    return alert if now + timedelta(seconds=action.lease_seconds) <= end else None


def _hides(action: Action) -> bool:
    """Whether its flag skips the calls by which its rule judges."""
    kind = kinds.KINDS[action.rule.kind]
    return kind.of_calls and action.flag_kind == Action.FlagKind.FALLBACK


def _engage(action: Action, alert: Alert) -> None:
    outcome, detail, flag = Outcome.SHADOW, blast_radius(action), None
    if is_frozen(action.environment_id):
        outcome = Outcome.FROZEN
    elif action.mode == Action.Mode.ARMED:
        try:
            with transaction.atomic():
                flag = _switch_on(action, alert)
            outcome = Outcome.ENGAGED
        except DomainError as error:
            outcome, detail = Outcome.REFUSED, error.detail
    Engagement.objects.create(
        environment_id=action.environment_id,
        action=action,
        alert=alert,
        at=clock.now(),
        outcome=outcome,
        detail=detail[:500],
        flag_id=flag.pk if flag else None,
        flag_version=flag.version if flag else None,
        until=flag.expires_at if flag else None,
    )
    log.info(
        "action.taken",
        action_id=action.pk,
        alert_id=alert.pk,
        environment_id=action.environment_id,
        outcome=str(outcome),
    )


def _switch_on(action: Action, alert: Alert) -> Flag:
    """Engage the action's flag, made if it is missing; one that people engaged is theirs."""
    actor = _actor(action)
    flag = Flag.objects.filter(
        environment_id=action.environment_id, service=action.service, key=action.flag_key
    ).first()
    if flag is None:
        flag = degradation.create_flag(
            action.flag_key,
            kind=action.flag_kind,
            service=action.service,
            settings={"dependencies": action.dependencies} if action.dependencies else None,
            actor=actor,
        )
    if flag.kind != action.flag_kind:
        raise Conflict(_("The flag of this key is of another kind."))
    return degradation.engage_flag(
        flag.pk,
        version=flag.version,
        lease=timedelta(seconds=action.lease_seconds),
        reason=_("alert %(alert)s: %(value)s")
        % {"alert": str(alert)[:400], "value": alert.shown_value},
        actor=actor,
    )


def _release(engagement: Engagement, alert: Alert) -> None:
    if not engagement.action.release_on_recovery:
        _end(engagement, Outcome.LEFT, _("It stays engaged until its lease is over."))
        return
    flag_id = engagement.flag_id or 0  # it is set where something is engaged
    try:
        with transaction.atomic():
            degradation.end_flag(
                flag_id,
                version=engagement.flag_version,
                reason=_("resolved: %(alert)s") % {"alert": str(alert)[:400]},
                actor=_actor(engagement.action),
            )
    except DomainError:
        _end(engagement, Outcome.TAKEN_OVER, _("Somebody changed the flag meanwhile."))
    else:
        _end(engagement, Outcome.RELEASED, "")


def _look_after(engagement: Engagement) -> None:
    flag = Flag.objects.filter(pk=engagement.flag_id or 0).first()
    if flag is None or flag.version != engagement.flag_version:
        _end(engagement, _how_it_ended(engagement, flag), "")
        return
    if not _is_firing(engagement.action.rule_id):
        if not is_frozen(engagement.environment_id):  # it was frozen when the alert resolved
            _release(engagement, engagement.alert)
        return
    is_near = flag.expires_at is not None and flag.expires_at - clock.now() <= RENEW_BEFORE
    if is_near and not _hides(engagement.action):
        _renew(engagement, flag)


def _how_it_ended(engagement: Engagement, flag: Flag | None) -> Outcome:
    """By its lease, or by a person."""
    is_lapsed = (
        flag is not None
        and not flag.enabled
        and engagement.until is not None
        and engagement.until <= clock.now()
    )
    return Outcome.LEFT if is_lapsed else Outcome.TAKEN_OVER


def _renew(engagement: Engagement, flag: Flag) -> None:
    """Extend the lease, no further than the action's maximum since it was engaged."""
    action, now = engagement.action, clock.now()
    left = engagement.at + timedelta(seconds=action.max_lease_seconds) - now
    lease = min(timedelta(seconds=action.lease_seconds), left)
    is_longer = flag.expires_at is not None and now + lease > flag.expires_at
    if is_frozen(action.environment_id) or not is_longer or lease < timedelta(seconds=60):
        return
    try:
        flag = degradation.extend_flag(
            flag.pk, version=flag.version, lease=lease, actor=_actor(action)
        )
    except DomainError:  # a person was quicker: the next look sees what they did
        return
    Engagement.objects.filter(pk=engagement.pk).update(
        flag_version=flag.version, until=flag.expires_at
    )


def _end(engagement: Engagement, outcome: Outcome, detail: str) -> None:
    changes = {"outcome": outcome, "ended_at": clock.now()}
    if detail:
        changes["detail"] = detail
    held = Engagement.objects.filter(pk=engagement.pk, outcome=Outcome.ENGAGED)
    held.update(**changes)


def _actor(action: Action) -> Actor:
    return automation(AUTOMATION, action.environment_id)
