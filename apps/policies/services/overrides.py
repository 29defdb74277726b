"""An operator's word on a breaker, for a time."""

from datetime import timedelta
from typing import Any

import structlog
from django.db import DataError, IntegrityError, transaction
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import clock, leases
from apps.core.actor import Actor, automation
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, Stale
from apps.policies import rules
from apps.policies.models import Override, Scope
from apps.policies.services.writing import check_scope, declared_use
from apps.publication import services as publication
from apps.publication.models import Part, Revision
from apps.publication.services import Piece

log = structlog.get_logger(__name__)


@transaction.atomic
def engage_override(
    mode: str,
    *,
    scope: Scope,
    reason: str,
    actor: Actor,
    lease: timedelta | None = leases.DEFAULT_LEASE,
) -> Override:
    """Override the breakers of a dependency, everywhere or for one service, until `lease` is over.

    A lease of None lasts until somebody ends it.

    Raises:
        RuleBroken: an unknown mode, no reason, no dependency, or a lease under a minute or over
            a week.
        Conflict: there is an override in this scope.
        Forbidden: the actor is bound to another service.
    """
    rules.check_mode(mode)
    leases.check_switch(reason, lease)
    rules.check_names_dependency(scope.dependency)
    check_scope(scope, actor)
    replaced = _end_if_due(scope)
    override = _create(mode, scope, reason, lease, actor)
    revision = _publish(override, actor, reason, declared_use(scope))
    if replaced is not None:
        row, before = replaced
        _audit("override.ended", row, _lease(row), before, row.end_reason, revision)
    _audit("override.engaged", override, actor, None, reason, revision)
    return override


@transaction.atomic
def extend_override(
    override_id: int,
    *,
    version: int | None,
    lease: timedelta | None,
    reason: str = "",
    actor: Actor,
) -> Override:
    """Let an override end `lease` from now instead (None: when somebody ends it).

    Without a reason it is extended for the one it was set for.

    Raises:
        NotFound, Forbidden, RuleBroken: as `engage_override`.
        Stale: somebody changed it after `version`; nothing is written.
        Conflict: it has ended.
    """
    override = _override(override_id, actor)
    check_version(override, version)
    if not override.is_in_force:
        raise Conflict(_("This override has ended: set a new one."))
    reason = reason or override.reason
    leases.check_switch(reason, lease)
    before = override.as_audited()
    swap(override, version=version, expires_at=clock.after(lease))
    revision = _publish(override, actor, reason)
    _audit("override.extended", override, actor, before, reason, revision)
    return override


@transaction.atomic
def end_override(override_id: int, *, version: int | None, reason: str, actor: Actor) -> Override:
    """End an override: the breakers go on by themselves, at once.

    Raises:
        NotFound, Forbidden, Stale.
        RuleBroken: no reason.
        Conflict: it has ended already.
    """
    override = _override(override_id, actor)
    leases.check_reason(reason)
    check_version(override, version)
    if override.ended_at is not None:
        raise Conflict(_("This override has ended already."))
    _end(override, version, reason, actor)
    return override


def end_due_overrides(*, limit: int = 200) -> int:
    """End up to `limit` overrides whose lease is over, oldest first; returns how many it ended.

    Each in a transaction of its own, as automation. Safe to run twice or in parallel: an override
    somebody else ended or extended meanwhile is left alone.
    """
    due = Override.objects.due(clock.now()).select_related("service", "dependency")
    return sum(_end_due(override) for override in due.order_by("expires_at", "pk")[:limit])


def _end_due(override: Override) -> bool:
    try:
        with transaction.atomic():
            _end(override, override.version, _("The lease is over."), _lease(override))
    except Stale:
        return False
    except (DataError, IntegrityError):  # of this one override; the others must not wait for it
        log.exception("override.lease_not_ended", override_id=override.pk)
        return False
    log.info(
        "override.lease_ended", override_id=override.pk, environment_id=override.environment_id
    )
    return True


# -- steps of the changes above; they open no transaction of their own ---------------------------


def _lease(override: Override) -> Actor:
    return automation("lease", override.environment_id)


def _override(override_id: int, actor: Actor) -> Override:
    """The override, if the actor sees it and may change it."""
    override = get_visible(Override.objects, actor=actor, pk=override_id)
    check_scope(override.holds_in, actor)
    return override


def _end_if_due(scope: Scope) -> tuple[Override, dict[str, Any]] | None:
    """End the scope's override if its lease is over and only the task has not come by yet."""
    row = Override.objects.due(clock.now()).filter(**scope.lookup).first()
    if row is None:
        return None
    before = row.as_audited()
    _mark_ended(row, row.version, _("The lease is over."), _lease(row))
    return row, before


def _create(
    mode: str, scope: Scope, reason: str, lease: timedelta | None, actor: Actor
) -> Override:
    try:
        with transaction.atomic():
            return Override.objects.create(
                **scope.lookup,
                mode=mode,
                reason=reason,
                set_by=actor.label[:150],
                set_at=clock.now(),
                expires_at=clock.after(lease),
            )
    except IntegrityError as error:
        raise Conflict(
            _("There is an override in this scope: extend it, or end it first."), code="exists"
        ) from error


def _end(override: Override, version: int | None, reason: str, actor: Actor) -> None:
    before = override.as_audited()
    _mark_ended(override, version, reason, actor)
    revision = _publish(override, actor, reason)
    _audit("override.ended", override, actor, before, reason, revision)


def _mark_ended(override: Override, version: int | None, reason: str, actor: Actor) -> None:
    swap(
        override,
        version=version,
        ended_at=clock.now(),
        ended_by=actor.label[:150],
        end_reason=reason,
    )


def _publish(
    override: Override, actor: Actor, reason: str, more: list[Piece] | None = None
) -> Revision:
    body = override.body() if override.ended_at is None else None
    piece = Piece(Part.OVERRIDE, body, **override.holds_in.slugs)
    return publication.publish(
        override.environment_id, [piece, *(more or [])], actor=actor, reason=reason
    )


def _audit(
    action: str,
    override: Override,
    actor: Actor,
    before: dict[str, Any] | None,
    reason: str,
    revision: Revision,
) -> None:
    audit.record(
        action,
        override,
        actor=actor,
        environment_id=override.environment_id,
        before=before,
        after=override.as_audited(),
        reason=reason,
        revision=revision.number,
    )
