"""Degradation flags: switches with which services degrade on purpose, for a time."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.fleet.models import NAME, SLUG


class FlagQuerySet(models.QuerySet["Flag"]):
    def visible_to(self, actor: Actor) -> Self:
        """Flags of the environments the actor may see; a service's token sees those it obeys."""
        rows = self.filter(environment__in=actor.environment_ids)
        if actor.service_id is not None:
            rows = rows.filter(Q(service=None) | Q(service=actor.service_id))
        return rows

    def engaged(self, now: datetime) -> Self:
        """Flags that hold at `now`: switched on, their lease not over."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), enabled=True)

    def due(self, now: datetime) -> Self:
        """Flags that are switched on, but whose lease is over."""
        return self.filter(enabled=True, expires_at__lte=now)


class Flag(Versioned):
    """A switch that makes the services of an environment, or one of them, degrade on purpose."""

    class Kind(models.TextChoices):
        READ_ONLY = "read_only", _("read-only")
        FALLBACK = "fallback", _("fallback")
        FEATURE_OFF = "feature_off", _("feature off")
        CUSTOM = "custom", _("custom")

    class OnStale(models.TextChoices):
        HOLD = "hold", _("hold: stays as it is")
        REVERT = "revert", _("revert: ends by itself")

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    service = models.ForeignKey(  # null: every service of the environment
        "fleet.Service", models.PROTECT, null=True, blank=True, related_name="+"
    )
    key = models.CharField(max_length=80, validators=[NAME])
    kind = models.CharField(max_length=11, choices=Kind.choices)
    dependencies = models.JSONField(null=True, blank=True)  # of fallback: slugs; null: all
    value = models.JSONField(null=True, blank=True)  # of custom
    percentage = models.FloatField(default=100.0)  # 0–100, of custom: share of keys it is on for
    on_stale = models.CharField(max_length=6, choices=OnStale.choices, default=OnStale.HOLD)
    enabled = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True)  # UTC; null: until somebody ends it
    # Who engaged it last, when and why. Later changes are in the audit log.
    reason = models.CharField(max_length=500, blank=True)
    set_by = models.CharField(max_length=150, blank=True)
    set_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = FlagQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("key",)
        constraints = [
            # Two, because SQLite cannot treat NULLs as equal in one.
            models.UniqueConstraint(
                fields=["environment", "key"],
                condition=Q(service__isnull=True),
                name="degradation_flag_key_of_environment",
            ),
            models.UniqueConstraint(
                fields=["service", "key"],
                condition=Q(service__isnull=False),
                name="degradation_flag_key_of_service",
            ),
            models.CheckConstraint(
                condition=Q(key__regex=SLUG.pattern), name="degradation_flag_key_form"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["read_only", "fallback", "feature_off", "custom"]),
                name="degradation_flag_kind",
            ),
            models.CheckConstraint(
                condition=Q(on_stale__in=["hold", "revert"]), name="degradation_flag_on_stale"
            ),
            models.CheckConstraint(
                condition=Q(percentage__gte=0, percentage__lte=100),
                name="degradation_flag_percentage",
            ),
            models.CheckConstraint(
                condition=Q(kind="custom") | Q(percentage=100, value__isnull=True),
                name="degradation_flag_custom_only",
            ),
            models.CheckConstraint(
                condition=Q(kind="fallback") | Q(dependencies__isnull=True),
                name="degradation_flag_fallback_only",
            ),
            models.CheckConstraint(
                condition=Q(enabled=False, expires_at__isnull=True)
                | (Q(enabled=True, set_at__isnull=False) & ~Q(reason="") & ~Q(set_by="")),
                name="degradation_flag_engaged_says_why",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=models.F("set_at")),
                name="degradation_flag_lease_forward",
            ),
        ]
        indexes = [
            models.Index(  # the lease task: engaged flags by their end
                "expires_at", condition=Q(enabled=True), name="degradation_flag_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.service}" if self.service else self.key

    @property
    def scope(self) -> str:
        return "environment" if self.service_id is None else "service"

    @property
    def is_engaged(self) -> bool:
        """Whether it holds now: switched on, its lease not over."""
        return self.enabled and (self.expires_at is None or self.expires_at > clock.now())

    def body(self) -> dict[str, Any]:
        """The flag as services read it."""
        return {
            "kind": self.kind,
            "scope": self.scope,
            "dependencies": self.dependencies,
            "enabled": self.enabled,
            "value": self.value,
            "percentage": self.percentage,
            "reason": self.reason,
            "set_by": self.set_by,
            "set_at": clock.rfc3339_or_none(self.set_at),
            "expires_at": clock.rfc3339_or_none(self.expires_at),
            "on_stale": self.on_stale,
        }

    def as_audited(self) -> dict[str, Any]:
        service = self.service.slug if self.service else None
        return {"key": self.key, "service": service, **self.body()}
