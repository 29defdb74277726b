"""One size of `benchmarks.publish`: `SERVICES TIMES`, on the database of the environment."""

import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable

import django

django.setup()

from django.db import transaction  # noqa: E402 – Django is set up first

from apps.core.actor import SCOPES, Actor, automation  # noqa: E402
from apps.degradation import services as degradation  # noqa: E402
from apps.delivery.state import State  # noqa: E402
from apps.fleet.models import Dependency, Environment, Service, Usage  # noqa: E402
from apps.policies import services as policies  # noqa: E402
from apps.policies.models import Scope  # noqa: E402
from apps.publication.models import Fragment, Part  # noqa: E402
from apps.publication.services import Piece, publish  # noqa: E402

DEPENDENCIES = 20
WATCHED = 1_000  # services of which a client is connected
NAP_SECONDS = 0.001

Change = Callable[[int], None]


@transaction.atomic
def filled(size: int) -> Environment:
    """An environment of so many services, each of which calls every dependency."""
    place = Environment.objects.create(slug="bench", name="bench")
    services = Service.objects.bulk_create(
        Service(environment=place, slug=f"service-{number}") for number in range(size)
    )
    dependencies = Dependency.objects.bulk_create(
        Dependency(environment=place, slug=f"dependency-{number}") for number in range(DEPENDENCIES)
    )
    uses = [(service, dependency) for service in services for dependency in dependencies]
    Usage.objects.bulk_create(
        Usage(service=service, dependency=dependency, source="declared")
        for service, dependency in uses
    )
    by = automation("bench", place.pk)
    first = publish(place.pk, [Piece(Part.FLAG, None, name="none")], actor=by)
    Fragment.objects.bulk_create(
        Fragment(
            environment=place,
            part=Part.USE,
            service=service.slug,
            dependency=dependency.slug,
            revision=first.number,
            body={},
        )
        for service, dependency in uses
    )
    return place


def changes_of(place: Environment) -> dict[str, Change]:
    """Each change by its name; its argument is the number of the turn."""
    actor = Actor("user", "0", "bench", frozenset({place.pk}), SCOPES, "api")
    service = Service.objects.filter(environment=place).earliest("pk")
    dependency = Dependency.objects.filter(environment=place).earliest("pk")
    flag = degradation.create_flag("bench", kind="custom", actor=actor).pk

    def switch(turn: int) -> None:
        if turn % 2:
            degradation.end_flag(flag, version=None, reason="bench", actor=actor)
        else:
            degradation.engage_flag(flag, version=None, lease=None, reason="bench", actor=actor)

    def setting(scope: Scope) -> Change:
        def change(turn: int) -> None:
            values = {"open_seconds": 20 + turn % 2}
            policies.set_config("breaker", scope=scope, values=values, actor=actor)

        return change

    return {
        "flag of environment": switch,
        "default of environment": setting(Scope(place.pk)),
        "default of dependency": setting(Scope(place.pk, dependency)),
        "one service": setting(Scope(place.pk, dependency, service)),
    }


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def beside_a_loop(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that `work` takes in a thread, and by how much a loop beside it was late at most."""
    took: list[float] = []
    thread = threading.Thread(target=lambda: took.append(timed(work)))
    thread.start()
    latest = 0.0
    while thread.is_alive():
        latest = max(latest, timed(lambda: time.sleep(NAP_SECONDS)) - NAP_SECONDS)
    return took[0], latest


def measured(change: Change, known: State, times: int) -> str:
    """What the change costs, and a process that serves those who are concerned."""
    commits, merges, latest = [], [], 0.0
    for turn in range(times):
        commits.append(1000 * timed(lambda: change(turn)))  # noqa: B023 – called at once
        known.hear("published")
        took, late = beside_a_loop(known.refresh)
        merges.append(1000 * took)
        latest = max(latest, 1000 * late)
    return (
        f"commit p50 {statistics.median(commits):5.1f} max {max(commits):5.1f} ms   "
        f"new documents p50 {statistics.median(merges):6.1f} max {max(merges):6.1f} ms, "
        f"loop late by {latest:4.1f} ms at most   n={times}"
    )


def main(size: int, times: int) -> None:
    place = filled(size)
    changes = changes_of(place)
    for change in changes.values():  # each has its row then
        change(0)
        change(1)
    known = State()
    known.hear("fleet")
    known.refresh()
    for number in range(min(size, WATCHED)):
        known.watch((place.pk, f"service-{number}"))
    gc.collect()
    gc.freeze()  # as a web process does
    found = {name: measured(change, known, times) for name, change in changes.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
