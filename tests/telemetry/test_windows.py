"""Windows are summed up without losing a call, and let go when their time is over."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.core import clock
from apps.fleet.models import Instance, Service
from apps.telemetry import rules, services, tasks
from apps.telemetry.models import ROLLED_UP, BreakerEvent, InstanceState, Window
from tests import make

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


def window(service: Service, *, seconds: int = 0, span: int = 10, **values: Any) -> Window:
    """A row that starts so many seconds after noon."""
    given = {"dependency": "payments-api", "boot": uuid4(), "calls": 1, "latency": {"80": 1}}
    start = NOON + timedelta(seconds=seconds)
    return Window.objects.create(service=service, span=span, start=start, **given | values)


def rolled_up(after: timedelta) -> None:
    with clock.use(lambda: NOON + after):
        services.roll_up()


def sums(span: int) -> list[tuple[datetime, str, int]]:
    rows = Window.objects.filter(span=span).order_by("start", "dependency")
    return list(rows.values_list("start", "dependency", "calls"))


class TestRollUp:
    def test_ten_seconds_become_minutes_and_hours(self, service: Service) -> None:
        window(service, seconds=0, calls=1)
        window(service, seconds=50, calls=2)
        window(service, seconds=60, calls=4)

        rolled_up(timedelta(hours=1, minutes=1))

        minute = NOON + timedelta(minutes=1)
        assert sums(60) == [(NOON, "payments-api", 3), (minute, "payments-api", 4)]
        assert sums(3600) == [(NOON, "payments-api", 7)]

    def test_processes_are_merged_and_cells_are_not(self, service: Service) -> None:
        window(service, boot=UUID(int=1), latency={"80": 1})
        window(service, boot=UUID(int=2), latency={"80": 2, "90": 1})
        window(service, dependency="")

        rolled_up(timedelta(minutes=2))

        assert sums(60) == [(NOON, "", 1), (NOON, "payments-api", 2)]
        row = Window.objects.get(span=60, dependency="payments-api")
        assert (row.boot, row.latency) == (ROLLED_UP, {"80": 3, "90": 1})

    def test_minute_that_may_still_grow_is_left(self, service: Service) -> None:
        window(service)

        rolled_up(timedelta(seconds=119))

        assert sums(60) == []

    def test_twice_is_once(self, service: Service) -> None:
        window(service)

        rolled_up(timedelta(hours=2))
        rolled_up(timedelta(hours=2))

        assert sums(60) == [(NOON, "payments-api", 1)]
        assert sums(3600) == [(NOON, "payments-api", 1)]

    def test_minute_that_was_half_written_is_written_again(self, service: Service) -> None:
        window(service, dependency="a")
        window(service, dependency="b")
        window(service, span=60, dependency="a", boot=ROLLED_UP)

        rolled_up(timedelta(minutes=2))

        assert sums(60) == [(NOON, "a", 1), (NOON, "b", 1)]

    def test_nothing_to_sum_up(self) -> None:
        rolled_up(timedelta(0))

        assert not Window.objects.exists()

    @hypothesis_settings(
        max_examples=25,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 719),  # windows of two hours
                st.sampled_from(["", "a", "b"]),
                st.integers(0, 2**31),
                st.dictionaries(st.integers(0, 157).map(str), st.integers(1, 2**31), max_size=4),
            ),
            max_size=20,
        )
    )
    def test_nothing_is_lost_on_the_way(
        self, service: Service, rows: list[tuple[int, str, int, dict[str, int]]]
    ) -> None:
        Window.objects.all().delete()
        for number, dependency, calls, latency in rows:
            window(
                service, seconds=10 * number, dependency=dependency, calls=calls, latency=latency
            )

        rolled_up(timedelta(hours=3))

        short, minutes, hours = totals(10), totals(60), totals(3600)
        assert short == minutes == hours


def totals(span: int) -> dict[str, Counter[str]]:
    """Calls and buckets of each dependency, all windows together."""
    found: dict[str, Counter[str]] = {}
    for row in Window.objects.filter(span=span):
        counts = found.setdefault(row.dependency, Counter())
        counts.update(row.latency)
        counts["calls"] += row.calls
    return found


class TestPrune:
    def pruned(self, *, after: timedelta = timedelta(0)) -> None:
        with clock.use(lambda: NOON + after):
            services.prune()

    @pytest.mark.parametrize(
        ("span", "kept"),
        [(10, timedelta(hours=2)), (60, timedelta(days=7)), (3600, timedelta(days=90))],
    )
    def test_windows_are_kept_as_long_as_promised(
        self, service: Service, span: int, kept: timedelta
    ) -> None:
        rolled_up_already = {10: 60, 60: 3600}.get(span, span)
        window(service, seconds=0, span=span)
        window(service, seconds=3600, span=rolled_up_already, dependency="later")
        window(service, seconds=0, span=rolled_up_already, dependency="sums")

        self.pruned(after=kept)
        assert Window.objects.filter(span=span, dependency="payments-api").exists()

        self.pruned(after=kept + timedelta(seconds=1))
        assert not Window.objects.filter(span=span, dependency="payments-api").exists()

    def test_what_was_not_summed_up_stays(self, service: Service) -> None:
        window(service)

        self.pruned(after=timedelta(days=3))

        assert sums(10) == [(NOON, "payments-api", 1)]

    def test_more_than_a_batch_goes(self, service: Service) -> None:
        rows = [
            Window(service=service, span=3600, start=NOON, dependency=f"d-{n}", boot=ROLLED_UP)
            for n in range(services.BATCH + 1)
        ]
        Window.objects.bulk_create(rows)

        self.pruned(after=timedelta(days=91))

        assert not Window.objects.exists()

    def test_events_go_after_ninety_days(self, service: Service) -> None:
        for days in (0, 2):
            BreakerEvent.objects.create(
                service=service, dependency="a", instance_id=uuid4(), type="breaker.state_changed",
                at=NOON, received_at=NOON + timedelta(days=days),
            )  # fmt: skip

        self.pruned(after=timedelta(days=91))

        assert BreakerEvent.objects.get().received_at == NOON + timedelta(days=2)

    def test_silent_instances_go_after_a_week_with_their_state(self, service: Service) -> None:
        for days in (0, 2):
            heard = NOON + timedelta(days=days)
            with clock.use(lambda: heard):  # noqa: B023 – used at once
                one = make.instance(service)
            InstanceState.objects.create(instance=one, reported_at=heard)

        self.pruned(after=timedelta(days=8))

        assert Instance.objects.get().heard_at == NOON + timedelta(days=2)
        assert InstanceState.objects.count() == 1


class TestTasks:
    def test_they_do_the_work(self, service: Service) -> None:
        window(service)
        with clock.use(lambda: NOON + timedelta(days=1)):
            tasks.roll_up()
            tasks.prune()

        assert (sums(10), len(sums(60)), len(sums(3600))) == ([], 1, 1)


class TestRules:
    @pytest.mark.parametrize(
        ("states", "worst"),
        [
            ([], "closed"),
            (["closed", "half_open"], "half_open"),
            (["half_open", "open", "closed"], "open"),
        ],
    )
    def test_worst_state(self, states: list[str], worst: str) -> None:
        assert rules.worst(states) == worst

    def test_window_starts_at_multiples_of_its_span(self) -> None:
        assert rules.floor(NOON + timedelta(seconds=59, microseconds=9), 10) == NOON + timedelta(
            seconds=50
        )

    def test_buckets_with_leading_zeros_are_the_same_bucket(self) -> None:
        counts = rules.Counts()

        counts.time([{"07": 1, "7": 2, "8": 0}])

        assert counts.latency == {"7": 3}
