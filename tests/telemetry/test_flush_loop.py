"""The background loop: news at once, the rest in time, and nothing left behind at the end."""

import threading
from collections.abc import Iterator

import pytest
from django.db import connection

from apps.core import bus
from apps.core.loops import Loop
from apps.fleet.models import Service
from apps.telemetry.ingest import Ingest
from apps.telemetry.models import InstanceState
from tests import make
from tests.telemetry.arrivals import accept

pytestmark = pytest.mark.django_db(transaction=True)

INSTANCE = "6a9d1a6e-6d3c-4d55-9a0b-3f6e8e8f6a11"


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


@pytest.fixture
def told() -> Iterator[threading.Event]:
    """Set once an acknowledgement is committed."""
    heard = threading.Event()
    cancel = bus.subscribe("telemetry", lambda news: heard.set())
    yield heard
    cancel()


def loop_of(ingest: Ingest, *, every: float) -> Loop:
    def body(stopping: threading.Event) -> None:
        ingest.run(stopping)
        connection.close()

    loop = Loop("test", body, every=every, finishes=True)
    ingest.wake = loop.wake
    loop.start()
    return loop


def test_acknowledgement_does_not_wait_for_the_round(
    service: Service, told: threading.Event
) -> None:
    ingest = Ingest()
    loop = loop_of(ingest, every=3600)

    accept(ingest, service, make.report(instance=INSTANCE))
    is_told = told.wait(10)
    loop.stop()

    assert is_told
    assert InstanceState.objects.get().sequence == 1


def test_what_was_accepted_is_written_down_at_the_end(service: Service) -> None:
    ingest = Ingest()
    accept(ingest, service, make.report(instance=INSTANCE))
    loop = loop_of(ingest, every=3600)
    ingest.wake = lambda: None
    accept(ingest, service, make.report(instance=INSTANCE, sequence=2))

    loop.stop()

    assert InstanceState.objects.get().sequence == 2
