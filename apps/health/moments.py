"""The timeline's part of what checks found."""

from typing import Any

from django.utils.translation import gettext as _

from apps.core.moments import Moment, Phase, Told, Wanted, newest
from apps.health import rules
from apps.health.models import Status, Transition

PHASES: dict[str, Phase] = {rules.DOWN: "begins", rules.UP: "ends"}


def transitions(wanted: Wanted) -> Told:
    """Checks that took another status. Checks are of no service: see a dependency's by its name."""
    if wanted.own_service is not None:
        return Told([])
    rows = Transition.objects.filter(subject__environment=wanted.environment_id)
    if wanted.dependency:
        rows = rows.filter(subject__dependency__slug=wanted.dependency)
    found, horizon = newest(rows.select_related("subject__dependency"), wanted)
    return Told([_turned(row) for row in found], horizon)


def _turned(row: Any) -> Moment:
    check, status = row.subject, Status(row.to_status)
    text = _("Check %(name)s is %(status)s.") % {"name": check.name, "status": status.label}
    return Moment(
        at=row.at,
        kind="health",
        text=text,
        dependency=check.dependency.slug if check.dependency else "",
        reason=row.detail,
        thread=f"health {check.pk}",
        phase=PHASES.get(row.to_status, ""),
        target=("health_check", check.pk),
        data={"check": check.name, "from": row.from_status, "to": row.to_status},
    )
