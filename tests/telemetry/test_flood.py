"""Many reports of the same instances at once, through several processes' worth of ingests."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import connection

from apps.fleet.models import Service
from apps.telemetry.ingest import Ingest
from apps.telemetry.models import InstanceState, Window
from tests import make
from tests.telemetry.arrivals import accept

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 16
INSTANCES = [str(UUID(int=number)) for number in range(1, 6)]
SEQUENCES = range(1, 11)


def in_threads(work: Callable[[int], None]) -> None:
    """Run `work` in all threads at the same moment; the first error of any is raised."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait(timeout=30)
        try:
            work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(THREADS)))


def total() -> int:
    return sum(Window.objects.filter(span=10).values_list("calls", flat=True))


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


class TestFlood:
    def test_same_reports_in_sixteen_processes_count_once(self, service: Service) -> None:
        def work(_number: int) -> None:
            ingest = Ingest()
            for sequence in SEQUENCES:
                for instance in INSTANCES:
                    accept(ingest, service, make.report(instance=instance, sequence=sequence))
                ingest.flush()

        in_threads(work)

        assert total() == len(INSTANCES) * len(SEQUENCES)
        states = InstanceState.objects.values_list("sequence", flat=True)
        assert list(states) == [SEQUENCES[-1]] * len(INSTANCES)

    def test_one_process_flooded_by_sixteen_threads(self, service: Service) -> None:
        ingest = Ingest()

        def work(number: int) -> None:
            instance = str(UUID(int=100 + number))
            for sequence in SEQUENCES:
                accept(ingest, service, make.report(instance=instance, sequence=sequence))
                ingest.flush()

        in_threads(work)

        assert total() == THREADS * len(SEQUENCES)
        assert len(ingest) == 0

    def test_new_dependencies_found_by_all_at_once(self, service: Service) -> None:
        names = [f"dependency-{number}" for number in range(10)]

        def work(number: int) -> None:
            ingest = Ingest()
            mine = names[number % 5 :] + names[: number % 5]
            accept(
                ingest,
                service,
                make.report(dependencies={name: make.calls() for name in mine}),
            )
            ingest.flush()

        in_threads(work)

        assert total() == THREADS * len(names)
