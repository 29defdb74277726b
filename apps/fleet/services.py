"""Changes to what exists."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import bulk, bus
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, Forbidden, RuleBroken
from apps.fleet.models import (
    LONGEST_TARGET,
    NAME,
    SHORTEST_TARGET,
    SLUG,
    Dependency,
    Environment,
    Instance,
    Service,
    Usage,
)

N = TypeVar("N", Environment, Service, Dependency)

MAX_SERVICES = 1000  # of an environment, if reports of unknown ones are to add more
MAX_DISCOVERED = 200  # dependencies a service's reports may add by themselves

Prepare = Callable[[Environment], None]
_preparations: list[Prepare] = []


def prepare_environments(prepare: Prepare) -> None:
    """Call `prepare` in the transaction that adds an environment, before its audit entry.

    For apps above that have something in every environment.
    """
    _preparations.append(prepare)


@transaction.atomic
def create_environment(slug: str, *, name: str = "", actor: Actor) -> Environment:
    """Add an environment.

    Raises:
        RuleBroken: the slug is not a name.
        Conflict: there is one of that name.
    """
    return _create(Environment, "environment.created", actor, slug=slug, name=name or slug)


@transaction.atomic
def rename_environment(
    environment_id: int, *, name: str, version: int | None, actor: Actor
) -> Environment:
    """Change the name people see; raises NotFound or Stale."""
    environment = get_visible(Environment.objects, actor=actor, pk=environment_id)
    return _update(environment, "environment.renamed", version, actor, {"name": name})


@transaction.atomic
def create_service(slug: str, *, description: str = "", owner: str = "", actor: Actor) -> Service:
    """Add a service to the actor's environment; raises RuleBroken, Conflict or Forbidden."""
    _check_reach(actor)
    return _create(
        Service,
        "service.created",
        actor,
        environment_id=actor.environment_id,
        slug=slug,
        description=description,
        owner=owner,
    )


@transaction.atomic
def update_service(
    service_id: int, *, version: int | None, actor: Actor, **changes: str
) -> Service:
    """Change description or owner; raises NotFound or Stale."""
    service = get_visible(Service.objects, actor=actor, pk=service_id)
    return _update(service, "service.updated", version, actor, changes)


@transaction.atomic
def create_dependency(slug: str, *, actor: Actor, **values: Any) -> Dependency:
    """Add a dependency to the actor's environment; raises RuleBroken, Conflict or Forbidden.

    Of `values` there may be: description, critical, latency_target_seconds.
    """
    _check_reach(actor)
    _check_target(values)
    return _create(
        Dependency,
        "dependency.created",
        actor,
        environment_id=actor.environment_id,
        slug=slug,
        **values,
    )


@transaction.atomic
def update_dependency(
    dependency_id: int, *, version: int | None, actor: Actor, **changes: Any
) -> Dependency:
    """Change the description, whether services can do without it, or how fast it should be.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: the latency target is out of bounds.
    """
    _check_reach(actor)
    _check_target(changes)
    dependency = get_visible(Dependency.objects, actor=actor, pk=dependency_id)
    return _update(dependency, "dependency.updated", version, actor, changes)


def link(service: Service, dependency: Dependency, *, source: Usage.Source) -> bool:
    """Note that `service` calls `dependency`; True if that is new.

    Part of a caller's change: it runs in the caller's transaction, and the caller publishes.
    """
    usage, created = Usage.objects.get_or_create(
        service=service, dependency=dependency, defaults={"source": source}
    )
    if not created and source == Usage.Source.DECLARED and usage.source != source:
        Usage.objects.filter(pk=usage.pk).update(source=source)
    return created


def discover(service: Service, names: set[str]) -> list[Dependency]:
    """Add the dependencies a service's reports name and nobody declared, with their usage.

    Names that are none, and those over `MAX_DISCOVERED` per service, are left out: a service
    that makes up names must not fill the console. Runs in the caller's transaction; the caller
    publishes and audits. Returns those whose usage is new.
    """
    known = Usage.objects.filter(service=service).count()
    found: list[Dependency] = []
    for slug in sorted(name for name in names if SLUG.fullmatch(name)):
        if known + len(found) >= MAX_DISCOVERED:
            break
        dependency, _created = Dependency.objects.get_or_create(
            environment_id=service.environment_id, slug=slug
        )
        if link(service, dependency, source=Usage.Source.DISCOVERED):
            found.append(dependency)
    return found


@transaction.atomic
def discover_service(slug: str, *, actor: Actor) -> Service:
    """The service that a report names, added to the actor's environment if nobody did.

    Raises:
        RuleBroken: the slug is not a name.
        Conflict: the environment has `MAX_SERVICES` already; somebody is making up names.
    """
    known = Service.objects.filter(environment_id=actor.environment_id)
    if service := known.filter(slug=slug).first():
        return service
    if known.count() >= MAX_SERVICES:
        raise Conflict(_("There are too many services already."), code="too_many_services")
    try:
        return _create(
            Service, "service.discovered", actor, environment_id=actor.environment_id, slug=slug
        )
    except Conflict:  # another report named it in this very moment
        return known.get(slug=slug)


def introduce(instances: Iterable[Instance]) -> None:
    """Add processes that called home for the first time; those already known stay as they are."""
    in_order = sorted(instances, key=lambda instance: instance.pk)
    Instance.objects.bulk_create(in_order, ignore_conflicts=True)


def hear(heard: Sequence[bulk.Row]) -> None:
    """Note when processes called home, by which name, and whether they said goodbye.

    The caller holds a lock of its own on each: the rows are written in no certain order.
    """
    bulk.update(Instance, heard, key="id")


def forget_instances(before: datetime, *, limit: int) -> int:
    """Remove up to `limit` processes not heard since `before`; returns how many."""
    oldest = Instance.objects.filter(heard_at__lt=before).order_by("heard_at")[:limit]
    found = list(oldest.values_list("pk", flat=True))
    Instance.objects.filter(pk__in=found, heard_at__lt=before).delete()
    return len(found)


def _check_reach(actor: Actor) -> None:
    if actor.service_id is not None:
        raise Forbidden(
            _("This token is bound to one service and cannot change what others share."),
            code="service_bound",
        )


def _check_target(values: dict[str, Any]) -> None:
    target = values.get("latency_target_seconds")
    if target is not None and not SHORTEST_TARGET <= target <= LONGEST_TARGET:
        text = _("Must be from %(least)g s to %(most)g s.")
        text %= {"least": SHORTEST_TARGET, "most": LONGEST_TARGET}
        raise RuleBroken(text, errors={"latency_target_seconds": [text]})


def _create(model: type[N], action: str, actor: Actor, **values: Any) -> N:
    slug = values["slug"]
    if not SLUG.fullmatch(slug):
        raise RuleBroken(str(NAME.message), errors={"slug": [str(NAME.message)]})
    try:
        with transaction.atomic():
            row = model._default_manager.create(**values)
    except IntegrityError as error:
        text = _("There is already one called %(slug)s.") % {"slug": slug}
        raise Conflict(text, errors={"slug": [text]}, code="exists") from error
    if isinstance(row, Environment):
        for prepare in _preparations:
            prepare(row)
    _tell(row, action, actor, before=None)
    return row


def _update(row: N, action: str, version: int | None, actor: Actor, changes: dict[str, Any]) -> N:
    """Values that are there already change nothing: no version, no audit entry."""
    check_version(row, version)
    if all(getattr(row, name) == value for name, value in changes.items()):
        return row  # nothing would be different
    before = row.as_audited()
    swap(row, version=version, **changes)
    _tell(row, action, actor, before=before)
    return row


def _tell(row: N, action: str, actor: Actor, *, before: dict[str, Any] | None) -> None:
    """Audit what became of `row`, and announce it."""
    audit.record(
        action,
        row,
        actor=actor,
        environment_id=row.audited_in,
        before=before,
        after=row.as_audited(),
    )
    bus.announce("fleet", environment_id=row.audited_in)
