"""What instances say: how they are, what their calls came to, how their breakers moved."""

import uuid
from typing import Any, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import Versioned

ROLLED_UP = uuid.UUID(int=0)  # the boot of windows that were summed up from others


class BreakerState(models.TextChoices):
    CLOSED = "closed", _("closed")
    HALF_OPEN = "half_open", _("half-open")
    OPEN = "open", _("open")


class InstanceStateQuerySet(models.QuerySet["InstanceState"]):
    def visible_to(self, actor: Actor) -> Self:
        rows = self.filter(instance__service__environment__in=actor.environment_ids)
        own = actor.service_id
        return rows if own is None else rows.filter(instance__service=own)

    def of_environment(self, environment_id: int) -> Self:
        return self.filter(instance__service__environment_id=environment_id)


class InstanceState(models.Model):
    """What an instance last said of itself; its row is also what counts each report only once."""

    instance = models.OneToOneField(
        "fleet.Instance", models.CASCADE, primary_key=True, related_name="+"
    )
    sequence = models.PositiveBigIntegerField(default=0)  # of the newest report that was counted
    epoch = models.UUIDField(null=True)
    applied_revision = models.PositiveBigIntegerField(null=True)  # null: it runs on defaults
    applied_at = models.DateTimeField(null=True)
    refused = models.JSONField(default=list)  # [{path, revision, code, detail}]
    breakers = models.JSONField(default=dict)  # dependency: {state, since, generation, override}
    in_flight = models.JSONField(default=dict)  # dependency: calls under way
    resources = models.JSONField(default=dict)  # {cpu, memory, …}: shares of its host
    reported_at = models.DateTimeField()

    objects = InstanceStateQuerySet.as_manager()

    class Meta:
        verbose_name = _("instance state")
        verbose_name_plural = _("instance states")

    def __str__(self) -> str:
        return str(self.instance_id)


class Counted(models.Model):
    """Numbers that add up, and the latencies they came with."""

    calls = models.PositiveBigIntegerField(default=0)
    successes = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0)
    timeouts = models.PositiveBigIntegerField(default=0)
    slow = models.PositiveBigIntegerField(default=0)
    cancelled = models.PositiveBigIntegerField(default=0)
    rejected_open = models.PositiveBigIntegerField(default=0)
    rejected_forced = models.PositiveBigIntegerField(default=0)
    rejected_bulkhead = models.PositiveBigIntegerField(default=0)
    rejected_rate_limit = models.PositiveBigIntegerField(default=0)
    rejected_throttle = models.PositiveBigIntegerField(default=0)
    rejected_budget = models.PositiveBigIntegerField(default=0)
    rejected_degraded = models.PositiveBigIntegerField(default=0)
    retries = models.PositiveBigIntegerField(default=0)
    recoveries_attempted = models.PositiveBigIntegerField(default=0)
    recoveries_succeeded = models.PositiveBigIntegerField(default=0)
    fallbacks_value = models.PositiveBigIntegerField(default=0)
    fallbacks_function = models.PositiveBigIntegerField(default=0)
    fallbacks_cached = models.PositiveBigIntegerField(default=0)
    fallbacks_queue = models.PositiveBigIntegerField(default=0)
    client_errors = models.PositiveBigIntegerField(default=0)  # 4xx of its own requests
    server_errors = models.PositiveBigIntegerField(default=0)  # 5xx of its own requests
    latency = models.JSONField(default=dict)  # sparse, see holdfast.histogram

    class Meta:
        abstract = True


class WindowQuerySet(models.QuerySet["Window"]):
    def of_environment(self, environment_id: int) -> Self:
        return self.filter(service__environment_id=environment_id)


class Window(Counted):
    """What was counted of one service and dependency in one span of time, by one server process.

    Each process writes rows of its own, so that none waits for another; readers add them up.
    Reports count in the window in which they were written down.
    """

    class Span(models.IntegerChoices):
        """Seconds a window lasts."""

        SHORT = 10
        MINUTE = 60
        HOUR = 3600

    span = models.PositiveSmallIntegerField(choices=Span.choices)
    start = models.DateTimeField()  # a multiple of the span
    service = models.ForeignKey("fleet.Service", models.CASCADE, related_name="+")
    # Slug, which never changes; empty: the service's own requests. (A NULL would equal no other
    # NULL, and the row could not be written by an upsert.)
    dependency = models.CharField(max_length=80, blank=True)
    boot = models.UUIDField()

    objects = WindowQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(  # the upsert; its first columns serve every read and pruning:
                # windows of one span since an instant
                fields=["span", "start", "service", "dependency", "boot"],
                name="telemetry_window_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.start:%H:%M:%S} {self.span} s {self.dependency or 'requests'}"


class SumQuerySet(models.QuerySet["Sum"]):
    def of_environment(self, environment_id: int) -> Self:
        return self.filter(environment_id=environment_id)


class Sum(Counted):
    """What the windows of many cells came to in one span, so that no page reads thousands of them.

    Computed anew from windows as long as they grow; never added to.
    """

    class Of(models.TextChoices):
        SERVICE = "service"  # all calls of one service
        DEPENDENCY = "dependency"  # all services' calls of one dependency
        CALLS = "calls"  # all services' calls of everything
        REQUESTS = "requests"  # all services' own requests

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    of = models.CharField(max_length=10, choices=Of.choices)
    slug = models.CharField(max_length=80, blank=True)  # of the service or dependency
    span = models.PositiveSmallIntegerField(choices=Window.Span.choices)
    start = models.DateTimeField()  # a multiple of the span

    objects = SumQuerySet.as_manager()

    class Meta:
        constraints = [  # the upsert; a range of it is what a chart reads
            models.UniqueConstraint(
                fields=["environment", "of", "slug", "span", "start"], name="telemetry_sum_once"
            )
        ]
        indexes = [models.Index("span", "start", name="telemetry_sum_age")]  # newest; pruning

    def __str__(self) -> str:
        return f"{self.start:%H:%M:%S} {self.span} s {self.of} {self.slug}"


class TotalQuerySet(models.QuerySet["Total"]):
    def of_environment(self, environment_id: int) -> Self:
        return self.filter(service__environment_id=environment_id)


class Total(Counted):
    """Everything ever counted of one service and dependency, up to an instant.

    What came after `through` is still in short windows. Totals never shrink: windows are let go,
    and whoever watches a counter would take that for a restart.
    """

    service = models.ForeignKey("fleet.Service", models.CASCADE, related_name="+")
    dependency = models.CharField(max_length=80, blank=True)  # as in windows
    through = models.DateTimeField()  # windows that start earlier are in it

    objects = TotalQuerySet.as_manager()

    class Meta:
        constraints = [  # one per cell; finds the total a window belongs to
            models.UniqueConstraint(fields=["service", "dependency"], name="telemetry_total_once")
        ]
        indexes = [models.Index("through", name="telemetry_total_through")]  # the oldest

    def __str__(self) -> str:
        return f"{self.service} {self.dependency or 'requests'}"


class BreakerEventQuerySet(models.QuerySet["BreakerEvent"]):
    def visible_to(self, actor: Actor) -> Self:
        rows = self.filter(service__environment__in=actor.environment_ids)
        return rows if actor.service_id is None else rows.filter(service=actor.service_id)

    def of_environment(self, environment_id: int) -> Self:
        return self.filter(service__environment_id=environment_id)


class BreakerEvent(models.Model):
    """Something that happened to one instance's breaker: it moved, or an override took hold."""

    service = models.ForeignKey("fleet.Service", models.CASCADE, related_name="+")
    dependency = models.CharField(max_length=80)  # slug
    instance_id = models.UUIDField()  # no foreign key: events outlive the instances they are about
    instance_name = models.CharField(max_length=120, blank=True)
    type = models.CharField(max_length=60)  # breaker.state_changed, breaker.override_changed, …
    from_state = models.CharField(max_length=9, choices=BreakerState.choices, blank=True)
    to_state = models.CharField(max_length=9, choices=BreakerState.choices, blank=True)
    cause = models.CharField(max_length=60, blank=True)
    at = models.DateTimeField()  # by the instance's clock, unless that is absurd
    received_at = models.DateTimeField()
    data = models.JSONField(default=dict)

    objects = BreakerEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("breaker event")
        verbose_name_plural = _("breaker events")
        indexes = [
            # what happened since an instant; pruning
            models.Index("received_at", name="telemetry_event_received"),
            # lanes of an environment, of one dependency, and of one service
            models.Index("at", name="telemetry_event_at"),
            models.Index("dependency", "at", name="telemetry_event_dependency"),
            models.Index("service", "at", name="telemetry_event_service"),
        ]

    def __str__(self) -> str:
        return f"{self.dependency} {self.type}"


class MarkerQuerySet(models.QuerySet["Marker"]):
    def visible_to(self, actor: Actor) -> Self:
        """Of the environments the actor may see; a service's token sees its own."""
        rows = self.filter(environment__in=actor.environment_ids)
        return rows if actor.service_id is None else rows.filter(service=actor.service_id)


class Marker(Versioned):
    """An instant somebody wants to find again on the time axis: a deployment, an incident."""

    class Kind(models.TextChoices):
        DEPLOY = "deploy", _("deploy")
        CONFIG = "config", _("configuration")
        INCIDENT = "incident", _("incident")
        OTHER = "other", _("mark")

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    service = models.ForeignKey("fleet.Service", models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    title = models.CharField(max_length=200)
    release = models.CharField(_("version"), max_length=80, blank=True)  # of what was deployed
    url = models.URLField(max_length=500, blank=True)
    at = models.DateTimeField()
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    # Chosen by whoever marks: a request that is repeated marks once. Empty: none was chosen.
    key = models.CharField(max_length=100, blank=True)

    objects = MarkerQuerySet.as_manager()

    class Meta(Versioned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "key"],
                condition=~models.Q(key=""),
                name="telemetry_marker_once",
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=["deploy", "config", "incident", "other"]),
                name="telemetry_marker_kind",
            ),
        ]
        indexes = [models.Index(fields=["environment", "-at"], name="telemetry_marker_newest")]

    def __str__(self) -> str:
        return self.title

    def as_audited(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "title": self.title,
            "version": self.release,
            "url": self.url,
            "service": self.service.slug if self.service else None,
            "at": clock.rfc3339(self.at),
        }


class Application(models.Model):
    """An instance said that it runs another revision than before, or refuses something else."""

    service = models.ForeignKey("fleet.Service", models.CASCADE, related_name="+")
    instance_id = models.UUIDField()  # no foreign key: it outlives the instance it is about
    instance_name = models.CharField(max_length=120, blank=True)
    epoch = models.UUIDField(null=True)
    revision = models.PositiveBigIntegerField(null=True)  # null: it ran on its defaults
    refused = models.JSONField(default=list)  # as in InstanceState
    at = models.DateTimeField()  # by its clock, never after we heard of it

    class Meta:
        indexes = [
            models.Index(fields=["instance_id", "-at"], name="telemetry_application_of"),
            models.Index("at", name="telemetry_application_oldest"),  # pruning
        ]

    def __str__(self) -> str:
        return f"{self.instance_name} {self.revision}"
