"""Overrides of breakers, and services looked at for their policy."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.core.actor import Actor
from apps.fleet.models import Service
from apps.policies.models.scopes import Scoped
from holdfast.spec import OVERRIDE_MODES


class OverrideQuerySet(models.QuerySet["Override"]):
    def visible_to(self, actor: Actor) -> Self:
        """Overrides of the environments the actor sees; a service's token sees those it obeys."""
        rows = self.filter(environment__in=actor.environment_ids)
        if actor.service_id is not None:
            rows = rows.filter(Q(service=None) | Q(service=actor.service_id))
        return rows.select_related("service", "dependency", "environment")

    def active(self) -> Self:
        """Overrides nobody and nothing has ended yet."""
        return self.filter(ended_at=None)

    def in_force(self, now: datetime) -> Self:
        """Overrides that hold at `now`: not ended, their lease not over."""
        return self.active().filter(Q(expires_at=None) | Q(expires_at__gt=now))

    def due(self, now: datetime) -> Self:
        """Overrides whose lease is over, but which nobody has ended yet."""
        return self.active().filter(expires_at__lte=now)


class Override(Scoped):
    """An operator's temporary word on a breaker, for one service's calls or everybody's."""

    class Mode(models.TextChoices):
        FORCE_OPEN = "force_open", _("force open: every call is rejected")
        FORCE_CLOSED = "force_closed", _("force closed: every call is admitted")
        DISABLED = "disabled", _("disabled: the breaker is left out")
        METRICS_ONLY = "metrics_only", _("metrics only: it measures, and admits every call")

    dependency = models.ForeignKey("fleet.Dependency", models.PROTECT, related_name="+")
    mode = models.CharField(max_length=12, choices=Mode.choices)
    reason = models.CharField(max_length=500)
    set_by = models.CharField(max_length=150)
    set_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)  # UTC; null: until somebody ends it
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=150, blank=True)
    end_reason = models.CharField(max_length=500, blank=True)

    objects = OverrideQuerySet.as_manager()

    class Meta(Scoped.Meta):
        ordering = ("-pk",)
        constraints = [
            # One active per scope; two, because SQLite cannot treat NULLs as equal in one.
            models.UniqueConstraint(
                fields=["dependency"],
                condition=Q(service__isnull=True, ended_at__isnull=True),
                name="policies_override_active_everywhere",
            ),
            models.UniqueConstraint(
                fields=["service", "dependency"],
                condition=Q(service__isnull=False, ended_at__isnull=True),
                name="policies_override_active_of_service",
            ),
            models.CheckConstraint(
                condition=Q(mode__in=list(OVERRIDE_MODES)), name="policies_override_mode"
            ),
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(set_by=""), name="policies_override_says_why"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=models.F("set_at")),
                name="policies_override_lease_forward",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | ~Q(ended_by=""),
                name="policies_override_end_says_who",
            ),
        ]
        indexes = [
            models.Index(  # the lease task: active overrides by their end
                "expires_at", condition=Q(ended_at__isnull=True), name="policies_override_due"
            )
        ]

    def __str__(self) -> str:
        where = self.holds_in if self.service_id else _("%s everywhere") % self.dependency
        return f"{self.mode} of {where}"

    @property
    def is_in_force(self) -> bool:
        """Whether it holds now: not ended, its lease not over."""
        over = self.expires_at is not None and self.expires_at <= clock.now()
        return self.ended_at is None and not over

    def body(self) -> dict[str, Any]:
        """The override as services read it."""
        return {
            "id": str(self.pk),
            "mode": self.mode,
            "reason": self.reason,
            "set_by": self.set_by,
            "set_at": clock.rfc3339_or_none(self.set_at),
            "expires_at": clock.rfc3339_or_none(self.expires_at),
        }

    def as_audited(self) -> dict[str, Any]:
        return {
            **self.holds_in.slugs,
            **self.body(),
            "ended_at": clock.rfc3339_or_none(self.ended_at),
            "ended_by": self.ended_by,
            "end_reason": self.end_reason,
        }


class ServicePolicy(Service):
    """A service, looked at for what it must do: its effective policy."""

    class Meta:
        proxy = True
        ordering = ("slug",)
        verbose_name = _("effective policy")
        verbose_name_plural = _("effective policies")
