"""What exists: environments, services, what they depend on, and the processes that called home."""

import re
from datetime import datetime
from typing import Any, Self

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import Versioned

# Names travel in addresses, documents and metrics: lower case, never changed afterwards.
SLUG = re.compile(r"^[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?$")
NAME = RegexValidator(
    SLUG,
    _("Use 1–80 lower-case letters, digits, dots, dashes or underscores, e.g. payments-api."),
)

SHORTEST_TARGET, LONGEST_TARGET = 0.001, 100.0  # seconds; histograms reach no further


class EnvironmentQuerySet(models.QuerySet["Environment"]):
    def visible_to(self, actor: Actor) -> Self:
        return self.filter(pk__in=actor.environment_ids)


class Environment(Versioned):
    """A place services run in, with its own policies, switches and audit chain."""

    slug = models.CharField(max_length=80, unique=True, validators=[NAME])
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = EnvironmentQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("slug",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(slug__regex=SLUG.pattern), name="fleet_environment_slug"
            )
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def audited_in(self) -> int:
        """The environment whose chain records changes of this row."""
        return self.pk

    def as_audited(self) -> dict[str, Any]:
        return {"slug": self.slug, "name": self.name}


class ServiceQuerySet(models.QuerySet["Service"]):
    def visible_to(self, actor: Actor) -> Self:
        """Services of the environments the actor may see; a service's token sees its own."""
        rows = self.filter(environment__in=actor.environment_ids)
        return rows if actor.service_id is None else rows.filter(pk=actor.service_id)


class Service(Versioned):
    """An application that fetches policies."""

    environment = models.ForeignKey(Environment, models.PROTECT, related_name="+")
    slug = models.CharField(max_length=80, validators=[NAME])
    description = models.CharField(max_length=300, blank=True)
    owner = models.CharField(max_length=120, blank=True)  # the team to ask
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ServiceQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("slug",)
        constraints = [
            models.UniqueConstraint(fields=["environment", "slug"], name="fleet_service_slug"),
            models.CheckConstraint(
                condition=models.Q(slug__regex=SLUG.pattern), name="fleet_service_slug_form"
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def audited_in(self) -> int:
        return self.environment_id

    def as_audited(self) -> dict[str, Any]:
        return {"slug": self.slug, "description": self.description, "owner": self.owner}


class DependencyQuerySet(models.QuerySet["Dependency"]):
    def visible_to(self, actor: Actor) -> Self:
        return self.filter(environment__in=actor.environment_ids)


class Dependency(Versioned):
    """Something services call: a database, an API, a queue."""

    environment = models.ForeignKey(Environment, models.PROTECT, related_name="+")
    slug = models.CharField(max_length=80, validators=[NAME])
    description = models.CharField(max_length=300, blank=True)
    critical = models.BooleanField(default=True)  # services that call it cannot do without
    latency_target_seconds = models.FloatField(default=1.0)  # a call so long is still fine
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DependencyQuerySet.as_manager()

    class Meta(Versioned.Meta):
        ordering = ("slug",)
        verbose_name_plural = "dependencies"
        constraints = [
            models.UniqueConstraint(fields=["environment", "slug"], name="fleet_dependency_slug"),
            models.CheckConstraint(
                condition=models.Q(slug__regex=SLUG.pattern),
                name="fleet_dependency_slug_form",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    latency_target_seconds__gte=SHORTEST_TARGET,
                    latency_target_seconds__lte=LONGEST_TARGET,
                ),
                name="fleet_dependency_target",
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def audited_in(self) -> int:
        return self.environment_id

    def as_audited(self) -> dict[str, Any]:
        return {
            "slug": self.slug,
            "description": self.description,
            "critical": self.critical,
            "latency_target_seconds": self.latency_target_seconds,
        }


class Usage(models.Model):
    """A service calls a dependency: somebody said so, or its reports did."""

    class Source(models.TextChoices):
        DECLARED = "declared"
        DISCOVERED = "discovered"

    service = models.ForeignKey(Service, models.CASCADE, related_name="+")
    dependency = models.ForeignKey(Dependency, models.CASCADE, related_name="+")
    source = models.CharField(max_length=10, choices=Source.choices)
    since = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "dependency"], name="fleet_usage_once"),
            models.CheckConstraint(
                condition=models.Q(source__in=["declared", "discovered"]), name="fleet_usage_source"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service} → {self.dependency}"


class InstanceQuerySet(models.QuerySet["Instance"]):
    def visible_to(self, actor: Actor) -> Self:
        """Processes of the services the actor may see."""
        rows = self.filter(service__environment__in=actor.environment_ids)
        return rows if actor.service_id is None else rows.filter(service=actor.service_id)

    def live(self, now: datetime) -> Self:
        """Instances that have reported when they should, and have not said goodbye."""
        return self.filter(silent_at__gte=now, stopping=False)

    def silent(self, now: datetime) -> Self:
        """Instances that should have reported, and have not said goodbye."""
        return self.filter(silent_at__lt=now, stopping=False)


class Instance(models.Model):
    """One process of a service, known by the UUID it gave itself."""

    id = models.UUIDField(primary_key=True)
    service = models.ForeignKey(Service, models.CASCADE, related_name="+")
    name = models.CharField(max_length=120, blank=True)  # host, pod, pid: for people
    sdk = models.CharField(max_length=60, blank=True)
    started_at = models.DateTimeField()
    first_heard_at = models.DateTimeField()
    heard_at = models.DateTimeField()
    silent_at = models.DateTimeField()  # when it is silent, by the pace it was told last
    stopping = models.BooleanField(default=False)  # it said goodbye

    # No index on what each report changes: PostgreSQL then rewrites the row where it is.
    objects = InstanceQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name or str(self.pk)

    @property
    def is_silent(self) -> bool:
        return not self.stopping and self.silent_at < clock.now()
