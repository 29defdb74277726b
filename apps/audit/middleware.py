"""Records what the admin refused."""

from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from apps.audit import services
from apps.core.admin import actor_of


class RecordDenials:
    """An audit entry for every PermissionDenied a page raises for somebody who is logged in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        if isinstance(exception, PermissionDenied) and request.user.is_authenticated:
            action = f"{request.method} {request.path}"
            services.note_denial(
                actor_of(request),
                action,
                str(exception),
                environment_id=getattr(exception, "environment_id", None),  # of a Refused
            )
