"""The page of what an instance had to obey at an instant."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_aware

from apps.console import in_force
from apps.core import clock
from apps.core.admin import actor_of
from apps.core.errors import NotFound
from apps.fleet.models import Environment, Instance
from apps.fleet.selectors import shown_since
from apps.live.selectors import environments_of

MOST_OFFERED = 500  # instances one can choose from; any other by its id


def context(request: HttpRequest) -> dict[str, Any]:
    """What `?instance=&at=` asks for; `at` is RFC 3339, or without a zone in UTC.

    Raises:
        Http404: this person may see no environment, or what is asked makes no sense.
    """
    environments = environments_of(request.user)
    if not environments:
        return {"environments": []}
    at = _instant(request.GET.get("at", "")) or clock.now()
    given = request.GET.get("instance", "")
    return {
        "environments": environments,
        "given": given,
        "at": at,
        "at_field": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "instances": _offered(environments),
        "found": _found(request, given, at) if given else None,
    }


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise Http404
    return found if is_aware(found) else found.replace(tzinfo=UTC)


def _offered(environments: list[Environment]) -> list[tuple[str, str]]:
    rows = (
        Instance.objects.filter(service__environment__in=environments, heard_at__gte=shown_since())
        .order_by("service__slug", "name")
        .values_list("pk", "service__slug", "name")[:MOST_OFFERED]
    )
    return [(str(pk), f"{service} · {name or pk}") for pk, service, name in rows]


def _found(request: HttpRequest, given: str, at: datetime) -> Any:
    try:
        instance = UUID(given)
    except ValueError as error:
        raise Http404 from error
    try:
        return in_force.in_force(instance, at, actor=actor_of(request))
    except NotFound as error:
        raise Http404 from error
