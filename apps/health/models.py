"""Checks of what services depend on, what came of them, and signs of life of our own."""

from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.core.sealing import unseal
from apps.fleet.models import NAME, SLUG
from apps.health import rules
from apps.health.rules import standing
from apps.health.targets import Target


class Status(models.TextChoices):
    UP = "up", _("up")
    DEGRADED = "degraded", _("degraded")
    DOWN = "down", _("down")
    UNKNOWN = "unknown", _("unknown")


_STATUSES = [status.value for status in Status]


class CheckQuerySet(models.QuerySet["Check"]):
    def visible_to(self, actor: Actor) -> Self:
        return self.filter(environment__in=actor.environment_ids)


class Check(Versioned):
    """A question put to one server again and again, and what is known of it from the answers.

    The columns below the line are the runner's: they change without a new version.
    """

    class Kind(models.TextChoices):
        HTTP = "http", _("HTTP")
        TCP = "tcp", _("TCP")
        POSTGRESQL = "postgresql", _("PostgreSQL")
        REDIS = "redis", _("Redis")
        RABBITMQ = "rabbitmq", _("RabbitMQ")
        CELERY = "celery", _("Celery")
        HOST = "host", _("Holdfast's host")
        HEARTBEAT = "heartbeat", _("Heartbeat")

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    name = models.CharField(max_length=80, validators=[NAME])
    kind = models.CharField(max_length=10, choices=Kind.choices)
    dependency = models.ForeignKey(  # null: nothing services call
        "fleet.Dependency", models.PROTECT, null=True, blank=True, related_name="+"
    )
    address = models.CharField(max_length=500, blank=True)  # never with a password; empty: not yet
    sealed_secret = models.TextField(blank=True)  # see core.sealing
    settings = models.JSONField(default=dict)  # of its kind, see targets.OPTIONS
    interval_seconds = models.FloatField()
    timeout_seconds = models.FloatField(default=5.0)  # the hard deadline of one run
    retry_seconds = models.FloatField(default=5.0)  # until what was seen is confirmed
    failures_to_confirm = models.PositiveSmallIntegerField(default=3)
    successes_to_recover = models.PositiveSmallIntegerField(default=2)
    slow_seconds = models.FloatField(null=True, blank=True)  # over it an answer is slow; null: none
    parent = models.ForeignKey(  # what it is asked through: down, it explains this one's failures
        "self", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # ------------------------------------------------------------------------------------------
    next_at = models.DateTimeField(null=True)  # due, or the end of the runner's lease; null: never
    claim = models.UUIDField(null=True)  # of the run under way, which alone may write its result
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.UNKNOWN)
    since = models.DateTimeField(null=True)  # when it took this status
    observed_at = models.DateTimeField(null=True)
    latency_seconds = models.FloatField(null=True)
    recent = models.CharField(max_length=rules.WINDOW, blank=True)  # marks, the newest last
    raw = models.CharField(max_length=standing.FLAP_RESULTS, blank=True)  # marks, none forgotten
    is_flapping = models.BooleanField(default=False)  # its status is held meanwhile
    because_of = models.CharField(max_length=80, blank=True)  # the check above that is down
    detail = models.CharField(max_length=300, blank=True)
    facts = models.JSONField(default=dict)  # measured besides: phases, replication, queue lengths
    started_at = models.DateTimeField(null=True)  # of a heartbeat: its job told that it began
    started_run = models.UUIDField(null=True)  # which run of it, if it told that too

    objects = CheckQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(fields=["environment", "name"], name="health_check_name"),
            models.CheckConstraint(
                condition=Q(name__regex=SLUG.pattern), name="health_check_name_form"
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        *("http", "tcp", "postgresql", "redis", "rabbitmq", "celery", "host"),
                        "heartbeat",
                    ]
                ),
                name="health_check_kind",
            ),
            models.CheckConstraint(condition=Q(status__in=_STATUSES), name="health_check_status"),
            models.CheckConstraint(  # what runs knows where
                condition=Q(enabled=False) | Q(kind__in=["host", "heartbeat"]) | ~Q(address=""),
                name="health_check_enabled_has_address",
            ),
            models.CheckConstraint(
                condition=Q(enabled=True, next_at__isnull=False)
                | Q(enabled=False, next_at__isnull=True, claim__isnull=True),
                name="health_check_runs_if_enabled",
            ),
            models.CheckConstraint(
                condition=Q(interval_seconds__gte=1, interval_seconds__lte=2_678_400)
                & Q(timeout_seconds__gte=0.1, timeout_seconds__lte=30)
                & Q(retry_seconds__gte=1, retry_seconds__lte=3_600)
                & Q(failures_to_confirm__gte=1, failures_to_confirm__lte=10)
                & Q(successes_to_recover__gte=1, successes_to_recover__lte=10)
                & (Q(slow_seconds__isnull=True) | Q(slow_seconds__gt=0, slow_seconds__lte=30)),
                name="health_check_bounds",
            ),
        ]
        indexes = [
            models.Index(  # the runner: what is due
                "next_at", condition=Q(enabled=True), name="health_check_due"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def success_rate(self) -> float | None:
        return rules.success_rate(self.recent)

    @property
    def flapping_share(self) -> float:
        """How much its results change, 0 to 1."""
        return standing.flapping(self.raw) / 100

    @property
    def is_stale(self) -> bool:
        """Whether the last result is too old to say how it is now."""
        if self.observed_at is None:
            return False
        bound = 2 * self.interval_seconds + self.timeout_seconds
        return clock.now() - self.observed_at > timedelta(seconds=bound)

    @property
    def has_secret(self) -> bool:
        return bool(self.sealed_secret)

    def target(self) -> Target:
        """What a probe needs of it, secret included; raises sealing.CannotOpen."""
        return Target(
            kind=self.kind,
            address=self.address,
            secret=unseal(self.sealed_secret),
            options=self.settings,
            timeout=self.timeout_seconds,
            check_id=self.pk,
            has_started=self.started_at is not None,
        )

    def as_audited(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "dependency": self.dependency.slug if self.dependency else None,
            "address": self.address,
            "has_secret": self.has_secret,
            "settings": self.settings,
            "interval_seconds": self.interval_seconds,
            "timeout_seconds": self.timeout_seconds,
            "retry_seconds": self.retry_seconds,
            "failures_to_confirm": self.failures_to_confirm,
            "successes_to_recover": self.successes_to_recover,
            "slow_seconds": self.slow_seconds,
            "parent": self.parent.name if self.parent else None,
            "enabled": self.enabled,
        }


class Result(models.Model):
    """What came of one run of a check, or of a job; kept two days, then summed up by the hour."""

    subject = models.ForeignKey(Check, models.CASCADE, related_name="+")
    at = models.DateTimeField()
    mark = models.CharField(max_length=1)  # rules.OK, IMPAIRED or FAILED
    latency_seconds = models.FloatField(null=True)
    detail = models.CharField(max_length=300, blank=True)
    run = models.UUIDField(null=True)  # of a job, as its pings name it

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(mark__in=["o", "s", "f"]), name="health_result_mark"
            ),
            models.UniqueConstraint(  # a ping that is sent again
                fields=["subject", "run"],
                condition=Q(run__isnull=False),
                name="health_result_run_once",
            ),
        ]
        indexes = [
            models.Index(fields=["subject", "-at"], name="health_result_newest"),  # the page
            models.Index("at", name="health_result_oldest"),  # pruning
        ]

    def __str__(self) -> str:
        return f"{self.mark} {self.at}"


class Transition(models.Model):
    """A check took another status."""

    subject = models.ForeignKey(Check, models.CASCADE, related_name="+")
    at = models.DateTimeField()
    from_status = models.CharField(max_length=8, choices=Status.choices)
    to_status = models.CharField(max_length=8, choices=Status.choices)
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(from_status__in=_STATUSES, to_status__in=_STATUSES)
                & ~Q(from_status=models.F("to_status")),
                name="health_transition_moves",
            )
        ]
        indexes = [
            models.Index(fields=["subject", "-at"], name="health_transition_newest"),
            models.Index("at", name="health_transition_oldest"),  # pruning
        ]

    def __str__(self) -> str:
        return f"{self.from_status} → {self.to_status}"


class Hour(models.Model):
    """The results of a check in one hour, summed up."""

    subject = models.ForeignKey(Check, models.CASCADE, related_name="+")
    start = models.DateTimeField()
    runs = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    latency_mean = models.FloatField(null=True)  # seconds
    latency_max = models.FloatField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subject", "start"], name="health_hour_once"),
            models.CheckConstraint(
                condition=Q(failures__lte=models.F("runs")), name="health_hour_counts"
            ),
        ]
        indexes = [models.Index("start", name="health_hour_oldest")]  # pruning

    def __str__(self) -> str:
        return str(self.start)


class Pulse(models.Model):
    """The last sign of life of something of Holdfast's own: its workers, its hosts."""

    name = models.CharField(max_length=120, primary_key=True)  # "celery", "host <name>"
    at = models.DateTimeField()
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name
