"""Reading revisions: what changed, and what was in force."""

from dataclasses import dataclass
from typing import Any

from apps.publication.models import Fragment, Revision


@dataclass(frozen=True)
class Difference:
    """What a revision did to one piece; a body of None means the piece was not there."""

    part: str
    service: str
    dependency: str
    name: str
    before: Any
    after: Any


def differences(revision: Revision) -> list[Difference]:
    """What `revision` changed, piece by piece."""
    changed = Fragment.objects.filter(
        environment_id=revision.environment_id, revision=revision.number
    ).order_by("part", "service", "dependency", "name")
    earlier = Fragment.objects.as_of(revision.environment_id, revision.number - 1).filter(
        # A superset of the pieces changed, so that not the whole environment is read.
        part__in={fragment.part for fragment in changed},
        service__in={fragment.service for fragment in changed},
        dependency__in={fragment.dependency for fragment in changed},
        name__in={fragment.name for fragment in changed},
    )
    before = {_where(fragment): fragment.body for fragment in earlier}
    return [
        Difference(*_where(fragment), before=before.get(_where(fragment)), after=fragment.body)
        for fragment in changed
    ]


def _where(fragment: Fragment) -> tuple[str, str, str, str]:
    return (fragment.part, fragment.service, fragment.dependency, fragment.name)
