"""What Holdfast may switch by itself when an alert fires."""

from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.alerts.models.alert import Alert
from apps.alerts.models.rule import Rule
from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.fleet.models import NAME, SLUG


class ActionQuerySet(models.QuerySet["Action"]):
    def visible_to(self, actor: Actor) -> Self:
        """Actions of the environments the actor may see."""
        return self.filter(environment__in=actor.environment_ids)


class Action(Versioned):
    """While a rule's alert fires, a flag is engaged; in shadow that is only written down."""

    class Mode(models.TextChoices):
        SHADOW = "shadow", _("shadow: only say what would be done")
        ARMED = "armed", _("armed: do it")

    class FlagKind(models.TextChoices):
        FALLBACK = "fallback", _("fallback")
        FEATURE_OFF = "feature_off", _("feature off")
        READ_ONLY = "read_only", _("read-only")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    rule = models.ForeignKey(Rule, models.CASCADE, related_name="+")
    flag_key = models.CharField(max_length=80, validators=[NAME])
    flag_kind = models.CharField(max_length=11, choices=FlagKind.choices)
    service = models.ForeignKey(  # null: the flag of the whole environment
        "fleet.Service", models.CASCADE, null=True, blank=True, related_name="+"
    )
    dependencies = models.JSONField(null=True, blank=True)  # of fallback: slugs; null: all
    lease_seconds = models.PositiveIntegerField()  # renewed while the alert fires, up to
    max_lease_seconds = models.PositiveIntegerField()  # since it was engaged
    mode = models.CharField(max_length=6, choices=Mode.choices, default=Mode.SHADOW)
    release_on_recovery = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ActionQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("flag_key",)
        verbose_name = _("automatic action")
        verbose_name_plural = _("automatic actions")
        constraints = [
            models.CheckConstraint(
                condition=Q(flag_key__regex=SLUG.pattern), name="alerts_action_key_form"
            ),
            models.CheckConstraint(
                condition=Q(mode__in=["shadow", "armed"]), name="alerts_action_mode"
            ),
            models.CheckConstraint(
                condition=Q(flag_kind__in=["fallback", "feature_off", "read_only"]),
                name="alerts_action_kind",
            ),
            models.CheckConstraint(
                condition=Q(lease_seconds__lte=models.F("max_lease_seconds")),
                name="alerts_action_lease",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule} → {self.flag_key}"

    def as_audited(self) -> dict[str, Any]:
        return {
            "rule": self.rule.key,
            "flag_key": self.flag_key,
            "flag_kind": self.flag_kind,
            "service": self.service.slug if self.service else None,
            "dependencies": self.dependencies,
            "lease_seconds": self.lease_seconds,
            "max_lease_seconds": self.max_lease_seconds,
            "mode": self.mode,
            "release_on_recovery": self.release_on_recovery,
        }


class SettingsQuerySet(models.QuerySet["AlertEnvironmentSettings"]):
    def visible_to(self, actor: Actor) -> Self:
        """Settings of the environments the actor may see."""
        return self.filter(environment__in=actor.environment_ids)


class AlertEnvironmentSettings(Versioned):
    """The one switch that stops every automatic action of an environment."""

    environment = models.OneToOneField(
        "fleet.Environment", models.CASCADE, primary_key=True, related_name="+"
    )
    frozen = models.BooleanField(default=False)
    reason = models.CharField(max_length=500, blank=True)
    set_by = models.CharField(max_length=150, blank=True)
    set_at = models.DateTimeField(null=True)

    objects = SettingsQuerySet.as_manager()

    class Meta(Versioned.Meta):
        verbose_name = _("freeze switch")
        verbose_name_plural = _("freeze switches")

    def __str__(self) -> str:
        return str(self.environment)

    def as_audited(self) -> dict[str, Any]:
        return {"frozen": self.frozen, "reason": self.reason}


class EngagementQuerySet(models.QuerySet["Engagement"]):
    def visible_to(self, actor: Actor) -> Self:
        """What was done in the environments the actor may see."""
        return self.filter(environment__in=actor.environment_ids)


class Engagement(models.Model):
    """What an action did, or would have done, because of an alert."""

    class Outcome(models.TextChoices):
        ENGAGED = "engaged", _("engaged")
        SHADOW = "shadow", _("would have engaged")
        FROZEN = "frozen", _("frozen: nothing was done")
        REFUSED = "refused", _("could not be engaged")
        RELEASED = "released", _("released")
        TAKEN_OVER = "taken_over", _("a person took over")
        LEFT = "left", _("left to its lease")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    action = models.ForeignKey(Action, models.CASCADE, related_name="+")
    alert = models.ForeignKey(Alert, models.CASCADE, related_name="engagements")
    at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    detail = models.CharField(max_length=500, blank=True)  # what it hits, or why it was not done
    flag_id = models.BigIntegerField(null=True)  # no foreign key: flags may be deleted
    flag_version = models.PositiveIntegerField(null=True)  # as it left it: nobody touched it since
    until = models.DateTimeField(null=True)  # the end of its lease, as it left it
    ended_at = models.DateTimeField(null=True)

    objects = EngagementQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(  # one flag is engaged once, whatever number of alerts fire
                fields=["action"],
                condition=Q(outcome="engaged"),
                name="alerts_engagement_one_engaged",
            )
        ]

    def __str__(self) -> str:
        return f"{self.action}: {self.outcome}"

    @property
    def is_engaged(self) -> bool:
        return self.outcome == self.Outcome.ENGAGED
