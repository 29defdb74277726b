"""What is the matter in an environment: for the home page and the wall."""

from dataclasses import dataclass
from datetime import datetime

from apps.alerts.models import Alert, Silence
from apps.alerts.rules import kinds
from apps.alerts.rules.matching import matches
from apps.core import clock

WORST_FIRST = {"critical": 0, "error": 1, "warning": 2, "info": 3}


@dataclass(frozen=True)
class Firing:
    """An alert that people should see: it fires, or nothing is heard any more."""

    id: int
    rule: str
    severity: str
    subject: str
    service: str  # slug, or ""
    dependency: str  # slug, or ""
    state: str  # firing, no_data
    since: datetime
    value: float | None
    unit: str
    samples: int
    shown_value: str
    threshold: float
    acknowledged_by: str
    is_silenced: bool


def firing(environment_id: int) -> list[Firing]:
    """Alerts that fire or miss their data, the worst and newest first; two queries."""
    alerts = Alert.objects.filter(
        environment_id=environment_id, state__in=[Alert.State.FIRING, Alert.State.NO_DATA]
    )
    active = Silence.objects.filter(environment_id=environment_id).active(clock.now())
    silences = [silence.matchers for silence in active]
    found = [_firing(alert, silences) for alert in alerts.select_related("service")]
    return sorted(found, key=lambda one: (WORST_FIRST[one.severity], -one.since.timestamp()))


def _firing(alert: Alert, silences: list[list[dict[str, object]]]) -> Firing:
    labels = alert.labels()
    return Firing(
        id=alert.pk,
        rule=alert.key,
        severity=alert.severity,
        subject=alert.subject,
        service=labels["service"],
        dependency=alert.dependency,
        state=alert.state,
        since=alert.fired_at or alert.active_at,
        value=alert.value,
        unit=alert.unit,
        samples=alert.samples,
        shown_value=kinds.shown(alert.value, alert.unit),
        threshold=alert.threshold,
        acknowledged_by=alert.acknowledged_by,
        is_silenced=any(matches(matchers, labels) for matchers in silences),
    )
