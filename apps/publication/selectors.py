"""Reading revisions: what changed, and what was in force."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apps.publication.models import Fragment, Head, Revision


@dataclass(frozen=True)
class Difference:
    """What a revision did to one piece; a body of None means the piece was not there."""

    part: str
    service: str
    dependency: str
    name: str
    before: Any
    after: Any


def newest_number(environment_id: int) -> int:
    """The number of the environment's newest revision; 0 before the first."""
    found = Head.objects.filter(environment_id=environment_id).values_list("revision", flat=True)
    return found.first() or 0


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


def changes_of(revisions: Sequence[Revision]) -> dict[int, list[Fragment]]:
    """The pieces each of these revisions wrote, by the revision's id; one query for all."""
    ids = {(row.environment_id, row.number): row.pk for row in revisions}
    written = Fragment.objects.filter(
        environment__in={row.environment_id for row in revisions},
        revision__in={row.number for row in revisions},
    ).order_by("part", "service", "dependency", "name")
    found: dict[int, list[Fragment]] = {}
    for fragment in written:
        if (pk := ids.get((fragment.environment_id, fragment.revision))) is not None:
            found.setdefault(pk, []).append(fragment)
    return found


def _where(fragment: Fragment) -> tuple[str, str, str, str]:
    return (fragment.part, fragment.service, fragment.dependency, fragment.name)
