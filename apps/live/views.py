"""The wall's page."""

from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.accounts.models import User
from apps.accounts.selectors import actor_of_token, find_token, scopes_by_environment
from apps.accounts.services import note_use
from apps.audit import services as audit
from apps.fleet.models import Environment
from apps.live import frames, kiosk, rules, selectors, watch
from apps.live.selectors import Grant
from apps.publication.selectors import newest_number

REFUSALS = {
    "token": (401, _("This kiosk token is unknown, expired or revoked.")),
    "scope": (
        403,
        _("This token may not look at the wall: it lacks the scope wall:read, or is a service's."),
    ),
}


@require_GET
@never_cache
def wall(request: HttpRequest) -> HttpResponse:
    """GET /wall/?environment=<slug> → the wall; 302 to log in, 401, 403, 404.

    With `?token=` the kiosk token is swapped for a cookie, and the address is left behind.
    """
    if "token" in request.GET:
        response = _swap_token(request, request.GET["token"])
    elif (refusal := request.GET.get("refused")) in REFUSALS:
        response = _refused(request, str(refusal))
    else:
        response = _page(request)
    response["Referrer-Policy"] = "no-referrer"
    return response


def _swap_token(request: HttpRequest, text: str) -> HttpResponse:
    """Never a page: the browser would keep the address, and the token in it."""
    token = find_token(text)
    if token is None:
        return _to_wall(refused="token")
    if not selectors.may_look(token):
        actor = actor_of_token(token, request=request)
        audit.note_denial(actor, f"GET {request.path}", str(REFUSALS["scope"][1]))
        return _to_wall(refused="scope")
    note_use(token)
    response = _to_wall(environment=token.environment.slug)
    kiosk.give(response, token)
    return response


def _to_wall(**query: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(f"{reverse('wall')}?{urlencode(query)}")


def _refused(request: HttpRequest, why: str) -> HttpResponse:
    status, text = REFUSALS[why]
    return render(request, "live/refused.html", {"text": text}, status=status)


def _page(request: HttpRequest) -> HttpResponse:
    slug = request.GET.get("environment")
    environments = selectors.environments_of(request.user)
    grant = selectors.grant_of(request.user, request.session, request.COOKIES, slug)
    if grant is not None:
        picture = _picture(grant.environment_id)
        frame = frames.frame_of(picture, frames.WHOLE)
        context = {
            "frame": frame.content,
            "environments": _switcher(grant, environments),
            "legend": list(rules.URGENCY),
            "is_demo": settings.DEMO,
            "may": _may(request, grant),
            "pages": _pages(request, frame.content["environment"]["slug"]),
        }
        return render(request, "live/wall.html", context)
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    if slug or environments:
        raise Http404
    return render(request, "live/empty.html")


@require_GET
@never_cache
def service(request: HttpRequest) -> HttpResponse:
    """GET /wall/service/?environment=<slug>&service=<slug> → a service with all its tiles; 404.

    As JSON, for the wall of a fleet so large that frames hold only what needs a look. Without a
    service: 204 to those who may look.
    """
    slug = request.GET.get("environment")
    grant = selectors.grant_of(request.user, request.session, request.COOKIES, slug)
    if grant is None:
        raise Http404
    asked = request.GET.get("service")
    if not asked:
        return HttpResponse(status=204)
    row = selectors.service_row(grant.environment_id, asked, watch.of(grant.environment_id))
    if row is None:
        raise Http404
    return JsonResponse(row)


def _picture(environment_id: int) -> dict[str, Any]:
    """As it is now; while somebody looks, that of the newest frame."""
    here = watch.of(environment_id)
    kept = here.kept(seconds=frames.INTERVAL_SECONDS, revision=newest_number(environment_id))
    return kept or selectors.picture(environment_id, here)


def _may(request: HttpRequest, grant: Grant) -> dict[str, bool]:
    """What this viewer may flip on the console's pages; nothing for a kiosk."""
    if grant.user_id is None or not isinstance(request.user, User) or not request.user.is_staff:
        return {}
    scopes = scopes_by_environment(request.user).get(grant.environment_id, ())
    return {what: f"{what}:write" in scopes for what in ("flags", "overrides", "alerts")}


def _pages(request: HttpRequest, slug: str) -> dict[str, str]:
    """Where the console's own pages are, and where those lead back to; no history for a kiosk."""
    return {
        "flags": reverse("admin:degradation_flag_changelist"),
        "overrides": reverse("admin:policies_override_changelist"),
        "alerts": reverse("admin:alerts_alert_changelist"),
        "history": reverse("history") if getattr(request.user, "is_staff", False) else "",
        "here": f"{reverse('wall')}?{urlencode({'environment': slug})}",
    }


def _switcher(grant: Grant, environments: list[Environment]) -> list[dict[str, Any]]:
    """Where else this viewer may look; nothing to choose for a kiosk."""
    return [
        {"slug": each.slug, "name": each.name, "current": each.pk == grant.environment_id}
        for each in environments
        if len(environments) > 1
    ]
