"""Where a page leads back to when it is done, as the page before it asked."""

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

LONGEST = 1000  # characters


def asked_back(request: HttpRequest) -> str:
    """The path of ours that `?next=` names; empty for another site's, and for none.

    People follow links that others sent them, so an address with a host is never followed.
    """
    asked = request.GET.get("next", "")
    is_ours = (
        len(asked) <= LONGEST
        and asked.startswith("/")
        and asked.isprintable()
        and url_has_allowed_host_and_scheme(asked, allowed_hosts=None)
    )
    return asked if is_ours else ""
