"""What a switch would hit."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.core import clock
from apps.core.actor import Actor
from apps.core.errors import NotFound
from apps.degradation.models import Flag
from apps.fleet.models import Instance, Service, Usage
from apps.fleet.selectors import shown_since


@dataclass(frozen=True)
class Impact:
    """Services that will obey a switch, and their processes: heard lately, or silent."""

    services: int
    instances: int
    silent: int
    names: tuple[str, ...]  # of the services, sorted

    def __str__(self) -> str:
        return _("%(services)s, %(instances)s, %(silent)d silent") % {
            "services": ngettext("%d service", "%d services", self.services) % self.services,
            "instances": ngettext("%d instance", "%d instances", self.instances) % self.instances,
            "silent": self.silent,
        }


def impact(environment_id: int, *, service_id: int | None = None) -> Impact:
    """What a switch for an environment, or for one service of it, would hit now."""
    services = Service.objects.filter(environment=environment_id)
    if service_id is not None:
        services = services.filter(pk=service_id)
    return _impact_on(list(services.values_list("pk", "slug")))


def impact_of(flag: Flag, *, service_id: int | None = None) -> Impact:
    """What engaging `flag` would hit now, of one service alone if it is given.

    A fallback flag hits those that use its dependencies.
    """
    service_id = service_id or flag.service_id
    if not flag.dependencies:
        return impact(flag.environment_id, service_id=service_id)
    using = Usage.objects.filter(
        service__environment=flag.environment_id, dependency__slug__in=flag.dependencies
    )
    if service_id is not None:
        using = using.filter(service=service_id)
    return _impact_on(list(using.values_list("service", "service__slug").distinct()))


def _impact_on(services: Sequence[tuple[int, str]]) -> Impact:
    known = Instance.objects.filter(service__in=[pk for pk, _slug in services])
    known = known.filter(heard_at__gte=shown_since(), stopping=False)
    heard = known.live(clock.now()).count()
    return Impact(
        services=len(services),
        instances=heard,
        silent=known.count() - heard,
        names=tuple(sorted(slug for _pk, slug in services)),
    )


def find_flag(key: str, *, service: Service | None, actor: Actor) -> Flag:
    """The flag of this key in exactly this scope of the actor's environment; raises NotFound."""
    here = Flag.objects.visible_to(actor).filter(
        environment_id=actor.environment_id, service=service
    )
    found = here.filter(key=key).select_related("service").first()
    if found is None:
        known = ", ".join(here.order_by("key").values_list("key", flat=True)[:20]) or _("none yet")
        text = _("There is no flag %(key)s in this scope. Flags here: %(known)s.")
        raise NotFound(text % {"key": key, "known": known})
    return found
