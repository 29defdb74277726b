"""The timeline's part of what instances told: breakers that moved, and what people marked."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.core.moments import Moment, Phase, Told, Wanted, newest
from apps.telemetry.models import BreakerEvent, BreakerState, Marker
from apps.telemetry.rules import MOVED

ALIKE = timedelta(seconds=15)  # instances whose breakers do the same within it are one moment
MOST_NAMED = 20  # instances
PHASES: dict[str, Phase] = {BreakerState.OPEN: "begins", BreakerState.CLOSED: "ends"}


def breakers(wanted: Wanted) -> Told:
    """Breakers that came into another state; those of many instances at once are told once."""
    rows = BreakerEvent.objects.filter(
        service__environment_id=wanted.environment_id, type=MOVED
    ).exclude(to_state="")
    rows = _of_service(rows, wanted)
    if wanted.dependency:
        rows = rows.filter(dependency=wanted.dependency)
    columns = (
        *("at", "service__slug", "dependency", "instance_name", "instance_id", "to_state"),
        "cause",
    )
    found, horizon = newest(rows.values_list(*columns, named=True), wanted)
    return Told([_moved(alike) for alike in _together(found)], horizon)


def _together(newest_first: Sequence[Any]) -> list[list[Any]]:
    """The events, those that say the same within `ALIKE` together, by the newest of each."""
    groups: list[list[Any]] = []
    last: dict[tuple[str, str, str], list[Any]] = {}
    for event in newest_first:
        name = (event.service__slug, event.dependency, event.to_state)
        group = last.get(name)
        if group is None or group[0].at - event.at > ALIKE:
            group = last[name] = []
            groups.append(group)
        group.append(event)
    return groups


def _moved(alike: Sequence[Any]) -> Moment:
    event = alike[-1]  # the first of them
    instances = sorted({each.instance_name for each in alike})
    state = BreakerState(event.to_state)
    what = {
        "service": event.service__slug,
        "dependency": event.dependency,
        "state": state.label,
        "instance": event.instance_name,
        "count": len(instances),
    }
    text = ngettext(
        "The breaker of %(service)s → %(dependency)s is %(state)s on %(instance)s.",
        "The breakers of %(service)s → %(dependency)s are %(state)s on %(count)d instances.",
        len(instances),
    )
    return Moment(
        at=event.at,
        kind="breaker",
        text=text % what,
        service=event.service__slug,
        dependency=event.dependency,
        instance=event.instance_name if len(instances) == 1 else "",
        count=len(instances),
        thread=f"breaker {event.service__slug} {event.dependency}",
        phase=PHASES.get(event.to_state, ""),
        data={
            "state": event.to_state,
            "cause": event.cause,
            "instances": instances[:MOST_NAMED],
            "instance_id": str(event.instance_id),  # of the first
        },
    )


def markers(wanted: Wanted) -> Told:
    """What deployments and people marked; marks of the whole environment concern each service."""
    rows = Marker.objects.filter(environment=wanted.environment_id).select_related("service")
    if wanted.own_service is not None:
        rows = rows.filter(service=wanted.own_service)
    found, horizon = newest(rows, wanted)
    mine = [row for row in found if not (wanted.service and row.service) or _is_of(row, wanted)]
    return Told([] if wanted.dependency else [_marked(row) for row in mine], horizon)


def _is_of(row: Marker, wanted: Wanted) -> bool:
    return row.service is not None and row.service.slug == wanted.service


def _marked(row: Marker) -> Moment:
    return Moment(
        at=row.at,
        kind="marker",
        text=_("%(kind)s: %(title)s")
        % {"kind": row.get_kind_display().capitalize(), "title": row.title},
        service=row.service.slug if row.service else "",
        actor=row.created_by,
        data={"kind": row.kind, "title": row.title, "version": row.release, "url": row.url},
    )


def _of_service(rows: Any, wanted: Wanted) -> Any:
    if wanted.own_service is not None:
        rows = rows.filter(service=wanted.own_service)
    return rows.filter(service__slug=wanted.service) if wanted.service else rows
