"""What is watched, and who watches."""

from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.alerts.rules.defaults import DEFAULTS
from apps.alerts.rules.kinds import KINDS
from apps.alerts.rules.states import Terms
from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.fleet.models import NAME, SLUG


class Severity(models.TextChoices):
    CRITICAL = "critical", _("critical")
    ERROR = "error", _("error")
    WARNING = "warning", _("warning")
    INFO = "info", _("info")


class RuleQuerySet(models.QuerySet["Rule"]):
    def visible_to(self, actor: Actor) -> Self:
        """Rules of the environments the actor may see; a service's token sees those about it."""
        rows = self.filter(environment__in=actor.environment_ids)
        if actor.service_id is not None:
            rows = rows.filter(Q(service=None) | Q(service=actor.service_id))
        return rows


class Rule(Versioned):
    """When something is the matter: a measure, a threshold, and for how long."""

    class Kind(models.TextChoices):
        LATENCY = "latency", _("latency: p95 above")
        ERROR_RATE = "error_rate", _("share of errors above")
        BREAKER_OPEN = "breaker_open", _("instances with an open breaker")
        BULKHEAD_FULL = "bulkhead_full", _("calls a full bulkhead rejected")
        RETRIES_EXHAUSTED = "retries_exhausted", _("calls that failed after all retries")
        CHECK_DOWN = "check_down", _("a health check is down")
        CHECK_FLAPPING = "check_flapping", _("a health check flaps")
        MEMORY_HIGH = "memory_high", _("memory in use above")
        DISK_LOW = "disk_low", _("free disk space below")
        CPU_HIGH = "cpu_high", _("CPU in use above")
        NOT_CONVERGED = "not_converged", _("something published and not applied since")
        DEAD_LETTERS_GROWING = "dead_letters_growing", _("dead letters arrived")
        DEAD_LETTERS_MANY = "dead_letters_many", _("dead letters unresolved")
        DEAD_LETTERS_OLD = "dead_letters_old", _("age of the oldest dead letter")

    class NoData(models.TextChoices):
        OK = "ok", _("as if all were well")
        ALERT = "alert", _("as if the threshold were passed")
        KEEP_LAST = "keep_last", _("it stays as it was")
        NO_DATA = "no_data", _("a state of its own")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    key = models.CharField(max_length=80, validators=[NAME])
    kind = models.CharField(max_length=20, choices=Kind.choices)
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    threshold = models.FloatField()  # in the kind's unit
    resolve_threshold = models.FloatField(null=True)  # null: the threshold
    for_seconds = models.PositiveIntegerField(default=0)
    keep_firing_seconds = models.PositiveIntegerField(default=0)
    min_samples = models.PositiveIntegerField(default=0)
    window_seconds = models.PositiveIntegerField(default=60)
    no_data = models.CharField(max_length=9, choices=NoData.choices, default=NoData.KEEP_LAST)
    service = models.ForeignKey(  # null: every one
        "fleet.Service", models.CASCADE, null=True, blank=True, related_name="+"
    )
    dependency = models.ForeignKey(  # null: every one, and services' own requests
        "fleet.Dependency", models.CASCADE, null=True, blank=True, related_name="+"
    )
    check_kinds = models.JSONField(null=True, blank=True)  # of check_down; null: every kind
    enabled = models.BooleanField(default=True)
    runbook_url = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RuleQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("key",)
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="alerts_rule_key"),
            models.CheckConstraint(
                condition=Q(key__regex=SLUG.pattern), name="alerts_rule_key_form"
            ),
            models.CheckConstraint(condition=Q(kind__in=list(KINDS)), name="alerts_rule_kind"),
            models.CheckConstraint(
                condition=Q(no_data__in=["ok", "alert", "keep_last", "no_data"]),
                name="alerts_rule_no_data",
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def is_default(self) -> bool:
        """Whether every environment has one of this key."""
        return self.key in DEFAULTS

    @property
    def unit(self) -> str:
        return KINDS[self.kind].unit

    def terms(self) -> Terms:
        """What its evaluation goes by."""
        return Terms(
            kind=KINDS[self.kind],
            threshold=self.threshold,
            resolve_threshold=self.resolve_threshold,
            for_=timedelta(seconds=self.for_seconds),
            keep_firing=timedelta(seconds=self.keep_firing_seconds),
            min_samples=self.min_samples,
            no_data=self.no_data,
        )

    def settings(self) -> dict[str, Any]:
        """What people may change of it."""
        return {
            "severity": self.severity,
            "threshold": self.threshold,
            "resolve_threshold": self.resolve_threshold,
            "for_seconds": self.for_seconds,
            "keep_firing_seconds": self.keep_firing_seconds,
            "min_samples": self.min_samples,
            "window_seconds": self.window_seconds,
            "no_data": self.no_data,
            "service": self.service.slug if self.service else None,
            "dependency": self.dependency.slug if self.dependency else None,
            "check_kinds": self.check_kinds,
            "enabled": self.enabled,
            "runbook_url": self.runbook_url,
        }

    def as_audited(self) -> dict[str, Any]:
        return {"key": self.key, "kind": self.kind, **self.settings()}


class Judge(models.Model):
    """Who evaluates an environment's rules at present, and how far that has come.

    Its row is the lease: one process holds it, for a short time.
    """

    environment = models.OneToOneField(
        "fleet.Environment", models.CASCADE, primary_key=True, related_name="+"
    )
    holder = models.UUIDField(null=True)  # the process, while it evaluates
    leased_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)  # of the evaluation under way, or the last
    evaluated_at = models.DateTimeField(null=True)  # of the last one that ended well
    lag_seconds = models.FloatField(default=0.0)  # how late on its grid that one began
    took_seconds = models.FloatField(default=0.0)
    missed = models.PositiveIntegerField(default=0)  # points of the grid nobody evaluated
    entry = models.PositiveBigIntegerField(default=0)  # of the audit chain: told as far as this

    def __str__(self) -> str:
        return f"environment {self.pk} at {self.evaluated_at}"
