"""Where people are told, and what is to be told: the row is the queue."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.alerts.models.alert import Transition
from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.fleet.models import NAME, SLUG


class ChannelQuerySet(models.QuerySet["Channel"]):
    def visible_to(self, actor: Actor) -> Self:
        """Channels of the environments the actor may see."""
        return self.filter(environment__in=actor.environment_ids)


class Channel(Versioned):
    """A way to tell people: a mailbox, a webhook, or one of apprise's services."""

    class Kind(models.TextChoices):
        MAIL = "mail", _("mail")
        WEBHOOK = "webhook", _("webhook")
        APPRISE = "apprise", _("apprise URL")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    name = models.CharField(max_length=80, validators=[NAME])
    kind = models.CharField(max_length=7, choices=Kind.choices)
    sealed_address = models.TextField()  # a URL that may hold passwords, see core.sealing
    shown_address = models.CharField(max_length=200)  # the same without them
    severities = models.JSONField(default=list)  # of alerts it wants to hear of
    wants_switches = models.BooleanField(default=False)  # flags and overrides engaged, extended
    wants_endings = models.BooleanField(default=False)  # five minutes before they end
    wants_ends = models.BooleanField(default=False)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True)  # when it disabled itself
    took_seconds = models.FloatField(default=0.0)  # the last message; the quick ones go first
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ChannelQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(fields=["environment", "name"], name="alerts_channel_name"),
            models.CheckConstraint(
                condition=Q(name__regex=SLUG.pattern), name="alerts_channel_name_form"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["mail", "webhook", "apprise"]), name="alerts_channel_kind"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def as_audited(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "address": self.shown_address,
            "severities": self.severities,
            "wants_switches": self.wants_switches,
            "wants_endings": self.wants_endings,
            "wants_ends": self.wants_ends,
            "enabled": self.enabled,
            "disabled_reason": self.disabled_reason,
        }


class NotificationQuerySet(models.QuerySet["Notification"]):
    def visible_to(self, actor: Actor) -> Self:
        """Messages of the environments the actor may see."""
        return self.filter(environment__in=actor.environment_ids)

    def due(self, now: datetime) -> Self:
        """Messages nobody is sending, at their time."""
        return self.filter(status__in=["waiting", "silenced"], due_at__lte=now)


class Notification(models.Model):
    """One message to one channel, written in the transaction of what it tells of."""

    class About(models.TextChoices):
        ALERT = "alert", _("alert")
        SWITCH = "switch", _("switch")
        ENDING = "ending", _("coming end")
        END = "end", _("end")
        TEST = "test", _("test")

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SILENCED = "silenced", _("silenced")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")
        DROPPED = "dropped", _("no longer needed")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+")
    about = models.CharField(max_length=6, choices=About.choices)
    key = models.CharField(max_length=200)  # what it tells of: a channel is told once
    transition = models.ForeignKey(Transition, models.CASCADE, null=True, related_name="+")
    title = models.CharField(max_length=300)
    body = models.TextField()
    document = models.JSONField()  # what webhooks get
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    due_at = models.DateTimeField()  # the next attempt; while one is under way: when it is given up
    attempts = models.PositiveSmallIntegerField(default=0)  # begun
    log = models.JSONField(default=list)  # [{at, outcome, seconds}] of each attempt
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(fields=["channel", "key"], name="alerts_notification_once"),
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "silenced", "sent", "failed", "dropped"]),
                name="alerts_notification_status",
            ),
        ]
        indexes = [
            models.Index(
                "due_at",
                condition=Q(status__in=["waiting", "silenced"]),
                name="alerts_notification_due",
            ),
            models.Index(fields=["environment", "-id"], name="alerts_notification_newest"),
        ]

    def __str__(self) -> str:
        return self.title
