"""Who may do what: people, their roles in environments, and the tokens of services."""

from datetime import datetime
from typing import Any, Self

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.core.actor import Actor
from apps.core.db import Versioned


class User(AbstractUser):
    """A person. Superusers hold every role everywhere and keep the system itself."""

    @property
    def environment_id(self) -> None:
        """People belong to the system, not to an environment."""
        return None

    def as_audited(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "is_active": self.is_active,
            "is_superuser": self.is_superuser,
        }


class MembershipQuerySet(models.QuerySet["Membership"]):
    def visible_to(self, actor: Actor) -> Self:
        return self.filter(environment__in=actor.environment_ids)


class Membership(Versioned):
    """The role a person has in an environment."""

    class Role(models.TextChoices):
        VIEWER = "viewer", _("viewer: sees everything, changes nothing")
        OPERATOR = "operator", _("operator: switches, overrides and policies")
        ADMINISTRATOR = "administrator", _("administrator: also tokens")

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    environment = models.ForeignKey("fleet.Environment", models.CASCADE, related_name="+")
    role = models.CharField(max_length=13, choices=Role.choices)

    objects = MembershipQuerySet.as_manager()

    class Meta(Versioned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["user", "environment"], name="accounts_membership_once"
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=["viewer", "operator", "administrator"]),
                name="accounts_membership_role",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.environment}"

    def as_audited(self) -> dict[str, Any]:
        return {
            "user": self.user.username,
            "environment": self.environment.slug,
            "role": self.role,
        }


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def visible_to(self, actor: Actor) -> Self:
        """Tokens of the environments the actor may see; a service's token sees that service's."""
        rows = self.filter(environment__in=actor.environment_ids)
        return rows if actor.service_id is None else rows.filter(service=actor.service_id)

    def live(self, now: datetime) -> Self:
        """Tokens that still open doors."""
        return self.filter(revoked_at=None).exclude(expires_at__lte=now)


class ApiToken(Versioned):
    """A service's key to one environment. The secret is shown once and never stored."""

    environment = models.ForeignKey("fleet.Environment", models.PROTECT, related_name="+")
    service = models.ForeignKey("fleet.Service", models.PROTECT, null=True, related_name="+")
    name = models.CharField(max_length=120)
    selector = models.CharField(max_length=12, unique=True, editable=False)
    verifier = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list)
    created_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)  # null: until revoked
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)  # to the minute

    objects = ApiTokenQuerySet.as_manager()

    class Meta(Versioned.Meta):
        verbose_name = "API token"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(expires_at__isnull=True)
                | models.Q(expires_at__gt=models.F("created_at")),
                name="accounts_token_expires_later",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} (hf_{self.selector}_…)"

    def as_audited(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "selector": self.selector,
            "service": self.service.slug if self.service else None,
            "scopes": self.scopes,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
        }


class FailedLogins(models.Model):
    """How often logins failed of late, of one name from one address, or of any from it."""

    key = models.CharField(max_length=64, primary_key=True)  # a hash: no names lie about here
    count = models.PositiveIntegerField(default=0)
    since = models.DateTimeField()  # of the first of them

    def __str__(self) -> str:
        return f"{self.count} since {self.since:%H:%M:%S}"
