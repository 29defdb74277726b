"""A fleet as its reports would leave it in the database, and then alive: `SERVICES DEPENDENCIES`.

Two instances of each service. It prints "ready" when two minutes are written down; then a tenth of
the services report each second, until the end of the input. Rows are written as a server would,
but nothing is received: it is the wall that is measured, not the taking of reports.
"""

import os
import sys
import threading
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
django.setup()

from django.db import transaction  # noqa: E402 - Django has to be set up first

from apps.core import bulk, clock  # noqa: E402
from apps.core.actor import automation  # noqa: E402
from apps.fleet.models import Dependency, Environment, Instance, Service, Usage  # noqa: E402
from apps.publication import services as publication  # noqa: E402
from apps.publication.models import Part  # noqa: E402
from apps.telemetry import rules, services  # noqa: E402
from apps.telemetry.models import InstanceState, Window  # noqa: E402

ENVIRONMENT = "bench"
INSTANCES = 2  # of a service
FOLDED_SECONDS = 60  # until windows are in the totals
TURNS = 10  # a service reports once in so many seconds
SECONDS = 120  # of the past
TROUBLED = 50  # one of so many services has an open breaker and a dependency that fails
BOOT = uuid.uuid4()


class Fleet:
    """What exists, and what its instances say from now on."""

    def __init__(self, services_count: int, dependencies_count: int) -> None:
        here = Environment.objects.get(slug=ENVIRONMENT)
        self.names = [f"dependency-{number:02}" for number in range(dependencies_count)]
        self.services = Service.objects.bulk_create(
            Service(environment=here, slug=f"service-{number:03}")
            for number in range(services_count)
        )
        used = Dependency.objects.bulk_create(
            Dependency(environment=here, slug=name) for name in self.names
        )
        Usage.objects.bulk_create(
            Usage(service=service, dependency=each, source=Usage.Source.DECLARED)
            for service in self.services
            for each in used
        )
        with transaction.atomic():
            revision = publication.publish(
                here.pk, self.uses(), actor=automation("bench", here.pk), reason=""
            )
        now = clock.now()
        self.instances = Instance.objects.bulk_create(
            instance_of(service, number, now)
            for service in self.services
            for number in range(INSTANCES)
        )
        InstanceState.objects.bulk_create(
            InstanceState(
                instance=each,
                sequence=1,
                epoch=revision.epoch_id,
                applied_revision=revision.number,
                applied_at=now,
                breakers=self.breakers(at),
                reported_at=now,
            )
            for at, each in enumerate(self.instances)
        )

    def uses(self) -> list[publication.Piece]:
        """What makes a service's document, and with it what the service has to have applied."""
        return [
            publication.Piece(Part.USE, {}, service=service.slug, dependency=name)
            for service in self.services
            for name in self.names
        ]

    def breakers(self, instance: int) -> dict[str, dict[str, Any]]:
        is_open = instance // INSTANCES % TROUBLED == 0
        return {
            name: {
                "state": "open" if is_open and name == self.names[0] else "closed",
                "since": clock.rfc3339(clock.now()),
                "generation": 1,
                "override": None,
            }
            for name in self.names
        }

    def count(self, at: datetime, numbers: Iterable[int]) -> None:
        """What these services' reports of the window of `at` come to."""
        start = rules.floor(at, Window.Span.SHORT)
        counted = {}
        for number in numbers:
            service = self.services[number]
            counted[service.pk, ""] = rules.Counts({"calls": 100}, {"70": 90, "90": 10})
            for name in self.names:
                failures = 3 if number % TROUBLED == 0 and name == self.names[-1] else 0
                counted[service.pk, name] = rules.Counts(
                    {"calls": 10, "successes": 10 - failures, "failures": failures},
                    {"60": 5, "70": 4, "90": 1},
                )
        with transaction.atomic():
            services.write_windows(BOOT, Window.Span.SHORT, start, counted)

    def report(self, turn: int, sequence: int) -> None:
        """The services of this turn report."""
        now = clock.now()
        numbers = range(turn, len(self.services), TURNS)
        self.count(now, numbers)
        rows = [
            {"instance_id": self.instances[INSTANCES * number + which].pk, "sequence": sequence,
             "reported_at": now}
            for number in numbers
            for which in range(INSTANCES)
        ]  # fmt: skip
        with transaction.atomic():
            bulk.update(InstanceState, rows, key="instance_id")


def instance_of(service: Service, number: int, now: datetime) -> Instance:
    return Instance(
        id=uuid.uuid4(),
        service=service,
        name=f"{service.slug}-{number}",
        started_at=now,
        first_heard_at=now,
        heard_at=now,
        silent_at=now + timedelta(hours=1),
    )


def live(fleet: Fleet, over: threading.Event) -> None:
    """Once a second; the totals are kept up as by the task that does it."""
    turn = 0
    while not over.wait(1.0):
        fleet.report(turn % TURNS, 2 + turn // TURNS)
        turn += 1
        if turn % FOLDED_SECONDS == 0:
            services.fold_totals()


if __name__ == "__main__":
    fleet = Fleet(*map(int, sys.argv[1:]))
    everything = range(len(fleet.services))
    for ago in range(SECONDS, 0, -10):
        fleet.count(clock.now() - timedelta(seconds=ago), everything)
    print("ready", flush=True)
    over = threading.Event()
    thread = threading.Thread(target=live, args=(fleet, over))
    thread.start()
    sys.stdin.read()
    over.set()
    thread.join()
