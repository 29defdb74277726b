"""The front door, and the console's pages that are of no table."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.console import history, scores
from apps.console import in_force_page as in_force_pages
from apps.console import timeline_page as timelines


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponseRedirect:
    """GET / → 302 to the dashboard; whoever is not logged in does that first."""
    name = "admin:index" if request.user.is_authenticated else "admin:login"
    return HttpResponseRedirect(reverse(name))


@require_safe
@never_cache
def history_page(request: HttpRequest) -> HttpResponse:
    """GET /admin/history/?environment=&service=&dependency=&span= → 200; 302 to log in, 404."""
    context = admin.site.each_context(request) | history.context(request)
    return TemplateResponse(request, "console/history.html", context)


@require_safe
@never_cache
def timeline_page(request: HttpRequest) -> HttpResponse:
    """GET /admin/timeline/?environment=&service=&dependency=&kind=&span= → 200; 302, 404."""
    context = admin.site.each_context(request) | timelines.context(request)
    return TemplateResponse(request, "console/timeline.html", context)


@require_safe
@never_cache
def in_force_page(request: HttpRequest) -> HttpResponse:
    """GET /admin/in-force/?environment=&instance=&at= → 200; 302 to log in, 404."""
    context = admin.site.each_context(request) | in_force_pages.context(request)
    return TemplateResponse(request, "console/in_force.html", context)


@require_safe
@never_cache
def scores_part(request: HttpRequest) -> HttpResponse:
    """GET /admin/scores/?environment=&service=&dependency= → 200 part of a page; 302, 404.

    Fetched by pages that show it, which do not wait for it.
    """
    return TemplateResponse(request, "console/_scores.html", scores.context(request))
