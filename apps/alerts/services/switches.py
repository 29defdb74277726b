"""Telling of flips by people: made, about to end, ended. Read from the audit log, each once.

The judge's row remembers how far the environment's chain was told; entries become visible in the
order of their numbers, so none is passed over and none is told twice.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from apps.alerts.models import Channel, Judge, Notification
from apps.alerts.services import telling
from apps.audit.models import Entry
from apps.core import clock
from apps.degradation.models import Flag
from apps.fleet.models import Environment
from apps.policies.models import Override

MADE = ("flag.engaged", "flag.extended", "override.engaged", "override.extended")
ENDED = ("flag.ended", "override.ended")
BEFORE_END = timedelta(minutes=5)
MOST = 200  # entries of one transaction


def tell_of_switches(environment_id: int) -> None:
    """Write messages about what was switched since the last look, and what ends soon."""
    environment = Environment.objects.get(pk=environment_id)
    while _tell_of_entries(environment):
        pass
    _tell_of_endings(environment)


def _tell_of_entries(environment: Environment) -> bool:
    """Tell of the next entries; whether there may be more."""
    told = Judge.objects.values_list("entry", flat=True).get(pk=environment.pk)
    rows = Entry.objects.filter(chain__environment_id=environment.pk, sequence__gt=told)
    entries = list(rows.order_by("sequence")[:MOST])
    if not entries:
        return False
    with transaction.atomic():
        mine = Judge.objects.filter(pk=environment.pk, entry=told)
        if mine.update(entry=entries[-1].sequence) != 1:
            return False  # another process tells of these
        for entry in entries:
            if entry.outcome == Entry.Outcome.OK and entry.action in MADE + ENDED:
                _tell_of(environment, entry)
    return len(entries) == MOST


def _tell_of(environment: Environment, entry: Entry) -> None:
    is_end = entry.action in ENDED
    about = Notification.About.END if is_end else Notification.About.SWITCH
    channels = telling.wanting(environment.pk, "wants_ends" if is_end else "wants_switches")
    if not channels:
        return
    noun, verb = entry.action.split(".")
    title = _("%(what)s %(verb)s by %(who)s in %(where)s") % {
        "what": f"{noun} {entry.object_label}",
        "verb": verb,
        "who": entry.actor_label,
        "where": environment.slug,
    }
    after = entry.content.get("after") or {}
    lines = [_("Why: %(reason)s") % {"reason": entry.reason or "–"}]
    if not is_end:
        lines.append(_("Ends: %(end)s") % {"end": after.get("expires_at") or _("never by itself")})
    event = {
        "action": entry.action,
        "object": entry.object_label,
        "actor": {"kind": entry.actor_kind, "label": entry.actor_label},
        "reason": entry.reason,
        "at": clock.rfc3339(entry.at),
        "expires_at": after.get("expires_at"),
        "revision": entry.revision,
    }
    _write(environment, channels, str(about), f"entry {entry.pk}", title, lines, event)


def _tell_of_endings(environment: Environment) -> None:
    """Tell, five minutes before, of what ends by itself. A lease shorter than that is not told."""
    channels = telling.wanting(environment.pk, "wants_endings")
    if not channels:
        return
    now = clock.now()
    soon = {"expires_at__gt": now, "expires_at__lte": now + BEFORE_END}
    flags = Flag.objects.filter(environment=environment, enabled=True, **soon)
    overrides = Override.objects.filter(environment=environment, ended_at=None, **soon)
    found: list[tuple[str, Flag | Override]] = [
        *(("flag", flag) for flag in flags.select_related("service")),
        *(("override", row) for row in overrides.select_related("service", "dependency")),
    ]
    for noun, row in found:
        end, begin = row.expires_at, row.set_at
        if end is not None and begin is not None and end - begin > BEFORE_END:
            _tell_of_ending(environment, channels, noun, row, end)


def _tell_of_ending(
    environment: Environment,
    channels: Iterable[Channel],
    noun: str,
    row: Flag | Override,
    end: datetime,
) -> None:
    title = _("%(what)s ends at %(at)s in %(where)s") % {
        "what": f"{noun} {row}",
        "at": f"{end:%H:%M:%S} UTC",
        "where": environment.slug,
    }
    lines = [
        _("Engaged by %(who)s: %(reason)s") % {"who": row.set_by, "reason": row.reason},
        _("Extend it in the console if it is still needed."),
    ]
    event = {
        "action": f"{noun}.ending",
        "object": str(row),
        "actor": {"kind": "", "label": row.set_by},
        "reason": row.reason,
        "at": clock.rfc3339(clock.now()),
        "expires_at": clock.rfc3339(end),
        "revision": None,
    }
    key = f"ending {noun} {row.pk} {end.isoformat()}"  # an extended one is told anew
    _write(environment, channels, str(Notification.About.ENDING), key, title, lines, event)


def _write(
    environment: Environment,
    channels: Iterable[Channel],
    about: str,
    key: str,
    title: str,
    lines: list[str],
    event: dict[str, Any],
) -> None:
    document = telling.envelope(
        environment,
        about,
        status="info",
        group=f"{environment.slug}/{event['object']}",
        title=title,
        labels={"environment": environment.slug},
        event=event,
    )
    telling.write(channels, about, key, title, "\n".join(lines), document)
