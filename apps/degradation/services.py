"""Changes to flags. Only engaged flags are published; an ended one leaves every document."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.db import DataError, IntegrityError, transaction
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import clock, leases
from apps.core.actor import Actor, automation
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, Forbidden, RuleBroken, Stale
from apps.degradation import rules
from apps.degradation.models import Flag
from apps.fleet.models import NAME, SLUG, Dependency, Service
from apps.publication import services as publication
from apps.publication.models import Part, Revision
from apps.publication.services import Piece

log = structlog.get_logger(__name__)

EDITABLE = frozenset({"value", "percentage", "dependencies", "on_stale"})


@transaction.atomic
def create_flag(
    key: str,
    *,
    kind: str,
    service: Service | None = None,
    settings: Mapping[str, Any] | None = None,
    actor: Actor,
) -> Flag:
    """Add a flag, not engaged, to the actor's environment or one service of it.

    `settings` may hold value, percentage, dependencies and on_stale.

    Raises:
        RuleBroken: values a flag of this kind cannot hold.
        Conflict: there is a flag of this key in this scope.
        Forbidden: the actor is bound to another service.
    """
    flag = _create(key, kind, service, settings or {}, actor)
    _audit("flag.created", flag, actor)
    return flag


@transaction.atomic
def update_flag(
    flag_id: int,
    *,
    version: int | None,
    changes: Mapping[str, Any],
    reason: str = "",
    actor: Actor,
) -> Flag:
    """Change value, percentage, dependencies or on_stale; of an engaged flag services learn it.

    Raises:
        NotFound, Forbidden, Stale.
        RuleBroken: values a flag of this kind cannot hold; no reason although it is engaged.
    """
    flag = _flag(flag_id, actor)
    _check_settings(flag.environment_id, {**flag.body(), **changes}, changes)
    if flag.enabled:
        leases.check_reason(reason)
    before = flag.as_audited()
    swap(flag, version=version, **changes)
    revision = _publish(flag, actor, reason) if flag.enabled else None
    _audit("flag.updated", flag, actor, before=before, reason=reason, revision=revision)
    return flag


@transaction.atomic
def engage_flag(
    flag_id: int, *, version: int | None, lease: timedelta | None, reason: str, actor: Actor
) -> Flag:
    """Switch a flag on for the services in its scope, until `lease` is over (None: until ended).

    Raises:
        NotFound, Forbidden.
        RuleBroken: no reason, or a lease under a minute or over a week.
        Stale: somebody changed it after `version`; nothing is written.
        Conflict: it is engaged already.
    """
    flag = _flag(flag_id, actor)
    before, revision = _engage(flag, version, lease, reason, actor)
    _audit("flag.engaged", flag, actor, before=before, reason=reason, revision=revision)
    return flag


@transaction.atomic
def extend_flag(
    flag_id: int, *, version: int | None, lease: timedelta | None, reason: str = "", actor: Actor
) -> Flag:
    """Let an engaged flag end `lease` from now instead (None: when somebody ends it).

    Without a reason it is extended for the one it was engaged for.

    Raises:
        NotFound, Forbidden, RuleBroken, Stale: as `engage_flag`.
        Conflict: it is not engaged, or its lease is over.
    """
    flag = _flag(flag_id, actor)
    check_version(flag, version)
    if not flag.is_engaged:
        raise Conflict(_("This flag is not engaged, so there is no lease to extend: engage it."))
    reason = reason or flag.reason
    leases.check_switch(reason, lease)
    before = flag.as_audited()
    swap(flag, version=version, expires_at=clock.after(lease))
    revision = _publish(flag, actor, reason)
    _audit("flag.extended", flag, actor, before=before, reason=reason, revision=revision)
    return flag


@transaction.atomic
def end_flag(flag_id: int, *, version: int | None, reason: str, actor: Actor) -> Flag:
    """Switch a flag off; services obey at once.

    Raises:
        NotFound, Forbidden, Stale.
        RuleBroken: no reason.
        Conflict: it is not engaged.
    """
    flag = _flag(flag_id, actor)
    leases.check_reason(reason)
    check_version(flag, version)
    if not flag.enabled:
        raise Conflict(_("This flag is not engaged."))
    _end(flag, version, reason, actor)
    return flag


@transaction.atomic
def delete_flag(flag_id: int, *, version: int | None, actor: Actor) -> None:
    """Remove a flag that is not engaged; the audit log keeps what it was.

    Raises:
        NotFound, Forbidden, Stale.
        Conflict: it is engaged.
    """
    flag = _flag(flag_id, actor)
    check_version(flag, version)
    if flag.enabled:
        raise Conflict(_("This flag is engaged: end it first."))
    before = flag.as_audited()
    swap(flag, version=version)  # nobody engages it between the look and the removal
    Flag.objects.filter(pk=flag.pk).delete()
    audit.record(
        "flag.deleted", flag, actor=actor, environment_id=flag.environment_id, before=before
    )


@transaction.atomic
def switch_read_only(
    *, service: Service | None = None, lease: timedelta | None, reason: str, actor: Actor
) -> Flag:
    """Engage read-only mode for the actor's environment or one service of it, in one step.

    The flag `read-only` of that scope is made if it is missing.

    Raises:
        RuleBroken: no reason, or a lease under a minute or over a week.
        Conflict: it is engaged already, or a flag of another kind has this key.
        Forbidden: the actor is bound to another service.
    """
    mine = Flag.objects.filter(environment_id=actor.environment_id, key=rules.READ_ONLY_KEY)
    flag = mine.select_related("service").filter(service=service).first()
    created = flag is None
    if flag is None:
        flag = _create(rules.READ_ONLY_KEY, Flag.Kind.READ_ONLY, service, {}, actor)
    if flag.kind != Flag.Kind.READ_ONLY:
        raise Conflict(_("The flag read-only of this scope is of another kind."))
    _check_reach(flag.service_id, actor)
    before, revision = _engage(flag, None, lease, reason, actor)
    if created:
        audit.record(
            "flag.created", flag, actor=actor, environment_id=flag.environment_id, after=before
        )
    _audit("flag.engaged", flag, actor, before=before, reason=reason, revision=revision)
    return flag


def end_due_flags(*, limit: int = 200) -> int:
    """End up to `limit` flags whose lease is over, oldest first; returns how many it ended.

    Each in a transaction of its own, as automation. Safe to run twice or in parallel: a flag
    somebody else ended or extended meanwhile is left alone.
    """
    due = Flag.objects.due(clock.now()).select_related("service").order_by("expires_at", "pk")
    return sum(_end_due(flag) for flag in due[:limit])


def _end_due(flag: Flag) -> bool:
    actor = automation("lease", flag.environment_id)
    try:
        with transaction.atomic():
            _end(flag, flag.version, _("The lease is over."), actor)
    except Stale:
        return False
    except (DataError, IntegrityError):  # of this one flag; the others must not wait for it
        log.exception("flag.lease_not_ended", flag_id=flag.pk)
        return False
    log.info("flag.lease_ended", flag_id=flag.pk, environment_id=flag.environment_id)
    return True


# -- steps of the changes above; they open no transaction of their own ---------------------------


def _flag(flag_id: int, actor: Actor) -> Flag:
    """The flag, if the actor sees it and may change it."""
    flag = get_visible(Flag.objects.select_related("service"), actor=actor, pk=flag_id)
    _check_reach(flag.service_id, actor)
    return flag


def _check_reach(service_id: int | None, actor: Actor) -> None:
    if actor.service_id is not None and service_id != actor.service_id:
        raise Forbidden(
            _("This token is bound to one service and cannot switch what reaches others."),
            code="service_bound",
        )


def _create(
    key: str, kind: str, service: Service | None, settings: Mapping[str, Any], actor: Actor
) -> Flag:
    environment_id = actor.environment_id
    _check_reach(service.pk if service else None, actor)
    errors: dict[str, list[str]] = {}
    if not SLUG.fullmatch(key):
        errors["key"] = [str(NAME.message)]
    if service is not None and service.environment_id != environment_id:
        errors["service"] = [_("There is no such service in this environment.")]
    if errors:
        raise RuleBroken(_("The flag was not made."), errors=errors)
    _check_settings(environment_id, {**settings, "kind": kind, "enabled": False}, settings)
    try:
        with transaction.atomic():
            return Flag.objects.create(
                environment_id=environment_id, service=service, key=key, kind=kind, **settings
            )
    except IntegrityError as error:
        text = _("There is already a flag of this key in this scope.")
        raise Conflict(text, errors={"key": [text]}, code="exists") from error


def _check_settings(
    environment_id: int, entry: Mapping[str, Any], changes: Mapping[str, Any]
) -> None:
    """Raises RuleBroken unless `entry`, with `changes` in it, is a flag services can obey."""
    if unknown := sorted(set(changes) - EDITABLE):
        raise RuleBroken(
            _("Not everything of a flag can be changed."),
            errors={name: [_("This cannot be changed.")] for name in unknown},
        )
    rules.check_flag(entry)
    names = changes.get("dependencies")
    if names is not None:
        _check_dependencies(environment_id, names)


def _check_dependencies(environment_id: int, names: Sequence[str]) -> None:
    here = Dependency.objects.filter(environment=environment_id, slug__in=names)
    if missing := sorted(set(names) - set(here.values_list("slug", flat=True))):
        text = _("There is no such dependency in this environment: %(names)s.")
        raise RuleBroken(
            _("Some dependencies are unknown."),
            errors={"dependencies": [text % {"names": ", ".join(missing[:5])}]},
        )


def _engage(
    flag: Flag, version: int | None, lease: timedelta | None, reason: str, actor: Actor
) -> tuple[dict[str, Any], Revision]:
    """Swap and publish; returns the state before and the revision."""
    leases.check_switch(reason, lease)
    check_version(flag, version)
    if flag.is_engaged:
        raise Conflict(_("This flag is engaged already: extend its lease, or end it first."))
    before, is_due = flag.as_audited(), flag.enabled  # its lease is over, and no task came by yet
    now = clock.now()
    swap(
        flag,
        version=version,
        enabled=True,
        expires_at=None if lease is None else now + lease,
        reason=reason,
        set_by=actor.label[:150],
        set_at=now,
    )
    revision = _publish(flag, actor, reason)
    if is_due:
        before = _audit_end_of_lease(flag, before, revision)
    return before, revision


def _audit_end_of_lease(flag: Flag, before: dict[str, Any], revision: Revision) -> dict[str, Any]:
    """Say that the lease before this one is over; returns the state it left behind."""
    ended = {**before, "enabled": False, "expires_at": None}
    audit.record(
        "flag.ended",
        flag,
        actor=automation("lease", flag.environment_id),
        environment_id=flag.environment_id,
        before=before,
        after=ended,
        reason=_("The lease is over."),
        revision=revision.number,
    )
    return ended


def _end(flag: Flag, version: int | None, reason: str, actor: Actor) -> None:
    before = flag.as_audited()
    swap(flag, version=version, enabled=False, expires_at=None)
    revision = _publish(flag, actor, reason)
    _audit("flag.ended", flag, actor, before=before, reason=reason, revision=revision)


def _publish(flag: Flag, actor: Actor, reason: str) -> Revision:
    piece = Piece(
        Part.FLAG,
        flag.body() if flag.enabled else None,
        service=flag.service.slug if flag.service else "",
        name=flag.key,
    )
    return publication.publish(flag.environment_id, [piece], actor=actor, reason=reason)


def _audit(
    action: str,
    flag: Flag,
    actor: Actor,
    *,
    before: dict[str, Any] | None = None,
    reason: str = "",
    revision: Revision | None = None,
) -> None:
    audit.record(
        action,
        flag,
        actor=actor,
        environment_id=flag.environment_id,
        before=before,
        after=flag.as_audited(),
        reason=reason,
        revision=revision.number if revision else None,
    )
