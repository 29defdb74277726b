"""The page of what happened: what is asked for, and where its links lead."""

from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_aware
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from apps.console import timeline
from apps.core import clock
from apps.core.moments import KINDS, Wanted
from apps.fleet.models import SLUG, Dependency, Environment, Service
from apps.live.selectors import environments_of

SPANS = (("1h", 1, lazy("1 h")), ("6h", 6, lazy("6 h")), ("24h", 24, lazy("24 h")),
         ("7d", 168, lazy("7 days")), ("30d", 720, lazy("30 days")))  # fmt: skip
USUAL = "24h"
NAMES = {
    "breaker": lazy("Breakers"),
    "flag": lazy("Flags"),
    "override": lazy("Overrides"),
    "revision": lazy("Revisions"),
    "health": lazy("Checks"),
    "dead_letters": lazy("Dead letters"),
    "marker": lazy("Marks"),
    "alert": lazy("Alerts"),
}
ICONS = {
    "breaker": "electric_bolt",
    "flag": "toggle_on",
    "override": "front_hand",
    "revision": "history",
    "health": "monitor_heart",
    "dead_letters": "mail",
    "marker": "rocket_launch",
    "alert": "notification_important",
}


def context(request: HttpRequest) -> dict[str, Any]:
    """What `?environment=&service=&dependency=&kind=&span=` or `&since=&until=` asks for.

    Raises:
        Http404: there is no such environment for this person, or what is asked makes no sense.
    """
    environments = environments_of(request.user)
    asked = request.GET.get("environment")
    current = next((each for each in environments if asked in (None, each.slug)), None)
    if current is None:
        if asked:
            raise Http404
        return {"current": None, "environments": []}
    kinds = [kind for kind in request.GET.getlist("kind") if kind in KINDS]
    wanted = _wanted(request, current)
    page = timeline.timeline(wanted, kinds=kinds or KINDS)
    given = {name: request.GET.get(name, "") for name in ("service", "dependency")}
    place = {"environment": current.slug} | {name: slug for name, slug in given.items() if slug}
    return {
        "environments": environments,
        "current": current,
        "given": given,
        "kinds": [(kind, NAMES[kind], ICONS[kind], kind in kinds) for kind in KINDS],
        "services": _slugs(Service, current),
        "dependencies": _slugs(Dependency, current),
        "days": _days(page.moments, current.pk),
        "count": len(page.moments),
        "wanted": wanted,
        **_links(request, place, kinds, wanted, page.until),
    }


def _wanted(request: HttpRequest, environment: Environment) -> Wanted:
    given = {name: request.GET.get(name, "") for name in ("service", "dependency")}
    if any(slug and not SLUG.fullmatch(slug) for slug in given.values()):
        raise Http404
    until = _instant(request, "until") or clock.now()
    since = _instant(request, "since") or until - _span(request)
    if not since < until or until - since > timeline.LONGEST:
        raise Http404
    return Wanted(environment.pk, since, until, given["service"], given["dependency"])


def _span(request: HttpRequest) -> timedelta:
    hours = {name: length for name, length, _title in SPANS}
    name = request.GET.get("span", USUAL)
    if name not in hours:
        raise Http404
    return timedelta(hours=hours[name])


def _instant(request: HttpRequest, name: str) -> datetime | None:
    text = request.GET.get(name)
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or not is_aware(found):
        raise Http404
    return found


def _slugs(table: type[Service] | type[Dependency], environment: Environment) -> list[str]:
    rows = table._default_manager.filter(environment=environment)
    return list(rows.values_list("slug", flat=True))


def _days(moments: list[Any], environment_id: int) -> list[tuple[Any, list[dict[str, Any]]]]:
    """The moments by day (UTC), each as the template wants it."""
    urls = timeline.addresses(moments, environment_id)
    rows = [_row(each, url) for each, url in zip(moments, urls, strict=True)]
    return [(day, list(some)) for day, some in groupby(rows, lambda row: row["at"].date())]


def _row(moment: Any, url: str) -> dict[str, Any]:
    length = "" if moment.lasted is None else timeline.lasted(moment.lasted)
    return {
        "at": moment.at,
        "stamp": clock.rfc3339(moment.at, timespec="milliseconds"),
        "kind": moment.kind,
        "icon": ICONS[moment.kind],
        "name": NAMES[moment.kind],
        "phase": moment.phase,
        "text": moment.text,
        "lasted": _("for %(length)s") % {"length": length} if length else "",
        "goes_on": moment.phase == "begins" and moment.lasted is None,
        "actor": moment.actor,
        "reason": moment.reason,
        "url": url,
        "more": moment.data.get("url") or "",
        "in_force": _in_force(moment),
    }


def _in_force(moment: Any) -> str:
    """The page of what held on the first of its instances then."""
    instance = moment.data.get("instance_id")
    if not instance:
        return ""
    at = clock.rfc3339(moment.at, timespec="milliseconds")
    return f"{reverse('in-force')}?{urlencode({'instance': instance, 'at': at})}"


def _links(
    request: HttpRequest,
    place: dict[str, str],
    kinds: list[str],
    wanted: Wanted,
    more_until: datetime | None,
) -> dict[str, Any]:
    """The address of what is shown, of older moments, and of the exports."""
    span = {"since": clock.rfc3339(wanted.since), "until": clock.rfc3339(wanted.until)}
    is_own = bool(request.GET.get("since"))
    page = reverse("timeline")
    its = [*place.items(), *(("kind", kind) for kind in kinds)]
    exported = urlencode({**place, **span, **({"kind": ",".join(kinds)} if kinds else {})})
    older = "" if more_until is None else urlencode(
        [*its, ("since", span["since"]), ("until", clock.rfc3339(more_until))]
    )  # fmt: skip
    return {
        "span": "" if is_own else request.GET.get("span", USUAL),
        "spans": [
            (name, title, f"{page}?{urlencode([*its, ('span', name)])}")
            for name, _hours, title in SPANS
        ],
        "link": f"{page}?{urlencode([*its, *span.items()])}",
        "older": f"{page}?{older}" if older else "",
        "json": f"{reverse('timeline-api')}?{exported}&limit=200",
        "markdown": f"{reverse('timeline-markdown')}?{exported}",
    }
