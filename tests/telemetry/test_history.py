"""Any span is told once and whole, whichever windows it is read from."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.core import clock
from apps.fleet.models import Service
from apps.telemetry import rules, services
from apps.telemetry.models import ROLLED_UP, Sum, Window
from apps.telemetry.selectors.history import Cell, Many, axis_of, series
from holdfast import histogram
from tests import make

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


def window(service: Service, seconds: float, *, span: int = 10, **values: Any) -> None:
    """A row that starts so many seconds after noon."""
    given = {"dependency": "payments-api", "boot": uuid4(), "calls": 1, "latency": {"80": 1}}
    start = NOON + timedelta(seconds=seconds)
    Window.objects.create(service=service, span=span, start=start, **given | values)


def rolled_up(after: timedelta) -> None:
    with clock.use(lambda: NOON + after):
        services.sum_up()
        services.roll_up()


def told(service: Service, *, since: timedelta, now: timedelta, many: bool = False) -> list[int]:
    """Calls in each step from `since` after noon to `now`, 0 where there were none."""
    of = Many(service.environment_id, Sum.Of.CALLS) if many else Cell(service.pk, "payments-api")
    with clock.use(lambda: NOON + now):
        found = series(of, axis_of(NOON + since, NOON + now))
    assert found.total.get("calls") == sum(each.get("calls") for each in found.steps if each)
    return [each.get("calls") if each else 0 for each in found.steps]


@pytest.mark.django_db
class TestMerging:
    """A cell from windows, an environment from sums: the same rule."""

    @pytest.fixture(params=[False, True], ids=["cell", "environment"])
    def many(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_newest_part_is_read_from_shorter_windows(self, service: Service, many: bool) -> None:
        for minute in range(0, 120, 7):
            window(service, 60 * minute + 50, calls=minute + 1)
        window(service, 60 * 118 + 40, calls=1000)
        rolled_up(timedelta(minutes=100))
        now = timedelta(minutes=119, seconds=5)
        rolled_up(now)

        assert sum(told(service, since=timedelta(0), now=now, many=many)) == 1969

    def test_boundaries_belong_to_the_step_they_begin(self, service: Service, many: bool) -> None:
        for seconds in (-10, 0, 590, 600):
            window(service, seconds)
        rolled_up(timedelta(minutes=15))

        steps = told(service, since=timedelta(0), now=timedelta(minutes=10), many=many)

        assert (len(steps), steps[0], steps[-1], sum(steps)) == (60, 1, 1, 2)

    def test_processes_are_added_up(self, service: Service, many: bool) -> None:
        window(service, 0, boot=UUID(int=1), calls=2)
        window(service, 0, boot=UUID(int=2), calls=3)
        rolled_up(timedelta(seconds=20))

        assert told(service, since=timedelta(0), now=timedelta(seconds=20), many=many) == [5, 0]

    def test_pruning_what_was_rolled_up_changes_nothing(self, service: Service, many: bool) -> None:
        for minute in range(0, 300, 10):
            window(service, 60 * minute)
        rolled_up(timedelta(hours=5, minutes=2))
        since, now = timedelta(0), timedelta(hours=5, minutes=2)
        before = told(service, since=since, now=now, many=many)

        with clock.use(lambda: NOON + now):
            services.prune()

        assert Window.objects.filter(span=10).count() < 30
        assert (
            told(service, since=since, now=now, many=many) == before == [1, 0, 0, 0, 0] * 30 + [0]
        )

    def test_beyond_seven_days_steps_are_hours(self, service: Service, many: bool) -> None:
        for hour in range(0, 48, 4):
            window(service, 3600 * hour)
        rolled_up(timedelta(hours=49))
        now = timedelta(days=9)
        with clock.use(lambda: NOON + now):
            services.prune()

        assert not Window.objects.filter(span=60).exists()
        assert sum(told(service, since=timedelta(0), now=now, many=many)) == 12

    def test_roll_up_that_is_behind_loses_nothing(self, service: Service, many: bool) -> None:
        for minute in range(0, 240, 5):
            window(service, 60 * minute)
        rolled_up(timedelta(minutes=62))
        with clock.use(lambda: NOON + timedelta(hours=4)):
            services.sum_up()

        steps = told(service, since=timedelta(0), now=timedelta(hours=4), many=many)

        assert sum(steps) == 48


@pytest.mark.django_db
class TestHalfWritten:
    def test_cell_whose_minute_is_not_written_yet_is_read_from_its_parts(
        self, service: Service
    ) -> None:
        for seconds in (0, 30, 60, 90):
            window(service, seconds)
            window(service, seconds, dependency="ledger")
        rolled_up(timedelta(minutes=2))
        window(service, 60, span=60, dependency="ledger", boot=ROLLED_UP)  # and no other yet

        steps = told(service, since=timedelta(0), now=timedelta(minutes=3))

        assert sum(steps) == 4

    def test_minute_that_is_written_hides_its_parts(self, service: Service) -> None:
        window(service, 0, calls=7)
        rolled_up(timedelta(minutes=2))

        # 80 minutes: steps of minutes, the newest hour being the one before noon
        assert sum(told(service, since=timedelta(minutes=-78), now=timedelta(minutes=2))) == 7


@pytest.mark.django_db
class TestSums:
    def test_own_requests_are_apart_from_calls(self, service: Service) -> None:
        other = make.service(service.environment, "search")
        window(service, 0, calls=1)
        window(service, 0, calls=2, dependency="ledger")
        window(other, 0, calls=4, dependency="ledger")
        window(other, 0, calls=8, dependency="")
        rolled_up(timedelta(minutes=2))

        for span in (10, 60):
            rows = Sum.objects.filter(span=span).order_by("of", "slug")
            assert list(rows.values_list("of", "slug", "calls")) == [
                ("calls", "", 7),
                ("dependency", "ledger", 6),
                ("dependency", "payments-api", 1),
                ("requests", "", 8),
                ("service", "checkout", 3),
                ("service", "search", 4),
            ]

    def test_what_came_late_is_in_the_sum_once_it_is_settled(self, service: Service) -> None:
        window(service, 0)
        with clock.use(lambda: NOON + timedelta(seconds=16)):
            services.sum_up()
        window(service, 0, calls=2)
        rolled_up(timedelta(minutes=2))

        assert Sum.objects.get(span=10, of="calls").calls == 3

    def test_window_that_is_not_over_is_left(self, service: Service) -> None:
        window(service, 0)
        with clock.use(lambda: NOON + timedelta(seconds=9)):
            services.sum_up()

        assert not Sum.objects.exists()

    def test_sums_go_when_windows_of_their_span_do(self, service: Service) -> None:
        window(service, 0)
        rolled_up(timedelta(hours=2))
        for kept, left in ((timedelta(hours=3), {60, 3600}), (timedelta(days=8), {3600})):
            with clock.use(lambda: NOON + kept):  # noqa: B023 – used at once
                services.prune()
            assert set(Sum.objects.values_list("span", flat=True)) == left


class TestSteps:
    @pytest.mark.parametrize(
        ("span", "step"),
        [
            (timedelta(minutes=15), 10),
            (timedelta(hours=1), 30),
            (timedelta(hours=6), 120),
            (timedelta(hours=24), 300),
            (timedelta(days=7), 3_600),
            (timedelta(days=30), 10_800),
            (timedelta(days=90), 43_200),
        ],
    )
    def test_finest_that_gives_few_points(self, span: timedelta, step: int) -> None:
        with clock.use(lambda: NOON):
            axis = axis_of(NOON - span, NOON)

        assert (axis.step, len(axis.starts) <= rules.MOST_POINTS) == (step, True)

    @pytest.mark.parametrize(("ago", "step"), [(1, 10), (3, 60), (24 * 8, 3_600)])
    def test_no_shorter_than_windows_that_are_left(self, ago: int, step: int) -> None:
        with clock.use(lambda: NOON):
            start = NOON - timedelta(hours=ago)
            axis = axis_of(start, start + timedelta(minutes=10))

        assert axis.step == step

    def test_newest_step_is_as_long_as_it_has_lasted(self) -> None:
        with clock.use(lambda: NOON + timedelta(seconds=4)):
            axis = axis_of(NOON - timedelta(minutes=1), NOON + timedelta(hours=1))

        assert [axis.seconds(start) for start in axis.starts[-2:]] == [10.0, 4.0]


def bimodal(chance: random.Random) -> float:
    return chance.gauss(2.0, 0.2) if chance.random() < 0.2 else chance.gauss(0.012, 0.002)


SKEWED: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda chance: chance.lognormvariate(-3, 1.2),
    "bimodal": bimodal,
    "Pareto": lambda chance: 0.005 * chance.paretovariate(1.5),
}


class TestHistogramError:
    """`python -m benchmarks.history --error` prints the table that the docs have."""

    @pytest.mark.parametrize("shape", SKEWED)
    @pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
    def test_quantiles_of_skewed_durations_are_within_the_bound(
        self, shape: str, share: float
    ) -> None:
        chance = random.Random(f"{shape} {share}")
        durations = sorted(min(99.0, max(0.0002, SKEWED[shape](chance))) for _ in range(20_000))
        counts = rules.Counts()
        for part in range(4):  # as four windows that are added up
            merged = rules.Counts()
            for duration in durations[part::4]:
                merged.time([{str(histogram.index_of(duration)): 1}])
            counts.add(merged)

        exact = durations[math.ceil(share * len(durations)) - 1]
        found = counts.quantile(share)

        assert found is not None
        assert abs(found - exact) / exact <= 0.048
