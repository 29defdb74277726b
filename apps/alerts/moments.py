"""The timeline's part of what alerts did."""

from typing import Any

from django.utils.translation import gettext as _

from apps.alerts.models import Alert, Transition
from apps.alerts.rules import kinds
from apps.core.moments import Moment, Phase, Told, Wanted, newest

PHASES: dict[str, Phase] = {Alert.State.FIRING: "begins", Alert.State.RESOLVED: "ends"}


def fired(wanted: Wanted) -> Told:
    """Alerts that began to fire, and those that were over."""
    rows = Transition.objects.filter(
        alert__environment=wanted.environment_id, to_state__in=PHASES, alert__fired_at__isnull=False
    )
    if wanted.own_service is not None:
        rows = rows.filter(alert__service=wanted.own_service)
    if wanted.dependency:
        rows = rows.filter(alert__dependency__in=["", wanted.dependency])
    found, horizon = newest(rows.select_related("alert__service"), wanted)
    mine = [row for row in found if not wanted.service or _is_of(row.alert, wanted.service)]
    return Told([_told(row) for row in mine], horizon)


def _is_of(alert: Alert, service: str) -> bool:
    return alert.service is None or alert.service.slug == service


def _told(row: Any) -> Moment:
    alert, state = row.alert, Alert.State(row.to_state)
    what = {"rule": alert.key, "state": state.label, "subject": alert.subject}
    return Moment(
        at=row.at,
        kind="alert",
        text=_("Alert %(rule)s is %(state)s: %(subject)s.") % what,
        service=alert.service.slug if alert.service else "",
        dependency=alert.dependency,
        instance=alert.instance,
        reason=alert.resolution if row.to_state == Alert.State.RESOLVED else "",
        thread=f"alert {alert.pk}",
        phase=PHASES[row.to_state],
        target=("alerts_alert", alert.pk),
        data={
            "rule": alert.key,
            "severity": alert.severity,
            "value": None if row.value is None else kinds.shown(row.value, alert.unit),
            "samples": row.samples,
        },
    )
