"""What instances ran over time: a row whenever one says that it applied or refuses another."""

from collections.abc import Iterable, Mapping
from typing import Any

from apps.telemetry.models import Application
from apps.telemetry.rows import Claimed


def note(claimed: Iterable[Claimed], states: Iterable[Mapping[str, Any]]) -> None:
    """Keep what is new in the states the reports are written down as; in their transaction."""
    Application.objects.bulk_create(
        _applied(each, state)
        for each, state in zip(claimed, states, strict=True)
        if _is_new(each, state)
    )


def _is_new(claimed: Claimed, state: Mapping[str, Any]) -> bool:
    before = claimed.before
    said = (before.epoch, before.applied_revision, before.refused)
    return said != (state["epoch"], state["applied_revision"], state["refused"])


def _applied(claimed: Claimed, state: Mapping[str, Any]) -> Application:
    arrival = claimed.arrival
    return Application(
        service_id=arrival.service_id,
        instance_id=arrival.report.instance,
        instance_name=arrival.report.name[:120],
        epoch=state["epoch"],
        revision=state["applied_revision"],
        refused=state["refused"],
        at=state["applied_at"] or arrival.received_at,
    )
