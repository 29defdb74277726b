"""What people do to an alert."""

from django.db import transaction
from django.utils.translation import gettext as _

from apps.alerts.models import Alert
from apps.audit import services as audit
from apps.core import bus, clock, leases
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict


@transaction.atomic
def acknowledge_alert(alert_id: int, *, version: int | None, note: str = "", actor: Actor) -> Alert:
    """Say that somebody looks after it. It goes on being evaluated, and told of when it ends.

    Raises:
        NotFound, Stale.
        RuleBroken: a note that cannot be kept.
        Conflict: it is resolved, or somebody did.
    """
    rows = Alert.objects.select_related("service", "environment", "rule")
    alert = get_visible(rows, actor=actor, pk=alert_id)
    leases.check_note(note)
    check_version(alert, version)
    if not alert.is_open:
        raise Conflict(_("This alert is resolved."))
    if alert.acknowledged_at is not None:
        raise Conflict(
            _("%(who)s acknowledged this alert already.") % {"who": alert.acknowledged_by}
        )
    before = alert.as_audited()
    swap(
        alert,
        version=version,
        acknowledged_by=actor.label[:150],
        acknowledged_at=clock.now(),
        note=note,
    )
    audit.record(
        "alert.acknowledged",
        alert,
        actor=actor,
        environment_id=alert.environment_id,
        before=before,
        after=alert.as_audited(),
        reason=note,
    )
    bus.announce("alerts", environment_id=alert.environment_id)
    return alert
