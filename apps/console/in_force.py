"""What an instance had to obey at an instant of the past, and where each part of it came from.

What is known: which revision it said it ran (kept for 90 days), what was published as that revision
(kept without end), and what its breakers said they did. Leases ended by its own clock, whatever was
published. What is not known is said, and not guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.errors import NotFound
from apps.delivery.rules import Origin, merge
from apps.fleet.models import Instance, Service
from apps.publication.models import Epoch, Fragment, Part
from apps.publication.rules import concerning, uses_of
from apps.telemetry.models import Application, BreakerEvent
from apps.telemetry.rules import MOVED
from apps.telemetry.services import EVENTS_KEPT

Known = Literal["exact", "defaults", "another_epoch", "too_long_ago"]
MOST_EVENTS = 2_000  # of one instance's breakers that are looked through


@dataclass(frozen=True)
class Value:
    """One setting as it was published, and the level and revision it came from."""

    pattern: str
    key: str
    value: Any
    level: str  # environment, dependency, service
    revision: int


@dataclass(frozen=True)
class Breaker:
    """What an instance's breaker was; nothing is told of one that never moved: it was closed."""

    state: str
    since: datetime | None  # None: no event of it is kept
    cause: str = ""


@dataclass(frozen=True)
class Calls:
    """What held for the calls of one dependency. Settings not listed were the SDK's defaults."""

    dependency: str
    values: list[Value]
    breaker: Breaker
    override: Mapping[str, Any] | None


@dataclass(frozen=True)
class InForce:
    """What an instance had to obey at an instant."""

    instance: UUID
    name: str
    service: str  # slug
    environment_id: int
    at: datetime
    known: Known
    epoch: UUID | None = None
    revision: int | None = None
    applied_at: datetime | None = None
    refused: Sequence[Mapping[str, Any]] = ()  # what of the revision it would not apply
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    over: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # flags whose lease ended
    dependencies: list[Calls] = field(default_factory=list)


def in_force(instance: UUID, at: datetime, *, actor: Actor) -> InForce:
    """What the instance obeyed at `at`; some ten queries.

    Raises:
        NotFound: nothing was ever heard of the instance that this actor may know.
    """
    said = _said(instance, at)
    service, name = _whose(instance, said, actor)
    breakers = _breakers(service, instance, at)
    found = InForce(instance, name, service.slug, service.environment_id, at, _known(said, at))
    if said is None or found.known != "exact":
        unread = [Calls(each, [], state, None) for each, state in sorted(breakers.items())]
        return _with(found, said, dependencies=unread)
    fragments = _published(service, said.revision or 0)
    document = msgspec.json.decode(merge(fragments, service.slug, _NOWHERE, published_at={}).body)
    flags = document["flags"]
    live = {key: each for key, each in flags.items() if _holds(each, at)}
    names = sorted(document["dependencies"].keys() | breakers.keys())
    return _with(
        found,
        said,
        flags=live,
        over={key: flags[key] for key in flags.keys() - live.keys()},
        dependencies=[
            Calls(
                name,
                _values(fragments, name),
                breakers.get(name, CLOSED),
                _override(document["dependencies"].get(name, {}), at),
            )
            for name in names
        ],
    )


CLOSED = Breaker("closed", None)
_NOWHERE = Origin("", "", "", 0)  # its members are not read


def _with(found: InForce, said: Application | None, **more: Any) -> InForce:
    if said is not None:
        more |= {
            "epoch": said.epoch,
            "revision": said.revision,
            "applied_at": said.at,
            "refused": said.refused,
        }
    return InForce(**(vars(found) | more))


def _said(instance: UUID, at: datetime) -> Application | None:
    """What it had said last by then of what it runs."""
    rows = Application.objects.filter(instance_id=instance, at__lte=at).select_related("service")
    return rows.order_by("-at", "-pk").first()


def _whose(instance: UUID, said: Application | None, actor: Actor) -> tuple[Service, str]:
    """Service and name of the instance, whether or not it is there any more."""
    row = Instance.objects.select_related("service").filter(pk=instance).first()
    ever = (
        said or Application.objects.filter(instance_id=instance).select_related("service").first()
    )
    service = row.service if row else ever.service if ever else None
    is_seen = (
        service is not None
        and actor.sees(service.environment_id)
        and actor.service_id in (None, service.pk)
    )
    if service is None or not is_seen:
        raise NotFound(_("Nothing was heard of such an instance in this environment."))
    name = row.name if row else ever.instance_name if ever else ""
    return service, name or str(instance)


def _known(said: Application | None, at: datetime) -> Known:
    if at < clock.now() - EVENTS_KEPT:
        return "too_long_ago"
    if said is None or said.revision is None or said.epoch is None:
        return "defaults"
    if not Epoch.objects.filter(pk=said.epoch).exists():
        return "another_epoch"
    return "exact"


def _published(service: Service, revision: int) -> list[Fragment]:
    """The pieces of the service's document as of a revision, removed ones left out."""
    rows = Fragment.objects.as_of(service.environment_id, revision)
    mine = list(rows.filter(service__in=["", service.slug]))
    return [
        fragment
        for fragment in concerning(mine, service.slug, uses_of(mine, service.slug))
        if fragment.body is not None
    ]


def _holds(entry: Mapping[str, Any], at: datetime) -> bool:
    """Whether the lease of a flag or override was not over by the clock."""
    ends = entry.get("expires_at")
    return ends is None or (parse_datetime(ends) or at) > at


def _override(entry: Mapping[str, Any], at: datetime) -> Mapping[str, Any] | None:
    override: Mapping[str, Any] | None = entry.get("override")
    return override if override is not None and _holds(override, at) else None


def _values(fragments: Iterable[Fragment], dependency: str) -> list[Value]:
    """Every setting of the calls, the most specific level of each, by pattern and key."""
    found: dict[tuple[str, str], Value] = {}
    mine = [
        each
        for each in fragments
        if each.part == Part.SETTING and each.dependency in ("", dependency)
    ]
    for each in sorted(mine, key=lambda one: (one.service != "", one.dependency != "")):
        level = "service" if each.service else "dependency" if each.dependency else "environment"
        for key, value in (each.body or {}).items():
            found[each.name, key] = Value(each.name, key, value, level, each.revision)
    return [found[name] for name in sorted(found)]


def _breakers(service: Service, instance: UUID, at: datetime) -> dict[str, Breaker]:
    """The last known state of each of its breakers by then."""
    rows = BreakerEvent.objects.filter(
        service=service, instance_id=instance, type=MOVED, at__lte=at
    ).exclude(to_state="")
    columns = ("dependency", "to_state", "at", "cause")
    found: dict[str, Breaker] = {}
    for dependency, state, since, cause in rows.order_by("-at", "-pk").values_list(*columns)[
        :MOST_EVENTS
    ]:
        found.setdefault(dependency, Breaker(state, since, cause))
    return found
