"""Who runs what was published, how soon it did, and for how long one has not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from apps.core import clock
from apps.fleet.models import Service
from apps.publication.models import Part
from apps.publication.services import Piece, current_epoch
from apps.telemetry.selectors.convergence import (
    Converged,
    Convergence,
    Refusal,
    converged,
    convergence,
)
from tests import make
from tests.telemetry.arrivals import ingested

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    with clock.use(lambda: NOON):
        yield


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


def published(service: Service, at: datetime = NOON, **piece: Any) -> int:
    """The number of a revision that concerns everybody, unless `piece` says else."""
    with clock.use(lambda: at):
        where = {"name": "read-only"} | piece
        return make.publish(service.environment, Piece(Part.FLAG, {"at": str(at)}, **where)).number


def running(revision: int | None, **members: Any) -> dict[str, Any]:
    """The report of an instance that was there before noon and runs `revision`."""
    epoch = str(current_epoch().pk)
    started = (NOON - timedelta(hours=1)).isoformat()
    values = {"epoch": epoch, "applied_revision": revision, "started_at": started}
    return make.report(dependencies={}) | values | members


def seen(service: Service) -> Convergence:
    return convergence(service.environment_id)[0]


def after(**time: float) -> datetime:
    return NOON + timedelta(**time)


class TestConvergence:
    @pytest.fixture
    def target(self, service: Service) -> int:
        """Revision of something published for everybody."""
        return published(service)

    def test_n_of_m(self, service: Service, target: int) -> None:
        ingested(
            service,
            running(target, name="a"),
            running(target - 1, name="b"),
            running(None, epoch=None, name="c"),
        )

        found = seen(service)

        assert (found.target_revision, found.applied, found.total) == (target, 1, 3)
        assert found.laggards == ["b", "c"]

    def test_newer_than_the_target_counts(self, service: Service, target: int) -> None:
        ingested(service, running(target + 1))

        assert seen(service).applied == 1

    def test_another_epoch_does_not(self, service: Service, target: int) -> None:
        ingested(service, running(target, epoch=str(uuid4())))

        assert seen(service).applied == 0

    def test_silent_instances_are_apart(self, service: Service, target: int) -> None:
        with clock.use(lambda: NOON - timedelta(seconds=15, milliseconds=1)):
            ingested(service, running(target, name="quiet"))
        with clock.use(lambda: NOON - timedelta(seconds=15)):
            ingested(service, running(target, name="late"))

        found = seen(service)

        assert (found.applied, found.total, found.silent) == (1, 1, 1)
        assert found.silent_names == ["quiet"]

    def test_silent_for_a_day_is_gone(self, service: Service, target: int) -> None:
        with clock.use(lambda: NOON - timedelta(days=1, seconds=1)):
            ingested(service, running(target))

        assert seen(service).silent == 0

    def test_stopping_instances_are_apart(self, service: Service, target: int) -> None:
        ingested(service, running(target - 1, stopping=True))

        found = seen(service)

        assert (found.total, found.stopping, found.silent) == (0, 1, 0)

    def test_who_refuses_a_part_has_not_applied_and_says_why(
        self, service: Service, target: int
    ) -> None:
        entry: dict[str, Any] = {
            "path": "flags.x",
            "revision": 2,
            "code": "unknown",
            "detail": "no such kind",
        }
        ingested(service, running(target, name="a", refused=[entry]))

        found = seen(service)

        assert found.refused == [Refusal("a", **entry)]
        assert (found.applied, found.total, found.laggards) == (0, 1, ["a"])

    def test_change_of_another_service_is_no_target(self, service: Service, target: int) -> None:
        other = make.service(service.environment, slug="inventory")
        make.publish(service.environment, Piece(Part.FLAG, {}, service="inventory", name="x"))

        found = convergence(service.environment_id)

        assert [(each.service, each.target_revision) for each in found] == [
            ("checkout", target),
            (other.slug, target + 1),
        ]

    def test_default_of_a_dependency_reaches_its_users(self, service: Service, target: int) -> None:
        ingested(service, make.report())
        make.service(service.environment, slug="inventory")
        piece = Piece(Part.SETTING, {"enabled": True}, dependency="payments-api", name="breaker")
        newest = make.publish(service.environment, piece).number

        found = convergence(service.environment_id)

        assert [each.target_revision for each in found] == [newest, target]

    def test_nothing_published_is_nothing_to_wait_for(self, service: Service) -> None:
        ingested(service, make.report(dependencies={}))

        assert (seen(service).target_revision, seen(service).applied) == (0, 1)


class TestDelay:
    def report(self, service: Service, *bodies: dict[str, Any], at: datetime) -> None:
        with clock.use(lambda: at):
            ingested(service, *bodies)

    def test_it_is_from_publishing_to_applying(self, service: Service) -> None:
        number = published(service)
        bodies = [
            running(number, applied_at=after(milliseconds=delay).isoformat())
            for delay in range(50, 1050, 50)
        ]
        self.report(service, *bodies, at=after(seconds=2))

        found = seen(service)

        assert (found.published_at, len(found.delays)) == (NOON, 20)
        assert found.p95_delay == pytest.approx(0.95)  # the 19th of 20

    def test_one_that_started_later_did_not_wait_for_it(self, service: Service) -> None:
        number = published(service)
        late = after(seconds=1).isoformat()
        self.report(service, running(number, started_at=late, applied_at=late), at=after(seconds=2))

        assert (seen(service).applied, seen(service).delays) == (1, [])

    @pytest.mark.parametrize(
        ("clock_says", "delay"), [(after(seconds=30), 2.0), (after(seconds=-30), 0.0)]
    )
    def test_a_clock_that_is_wrong_does_not_reach_beyond_what_ours_saw(
        self, service: Service, clock_says: datetime, delay: float
    ) -> None:
        number = published(service)
        body = running(number, applied_at=clock_says.isoformat())

        self.report(service, body, at=after(seconds=2))
        self.report(service, body | {"sequence": 2}, at=after(seconds=7))

        assert seen(service).delays == [delay]

    def test_of_a_revision_before_the_target_it_says_nothing(self, service: Service) -> None:
        number = published(service)
        published(service)
        self.report(service, running(number, applied_at=NOON.isoformat()), at=NOON)

        assert (seen(service).delays, seen(service).p95_delay) == ([], None)


class TestBehind:
    def test_since_the_oldest_thing_it_lacks_was_published(self, service: Service) -> None:
        first = published(service, after(seconds=-60))
        published(service, after(seconds=-40), name="lacked")
        published(service, after(seconds=-1))
        ingested(service, running(first))

        assert seen(service).behind_seconds == 40

    def test_who_is_new_has_not_lacked_it_for_longer_than_it_lives(self, service: Service) -> None:
        published(service, after(seconds=-60))
        ingested(service, running(None, started_at=after(seconds=-3).isoformat()))

        assert seen(service).behind_seconds == 3

    def test_what_was_refused_is_lacked(self, service: Service) -> None:
        published(service, after(seconds=-60), name="older")
        number = published(service, after(seconds=-20))
        entry = {"path": "flags.x", "revision": number, "code": "unknown", "detail": ""}
        ingested(service, running(number, refused=[entry]))

        assert seen(service).behind_seconds == 20

    def test_nobody_who_lives_is_behind(self, service: Service) -> None:
        number = published(service, after(seconds=-60))
        ingested(service, running(number), running(None, stopping=True))

        assert seen(service).behind_seconds is None


class TestEnvironment:
    def test_it_adds_its_services_up(self, service: Service) -> None:
        other = make.service(service.environment, slug="inventory")
        number = published(service, after(seconds=-10))
        applied = after(seconds=-9).isoformat()
        entry = {"path": "flags.x", "revision": number, "code": "unknown", "detail": ""}
        ingested(service, running(number, applied_at=applied), running(number, refused=[entry]))
        ingested(other, running(number, applied_at=applied))

        found = converged(convergence(service.environment_id))

        assert found == Converged(
            services=2,
            converged=1,
            applied=2,
            total=3,
            silent=0,
            stopping=0,
            refusing=1,
            delays=[1.0, 1.0],
            behind_since=after(seconds=-10),
        )
        assert found.behind_seconds == 10
        assert found.share == pytest.approx(2 / 3)
        assert found.p95_delay == 1.0

    def test_an_empty_one_has_no_share(self) -> None:
        found = converged([])

        assert (found.share, found.p95_delay, found.behind_seconds) == (None, None, None)
