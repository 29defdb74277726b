"""What is the matter, how it came, and what is not to be told of it."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.alerts.models.rule import Rule, Severity
from apps.alerts.rules import kinds, states
from apps.alerts.rules.states import Memory
from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import Versioned


class AlertQuerySet(models.QuerySet["Alert"]):
    def visible_to(self, actor: Actor) -> Self:
        """Alerts of the environments the actor may see; a service's token sees its own."""
        rows = self.filter(environment__in=actor.environment_ids)
        if actor.service_id is not None:
            rows = rows.filter(service_id=actor.service_id)
        return rows

    def open(self) -> Self:
        """Pending, firing, or without data."""
        return self.filter(state__in=states.OPEN)


class Alert(Versioned):
    """Something is the matter with one subject, by one rule; kept after it is resolved."""

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        FIRING = "firing", _("firing")
        NO_DATA = "no_data", _("no data")
        RESOLVED = "resolved", _("resolved")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, related_name="+")
    # What the rule was when it fired: the history outlives it.
    key = models.CharField(max_length=80)
    kind = models.CharField(max_length=20, choices=Rule.Kind.choices)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    threshold = models.FloatField()
    subject = models.CharField(max_length=300)  # names it, and never changes
    service = models.ForeignKey("fleet.Service", models.SET_NULL, null=True, related_name="+")
    dependency = models.CharField(max_length=80, blank=True)  # slug
    check_name = models.CharField(max_length=120, blank=True)
    instance = models.CharField(max_length=120, blank=True)
    state = models.CharField(max_length=8, choices=State.choices)
    active_at = models.DateTimeField()  # the condition was first met
    fired_at = models.DateTimeField(null=True)
    unmet_at = models.DateTimeField(null=True)  # while it fires: since when the condition is not
    resolved_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=200, blank=True)  # why, if not by the value
    value = models.FloatField(null=True)  # when last measured, in the kind's unit
    samples = models.PositiveBigIntegerField(default=0)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=500, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("-active_at",)
        constraints = [
            models.UniqueConstraint(  # two evaluators never open the same alert twice
                fields=["rule", "subject"],
                condition=Q(state__in=["pending", "firing", "no_data"]),
                name="alerts_alert_one_open",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "firing", "no_data", "resolved"]),
                name="alerts_alert_state",
            ),
            models.CheckConstraint(
                condition=~Q(state="firing") | Q(fired_at__isnull=False),
                name="alerts_alert_firing_since",
            ),
            models.CheckConstraint(
                condition=~Q(state="resolved") | Q(resolved_at__isnull=False),
                name="alerts_alert_resolved_since",
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "state"], name="alerts_alert_by_state"),
            models.Index(fields=["environment", "-active_at"], name="alerts_alert_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.subject}"

    @property
    def unit(self) -> str:
        return kinds.KINDS[self.kind].unit

    @property
    def shown_value(self) -> str:
        return kinds.shown(self.value, self.unit)

    @property
    def shown_threshold(self) -> str:
        return kinds.shown(self.threshold, self.unit)

    @property
    def is_open(self) -> bool:
        return self.state in states.OPEN

    @property
    def memory(self) -> Memory:
        """What the next evaluation goes on from."""
        return Memory(self.state, self.active_at, self.fired_at, self.unmet_at)

    def labels(self) -> dict[str, str]:
        """What silences and channels go by, and receivers of webhooks."""
        return {
            "rule": self.key,
            "kind": self.kind,
            "severity": self.severity,
            "service": self.service.slug if self.service else "",
            "dependency": self.dependency,
            "check": self.check_name,
            "instance": self.instance,
        }

    def as_audited(self) -> dict[str, Any]:
        return {
            "rule": self.key,
            "subject": self.subject,
            "state": self.state,
            "acknowledged_by": self.acknowledged_by,
            "acknowledged_at": clock.rfc3339_or_none(self.acknowledged_at),
            "note": self.note,
        }


class Transition(models.Model):
    """An alert came into another state; rows of one alert are its timeline."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="transitions")
    at = models.DateTimeField()
    from_state = models.CharField(max_length=8, blank=True)  # empty: nothing was the matter
    to_state = models.CharField(max_length=8, choices=Alert.State.choices)
    value = models.FloatField(null=True)
    samples = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class SilenceQuerySet(models.QuerySet["Silence"]):
    def visible_to(self, actor: Actor) -> Self:
        """Silences of the environments the actor may see."""
        return self.filter(environment__in=actor.environment_ids)

    def active(self, now: datetime) -> Self:
        return self.filter(starts_at__lte=now, ends_at__gt=now)


class Silence(Versioned):
    """Of matching alerts nobody is told for a time. They are evaluated and resolved as ever."""

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    matchers = models.JSONField()  # [{name, value, is_equal}]: all must hold
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=500)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SilenceQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("-ends_at",)
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gte=models.F("starts_at")), name="alerts_silence_forward"
            ),
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(author=""), name="alerts_silence_says_why"
            ),
        ]
        indexes = [models.Index(fields=["environment", "ends_at"], name="alerts_silence_active")]

    def __str__(self) -> str:
        words = {True: "=", False: "≠"}
        return ", ".join(
            f"{each['name']} {words[each.get('is_equal', True)]} {each['value']}"
            for each in self.matchers
        )

    @property
    def state(self) -> str:
        """pending, active or expired."""
        now = clock.now()
        if self.ends_at <= now:
            return "expired"
        return "pending" if self.starts_at > now else "active"

    def as_audited(self) -> dict[str, Any]:
        return {
            "matchers": self.matchers,
            "starts_at": clock.rfc3339(self.starts_at),
            "ends_at": clock.rfc3339(self.ends_at),
            "reason": self.reason,
            "author": self.author,
        }
