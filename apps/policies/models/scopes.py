"""Where something holds: in an environment, for a dependency, or for a service's calls to it."""

from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.core.db import Versioned
from apps.fleet.models import Dependency, Service


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
    def holds_in(self) -> Scope:
        return Scope(self.environment_id, self.dependency, self.service)
