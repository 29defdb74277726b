"""Going back to the settings of an earlier revision."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import leases
from apps.core.actor import Actor
from apps.core.db import get_visible
from apps.core.errors import Conflict, Forbidden, RuleBroken, Stale
from apps.fleet.models import Dependency, Service
from apps.policies.models import CONFIGS, Scope
from apps.policies.rules import Finding
from apps.policies.selectors import Move, moves_back_to
from apps.policies.services.plans import findings_of
from apps.policies.services.writing import Edit, write
from apps.publication.models import Revision
from apps.publication.selectors import newest_number
from holdfast.spec import PATTERNS


class _Slugs(NamedTuple):
    """Services and dependencies of an environment, by slug."""

    services: Mapping[str, Service]
    dependencies: Mapping[str, Dependency]


@transaction.atomic
def rollback(number: int, *, actor: Actor, reason: str) -> Revision:
    """Restore the settings of the actor's environment as revision `number` had them.

    Overrides and flags stay as they are now. Everything restored becomes one new revision.

    Raises:
        NotFound: no such revision.
        RuleBroken: no reason; or settings that are not allowed any more.
        Conflict: the settings are the same now.
        Stale: somebody changed settings in this very moment; nothing is written.
        Forbidden: the actor is bound to one service.
    """
    leases.check_reason(reason)
    target = _target(number, actor)
    looked_at = newest_number(target.environment_id)
    moves = moves_back_to(target)
    if not moves:
        raise Conflict(
            _("The settings are the same as in revision %(number)d.") % {"number": number}
        )
    edits = _edits(moves, target.environment_id)
    _written, revision = write(edits, actor=actor, reason=reason, restores=number)
    # The environment's head is held now: what was changed between the look and this is seen here.
    if revision is None or (revision.number != looked_at + 1 and moves_back_to(target)):
        raise Stale(_("Settings were changed in this very moment. Look again, and try again."))
    audit.record(
        "revision.restored",
        revision,
        actor=actor,
        environment_id=target.environment_id,
        before={move.label: move.before for move in moves},
        after={move.label: move.after for move in moves},
        reason=reason,
        revision=revision.number,
    )
    return revision


def plan_rollback(number: int, *, actor: Actor) -> list[Finding]:
    """What would be dangerous about the settings `rollback` would restore; nothing is written.

    Nothing, where they are the same now.

    Raises:
        NotFound, RuleBroken, Forbidden: as `rollback`; but settings that contradict each other
            are findings.
    """
    target = _target(number, actor)
    edits = _edits(moves_back_to(target), target.environment_id)
    return findings_of(edits, actor=actor) if edits else []


def _target(number: int, actor: Actor) -> Revision:
    if actor.service_id is not None:
        raise Forbidden(
            _("This token is bound to one service and cannot change what reaches others."),
            code="service_bound",
        )
    return get_visible(
        Revision.objects, actor=actor, environment_id=actor.environment_id, number=number
    )


def _edits(moves: Iterable[Move], environment_id: int) -> list[Edit]:
    known = _slugs(environment_id)
    return [_edit(move, environment_id, known) for move in moves]


def _slugs(environment_id: int) -> _Slugs:
    return _Slugs(
        {row.slug: row for row in Service.objects.filter(environment=environment_id)},
        {row.slug: row for row in Dependency.objects.filter(environment=environment_id)},
    )


def _edit(move: Move, environment_id: int, known: _Slugs) -> Edit:
    scope = Scope(
        environment_id,
        known.dependencies[move.dependency] if move.dependency else None,
        known.services[move.service] if move.service else None,
    )
    if move.pattern not in CONFIGS:
        raise RuleBroken(
            _("This version cannot hold the settings of %(pattern)s.") % {"pattern": move.pattern}
        )
    if move.after is None:
        return Edit(move.pattern, scope, None)
    every: dict[str, Any] = dict.fromkeys(PATTERNS[move.pattern].settings)
    return Edit(move.pattern, scope, every | move.after)
