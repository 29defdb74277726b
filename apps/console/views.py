"""The front door."""

from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponseRedirect:
    """GET / → 302 to the dashboard; whoever is not logged in does that first."""
    name = "admin:index" if request.user.is_authenticated else "admin:login"
    return HttpResponseRedirect(reverse(name))
