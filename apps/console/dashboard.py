"""What the console's first page says: what is switched, what is broken, what was changed."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from apps.alerts.selectors import firing
from apps.audit.models import Chain
from apps.console.changes import latest
from apps.core.admin import actor_of
from apps.deadletters.selectors import depths
from apps.fleet.models import Dependency, Environment, Instance
from apps.health.selectors import cut_off, states
from apps.live.selectors import environments_of, present
from apps.publication.models import Part

BAD = {"down", "degraded"}  # statuses of checks that need a look
TROUBLE = {"open", "forced", "half_open", "failing"}  # conditions of tiles that need a look
MOST_SERVICES = 50  # whose convergence is listed, the worst first


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The dashboard of the environment that `?environment=` names, else of the first."""
    environments = environments_of(request.user)
    asked = request.GET.get("environment")
    current = next(
        (each for each in environments if each.slug == asked), next(iter(environments), None)
    )
    context |= {"title": "", "environments": environments, "current": current}
    if current is not None:
        context |= _of(request, current)
    return context


def _of(request: HttpRequest, environment: Environment) -> dict[str, Any]:
    frame = present(environment.pk)
    rows = frame["services"]
    actor = actor_of(request, environment.pk)
    return {
        "frame": frame,
        "services": rows[:MOST_SERVICES],
        "more_services": len(rows[MOST_SERVICES:]),
        "switches": [_with_links(each) for each in frame["switches"]],
        "troubles": _troubles(environment.pk, rows),
        "is_fresh": not Instance.objects.filter(service__environment=environment).exists(),
        "sdk_folder": settings.BASE_DIR / "sdk",
        "alerts": firing(environment.pk),
        "checks": [each for each in states(environment.pk) if each.status in BAD],
        "cut_off": cut_off(),
        "letters": [each for each in depths(environment.pk) if each.unresolved],
        "changes": latest(actor, environment.pk),
        "chain": Chain.objects.filter(environment_id=environment.pk).first(),
        "may_switch": actor.may("flags:write"),
        "may_override": actor.may("overrides:write"),
        "may_make_tokens": actor.may("tokens:write"),
    }


def _troubles(environment_id: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tiles that need a look, each with the page that forces its breakers open everywhere."""
    found = [
        {"service": row["slug"], **tile}
        for row in rows
        for tile in row["tiles"]
        if tile["condition"] in TROUBLE
    ]
    here = Dependency.objects.filter(environment=environment_id)
    keys = dict(here.values_list("slug", "pk"))
    engage = reverse("admin:policies_override_engage")
    for each in found:
        place = {"environment": environment_id, "dependency": keys.get(each["dependency"], "")}
        each["force_open"] = f"{engage}?{urlencode(place)}"
    return found


def _with_links(switch: dict[str, Any]) -> dict[str, Any]:
    """A switch with the addresses of its page and of the page that ends it."""
    if switch["id"] is None:
        return {**switch, "page": "", "end": ""}
    name = "degradation_flag" if switch["type"] == Part.FLAG else "policies_override"
    page, end = (reverse(f"admin:{name}_{view}", args=[switch["id"]]) for view in ("change", "end"))
    return {**switch, "page": page, "end": end}
