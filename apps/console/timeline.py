"""What happened in an environment: what every app has to tell of it, in one order.

A further source is one more function in `SOURCES`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from apps.alerts import moments as alerts
from apps.audit import moments as audit
from apps.core.moments import KINDS, Kind, Moment, Source, Wanted, with_durations
from apps.deadletters import moments as deadletters
from apps.health import moments as health
from apps.publication.models import Revision
from apps.telemetry import moments as telemetry

SOURCES: tuple[tuple[Source, frozenset[Kind]], ...] = (  # each with the kinds it tells of
    (telemetry.breakers, frozenset({"breaker"})),
    (audit.switches, frozenset({"flag", "override"})),
    (audit.revisions, frozenset({"revision"})),
    (health.transitions, frozenset({"health"})),
    (deadletters.spikes, frozenset({"dead_letters"})),
    (telemetry.markers, frozenset({"marker"})),
    (alerts.fired, frozenset({"alert"})),
)
USUAL = timedelta(hours=24)  # shown of whoever names no beginning
LONGEST = timedelta(days=400)
MOST = 200  # moments of a page
MOST_EXPORTED = 1_000
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Page:
    """Moments, newest first. There are more, older than `until`, unless that is None."""

    moments: list[Moment]
    until: datetime | None


def timeline(wanted: Wanted, *, kinds: Collection[str] = KINDS, limit: int = MOST) -> Page:
    """What happened, newest first; a query or two for each source, whatever there is.

    A page is never cut between moments of the same instant, so it may be a little longer than
    `limit`.
    """
    told = [source(wanted) for source, its in SOURCES if its & set(kinds)]
    horizon = max((each.horizon for each in told if each.horizon is not None), default=None)
    every = sorted(
        (moment for each in told for moment in each.moments if moment.kind in kinds),
        key=lambda moment: moment.at,
        reverse=True,
    )
    told_whole = [each for each in every if horizon is None or each.at > horizon]
    if horizon is not None and not told_whole:  # more at one instant than is read: go on below it
        return Page(with_durations(each for each in every if each.at == horizon), horizon)
    return _cut(with_durations(told_whole), limit, None if horizon is None else horizon + TICK)


def _cut(moments: list[Moment], limit: int, more: datetime | None) -> Page:
    if len(moments) <= limit:
        return Page(moments, more)
    until = moments[limit - 1].at
    shown = [each for each in moments if each.at >= until]
    return Page(shown, more if len(shown) == len(moments) else until)


def addresses(moments: Collection[Moment], environment_id: int) -> list[str]:
    """The console's page of each, or an empty text; one query."""
    numbers = {each.target[1] for each in moments if each.target and _is_revision(each)}
    rows = Revision.objects.filter(environment=environment_id, number__in=numbers)
    keys = dict(rows.values_list("number", "pk"))
    return [_address(each, keys) for each in moments]


def _is_revision(moment: Moment) -> bool:
    return moment.target is not None and moment.target[0] == "publication_revision"


def _address(moment: Moment, revisions: dict[int, int]) -> str:
    if moment.target is None:
        return ""
    name, key = moment.target
    if _is_revision(moment):
        key = revisions.get(key)
    return reverse(f"admin:{name}_change", args=[key]) if key is not None else ""


def lasted(seconds: float) -> str:
    """ "4 min 12 s": the two largest units that matter."""
    whole = round(seconds)
    units = ((86_400, _("d")), (3_600, _("h")), (60, _("min")), (1, _("s")))
    parts: list[str] = []
    for length, unit in units:
        number, whole = divmod(whole, length)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or _("less than 1 s")


def markdown(wanted: Wanted, environment: str, *, kinds: Collection[str] = KINDS) -> str:
    """The timeline for a post-mortem, oldest first, in UTC; at most `MOST_EXPORTED` moments."""
    page = timeline(wanted, kinds=kinds, limit=MOST_EXPORTED)
    place = " → ".join(filter(None, (wanted.service, wanted.dependency)))
    what = {"environment": environment, "place": f", {place}" if place else ""}
    lines = [
        "# " + _("Timeline of %(environment)s%(place)s") % what,
        "",
        f"{_stamp(wanted.since)} – {_stamp(wanted.until)} (UTC), n = {len(page.moments)}",
        "",
    ]
    if page.until is not None:
        lines += [_("Older moments than %(at)s are left out.") % {"at": _stamp(page.until)}, ""]
    lines += [
        "| " + " | ".join((_("time (UTC)"), _("what"), _("lasted"), _("who"), _("why"))) + " |",
        "|---|---|---|---|---|",
    ]
    lines += [_line(moment) for moment in reversed(page.moments)]
    return "\n".join(lines) + "\n"


def _line(moment: Moment) -> str:
    length = "" if moment.lasted is None else lasted(moment.lasted)
    cells = (_stamp(moment.at), moment.text, length, moment.actor, moment.reason)
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: Any) -> str:
    """Without what Markdown and tables would take for something else."""
    plain = " ".join(str(text).split())
    for mark in "\\`*_[]<>|#":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
