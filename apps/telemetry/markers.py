"""Marking instants on the time axis."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible
from apps.core.errors import Conflict, Forbidden, RuleBroken
from apps.fleet.models import Service
from apps.telemetry.models import Marker

KEPT = timedelta(days=400)
FUTURE = timedelta(hours=1)  # of whoever's clock


@dataclass(frozen=True)
class Mark:
    """What is to be marked. `at` None: now; `key` makes a repeated request mark once."""

    title: str
    kind: str = Marker.Kind.DEPLOY
    service: Service | None = None
    release: str = ""
    url: str = ""
    at: datetime | None = None
    key: str = ""


@transaction.atomic
def add_marker(mark: Mark, *, actor: Actor) -> tuple[Marker, bool]:
    """Mark an instant in the actor's environment; returns the marker, and whether it is new.

    Raises:
        RuleBroken: the instant is too long ago to be kept, or in the future.
        Conflict: the key was used for something else.
        Forbidden: the actor is bound to one service and marks another, or none.
    """
    now = clock.now()
    _check_reach(mark, actor)
    _check_instant(mark.at or now, now)
    row = Marker(
        environment_id=actor.environment_id,
        service=mark.service,
        kind=mark.kind,
        title=mark.title,
        release=mark.release,
        url=mark.url,
        at=mark.at or now,
        created_at=now,
        created_by=actor.label,
        key=mark.key,
    )
    known = _known(row) or _saved(row)
    if known is not None:
        return known, False
    audit.record(
        "marker.created",
        row,
        actor=actor,
        environment_id=row.environment_id,
        after=row.as_audited(),
    )
    return row, True


@transaction.atomic
def remove_marker(marker_id: int, *, version: int, actor: Actor) -> None:
    """Take a marker off the time axis; raises NotFound or Stale."""
    row = get_visible(Marker.objects.select_related("service"), actor=actor, pk=marker_id)
    check_version(row, version)
    environment_id, before = row.environment_id, row.as_audited()
    Marker.objects.filter(pk=row.pk).delete()
    audit.record("marker.deleted", row, actor=actor, environment_id=environment_id, before=before)


def _check_reach(mark: Mark, actor: Actor) -> None:
    own = actor.service_id
    if own is not None and (mark.service is None or mark.service.pk != own):
        raise Forbidden(
            _("This token is bound to one service, and marks that one only."), code="service_bound"
        )


def _check_instant(at: datetime, now: datetime) -> None:
    if not now - KEPT < at <= now + FUTURE:
        text = _("From %(days)d days ago up to now.") % {"days": KEPT.days}
        raise RuleBroken(_("Nothing can be marked at that instant."), errors={"at": [text]})


def _saved(row: Marker) -> Marker | None:
    """Save it; the one that another request with the same key has made meanwhile, if there is."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        known = _known(row)
        if known is None:
            raise
        return known
    return None


def _known(row: Marker) -> Marker | None:
    """The marker of the same key; raises Conflict if it says something else."""
    if not row.key:
        return None
    found = Marker.objects.select_related("service").filter(
        environment=row.environment_id, key=row.key
    )
    known = found.first()
    if known is None:
        return None
    own, other = row.as_audited(), known.as_audited()
    if any(own[name] != other[name] for name in own if name != "at"):
        raise Conflict(_("This key was used for another marker."), code="key_used")
    return known
