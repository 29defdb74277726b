"""The page of how a service, a dependency or both went: what it is about and where it leads."""

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from apps.core import clock
from apps.fleet.models import SLUG, Dependency, Environment, Service, Usage
from apps.live.selectors import environments_of
from apps.telemetry.selectors.history import LONGEST

SPANS = (  # name in the address, seconds, title
    ("15m", 900, _("15 min")),
    ("1h", 3_600, _("1 h")),
    ("6h", 21_600, _("6 h")),
    ("24h", 86_400, _("24 h")),
    ("7d", 604_800, _("7 days")),
    ("30d", 2_592_000, _("30 days")),
)
USUAL = "1h"
MOST_RELATED = 200  # links to what it calls, or to who calls it


def context(request: HttpRequest) -> dict[str, Any]:
    """What `?environment=&service=&dependency=` names; raises Http404 if that is not there.

    `span` names one of `SPANS`, or `since` and `until` are instants, which the API judges.
    """
    environments = environments_of(request.user)
    asked = request.GET.get("environment")
    current = next((each for each in environments if asked in (None, each.slug)), None)
    if current is None:
        if asked:
            raise Http404
        return {"current": None, "environments": []}
    service = _named(request, "service", Service, current)
    dependency = _named(request, "dependency", Dependency, current)
    names = {"service": service and service.slug, "dependency": dependency and dependency.slug}
    place = {"environment": current.slug} | {name: slug for name, slug in names.items() if slug}
    return {
        "environments": environments,
        "current": current,
        "service": service,
        "dependency": dependency,
        "places": _places(current),
        **_time(request, place),
        **_related(place, service, dependency),
    }


def address(**query: str) -> str:
    return f"{reverse('history')}?{urlencode(query)}"


def _named(
    request: HttpRequest,
    name: str,
    table: type[Service] | type[Dependency],
    environment: Environment,
) -> Any:
    slug = request.GET.get(name, "")
    if not slug:
        return None
    if not SLUG.match(slug):
        raise Http404
    row = table._default_manager.filter(environment=environment, slug=slug).first()
    if row is None:
        raise Http404
    return row


def _places(environment: Environment) -> dict[str, list[str]]:
    """Slugs of everything one may choose."""
    tables: dict[str, Any] = {"services": Service, "dependencies": Dependency}
    return {
        name: list(table.objects.filter(environment=environment).values_list("slug", flat=True))
        for name, table in tables.items()
    }


def _time(request: HttpRequest, place: dict[str, str]) -> dict[str, Any]:
    own = {name: request.GET[name] for name in ("since", "until") if request.GET.get(name)}
    seconds = {name: length for name, length, _title in SPANS}
    span = "" if own else request.GET.get("span", USUAL)
    if span and span not in seconds:
        raise Http404
    return {
        "now": clock.now(),
        "own": own,
        "span": span,
        "span_seconds": seconds.get(span, ""),
        "spans": [(name, title, address(**place, span=name)) for name, _length, title in SPANS],
        "longest_days": LONGEST.days,
    }


def _related(
    place: dict[str, str], service: Service | None, dependency: Dependency | None
) -> dict[str, Any]:
    """What the service calls, who calls the dependency; with both the pages of each alone."""
    alone = {
        name: address(environment=place["environment"], **{name: place[name]})
        for name in ("service", "dependency")
        if name in place
    }
    if (service is None) == (dependency is None):
        return {"alone": alone if service else {}, "related": [], "more_related": 0}
    found = _names(service, dependency)
    other = "service" if service is None else "dependency"
    related = [(slug, address(**place, **{other: slug})) for slug in found[:MOST_RELATED]]
    return {"alone": {}, "related": related, "more_related": len(found[MOST_RELATED:])}


def _names(service: Service | None, dependency: Dependency | None) -> list[str]:
    if service is not None:
        used = Usage.objects.filter(service=service).values_list("dependency__slug", flat=True)
        return sorted(used)
    callers = Usage.objects.filter(dependency=dependency).values_list("service__slug", flat=True)
    return sorted(callers)
