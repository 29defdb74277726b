"""What is switched on purpose, and the rows on whose pages it is extended and ended."""

from typing import Any

from apps.core import clock
from apps.degradation.models import Flag
from apps.live import rules
from apps.policies.models import Override
from apps.publication.models import Fragment, Part

Name = tuple[str, str, str, str]  # what, service, dependency, key


def in_force(environment_id: int) -> list[dict[str, Any]]:
    """Flags and overrides in force, as services were told of them, the gravest first.

    Three queries. `id` is None while the row is not, or not any more, what was published.
    """
    now = clock.now()
    published = Fragment.objects.current().filter(
        environment_id=environment_id, part__in=[Part.FLAG, Part.OVERRIDE]
    )
    keys = _keys(environment_id)
    return rules.switches_in_order(
        rules.switch(
            fragment.part,
            fragment.body,
            key=fragment.name,
            service=fragment.service,
            dependency=fragment.dependency,
            revision=fragment.revision,
            id=keys.get((fragment.part, fragment.service, fragment.dependency, fragment.name)),
        )
        for fragment in published
        if fragment.body is not None and rules.holds(fragment.body, now)
    )


def _keys(environment_id: int) -> dict[Name, int]:
    now = clock.now()
    flags = Flag.objects.filter(environment_id=environment_id).engaged(now)
    overrides = Override.objects.filter(environment_id=environment_id).in_force(now)
    keys: dict[Name, int] = {}
    for pk, service, key in flags.values_list("pk", "service__slug", "key"):
        keys[Part.FLAG, service or "", "", key] = pk
    for pk, service, dependency in overrides.values_list("pk", "service__slug", "dependency__slug"):
        keys[Part.OVERRIDE, service or "", dependency, ""] = pk
    return keys
