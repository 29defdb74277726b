"""One database of `benchmarks.history`: `ROWS TIMES [--plans]`, on that of the environment."""

import json
import logging
import re
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from uuid import uuid4

import django

django.setup()

from django.db import connection, reset_queries, transaction  # noqa: E402 – Django is set up first
from django.db.models import Model  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from apps.accounts.models import User  # noqa: E402
from apps.core import clock  # noqa: E402
from apps.fleet.models import Environment, Instance, Service  # noqa: E402
from apps.live import watch  # noqa: E402
from apps.live.selectors import picture  # noqa: E402
from apps.telemetry import rules, services  # noqa: E402
from apps.telemetry.models import (  # noqa: E402
    ROLLED_UP,
    BreakerEvent,
    InstanceState,
    Sum,
    Total,
    Window,
)
from benchmarks.published import DEPENDENCIES, filled  # noqa: E402

SERVICES = 500
CELLS = SERVICES * (DEPENDENCIES + 1)  # with the services' own requests
EVENTS = 20_000  # at least; else a tenth of the rows
KEPT_SECONDS = 89 * 86_400
SPANS = {
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(hours=24),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
    "90 d": timedelta(days=89.9),
}
PLACES = {
    "cell": {"service": "service-7", "dependency": "dependency-3"},
    "service": {"service": "service-7"},
    "dependency": {"dependency": "dependency-3"},
    "everything": {},
}
LATENCY = {str(60 + number): 1 + (number * 7) % 11 for number in range(14)}
CALLS = sum(LATENCY.values())
NUMBERS = {"calls": CALLS, "successes": CALLS - 1, "failures": 1, "retries": 1, "slow": 1}
TABLES = re.compile(r"telemetry_(window|sum|breakerevent|instancestate)")


# -- filling -------------------------------------------------------------------------------------
def fill(place: Environment, rows: int) -> None:
    """A third of the rows of each span, the newest last; instances and what they said."""
    now = clock.now()
    for span in (3_600, 60, 10):
        newest = rules.floor(now - (timedelta(seconds=span) if span > 10 else timedelta(0)), span)
        count = max(6, rows // 3 // CELLS)
        starts = [newest - number * timedelta(seconds=span) for number in range(count)]
        with transaction.atomic():
            for start in reversed(starts):
                _write(span, start)
                Sum.objects.bulk_create(_sums(place, span, start), batch_size=500)
    _whole_past(place, now)
    _introduce(place, now, max(EVENTS, rows // 10))
    _totals()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _write(span: int, start: datetime) -> None:
    """One window of every cell, in the order of the index."""
    names = ", ".join(rules.COUNTERS)
    numbers = ", ".join(str(NUMBERS.get(name, 0)) for name in rules.COUNTERS)
    boot = Window._meta.get_field("boot").get_db_prep_value(
        uuid4() if span == Window.Span.SHORT else ROLLED_UP, connection
    )
    cast = "::jsonb" if connection.vendor == "postgresql" else ""
    latency = json.dumps(LATENCY)
    columns = f"span, start, service_id, dependency, boot, latency, {names}"
    values = f"%s, %s, s.id, c.slug, %s, %s{cast}, {numbers}"
    statement = (
        f"INSERT INTO telemetry_window ({columns}) SELECT {values} FROM fleet_service s, "
        "(SELECT slug FROM fleet_dependency UNION ALL SELECT '') c ORDER BY s.id, c.slug"
    )
    at = connection.ops.adapt_datetimefield_value(start)
    with connection.cursor() as cursor:
        cursor.execute(statement, [span, at, boot, latency])


def _sums(place: Environment, span: int, start: datetime, only: Collection[str] = ()) -> list[Sum]:
    found = [
        *((Sum.Of.SERVICE, f"service-{number}") for number in range(SERVICES)),
        *((Sum.Of.DEPENDENCY, f"dependency-{number}") for number in range(DEPENDENCIES)),
        (Sum.Of.CALLS, ""),
        (Sum.Of.REQUESTS, ""),
    ]
    return [
        Sum(environment=place, of=of, slug=slug, span=span, start=start, latency=LATENCY, **NUMBERS)
        for of, slug in found
        if not only or slug in only
    ]


def _whole_past(place: Environment, now: datetime) -> None:
    """As long as it is kept, of what is asked for: one cell, and the sums it is part of."""
    dependency = PLACES["cell"]["dependency"]
    named = {*PLACES["cell"].values(), ""}
    service = Service.objects.get(slug=PLACES["cell"]["service"])
    for span, kept in services.KEPT.items():
        oldest = Window.objects.filter(span=span).order_by("start").values_list("start", flat=True)
        count = int((oldest[0] - (now - kept)) / timedelta(seconds=span))
        starts = [oldest[0] - timedelta(seconds=span * number) for number in range(1, count)]
        sums = [row for start in starts for row in _sums(place, span, start, named)]
        Sum.objects.bulk_create(sums, batch_size=500)
        Window.objects.bulk_create(
            (
                Window(
                    span=span, start=start, service=service, dependency=name, boot=ROLLED_UP,
                    latency=LATENCY, **NUMBERS,
                )
                for start in starts
                for name in (dependency, "")
            ),
            batch_size=500,
        )  # fmt: skip


def _introduce(place: Environment, now: datetime, events: int) -> None:
    found = Service.objects.filter(environment=place).values_list("pk", flat=True)
    instances = [
        Instance(
            pk=uuid4(), service_id=pk, name=f"pod-{pk}-{number}", started_at=now,
            first_heard_at=now, heard_at=now, silent_at=now + timedelta(hours=1),
        )
        for pk in found
        for number in range(2)
    ]  # fmt: skip
    Instance.objects.bulk_create(instances, batch_size=500)
    breaker = {"state": "closed", "since": now.isoformat(), "generation": 1, "override": None}
    said = {f"dependency-{number}": breaker for number in range(DEPENDENCIES)}
    InstanceState.objects.bulk_create(
        [InstanceState(instance=one, reported_at=now, breakers=said) for one in instances],
        batch_size=500,
    )
    for first in range(0, events, EVENTS):
        BreakerEvent.objects.bulk_create(
            [
                _event(
                    instances[number % len(instances)],
                    number,
                    now - timedelta(seconds=number * KEPT_SECONDS / events),
                )
                for number in range(first, min(events, first + EVENTS))
            ],
            batch_size=500,
        )


def _event(one: Instance, number: int, at: datetime) -> BreakerEvent:
    states = ("closed", "open") if number // 1000 % 2 else ("open", "closed")
    return BreakerEvent(
        service_id=one.service_id, dependency=f"dependency-{number % DEPENDENCIES}", at=at,
        instance_id=one.pk, instance_name=one.name, type="breaker.state_changed",
        from_state=states[0], to_state=states[1], cause="failure_rate", received_at=at,
        data={"from": states[0], "to": states[1], "cause": "failure_rate"},
    )  # fmt: skip


def _totals() -> None:
    cells = Window.objects.filter(span=3_600).values_list("service_id", "dependency").distinct()
    now = clock.now()
    Total.objects.bulk_create(
        [
            Total(service_id=pk, dependency=slug, through=now, latency=LATENCY, **NUMBERS)
            for pk, slug in cells
        ],
        batch_size=500,
    )


# -- measuring -----------------------------------------------------------------------------------
def browser() -> Client:
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.create_superuser("bench", password=None))
    return client


def requests(client: Client, place: Environment) -> Iterable[tuple[str, Callable[[], object]]]:
    def got(address: str, **query: str) -> Callable[[], object]:
        def ask() -> object:
            answer = client.get(address, {"environment": place.slug, **query})
            assert answer.status_code == 200, answer.content[:500]
            return answer

        return ask

    yield "dashboard", got("/admin/")
    yield "history page", got("/admin/history/", **PLACES["cell"])
    yield "health of every service", got("/api/v1/health/services")
    yield "timeline page", got("/admin/timeline/")
    for name, where in PLACES.items():
        for span in ("24 h", "90 d"):
            since = (clock.now() - SPANS[span]).isoformat()
            yield f"timeline of {name}, {span}", got("/api/v1/timeline", **where, since=since)
    for name, where in PLACES.items():
        for span, length in SPANS.items():
            since = (clock.now() - length).isoformat()
            yield f"history of {name}, {span}", got("/api/v1/history", **where, since=since)
    yield "wall's picture", lambda: picture(place.pk, watch.of(place.pk))


def milliseconds(do: Callable[[], object], times: int) -> tuple[list[float], list[float]]:
    """How long it took each time, and how much of this process's CPU: that is without others."""
    taken: list[float] = []
    worked: list[float] = []
    for _ in range(times):
        reset_queries()
        began, was_at = time.perf_counter(), time.process_time()
        do()
        taken.append(1000 * (time.perf_counter() - began))
        worked.append(1000 * (time.process_time() - was_at))
    return taken, worked


def freshen() -> None:
    """The windows of the last minute, which the time that filling took has left behind."""
    newest = Window.objects.filter(span=10).order_by("-start").values_list("start", flat=True)[0]
    start = max(newest, rules.floor(clock.now(), 10) - timedelta(seconds=70))
    while (start := start + timedelta(seconds=10)) <= clock.now():
        _write(10, start)


def plans_of(do: Callable[[], object]) -> list[tuple[str, str]]:
    """Each statement that reads telemetry, and the database's plan of it."""
    with CaptureQueriesContext(connection) as found:
        do()
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN (ANALYZE) "
    plans = []
    for query in found:
        if not (TABLES.search(query["sql"]) and query["sql"].startswith("SELECT")):
            continue
        with connection.cursor() as cursor:
            cursor.execute(explain + query["sql"])
            lines = ["  ".join(map(str, row[3:] or row)) for row in cursor.fetchall()]
        plans.append((shortened(query["sql"]), "\n".join(map(shortened, lines))))
    return plans


def shortened(text: str) -> str:
    text = re.sub(r"SELECT .*? FROM", "SELECT … FROM", text, count=1)
    text = re.sub(r"(IN \()([^(),]*,){3,}[^()]*\)", r"\1…)", text)
    return re.sub(r"('\{\"?)([^}]{80})[^}]*", r"\1\2…", text)


def bytes_of(model: type[Model]) -> float:
    """What a row takes, with its indexes."""
    table, count = model._meta.db_table, model._default_manager.count()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
        else:
            cursor.execute(
                "SELECT sum(pgsize) FROM dbstat WHERE name IN"
                " (SELECT name FROM sqlite_master WHERE tbl_name = %s)",
                [table],
            )
        (size,) = cursor.fetchone()
    return float(size) / max(1, count)


def tend() -> None:
    """What a worker does again and again: the sums of one window, and a minute made of six."""
    newest = rules.floor(clock.now(), 60) + timedelta(minutes=1)
    for number in range(6):
        _write(10, newest + timedelta(seconds=10 * number))
    for name, after, do in (
        ("sums of six windows of 10 s", 66, services.sum_up),
        ("roll-up of what is due", 125, services.roll_up),
    ):
        at = newest + timedelta(seconds=after)
        with clock.use(lambda: at):  # noqa: B023 – used at once
            (taken,), (worked,) = milliseconds(do, 1)
        print(f"  {name:30} {taken:6.0f} ms, {worked:5.0f} ms of CPU", flush=True)


def main() -> None:
    rows, times = int(sys.argv[1]), int(sys.argv[2])
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    place, client = filled(SERVICES), browser()
    client.get("/admin/")  # what is loaded late is loaded, and known to work, before the long part
    fill(place, rows)
    count = f"{Window.objects.count():,} windows, {Sum.objects.count():,} sums"
    print(f"  {count}, filled in {time.perf_counter() - began:.0f} s", flush=True)
    for name, do in requests(client, place):
        freshen()
        do()  # what a process keeps, it has by then
        taken, worked = milliseconds(do, times)
        print(
            f"  {name:30} {statistics.median(taken):6.0f} ms, longest {max(taken):5.0f};"
            f" {statistics.median(worked):5.0f} ms of this process's CPU",
            flush=True,
        )
        if "--plans" in sys.argv:
            for statement, plan in plans_of(do):
                print(f"    {statement}\n      " + plan.replace("\n", "\n      "), flush=True)
    tend()
    for model in (Window, Sum, Total, BreakerEvent, Instance, InstanceState):
        size = bytes_of(model)
        print(f"  {model.__name__:30} {size:6.0f} bytes a row", flush=True)


if __name__ == "__main__":
    main()
