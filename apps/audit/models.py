"""The audit log: append-only entries, each chained to the one before it by its hash."""

import json
import uuid
from typing import Any, Self

from django.db import models

from apps.core.actor import KINDS, SYSTEM_SCOPE, Actor


class ChainQuerySet(models.QuerySet["Chain"]):
    def visible_to(self, actor: Actor) -> Self:
        """Chains of the environments the actor may see; the system's own for its keepers."""
        if actor.service_id is not None:  # the log is the environment's, not one service's
            return self.none()
        mine = models.Q(environment_id__in=actor.environment_ids)
        if actor.may(SYSTEM_SCOPE):
            mine |= models.Q(environment_id__isnull=True)
        return self.filter(mine)


class Chain(models.Model):
    """The head of one chain of entries: an environment's, or the system's own."""

    name = models.CharField(max_length=40, unique=True)  # "system" or "environment 3"
    # Not a foreign key: environments live above the audit log, and their history outlives them.
    environment_id = models.BigIntegerField(null=True, editable=False)
    sequence = models.PositiveBigIntegerField(default=0)  # of the newest entry
    head = models.CharField(max_length=64, default="", blank=True)  # its hash

    objects = ChainQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class EntryQuerySet(models.QuerySet["Entry"]):
    def visible_to(self, actor: Actor) -> Self:
        """Entries of the environments the actor may see; the system's own for its keepers."""
        if actor.service_id is not None:
            return self.none()
        mine = models.Q(chain__environment_id__in=actor.environment_ids)
        if actor.may(SYSTEM_SCOPE):
            mine |= models.Q(chain__environment_id__isnull=True)
        return self.filter(mine)


class Entry(models.Model):
    """One thing that was done or refused: who, when, to what, why, from what to what.

    `text` is the canonical JSON that was hashed; the other columns repeat parts of it to be
    searched, and verification compares them with it.
    """

    class Outcome(models.TextChoices):
        OK = "ok"
        DENIED = "denied"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    chain = models.ForeignKey(Chain, models.PROTECT, related_name="+")
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=12)
    actor_label = models.CharField(max_length=150)
    action = models.CharField(max_length=60)  # entity.past_tense
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=64)
    object_label = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    outcome = models.CharField(max_length=6, choices=Outcome.choices, default=Outcome.OK)
    revision = models.PositiveBigIntegerField(null=True)  # what the change was published as
    request_id = models.CharField(max_length=64, blank=True)
    text = models.TextField()
    hash = models.CharField(max_length=64)

    objects = EntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        constraints = [
            models.UniqueConstraint(fields=["chain", "sequence"], name="audit_entry_sequence"),
            models.CheckConstraint(
                condition=models.Q(outcome__in=["ok", "denied"]), name="audit_entry_outcome"
            ),
            models.CheckConstraint(
                condition=models.Q(actor_kind__in=KINDS), name="audit_entry_actor_kind"
            ),
        ]
        indexes = [
            models.Index(fields=["chain", "-at"], name="audit_entry_newest"),  # the review page
            models.Index("object_type", "object_id", name="audit_entry_of_object"),  # "History"
            models.Index("request_id", name="audit_entry_of_request"),  # everything one click did
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_label}"

    @property
    def content(self) -> dict[str, Any]:
        """What was recorded, as it was hashed."""
        return dict(json.loads(self.text))
