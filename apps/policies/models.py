"""What services must do when a dependency fails: settings per pattern and scope, overrides."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.fleet.models import Dependency, Service
from apps.policies.fields import bounds, held
from holdfast.spec import OVERRIDE_MODES, PATTERNS


@dataclass(frozen=True)
class Scope:
    """Where something holds: in a whole environment, for one dependency in it, or for one
    service's calls to one dependency.
    """

    environment_id: int
    dependency: Dependency | None = None
    service: Service | None = None

    @property
    def level(self) -> str:
        """environment, dependency or service: the later wins."""
        if self.service is not None:
            return "service"
        return "environment" if self.dependency is None else "dependency"

    @property
    def lookup(self) -> dict[str, Any]:
        """The row of this very scope, as a filter."""
        return {
            "environment_id": self.environment_id,
            "dependency": self.dependency,
            "service": self.service,
        }

    @property
    def slugs(self) -> dict[str, str]:
        """Service and dependency as pieces of a revision name them; empty means all."""
        return {
            "service": self.service.slug if self.service else "",
            "dependency": self.dependency.slug if self.dependency else "",
        }

    def __str__(self) -> str:
        if self.dependency is None:
            return str(_("the whole environment"))
        return f"{self.service} → {self.dependency}" if self.service else str(self.dependency)


class Scoped(Versioned):
    """A row that holds in a scope."""

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    service = models.ForeignKey(  # null: every service
        "fleet.Service", models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta(Versioned.Meta):
        abstract = True

    dependency: Any

    @property
    def scope(self) -> Scope:
        return Scope(self.environment_id, self.dependency, self.service)


class ConfigQuerySet(models.QuerySet[Any]):
    def visible_to(self, actor: Actor) -> Self:
        """Rows of the environments the actor may see; a service's token sees those it obeys."""
        rows = self.filter(environment__in=actor.environment_ids)
        if actor.service_id is not None:
            rows = rows.filter(Q(service=None) | Q(service=actor.service_id))
        return rows.select_related("service", "dependency", "environment")


class Config(Scoped):
    """The settings of one pattern that are set in one scope; NULL means inherit, never "off"."""

    pattern: ClassVar[str]

    dependency = models.ForeignKey(  # null: every dependency
        "fleet.Dependency", models.PROTECT, null=True, blank=True, related_name="+"
    )
    # {setting: {revision, by, at}}: which change each value comes from.
    origins = models.JSONField(default=dict, editable=False)

    objects = ConfigQuerySet.as_manager()

    class Meta(Scoped.Meta):
        abstract = True
        ordering = ("dependency__slug", "service__slug")
        constraints = [
            # Three, because SQLite cannot treat NULLs as equal in one.
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(dependency__isnull=True, service__isnull=True),
                name="%(app_label)s_%(class)s_of_environment",
            ),
            models.UniqueConstraint(
                fields=["dependency"],
                condition=Q(dependency__isnull=False, service__isnull=True),
                name="%(app_label)s_%(class)s_of_dependency",
            ),
            models.UniqueConstraint(
                fields=["service", "dependency"],
                condition=Q(service__isnull=False),
                name="%(app_label)s_%(class)s_of_service",
            ),
            models.CheckConstraint(
                condition=Q(service__isnull=True) | Q(dependency__isnull=False),
                name="%(app_label)s_%(class)s_scope",
            ),
        ]

    def __str__(self) -> str:
        return f"{PATTERNS[self.pattern].title}: {self.scope}"

    @property
    def values(self) -> dict[str, Any]:
        """The settings set here, in the table's order; what is missing is inherited."""
        present = {key: getattr(self, key) for key in PATTERNS[self.pattern].settings}
        return {key: value for key, value in present.items() if value is not None}

    def as_audited(self) -> dict[str, Any]:
        return {"pattern": self.pattern, **self.scope.slugs, **self.values}


class BreakerConfig(Config):
    """When calls to a dependency are stopped, and when they are tried again."""

    pattern = "breaker"

    enabled = held("breaker.enabled")
    window = held("breaker.window")
    window_calls = held("breaker.window_calls")
    window_seconds = held("breaker.window_seconds")
    minimum_calls = held("breaker.minimum_calls")
    failure_rate = held("breaker.failure_rate")
    consecutive_failures = held("breaker.consecutive_failures")
    slow_call_seconds = held("breaker.slow_call_seconds")
    slow_call_rate = held("breaker.slow_call_rate")
    hung_call_seconds = held("breaker.hung_call_seconds")
    open_seconds = held("breaker.open_seconds")
    open_multiplier = held("breaker.open_multiplier")
    open_max_seconds = held("breaker.open_max_seconds")
    open_jitter = held("breaker.open_jitter")
    half_open_calls = held("breaker.half_open_calls")
    half_open_concurrent = held("breaker.half_open_concurrent")
    half_open_successes = held("breaker.half_open_successes")
    probe_lease_seconds = held("breaker.probe_lease_seconds")
    permanent_effect = held("breaker.permanent_effect")
    trip_on = held("breaker.trip_on")

    class Meta(Config.Meta):
        verbose_name = _("circuit breaker")
        constraints = [*Config.Meta.constraints, *bounds("breaker")]


class RetryConfig(Config):
    """How failed calls are tried again."""

    pattern = "retry"

    enabled = held("retry.enabled")
    attempts = held("retry.attempts")
    backoff = held("retry.backoff")
    base_seconds = held("retry.base_seconds")
    multiplier = held("retry.multiplier")
    min_seconds = held("retry.min_seconds")
    max_seconds = held("retry.max_seconds")
    jitter = held("retry.jitter")
    jitter_factor = held("retry.jitter_factor")
    per_class = held("retry.per_class")
    retry_after_max_seconds = held("retry.retry_after_max_seconds")
    budget_tokens = held("retry.budget_tokens")
    budget_refill = held("retry.budget_refill")
    idempotent = held("retry.idempotent")
    when_open = held("retry.when_open")

    class Meta(Config.Meta):
        verbose_name = _("retry")
        verbose_name_plural = _("retries")
        constraints = [*Config.Meta.constraints, *bounds("retry")]


class TimeoutConfig(Config):
    """How long an attempt, and the call with all its attempts, may take."""

    pattern = "timeout"

    attempt_seconds = held("timeout.attempt_seconds")
    total_seconds = held("timeout.total_seconds")
    enforce = held("timeout.enforce")
    late_result = held("timeout.late_result")

    class Meta(Config.Meta):
        verbose_name = _("timeout")
        constraints = [*Config.Meta.constraints, *bounds("timeout")]


class BulkheadConfig(Config):
    """How many calls to a dependency may run at once."""

    pattern = "bulkhead"

    enabled = held("bulkhead.enabled")
    max_concurrent = held("bulkhead.max_concurrent")
    max_waiting = held("bulkhead.max_waiting")
    max_wait_seconds = held("bulkhead.max_wait_seconds")

    class Meta(Config.Meta):
        verbose_name = _("bulkhead")
        constraints = [*Config.Meta.constraints, *bounds("bulkhead")]


class FallbackConfig(Config):
    """What answers in place of a dependency that failed."""

    pattern = "fallback"

    chain = held("fallback.chain")
    on = held("fallback.on")
    max_concurrent = held("fallback.max_concurrent")

    class Meta(Config.Meta):
        verbose_name = _("fallback")
        constraints = [*Config.Meta.constraints, *bounds("fallback")]


# Every pattern that has a table, in the order of `holdfast.spec`.
CONFIGS: dict[str, type[Config]] = {
    model.pattern: model
    for model in (BreakerConfig, RetryConfig, TimeoutConfig, BulkheadConfig, FallbackConfig)
}


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
        where = self.scope if self.service_id else _("%s everywhere") % self.dependency
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
            **self.scope.slugs,
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
