"""Pings of jobs: that one began, ended or failed. What never comes is missed by the runner."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import get_visible
from apps.core.errors import RuleBroken
from apps.health.models import Check, Result
from apps.health.probes.outcomes import Outcome, failed, fine
from apps.health.services import runs
from apps.health.targets import OPTIONS


@dataclass(frozen=True)
class Ping:
    """What a job says of itself."""

    state: str = "success"  # start, success or fail
    run: uuid.UUID | None = None  # the same at start and end, and whenever it is sent again
    duration_seconds: float | None = None  # None: since it said that it began
    exit_code: int | None = None


@transaction.atomic
def ping(check_id: int, said: Ping, *, actor: Actor) -> tuple[Check, bool]:
    """Note what a job says; whether it counted, too.

    It does not if this was said of this run before, or if the check does not run. Safe to call
    again: with a run each end of a job is one result.

    Raises:
        NotFound.
        RuleBroken: the check is no heartbeat.
    """
    visible = get_visible(Check.objects, actor=actor, pk=check_id)
    if visible.kind != Check.Kind.HEARTBEAT:
        raise RuleBroken(_("Only a heartbeat is pinged: this check asks by itself."))
    check = Check.objects.select_for_update().get(pk=check_id)  # one ping after the other
    if not check.enabled or _was_said(check, said):
        return check, False
    if said.state == "start":
        _write(check, _begun(check, said, clock.now()))
    else:
        _end(check, said, clock.now())
    return check, True


def next_miss(check: Check, now: datetime) -> datetime:
    """When a heartbeat that was heard of just now is missed."""
    return now + timedelta(seconds=check.interval_seconds + option(check, "grace_seconds"))


def option(check: Check, name: str) -> float:
    return float(check.settings.get(name, OPTIONS[check.kind][name].default))


def _was_said(check: Check, said: Ping) -> bool:
    if said.run is None:
        return False
    if said.state == "start" and said.run == check.started_run:
        return True
    return Result.objects.filter(subject=check, run=said.run).exists()


def _begun(check: Check, said: Ping, now: datetime) -> dict[str, Any]:
    longest = timedelta(seconds=option(check, "longest_seconds"))
    return {
        "started_at": now,
        "started_run": said.run,
        "next_at": now + longest,
        "claim": None,  # whoever was about to say that it was missed
    }


def _end(check: Check, said: Ping, now: datetime) -> None:
    outcome = _outcome(said, _duration(check, said, now))
    columns, before = runs.after(check, outcome, now=now), check.status
    Result.objects.create(
        subject=check,
        at=now,
        mark=outcome.mark,
        latency_seconds=outcome.latency,
        detail=outcome.detail,
        run=said.run,
    )
    if columns["status"] != before:
        runs.move(check, columns["status"], detail=columns["detail"], at=now)
    _write(check, {**columns, "next_at": next_miss(check, now), "claim": None})


def _outcome(said: Ping, duration: float | None) -> Outcome:
    facts = {} if said.exit_code is None else {"exit_code": said.exit_code}
    if said.state == "success":
        return Outcome(fine(0.0).mark, "", duration, facts)
    text = _("its job failed")
    if said.exit_code is not None:
        text = _("its job failed with exit code %d") % said.exit_code
    return Outcome(failed(text).mark, text, duration, facts)


def _duration(check: Check, said: Ping, now: datetime) -> float | None:
    """Seconds it took: as it says, else since it said that this run began."""
    if said.duration_seconds is not None:
        return said.duration_seconds
    if check.started_at is None or check.started_run != said.run:
        return None
    return max(0.0, (now - check.started_at).total_seconds())


def _write(check: Check, columns: dict[str, Any]) -> None:
    Check.objects.filter(pk=check.pk).update(**columns)
    for name, value in columns.items():
        setattr(check, name, value)
