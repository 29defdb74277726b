"""The numbered states of an environment: what services read, ready-made, and how it came to be."""

import uuid
from typing import Self

from django.db import models

from apps.core.actor import Actor


class Epoch(models.Model):
    """One line of this database's history; a restored copy starts a new one.

    Clients order by revision within an epoch and always follow a changed epoch.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True)  # the newest is in force
    started_at = models.DateTimeField()
    reason = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return str(self.pk)


class Head(models.Model):
    """How far an environment's revisions have come; its row is locked while one is published."""

    environment = models.OneToOneField("fleet.Environment", models.CASCADE, related_name="+")
    revision = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.environment} at {self.revision}"


class RevisionQuerySet(models.QuerySet["Revision"]):
    def visible_to(self, actor: Actor) -> Self:
        return self.filter(environment__in=actor.environment_ids)


class Revision(models.Model):
    """One published change: who and why; its fragments say what."""

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    number = models.PositiveBigIntegerField()
    epoch = models.ForeignKey(Epoch, models.PROTECT, related_name="+")
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=12)
    actor_label = models.CharField(max_length=150)
    reason = models.CharField(max_length=500, blank=True)
    restores = models.PositiveBigIntegerField(null=True)  # a rollback: the revision restored

    objects = RevisionQuerySet.as_manager()

    class Meta:
        ordering = ("-number",)
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "number"], name="publication_revision_number"
            )
        ]

    def __str__(self) -> str:
        return f"revision {self.number}"


class Part(models.TextChoices):
    """What a fragment is about."""

    FLAG = "flag"
    SETTING = "setting"
    OVERRIDE = "override"
    USE = "use"


class FragmentQuerySet(models.QuerySet["Fragment"]):
    def current(self) -> Self:
        return self.filter(is_current=True)

    def as_of(self, environment_id: int, revision: int) -> Self:
        """What was in force at `revision`: of each fragment the newest version up to it."""
        newer = Fragment.objects.filter(
            environment_id=models.OuterRef("environment_id"),
            part=models.OuterRef("part"),
            service=models.OuterRef("service"),
            dependency=models.OuterRef("dependency"),
            name=models.OuterRef("name"),
            revision__gt=models.OuterRef("revision"),
            revision__lte=revision,
        )
        return self.filter(
            ~models.Exists(newer), environment_id=environment_id, revision__lte=revision
        )


class Fragment(models.Model):
    """One version of one piece of an environment's state; a service's document merges them.

    The piece is named by `(part, service, dependency, name)`, where empty means "all": a default
    or a switch for a thousand services is one row. Versions are only ever added; `body` is null
    where the piece was removed.
    """

    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    part = models.CharField(max_length=8, choices=Part.choices)
    service = models.CharField(max_length=80, blank=True)  # slug; slugs never change
    dependency = models.CharField(max_length=80, blank=True)
    name = models.CharField(max_length=80, blank=True)  # flag key, pattern
    revision = models.PositiveBigIntegerField()
    body = models.JSONField(null=True)
    is_current = models.BooleanField(default=True)

    objects = FragmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "part", "service", "dependency", "name"],
                condition=models.Q(is_current=True),
                name="publication_fragment_current",
            ),
            models.UniqueConstraint(  # also serves "as of revision N"
                fields=["environment", "part", "service", "dependency", "name", "revision"],
                name="publication_fragment_version",
            ),
        ]
        indexes = [
            models.Index("environment", "revision", name="publication_fragment_changed")  # diffs
        ]

    def __str__(self) -> str:
        where = " · ".join(filter(None, [self.service, self.dependency, self.name]))
        return f"{self.part} {where or 'everywhere'}"
