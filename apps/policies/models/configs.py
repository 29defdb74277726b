"""The settings of each pattern, one table per pattern, one row per scope."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.core.actor import Actor
from apps.policies.fields import bounds, held
from apps.policies.models.scopes import Scoped
from apps.policies.rules import Place
from holdfast.spec import PATTERNS


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
        return f"{PATTERNS[self.pattern].title}: {self.holds_in}"

    @property
    def values(self) -> dict[str, Any]:
        """The settings set here, in the table's order; what is missing is inherited."""
        present = {key: getattr(self, key) for key in PATTERNS[self.pattern].settings}
        return {key: value for key, value in present.items() if value is not None}

    @property
    def place(self) -> Place:
        return Place(**self.holds_in.slugs, pattern=self.pattern)

    def as_audited(self) -> dict[str, Any]:
        return {"pattern": self.pattern, **self.holds_in.slugs, **self.values}


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


class RateLimitConfig(Config):
    """How often calls to a dependency may begin."""

    pattern = "rate_limit"

    enabled = held("rate_limit.enabled")
    calls = held("rate_limit.calls")
    per_seconds = held("rate_limit.per_seconds")
    burst = held("rate_limit.burst")
    max_wait_seconds = held("rate_limit.max_wait_seconds")
    scope = held("rate_limit.scope")

    class Meta(Config.Meta):
        verbose_name = _("rate limit")
        constraints = [*Config.Meta.constraints, *bounds("rate_limit")]


class FallbackConfig(Config):
    """What answers in place of a dependency that failed."""

    pattern = "fallback"

    chain = held("fallback.chain")
    on = held("fallback.on")
    max_concurrent = held("fallback.max_concurrent")

    class Meta(Config.Meta):
        verbose_name = _("fallback")
        constraints = [*Config.Meta.constraints, *bounds("fallback")]


class RecoveryConfig(Config):
    """What is done about errors that repeat."""

    pattern = "recovery"

    rules = held("recovery.rules")
    pattern_window_seconds = held("recovery.pattern_window_seconds")
    pattern_count = held("recovery.pattern_count")

    class Meta(Config.Meta):
        verbose_name = _("error recovery")
        verbose_name_plural = _("error recoveries")
        constraints = [*Config.Meta.constraints, *bounds("recovery")]


class DeadLetterConfig(Config):
    """Which failed calls become dead letters, and what of them is kept."""

    pattern = "dead_letter"

    when = held("dead_letter.when")
    max_body_bytes = held("dead_letter.max_body_bytes")
    redact = held("dead_letter.redact")

    class Meta(Config.Meta):
        verbose_name = _("dead letter setting")
        constraints = [*Config.Meta.constraints, *bounds("dead_letter")]


class HedgeConfig(Config):
    """Which slow calls are sent a second time."""

    pattern = "hedge"

    enabled = held("hedge.enabled")
    after_seconds = held("hedge.after_seconds")

    class Meta(Config.Meta):
        verbose_name = _("hedging setting")
        constraints = [*Config.Meta.constraints, *bounds("hedge")]


class ThrottleConfig(Config):
    """Whether calls a dependency would refuse anyway are dropped before they are sent."""

    pattern = "throttle"

    enabled = held("throttle.enabled")

    class Meta(Config.Meta):
        verbose_name = _("adaptive throttle")
        constraints = [*Config.Meta.constraints, *bounds("throttle")]


# Every pattern that has a table, in the order of `holdfast.spec`.
CONFIGS: dict[str, type[Config]] = {
    model.pattern: model
    for model in (
        BreakerConfig,
        RetryConfig,
        TimeoutConfig,
        BulkheadConfig,
        RateLimitConfig,
        FallbackConfig,
        RecoveryConfig,
        DeadLetterConfig,
        HedgeConfig,
        ThrottleConfig,
    )
}
