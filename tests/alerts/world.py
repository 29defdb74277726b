"""What the tests of alerts need: traffic as windows hold it, and somebody who judges it."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from apps.alerts.models import Alert
from apps.alerts.services import judges
from apps.core import clock
from apps.fleet.models import Environment, Service, Usage
from apps.health.models import Check
from apps.telemetry.models import InstanceState, Window
from apps.telemetry.rules import floor
from tests import make

GRID = timedelta(seconds=5)


def calling(service: Service, dependency: str = "payments-api", **state: Any) -> InstanceState:
    """A live instance of a service that calls a dependency."""
    row, _made = type(make.dependency()).objects.get_or_create(
        environment=service.environment, slug=dependency
    )
    Usage.objects.get_or_create(service=service, dependency=row, defaults={"source": "declared"})
    instance = make.instance(service)
    return InstanceState.objects.create(instance=instance, reported_at=clock.now(), **state)


def count(service: Service, dependency: str = "payments-api", **numbers: Any) -> None:
    """Counts in the window of now."""
    Window.objects.create(
        span=Window.Span.SHORT,
        start=floor(clock.now(), 10),
        service=service,
        dependency=dependency,
        boot=uuid.uuid4(),
        **numbers,
    )


def errors(service: Service, dependency: str = "payments-api") -> None:
    """Forty calls of which every second failed."""
    count(service, dependency, calls=40, successes=20, failures=20)


def check_of(where: Environment, kind: str, **result: Any) -> Check:
    """A check as a row, with what came of it."""
    values = {"address": "127.0.0.1:9", "interval_seconds": 30, "next_at": clock.now()}
    return Check.objects.create(environment=where, name="primary", kind=kind, **values | result)


def judge(where: Environment, now: datetime | None = None) -> bool:
    """Evaluate the environment's rules, as at that time."""
    moment = now or clock.now()
    with clock.use(lambda: moment):
        return judges.evaluate(where.pk, since=moment, holder=uuid.uuid4(), grid=GRID)


def states(where: Environment) -> dict[str, str]:
    """The newest alert of each rule and its state."""
    rows = Alert.objects.filter(environment=where).order_by("pk")
    return dict(rows.values_list("key", "state"))
