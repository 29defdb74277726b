"""What happened last: breakers that moved, switches that people or leases flipped."""

from datetime import datetime, timedelta
from typing import Any

from apps.audit.models import Entry
from apps.audit.moments import SWITCHES
from apps.core import clock
from apps.live.rules import events as rules
from apps.telemetry.models import BreakerEvent

LATELY = timedelta(hours=1)
MOST = 12
MOST_FLIPS = 4  # which a breaker that goes up and down must not push out
READ = 60  # of each kind: a fleet says the same once per instance


def newest(environment_id: int) -> list[dict[str, Any]]:
    """The newest events of the last hour, newest first, at most `MOST`; two queries."""
    since = clock.now() - LATELY
    flips = rules.newest_events(_flips(environment_id, since))[:MOST_FLIPS]
    moves = rules.newest_events(_moves(environment_id, since))[: MOST - len(flips)]
    return rules.newest_events([*flips, *moves])


def _moves(environment_id: int, since: datetime) -> list[dict[str, Any]]:
    rows = BreakerEvent.objects.of_environment(environment_id).filter(
        type="breaker.state_changed", received_at__gte=since
    )
    columns = ("at", "service__slug", "dependency", "to_state")
    return [
        rules.event(state, at, f"{service} → {dependency}")
        for at, service, dependency, state in rows.order_by("-received_at")[:READ].values_list(
            *columns
        )
    ]


def _flips(environment_id: int, since: datetime) -> list[dict[str, Any]]:
    rows = Entry.objects.filter(
        chain__environment_id=environment_id,
        at__gte=since,
        action__in=SWITCHES,
        outcome=Entry.Outcome.OK,
    )
    columns = ("action", "at", "object_label", "actor_label", "reason")
    return [
        rules.event(action.partition(".")[2], at, what, who=who, reason=reason)
        for action, at, what, who, reason in rows.order_by("-at")[:READ].values_list(*columns)
    ]
