"""How often services' processes call their dependencies."""

from datetime import timedelta

from django.db.models import Count, Max, Min, Sum

from apps.core import clock
from apps.fleet.models import Instance
from apps.policies.rules import Calls, Pace
from apps.telemetry.models import Window

OBSERVED = timedelta(hours=1)
OBSERVED_LEAST = timedelta(minutes=5)


def paces(environment_id: int, *, service: str = "", dependency: str = "") -> dict[Calls, Pace]:
    """Attempts per second that one live process makes on average, and how many such there are.

    Of the last hour's whole minutes, or of those since the first call in it where that was later;
    nothing is said of what has been called for less than five minutes. Of one service or
    dependency if named. Two queries.
    """
    now = clock.now()
    seen = Window.objects.of_environment(environment_id).filter(
        span=Window.Span.MINUTE, start__gte=now - OBSERVED
    )
    if service:
        seen = seen.filter(service__slug=service)
    seen = seen.filter(dependency=dependency) if dependency else seen.exclude(dependency="")
    live = Instance.objects.live(now).filter(service__environment_id=environment_id)
    processes = dict(live.order_by().values_list("service__slug").annotate(Count("pk")))
    rows = (
        seen.order_by()
        .values_list("service__slug", "dependency")
        .annotate(Sum("calls"), Sum("retries"), Min("start"), Max("start"))
    )
    found = {}
    for slug, called, calls, retries, first, last in rows:
        elapsed = (last - first).total_seconds() + Window.Span.MINUTE
        if elapsed >= OBSERVED_LEAST.total_seconds() and slug in processes:
            count = processes[slug]
            found[Calls(slug, called)] = Pace((calls + retries) / elapsed / count, count)
    return found
