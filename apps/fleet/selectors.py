"""Finding what exists by its name, and telling who is silent."""

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.errors import RuleBroken
from apps.fleet.models import Dependency, Service

SHOWN_FOR = timedelta(days=1)  # an instance silent for longer is most likely gone for good


def shown_since() -> datetime:
    """Instances not heard since this instant are not counted as silent any more."""
    return clock.now() - SHOWN_FOR


def named_service(slug: str | None, *, actor: Actor) -> Service | None:
    """The actor's service that a body or a command names; None for none.

    Raises:
        RuleBroken: there is no such service in the actor's environment.
    """
    if slug is None:
        return None
    here = Service.objects.visible_to(actor).filter(environment=actor.environment_id)
    service = here.select_related("environment").filter(slug=slug).first()
    if service is None:
        text = _("There is no service called %(slug)s in this environment.") % {"slug": slug[:80]}
        raise RuleBroken(text, errors={"service": [text]}, code="unknown_service")
    return service


def named_dependency(slug: str | None, *, actor: Actor) -> Dependency | None:
    """The actor's dependency that a body or a command names; None for none.

    Raises:
        RuleBroken: there is no such dependency in the actor's environment.
    """
    if slug is None:
        return None
    here = Dependency.objects.visible_to(actor).filter(environment=actor.environment_id)
    dependency = here.select_related("environment").filter(slug=slug).first()
    if dependency is None:
        text = _("There is no dependency called %(slug)s in this environment.")
        text %= {"slug": slug[:80]}
        raise RuleBroken(text, errors={"dependency": [text]}, code="unknown_dependency")
    return dependency
