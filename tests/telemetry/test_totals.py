"""Totals of all time: exact whatever is folded or let go, and never smaller than before."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest

from apps.core import clock
from apps.fleet.models import Service
from apps.telemetry import selectors, services
from apps.telemetry.models import Total, Window
from tests import make
from tests.telemetry.arrivals import ingested

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CALLS = {"calls": 3, "successes": 2, "failures": 1, "latency": {"80": 2, "120": 1}}


def at(seconds: float) -> AbstractContextManager[None]:
    """The clock stands so many seconds after noon."""
    return clock.use(lambda: NOON + timedelta(seconds=seconds))


def report() -> dict[str, object]:
    return make.report(dependencies={"payments-api": make.calls(**CALLS)})


def counted(service: Service) -> tuple[int, dict[str, int]]:
    found = selectors.totals(service.environment_id)[service.slug, "payments-api"]
    return found.get("calls"), found.latency


def test_what_is_not_folded_yet_counts() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())

    assert counted(service) == (3, {"80": 2, "120": 1})


def test_folding_changes_no_number() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())
    with at(100):
        ingested(service, report())
        services.fold_totals()

    assert Total.objects.get().calls == 3  # the second report's window is not settled
    assert counted(service) == (6, {"80": 4, "120": 2})


def test_folding_twice_counts_once() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())
    with at(100):
        services.fold_totals()
        services.fold_totals()
    with at(200):
        services.fold_totals()

    assert counted(service) == (3, {"80": 2, "120": 1})


def test_windows_of_several_processes_add_up() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())
        ingested(service, report())
    with at(100):
        services.fold_totals()

    assert counted(service) == (6, {"80": 4, "120": 2})


def test_a_name_that_calls_later_than_others_is_counted_from_its_first_call() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())
    with at(100):
        services.fold_totals()
        other = make.service(service.environment)
        ingested(other, report())
    with at(200):
        services.fold_totals()

    assert counted(other) == (3, {"80": 2, "120": 1})


def test_what_is_pruned_stays_in_the_totals() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())
    with at(3 * 3600):
        services.roll_up()
        services.prune()

    assert not Window.objects.filter(span=Window.Span.SHORT).exists()
    assert counted(service) == (3, {"80": 2, "120": 1})


def test_own_requests_have_a_total() -> None:
    service = make.service()
    with at(0):
        requests = {"count": 7, "4xx": 2, "5xx": 1, "latency": {"80": 7}}
        ingested(service, make.report(requests=requests, dependencies={}))
    with at(100):
        services.fold_totals()

    found = selectors.totals(service.environment_id)[service.slug, ""]
    assert (found.get("calls"), found.get("server_errors")) == (7, 1)


def test_another_environment_has_totals_of_its_own() -> None:
    service = make.service()
    with at(0):
        ingested(service, report())

    assert selectors.totals(make.environment().pk) == {}
