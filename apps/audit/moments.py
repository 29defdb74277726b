"""The timeline's part of what people and automations did: switches, and what was published."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from apps.audit.models import Entry
from apps.core.moments import Kind, Moment, Phase, Told, Wanted, newest

SWITCHES: dict[str, tuple[Kind, Phase]] = {
    "flag.engaged": ("flag", "begins"),
    "flag.extended": ("flag", ""),
    "flag.ended": ("flag", "ends"),
    "override.engaged": ("override", "begins"),
    "override.extended": ("override", ""),
    "override.ended": ("override", "ends"),
}
WORDS = {"engaged": lazy("engaged"), "extended": lazy("extended"), "ended": lazy("ended")}
TARGETS = {"flag": "degradation_flag", "override": "policies_override"}
MOST_NAMED = 5  # things one revision changed; the rest is counted


def switches(wanted: Wanted) -> Told:
    """Flags and overrides that were engaged, extended or ended."""
    rows = _entries(wanted).filter(action__in=SWITCHES)
    found, horizon = newest(rows, wanted)
    return Told([_switched(entry) for entry in found if _concerns(entry, wanted)], horizon)


def revisions(wanted: Wanted) -> Told:
    """What else was published; all that one revision changed is one moment."""
    rows = _entries(wanted).filter(revision__isnull=False).exclude(action__in=SWITCHES)
    found, horizon = newest(rows, wanted)
    mine = [entry for entry in found if _concerns(entry, wanted)]
    together = groupby(mine, lambda entry: entry.revision)
    return Told([_published(list(entries)) for _number, entries in together], horizon)


def _entries(wanted: Wanted) -> Any:
    """What was done in the environment; nothing, for whoever may see one service only."""
    if wanted.own_service is not None:
        return Entry.objects.none()
    return Entry.objects.filter(
        chain__environment_id=wanted.environment_id, outcome=Entry.Outcome.OK
    )


def _about(entry: Entry) -> Mapping[str, Any]:
    content = entry.content
    return content.get("after") or content.get("before") or {}


def _concerns(entry: Entry, wanted: Wanted) -> bool:
    """Whether it reaches the calls that are asked for: what holds everywhere does."""
    about = _about(entry)
    named = ((about.get("service"), wanted.service), (about.get("dependency"), wanted.dependency))
    return all(not asked or not own or own == asked for own, asked in named)


def _switched(entry: Entry) -> Moment:
    kind, phase = SWITCHES[entry.action]
    about = _about(entry)
    what = {"what": entry.object_label, "done": WORDS[entry.action.partition(".")[2]]}
    text = _("Flag %(what)s %(done)s.") if kind == "flag" else _("Override %(what)s %(done)s.")
    return Moment(
        at=entry.at,
        kind=kind,
        text=text % what,
        service=about.get("service") or "",
        dependency=about.get("dependency") or "",
        actor=entry.actor_label,
        reason=entry.reason,
        thread=f"{kind} {entry.object_id}",
        phase=phase,
        target=(TARGETS[kind], entry.object_id),
        data={"name": entry.object_label, "revision": entry.revision},
    )


def _published(entries: Sequence[Entry]) -> Moment:
    first = entries[-1]
    labels = _unique(entry.object_label for entry in reversed(entries))
    more = len(labels) - MOST_NAMED
    names = ", ".join(labels[:MOST_NAMED])
    if more > 0:
        names = ngettext("%(names)s and %(more)d more", "%(names)s and %(more)d more", more) % {
            "names": names,
            "more": more,
        }
    about = [_about(entry) for entry in entries]
    return Moment(
        at=entries[0].at,
        kind="revision",
        text=_("Revision %(number)d: %(names)s.") % {"number": first.revision, "names": names},
        service=_common(about, "service"),
        dependency=_common(about, "dependency"),
        actor=first.actor_label,
        reason=first.reason,
        count=len(labels),
        target=("publication_revision", first.revision),
        data={"revision": first.revision, "actions": _unique(each.action for each in entries)},
    )


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _common(about: Iterable[Mapping[str, Any]], name: str) -> str:
    """What all of them say; empty if they differ."""
    said = {str(each.get(name) or "") for each in about}
    return said.pop() if len(said) == 1 else ""
