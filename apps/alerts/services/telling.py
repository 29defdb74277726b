"""Writing down what is to be told: messages, in the transaction of what they tell of."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from apps.alerts.models import Alert, Channel, Notification, Transition
from apps.alerts.rules.defaults import runbook
from apps.core import bus, clock
from apps.fleet.models import Environment

DOCUMENT_VERSION = "4"  # of Alertmanager's webhook, whose members ours has


def tell_of_alert(alert: Alert, transition: Transition) -> None:
    """Have every channel told that wants alerts of this severity.

    Of its end only those are told that are told of its beginning.
    """
    channels = [
        channel
        for channel in Channel.objects.filter(environment_id=alert.environment_id, enabled=True)
        if alert.severity in channel.severities
    ]
    if transition.to_state == Alert.State.RESOLVED:
        told = _told(alert)
        channels = [channel for channel in channels if channel.pk in told]
    title, body = _words(alert, transition)
    document = alert_document(alert, transition)
    write(
        channels,
        Notification.About.ALERT,
        f"alert {alert.pk} transition {transition.pk}",
        title,
        body,
        document,
        transition=transition,
    )


def write(
    channels: Iterable[Channel],
    about: str,
    key: str,
    title: str,
    body: str,
    document: Mapping[str, Any],
    *,
    transition: Transition | None = None,
) -> None:
    """Write one message per channel; a channel that has one of this key gets no second."""
    now = clock.now()
    rows = [
        Notification(
            environment_id=channel.environment_id,
            channel=channel,
            about=about,
            key=key,
            transition=transition,
            title=title[:300],
            body=body,
            document={**document, "receiver": channel.name},
            due_at=now,
            created_at=now,
        )
        for channel in channels
    ]
    if rows:
        Notification.objects.bulk_create(rows, ignore_conflicts=True)
        bus.announce("notifications", environment_id=rows[0].environment_id)


def _told(alert: Alert) -> set[int]:
    """Channels that were, or will be, told of the alert; what a silence holds back is dropped."""
    earlier = Notification.objects.filter(transition__alert=alert)
    earlier.filter(status=Notification.Status.SILENCED).update(
        status=Notification.Status.DROPPED, finished_at=clock.now()
    )
    wanted = [Notification.Status.WAITING, Notification.Status.SENT]
    return set(earlier.filter(status__in=wanted).values_list("channel_id", flat=True))


def wanting(environment_id: int, wish: str) -> list[Channel]:
    """Channels that want what `wish` names: wants_switches, wants_endings or wants_ends."""
    return list(Channel.objects.filter(environment_id=environment_id, enabled=True, **{wish: True}))


def _words(alert: Alert, transition: Transition) -> tuple[str, str]:
    state = {
        Alert.State.FIRING: _("FIRING"),
        Alert.State.RESOLVED: _("RESOLVED"),
        Alert.State.NO_DATA: _("NO DATA"),
    }[Alert.State(transition.to_state)]
    title = f"[{state}] {alert.key}: {alert.subject}"
    lines = [
        _("Environment: %(environment)s") % {"environment": alert.environment.slug},
        _("Severity: %(severity)s") % {"severity": alert.get_severity_display()},
        _("Value: %(value)s of %(samples)d samples; threshold %(threshold)s")
        % {
            "value": alert.shown_value,
            "samples": alert.samples,
            "threshold": alert.shown_threshold,
        },
        _("Since: %(since)s") % {"since": _moment(alert.active_at)},
    ]
    if alert.resolved_at is not None:
        lines.append(_("Resolved: %(at)s") % {"at": _moment(alert.resolved_at)})
    if alert.resolution:
        lines.append(alert.resolution)
    if where := _runbook(alert):
        lines.append(_("What to do: %(where)s") % {"where": where})
    return title, "\n".join(lines)


def _moment(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _runbook(alert: Alert) -> str:
    return (alert.rule.runbook_url if alert.rule else "") or runbook(alert.key)


def alert_document(alert: Alert, transition: Transition) -> dict[str, Any]:
    """What a webhook gets: Alertmanager's version 4 with one alert in it."""
    title, body = _words(alert, transition)
    is_over = transition.to_state == Alert.State.RESOLVED
    labels = {"alertname": alert.key, "environment": alert.environment.slug, **alert.labels()}
    one = {
        "status": "resolved" if is_over else "firing",
        "state": transition.to_state,
        "labels": labels,
        "annotations": {"summary": title, "description": body, "runbook_url": _runbook(alert)},
        "startsAt": clock.rfc3339(alert.active_at),
        "endsAt": clock.rfc3339_or_none(alert.resolved_at),
        "generatorURL": f"/admin/alerts/alert/{alert.pk}/change/",
        "fingerprint": f"{alert.environment.slug}/{alert.key}/{alert.subject}",
        "value": alert.value,
        "unit": alert.unit,
        "samples": alert.samples,
        "threshold": alert.threshold,
    }
    return envelope(
        alert.environment,
        "alert",
        status=str(one["status"]),
        group=f"{alert.environment.slug}/{alert.key}/{alert.subject}",
        title=title,
        labels=labels,
        alerts=[one],
    )


def envelope(
    environment: Environment,
    about: str,
    *,
    status: str,
    group: str,
    title: str,
    labels: Mapping[str, str],
    alerts: list[dict[str, Any]] | None = None,
    event: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The members every document has; `event` says what happened where it is no alert."""
    return {
        "version": DOCUMENT_VERSION,
        "about": about,
        "status": status,
        "groupKey": group,
        "truncatedAlerts": 0,
        "groupLabels": {"environment": environment.slug},
        "commonLabels": dict(labels),
        "commonAnnotations": {"summary": title},
        "externalURL": "",
        "alerts": alerts or [],
        "event": dict(event or {}),
    }
