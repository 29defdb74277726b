"""Work that failed for good, what it has in common, and what became of giving it back."""

from base64 import b64encode
from typing import Any, Self

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from apps.core.actor import Actor
from apps.core.db import Versioned
from apps.deadletters import rules

OPEN = sorted(rules.UNRESOLVED)


class OfServiceQuerySet(models.QuerySet[Any]):
    """Rows of a service, in the environment they repeat from it."""

    def visible_to(self, actor: Actor) -> Self:
        """Rows of the environments the actor may see; a service's token sees its own."""
        rows = self.filter(environment__in=actor.environment_ids)
        return rows if actor.service_id is None else rows.filter(service=actor.service_id)


class LetterStatus(models.TextChoices):
    NEW = "new", _("new")
    ACKNOWLEDGED = "acknowledged", _("acknowledged")
    REDRIVE_PENDING = "redrive_pending", _("waiting for its service")
    REDRIVEN = "redriven", _("with its service")
    RESOLVED = "resolved", _("resolved")
    REFAILED = "refailed", _("failed again")
    QUARANTINED = "quarantined", _("quarantined")
    DISCARDED = "discarded", _("discarded")


class Reason(models.TextChoices):
    RETRIES_EXHAUSTED = "retries_exhausted", _("retries exhausted")
    REJECTED = "rejected", _("rejected")
    EXPIRED = "expired", _("expired")
    MAXLEN = "maxlen", _("queue full")
    DELIVERY_LIMIT = "delivery_limit", _("delivery limit")
    TIMEOUT = "timeout", _("timeout")
    WORKER_LOST = "worker_lost", _("worker lost")
    BREAKER_OPEN = "breaker_open", _("breaker open")
    BULKHEAD_FULL = "bulkhead_full", _("bulkhead full")
    DEGRADED = "degraded", _("degraded")
    DESERIALIZATION = "deserialization", _("could not be read")
    SCHEMA = "schema", _("does not fit its schema")
    MANUAL = "manual", _("by hand")


class Group(models.Model):
    """The letters of one service that failed in the same way."""

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    service = models.ForeignKey("fleet.Service", models.PROTECT, related_name="+")
    fingerprint = models.CharField(max_length=200)
    title = models.CharField(max_length=300)
    error_class = models.CharField(max_length=200)
    handler = models.CharField(max_length=200)
    # Both grow and shrink in the transactions that change the letters, so they are exact.
    letters = models.PositiveIntegerField(default=0)
    unresolved = models.PositiveIntegerField(default=0)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    objects = OfServiceQuerySet.as_manager()

    class Meta:
        verbose_name = _("dead-letter group")
        verbose_name_plural = _("dead-letter groups")
        constraints = [
            models.UniqueConstraint(  # captures find their group by it
                fields=["service", "fingerprint"], name="deadletters_group_once"
            ),
            models.CheckConstraint(
                condition=Q(unresolved__lte=F("letters")), name="deadletters_group_counts"
            ),
        ]
        indexes = [
            models.Index(  # the inbox: newest failures of an environment first
                fields=["environment", "-last_seen_at"], name="deadletters_group_inbox"
            )
        ]

    def __str__(self) -> str:
        return self.title


class DeadLetter(Versioned):
    """One piece of work a service gave up, with what is needed to do it after all."""

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    service = models.ForeignKey("fleet.Service", models.PROTECT, related_name="+")
    group = models.ForeignKey(Group, models.PROTECT, related_name="+")
    dedup_key = models.CharField(max_length=200)
    handler = models.CharField(max_length=200)  # which function of the service can do it again
    dependency = models.CharField(max_length=80, blank=True)  # slug
    reason = models.CharField(max_length=20, choices=Reason.choices)
    error_class = models.CharField(max_length=200)
    error_message = models.TextField(blank=True)
    error_stack = models.TextField(blank=True)
    attempts = models.PositiveIntegerField()
    first_failed_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    captured_at = models.DateTimeField()  # when Holdfast last heard of a failure of it
    # Microseconds of the failures that were counted, newest last: a replay is one of them.
    counted = models.JSONField(default=list)
    idempotency_key = models.CharField(max_length=200, blank=True)
    correlation_id = models.CharField(max_length=200, blank=True)
    headers = models.JSONField(default=dict)  # {name: text}
    # As it came, after what the service redacted: bytes, so that nothing reads it by accident.
    body = models.BinaryField()
    body_encoding = models.CharField(max_length=6)  # how `body` travels: utf-8 or base64
    body_type = models.CharField(max_length=200, blank=True)  # content type
    body_size = models.PositiveIntegerField()  # bytes
    body_sha256 = models.CharField(max_length=64)
    redacted = models.JSONField(default=list)  # paths
    revision = models.PositiveBigIntegerField(null=True)  # of the policy it failed under
    instance_id = models.UUIDField(null=True)  # no foreign key: letters outlive instances
    status = models.CharField(max_length=15, choices=LetterStatus.choices, default="new")
    status_changed_at = models.DateTimeField()
    redrive_count = models.PositiveIntegerField(default=0)  # redrives that failed again in a row
    discard_reason = models.CharField(max_length=500, blank=True)

    objects = OfServiceQuerySet.as_manager()

    class Meta(Versioned.Meta):
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        constraints = [
            models.UniqueConstraint(  # a letter captured twice at once is one row
                fields=["service", "dedup_key"], name="deadletters_letter_once"
            ),
            models.CheckConstraint(
                condition=Q(status__in=LetterStatus.values), name="deadletters_letter_status"
            ),
            models.CheckConstraint(
                condition=Q(reason__in=Reason.values), name="deadletters_letter_reason"
            ),
            models.CheckConstraint(
                condition=Q(body_encoding__in=["utf-8", "base64"]),
                name="deadletters_letter_encoding",
            ),
            models.CheckConstraint(
                condition=Q(first_failed_at__lte=F("last_failed_at")),
                name="deadletters_letter_failed_forward",
            ),
            models.CheckConstraint(
                condition=~Q(status="discarded") | ~Q(discard_reason=""),
                name="deadletters_letter_discard_says_why",
            ),
        ]
        indexes = [
            # The inbox, newest first; what arrived since an instant.
            models.Index(fields=["environment", "-captured_at"], name="deadletters_letter_inbox"),
            # Letters of a group by status: its page, and freezing its redrive.
            models.Index(fields=["group", "status"], name="deadletters_letter_of_group"),
            models.Index(  # depth and age of what is unresolved, per service
                fields=["environment", "service", "first_failed_at"],
                condition=Q(status__in=OPEN),
                name="deadletters_letter_depth",
            ),
            models.Index(  # retention: what is over, by when
                fields=["status_changed_at"],
                condition=Q(status__in=["resolved", "discarded"]),
                name="deadletters_letter_over",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.handler} {self.idempotency_key or self.dedup_key}"[:120]

    @property
    def is_unresolved(self) -> bool:
        return self.status in rules.UNRESOLVED

    def body_text(self) -> str:
        """The body as text: as it is, or in base64."""
        content = bytes(self.body)  # PostgreSQL gives a memoryview
        if self.body_encoding == "base64":
            return b64encode(content).decode("ascii")
        return content.decode("utf-8", "replace")

    def as_audited(self) -> dict[str, Any]:
        """Its state; never its body, its headers or what its error says."""
        return {
            "dedup_key": self.dedup_key,
            "handler": self.handler,
            "status": self.status,
            "redrive_count": self.redrive_count,
            "discard_reason": self.discard_reason,
        }


class RedriveQuerySet(models.QuerySet["Redrive"]):
    def visible_to(self, actor: Actor) -> Self:
        """Redrives of the environments the actor may see; a service's token sees none."""
        if actor.service_id is not None:
            return self.none()
        return self.filter(environment__in=actor.environment_ids)


class Redrive(Versioned):
    """Giving letters, chosen once and for all, back to their services."""

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        CANCELLED = "cancelled", _("cancelled")
        DONE = "done", _("done")

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    scope = models.CharField(max_length=300)  # what was chosen, for people
    state = models.CharField(max_length=9, choices=State.choices, default=State.RUNNING)
    reason = models.CharField(max_length=500)
    requested_by = models.CharField(max_length=150)
    # Exact: they change in the transactions that change the items.
    total = models.PositiveIntegerField()
    pending = models.PositiveIntegerField()
    claimed = models.PositiveIntegerField(default=0)
    resolved = models.PositiveIntegerField(default=0)
    refailed = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)  # not to be redriven, or cancelled before
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects = RedriveQuerySet.as_manager()

    class Meta(Versioned.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["running", "paused", "cancelled", "done"]),
                name="deadletters_redrive_state",
            ),
            models.CheckConstraint(  # whatever happens to an item, it is counted once
                condition=Q(
                    total=F("pending") + F("claimed") + F("resolved") + F("refailed") + F("skipped")
                ),
                name="deadletters_redrive_adds_up",
            ),
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(requested_by=""),
                name="deadletters_redrive_says_why",
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "-id"], name="deadletters_redrive_newest")  # list
        ]

    def __str__(self) -> str:
        return self.scope

    @property
    def is_over(self) -> bool:
        return self.state in {self.State.CANCELLED, self.State.DONE}

    @property
    def progress(self) -> float:
        """Share of its letters that have an outcome."""
        return 1 - (self.pending + self.claimed) / self.total

    def as_audited(self) -> dict[str, Any]:
        numbers = ("total", "pending", "claimed", "resolved", "refailed", "skipped")
        counts = {name: getattr(self, name) for name in numbers}
        return {"scope": self.scope, "state": self.state, "reason": self.reason, **counts}


class RedriveItem(models.Model):
    """One letter of a redrive; the row is the queue its service takes it from."""

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        CLAIMED = "claimed", _("with its service")
        RESOLVED = "resolved", _("resolved")
        REFAILED = "refailed", _("failed again")
        SKIPPED = "skipped", _("skipped")

    redrive = models.ForeignKey(Redrive, models.CASCADE, related_name="items")
    letter = models.ForeignKey(DeadLetter, models.CASCADE, related_name="+")
    service = models.ForeignKey("fleet.Service", models.PROTECT, related_name="+")
    handler = models.CharField(max_length=200)  # of its letter
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    status_before = models.CharField(max_length=15)  # of its letter, given back if cancelled
    error = models.TextField(blank=True)  # of the redrive that failed again
    duration_seconds = models.FloatField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(  # overlapping redrives: a letter is in one of them
                fields=["letter"],
                condition=Q(state__in=["pending", "claimed"]),
                name="deadletters_item_active_once",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "claimed", "resolved", "refailed", "skipped"]),
                name="deadletters_item_state",
            ),
        ]
        indexes = [
            models.Index(  # claiming: what waits for these handlers, oldest first
                fields=["service", "handler", "id"],
                condition=Q(state="pending"),
                name="deadletters_item_waiting",
            ),
            # The items of a redrive, by what became of them.
            models.Index(fields=["redrive", "state"], name="deadletters_item_of_redrive"),
        ]

    def __str__(self) -> str:
        return f"{self.letter_id} {self.state}"


class Claim(models.Model):
    """A lease one worker has, or had, on an item; outcomes are told by it."""

    class Outcome(models.TextChoices):
        RESOLVED = "resolved"
        REFAILED = "refailed"
        RELEASED = "released"
        EXPIRED = "expired"  # the lease was over, and somebody else may have the item
        OVERTAKEN = "overtaken"  # a late outcome of an earlier claim came first

    item = models.ForeignKey(RedriveItem, models.CASCADE, related_name="claims")
    token = models.UUIDField()
    claimed_at = models.DateTimeField()
    lease_seconds = models.PositiveIntegerField()
    expires_at = models.DateTimeField()
    outcome = models.CharField(max_length=9, choices=Outcome.choices, blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(  # two workers never have the same item
                fields=["item"],
                condition=Q(ended_at__isnull=True),
                name="deadletters_claim_active_once",
            ),
            models.UniqueConstraint(  # outcomes find their claim by it
                fields=["token", "item"], name="deadletters_claim_token"
            ),
        ]
        indexes = [
            models.Index(  # leases that are over
                fields=["expires_at"],
                condition=Q(ended_at__isnull=True),
                name="deadletters_claim_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.item_id} until {self.expires_at:%H:%M:%S}"
