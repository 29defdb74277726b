"""What a process that has too much to do tells services, and how long it then waits for them."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import pytest

from apps.core import pace
from apps.fleet.models import Instance
from apps.telemetry.ingest import Ingest
from tests import make

PACE_HEADERS = ("Poll-Seconds", "Report-Seconds", "Jitter")


@pytest.fixture
def slowed() -> Iterator[None]:
    """This process asks services to come half as often as set."""
    seconds = count(1000.0)
    while pace.current.factor < 2:
        pace.current.observe(1.0, 0.0, next(seconds))
    yield
    while pace.current.factor > 1:
        pace.current.observe(0.0, 0.0, next(seconds))


@pytest.mark.django_db
@pytest.mark.usefixtures("slowed")
def test_services_are_told_and_get_the_time_they_were_given(own_ingest: Ingest) -> None:
    client = make.client(of=make.service(slug="checkout"))

    told = client.post("/api/v1/reports", make.report(), format="json")
    policy = client.get("/api/v1/policies/checkout")
    own_ingest.flush()

    assert (told.status_code, told.json()) == (202, {"report_seconds": 10.0})
    dictated = [policy.headers[f"Holdfast-{each}"] for each in PACE_HEADERS]
    assert dictated == ["20", "10", "0.3"]
    instance = Instance.objects.get()
    assert instance.silent_at - instance.heard_at == timedelta(seconds=30)
