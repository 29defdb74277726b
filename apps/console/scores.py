"""Health scores for the console's pages: of an environment, or of one service or dependency."""

from typing import Any

from django.http import Http404, HttpRequest

from apps.deadletters.selectors import depths
from apps.health.selectors.scores import Health, Scores, scores
from apps.live.selectors import environments_of

MOST = 12  # services shown of an environment, the worst first


def context(request: HttpRequest) -> dict[str, Any]:
    """What `?environment=&service=&dependency=` names; raises Http404 if that is not there."""
    asked = request.GET.get("environment")
    seen = environments_of(request.user)
    current = next((each for each in seen if asked in (None, each.slug)), None)
    if current is None:
        raise Http404
    waiting = {each.service: each.unresolved for each in depths(current.pk)}
    found = scores(current.pk, waiting)
    shown = _shown(request, found)
    rows = found.worst_first if shown is found.environment else []
    return {"current": current, "shown": shown, "rows": rows[:MOST], "more": len(rows[MOST:])}


def _shown(request: HttpRequest, found: Scores) -> Health:
    """The one that is asked for, else the environment."""
    for name, many in (("service", found.services), ("dependency", found.dependencies)):
        if slug := request.GET.get(name):
            one = next((each for each in many if each.name == slug), None)
            if one is None:
                raise Http404
            return one
    return found.environment
