"""Writing windows down, summing them up, letting go of them; and dependencies nobody declared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import models, transaction
from django.db.models import Exists, Max, Min, OuterRef
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import bulk, bus, clock
from apps.core.actor import Actor, automation
from apps.core.db import delete_in_batches, get_visible
from apps.core.errors import NotFound, RuleBroken
from apps.fleet import services as fleet
from apps.fleet.models import Service, Usage
from apps.publication import services as publication
from apps.telemetry import markers, rules
from apps.telemetry.models import (
    ROLLED_UP,
    Application,
    BreakerEvent,
    Marker,
    Sum,
    Total,
    Window,
)

KEPT = {  # how long windows of each span are kept
    Window.Span.SHORT: timedelta(hours=2),
    Window.Span.MINUTE: timedelta(days=7),
    Window.Span.HOUR: timedelta(days=90),
}
EVENTS_KEPT = timedelta(days=90)
INSTANCES_KEPT = timedelta(days=7)  # after their last word
SETTLED = timedelta(seconds=60)  # after its end nobody adds to a window any more
ALL_BUT_SETTLED = timedelta(seconds=5)  # after its end hardly anybody does
BATCH = 500  # rows of one transaction
Cells = dict[tuple[int, str], rules.Counts]  # by service, and slug of the dependency

STEPS = ((Window.Span.SHORT, Window.Span.MINUTE), (Window.Span.MINUTE, Window.Span.HOUR))


def uses(service_ids: Iterable[int]) -> dict[int, frozenset[str]]:
    """Slugs of the dependencies that each of the services is known to call."""
    found: dict[int, set[str]] = {service_id: set() for service_id in service_ids}
    rows = Usage.objects.filter(service_id__in=found)
    for service_id, dependency in rows.values_list("service_id", "dependency__slug"):
        found[service_id].add(dependency)
    return {service_id: frozenset(names) for service_id, names in found.items()}


def reporting_service(slug: str | None, *, actor: Actor) -> Service:
    """The service whose report it is: the token's own, else the one it names.

    Raises:
        RuleBroken: neither the token nor the report names one, or it is not a name.
        NotFound: the token is another service's.
        Conflict: there are too many services to add one because a report names it.
    """
    if actor.service_id is not None:
        own = get_visible(Service.objects, actor=actor, pk=actor.service_id)
        if slug not in (None, own.slug):
            raise NotFound(_("The token is bound to another service."))
        return own
    if slug is None:
        text = _("Name the service; this token is bound to none.")
        raise RuleBroken(text, errors={"service": [text]})
    known = Service.objects.visible_to(actor).filter(slug=slug).first()
    discovery = automation("discovery", actor.environment_id)
    return known or fleet.discover_service(slug, actor=discovery)


@transaction.atomic
def discover(service_id: int, names: set[str]) -> None:
    """Add dependencies that reports name and nobody declared, and tell the service's document.

    There may be no room for all of them, see `fleet.services.discover`.
    """
    service = Service.objects.get(pk=service_id)
    found = fleet.discover(service, names)
    if not found:
        return
    environment_id = service.environment_id
    actor = automation("discovery", environment_id)
    revision = publication.publish(
        environment_id,
        [publication.use_piece(service, dependency) for dependency in found],
        actor=actor,
        reason="seen in reports",
    )
    for dependency in found:
        audit.record(
            "dependency.discovered",
            dependency,
            actor=actor,
            environment_id=environment_id,
            after={"service": service.slug, "dependency": dependency.slug},
            revision=revision.number,
        )
    bus.announce("fleet", environment_id=environment_id)


def write_windows(
    boot: UUID, span: int, start: datetime, counted: Mapping[tuple[int, str], rules.Counts]
) -> None:
    """Write rows whole, over what they held; part of a caller's transaction.

    `counted` is by service (its id) and dependency (its slug).
    """
    rows = [
        {"boot": boot, "span": span, "start": start} | _cell(key, counts)
        for key, counts in counted.items()
    ]
    bulk.upsert(
        Window,
        rows,
        unique=["span", "start", "service_id", "dependency", "boot"],
        update=[*rules.COUNTERS, "latency"],
    )


def _cell(key: tuple[int, str], counts: rules.Counts) -> dict[str, Any]:
    """The columns of what was counted of one service and dependency."""
    service_id, dependency = key
    return {"service_id": service_id, "dependency": dependency} | _numbers(counts)


def _numbers(counts: rules.Counts) -> dict[str, Any]:
    return {"latency": counts.latency, **{name: counts.get(name) for name in rules.COUNTERS}}


def roll_up() -> None:
    """Sum short windows up to minutes, minutes up to hours, as far as they are settled.

    Safe to run twice or in parallel: sums are computed anew from what they are made of, and
    written over what was there.
    """
    for short, long in STEPS:
        for start in _due(short, long):
            _roll_up_one(short, long, start)


def _due(short: int, long: int) -> list[datetime]:
    """Starts of the long windows that are still to be summed up, oldest first."""
    rows = Window.objects.filter(span=short)
    settled = rules.floor(clock.now() - SETTLED, long)
    newest = Window.objects.filter(span=long).aggregate(at=Max("start"))["at"]
    since = newest or rows.aggregate(at=Min("start"))["at"]
    if since is None:
        return []
    starts = rows.filter(start__gte=rules.floor(since, long), start__lt=settled)
    found = {rules.floor(at, long) for at in starts.values_list("start", flat=True).distinct()}
    return sorted(start for start in found if start != newest or not _is_whole(short, long, start))


def _is_whole(short: int, long: int, start: datetime) -> bool:
    """Whether every cell of the long window was written: the process may have died meanwhile."""
    cells = _parts(short, long, start).values("service_id", "dependency").distinct()
    return cells.count() == Window.objects.filter(span=long, start=start).count()


def _parts(short: int, long: int, start: datetime) -> models.QuerySet[Window]:
    end = start + timedelta(seconds=long)
    return Window.objects.filter(span=short, start__gte=start, start__lt=end)


def _roll_up_one(short: int, long: int, start: datetime) -> None:
    sums: Cells = defaultdict(rules.Counts)
    for part in _parts(short, long, start).values_list("start", flat=True).distinct():
        cells = _cells(short, part)
        if short == Window.Span.SHORT:  # what was summed up of it may have been too early
            _write_sums(short, part, cells)
        for key, counts in cells.items():
            sums[key].add(counts)
    _write_sums(long, start, sums)  # before the windows, by which the work is seen to be done
    keys = sorted(sums)
    for first in range(0, len(keys), BATCH):
        with transaction.atomic():
            some = {key: sums[key] for key in keys[first : first + BATCH]}
            write_windows(ROLLED_UP, long, start, some)


def _cells(span: int, start: datetime) -> Cells:
    """What was counted in the windows of one start, all processes together."""
    cells: Cells = {}
    # Latencies as text: Django's own decoder of JSON takes as long as all the rest.
    rows = Window.objects.filter(span=span, start=start).values_list(
        "service_id", "dependency", Cast("latency", models.TextField()), *rules.COUNTERS
    )
    for service_id, dependency, latency, *numbers in rows.iterator(chunk_size=2000):
        counts = rules.Counts(
            dict(zip(rules.COUNTERS, numbers, strict=True)), msgspec.json.decode(latency)
        )
        known = cells.setdefault((service_id, dependency), counts)
        if known is not counts:
            known.add(counts)
    return cells


def sum_up() -> None:
    """Sum the newest short windows up over services and over dependencies.

    They are summed up again when they are settled, with `roll_up`. Safe to run twice or in
    parallel.
    """
    now, span = clock.now(), Window.Span.SHORT
    newest = Sum.objects.filter(span=span).order_by("-start").values_list("start", flat=True)
    since = newest.first() or now - KEPT[span]
    over = rules.floor(now - ALL_BUT_SETTLED, span)
    rows = Window.objects.filter(span=span, start__gt=since, start__lt=over)
    for start in sorted(set(rows.values_list("start", flat=True).distinct())):
        _write_sums(span, start, _cells(span, start))


def _write_sums(span: int, start: datetime, cells: Cells) -> None:
    """What the cells come to, over what was written of that span before."""
    rows = [
        {"environment_id": environment_id, "of": of, "slug": slug, "span": span, "start": start}
        | _numbers(counts)
        for (environment_id, of, slug), counts in sorted(_sums_of(cells).items())
    ]
    for first in range(0, len(rows), BATCH):
        with transaction.atomic():
            bulk.upsert(
                Sum,
                rows[first : first + BATCH],
                unique=["environment_id", "of", "slug", "span", "start"],
                update=[*rules.COUNTERS, "latency"],
            )


def _sums_of(cells: Cells) -> dict[tuple[int, str, str], rules.Counts]:
    """By environment, what it is the sum of, and the slug of that."""
    places = Service.objects.filter(pk__in={service_id for service_id, _dependency in cells})
    named = {place.pk: (place.environment_id, place.slug) for place in places}
    sums: dict[tuple[int, str, str], rules.Counts] = defaultdict(rules.Counts)
    for (service_id, dependency), counts in cells.items():
        if service_id not in named:  # it was removed meanwhile
            continue
        environment_id, slug = named[service_id]
        if dependency:
            sums[environment_id, Sum.Of.SERVICE, slug].add(counts)
            sums[environment_id, Sum.Of.DEPENDENCY, dependency].add(counts)
        else:
            sums[environment_id, Sum.Of.REQUESTS, ""].add(counts)
    for (environment_id, of, _slug), counts in list(sums.items()):
        if of == Sum.Of.SERVICE:
            sums[environment_id, Sum.Of.CALLS, ""].add(counts)
    return sums


def fold_totals() -> None:
    """Add the short windows that are settled to the totals of all time.

    Safe to run twice or in parallel: a total says which windows are in it, and is locked while
    some are added.
    """
    until = rules.floor(clock.now() - SETTLED, Window.Span.SHORT)
    _begin_totals()
    behind = Total.objects.filter(through__lt=until).order_by("pk")
    found = list(behind.values_list("pk", flat=True))
    for first in range(0, len(found), BATCH):
        with transaction.atomic():
            _fold(found[first : first + BATCH], until)


def _begin_totals() -> None:
    """An empty total for every service and dependency that has windows and no total yet."""
    begun = Total.objects.filter(service=OuterRef("service"), dependency=OuterRef("dependency"))
    rows = Window.objects.filter(~Exists(begun), span=Window.Span.SHORT)
    if oldest := Total.objects.aggregate(at=Min("through"))["at"]:
        rows = rows.filter(start__gte=oldest)  # new ones are newer than what totals wait for
    cells = rows.values("service_id", "dependency").annotate(through=Min("start"))
    empty = [Total(**cell) for cell in cells.order_by("service_id", "dependency")]
    Total.objects.bulk_create(empty, ignore_conflicts=True, batch_size=BATCH)


def _fold(ids: list[int], until: datetime) -> None:
    locked = Total.objects.select_for_update().filter(pk__in=ids, through__lt=until).order_by("pk")
    totals = {(total.service_id, total.dependency): total for total in locked}
    if not totals:
        return
    sums = {key: rules.Counts.of_row(total) for key, total in totals.items()}
    rows = Window.objects.filter(
        span=Window.Span.SHORT,
        start__gte=min(total.through for total in totals.values()),
        start__lt=until,
        service_id__in={service_id for service_id, _dependency in totals},
    ).values_list("start", "service_id", "dependency", "latency", *rules.COUNTERS)
    for start, service_id, dependency, latency, *numbers in rows.iterator(chunk_size=2000):
        total = totals.get((service_id, dependency))
        if total is not None and start >= total.through:
            counts = rules.Counts(dict(zip(rules.COUNTERS, numbers, strict=True)), latency)
            sums[service_id, dependency].add(counts)
    _write_totals(sums, until)


def _write_totals(sums: dict[tuple[int, str], rules.Counts], through: datetime) -> None:
    bulk.upsert(
        Total,
        [{"through": through} | _cell(key, counts) for key, counts in sums.items()],
        unique=["service_id", "dependency"],
        update=[*rules.COUNTERS, "latency", "through"],
    )


def prune() -> None:
    """Let go of what is too old, in batches; what is not yet summed up stays.

    Safe to run twice or in parallel.
    """
    fold_totals()  # what is let go is in the totals
    now = clock.now()
    for span, kept in KEPT.items():
        delete_in_batches(Window.objects.filter(span=span, start__lt=_not_needed(span, now - kept)))
        delete_in_batches(Sum.objects.filter(span=span, start__lt=now - kept))
    delete_in_batches(BreakerEvent.objects.filter(received_at__lt=now - EVENTS_KEPT))
    delete_in_batches(Application.objects.filter(at__lt=now - EVENTS_KEPT))
    delete_in_batches(Marker.objects.filter(at__lt=now - markers.KEPT))
    while fleet.forget_instances(now - INSTANCES_KEPT, limit=BATCH):
        pass


def _not_needed(span: int, before: datetime) -> datetime:
    """The end of what may go: `before`, or earlier if sums of it are still to be made."""
    for short, long in STEPS:
        if short == span:
            return min([before, *_due(short, long)])
    return before
