"""Each report counts once, and what instances say of themselves is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks

from apps.audit.models import Entry
from apps.core import bus, clock
from apps.fleet import services as fleet_services
from apps.fleet.models import Instance, Service, Usage
from apps.publication.models import Fragment
from apps.telemetry import counting, rules
from apps.telemetry.ingest import Ingest
from apps.telemetry.models import BreakerEvent, InstanceState, Window
from tests import make
from tests.telemetry.arrivals import accept, ingested

pytestmark = pytest.mark.django_db

INSTANCE = "6a9d1a6e-6d3c-4d55-9a0b-3f6e8e8f6a11"
NOON = datetime(2026, 11, 22, 12, 0, 3, tzinfo=UTC)


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


def report(sequence: int = 1, **members: Any) -> dict[str, Any]:
    return make.report(instance=INSTANCE, sequence=sequence, **members)


def total(name: str = "calls") -> int:
    return sum(Window.objects.values_list(name, flat=True))


class TestCountedOnce:
    def test_retried_report(self, service: Service) -> None:
        ingested(service, report(), report())

        assert total() == 1

    def test_retried_report_in_a_later_flush(self, service: Service) -> None:
        ingest = ingested(service, report())
        accept(ingest, service, report())
        ingest.flush()

        assert total() == 1

    def test_retried_report_at_another_process(self, service: Service) -> None:
        ingested(service, report())
        ingested(service, report())

        assert total() == 1

    def test_late_report_of_a_lower_sequence(self, service: Service) -> None:
        ingested(service, report(5), report(4))

        assert total() == 1
        assert InstanceState.objects.get().sequence == 5

    def test_gaps_in_the_sequence_are_no_obstacle(self, service: Service) -> None:
        ingested(service, report(1), report(7), report(8))

        assert total() == 3

    def test_restarted_process_starts_at_one_again(self, service: Service) -> None:
        ingested(service, report(5), make.report(instance=str(uuid4()), sequence=1))

        assert total() == 2

    def test_instance_of_another_service_is_not_taken_over(self, service: Service) -> None:
        ingested(service, report(1, applied_revision=3))
        ingested(make.service(service.environment), report(2, applied_revision=9))

        assert total() == 1
        assert InstanceState.objects.get().applied_revision == 3

    def test_windows_add_up_within_a_process_and_apart_between_them(self, service: Service) -> None:
        with clock.use(lambda: NOON):
            ingest = ingested(service, report(1))
            accept(ingest, service, report(2))
            ingest.flush()
            ingested(service, report(3))

        rows = Window.objects.order_by("calls").values_list("calls", "start", "latency")
        start = NOON.replace(second=0)
        assert list(rows) == [(1, start, {"80": 1}), (2, start, {"80": 2})]

    def test_clock_that_steps_back_overwrites_nothing(self, service: Service) -> None:
        with clock.use(lambda: NOON + timedelta(seconds=20)):
            ingest = ingested(service, report(1))
        with clock.use(lambda: NOON):
            accept(ingest, service, report(2))
            ingest.flush()

        assert total() == 2


class TestFailures:
    """`fleet.hear` is the seam: the last that is written before the commit."""

    def test_failed_transaction_loses_and_repeats_nothing(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ingest = ingested(service, report(1))
        accept(ingest, service, report(2))
        with monkeypatch.context() as broken:
            broken.setattr(fleet_services, "hear", _raise(OperationalError("gone")))
            with pytest.raises(OperationalError):
                ingest.flush()
        assert (total(), len(ingest)) == (1, 1)

        ingest.flush()

        assert (total(), len(ingest)) == (2, 0)

    def test_commit_whose_answer_was_lost_counts_once(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ingest = ingested(service, report(1))
        accept(ingest, service, report(2))
        with monkeypatch.context() as broken:
            broken.setattr(counting, "transaction", SimpleNamespace(atomic=_commit_without_answer))
            with pytest.raises(OperationalError):
                ingest.flush()

        accept(ingest, service, report(3))
        ingest.flush()

        assert total() == 3

    def test_report_the_database_cannot_hold_takes_no_other_with_it(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ingest = Ingest()
        accept(ingest, service, report(1))
        accept(ingest, service, make.report(name="odd"))
        heard = fleet_services.hear
        monkeypatch.setattr(fleet_services, "hear", _choosy(heard))

        ingest.flush()

        assert (total(), len(ingest)) == (1, 0)


class TestStates:
    def test_what_an_instance_says_of_itself_is_kept(self, service: Service) -> None:
        epoch = uuid4()
        refused = [{"path": "flags.x", "revision": 8, "code": "unknown", "detail": "no such kind"}]
        ingested(
            service,
            report(
                3,
                epoch=str(epoch),
                applied_revision=8,
                refused=refused,
                resources={"cpu": 0.5},
                dependencies={"payments-api": make.calls(in_flight=2)},
            ),
        )

        state = InstanceState.objects.get()
        assert (state.sequence, state.epoch, state.applied_revision) == (3, epoch, 8)
        assert state.refused == refused
        assert state.resources == {"cpu": 0.5}
        assert state.in_flight == {"payments-api": 2}
        assert state.breakers["payments-api"]["state"] == "closed"

    def test_report_without_dependencies_forgets_no_breaker(self, service: Service) -> None:
        ingested(service, report(1), report(2, dependencies={}))

        assert InstanceState.objects.get().breakers["payments-api"]["state"] == "closed"

    def test_what_another_process_wrote_meanwhile_is_not_taken_for_ones_own(
        self, service: Service
    ) -> None:
        here = ingested(service, report(1, applied_revision=8))
        ingested(service, report(2, applied_revision=9))
        accept(here, service, report(3, applied_revision=8))  # routine, for all this one knows
        here.flush()

        assert InstanceState.objects.get().applied_revision == 8

    def test_routine_keeps_what_it_does_not_mention(self, service: Service) -> None:
        both = {"payments-api": make.calls(in_flight=2), "postgres": make.calls(in_flight=1)}
        ingest = ingested(service, report(1, dependencies=both, resources={"cpu": 0.5}))
        for sequence in (2, 3):
            one = {"payments-api": make.calls(in_flight=4)}
            accept(ingest, service, report(sequence, dependencies=one))
            ingest.flush()

        state = InstanceState.objects.get()
        assert (state.sequence, state.resources) == (3, {"cpu": 0.5})
        assert state.in_flight == {"payments-api": 4, "postgres": 1}
        assert sorted(state.breakers) == ["payments-api", "postgres"]

    def test_breaker_that_did_not_move_keeps_its_instant(self, service: Service) -> None:
        def calls(milliseconds: int) -> dict[str, Any]:
            since = NOON + timedelta(milliseconds=milliseconds)
            breaker = {"state": "open", "since": since.isoformat(), "generation": 3}
            return {"payments-api": make.calls(breaker=breaker)}

        with clock.use(lambda: NOON):
            ingest = ingested(service, report(1, dependencies=calls(0)))
            accept(ingest, service, report(2, dependencies=calls(1)))
            ingest.flush()

        assert InstanceState.objects.get().breakers["payments-api"]["since"] == NOON.isoformat()

    def test_goodbye_is_noted(self, service: Service) -> None:
        ingested(service, report(1), report(2, stopping=True))

        assert Instance.objects.get().stopping

    def test_first_word_is_remembered_and_the_last_updated(self, service: Service) -> None:
        with clock.use(lambda: NOON):
            ingested(service, report(1))
        with clock.use(lambda: NOON + timedelta(seconds=5)):
            ingested(service, report(2, name="renamed"))

        instance = Instance.objects.get()
        assert instance.first_heard_at == NOON
        assert instance.heard_at == NOON + timedelta(seconds=5)
        assert instance.name == "renamed"

    def test_own_requests_are_counted_apart(self, service: Service) -> None:
        requests = {"count": 7, "4xx": 2, "5xx": 1, "latency": {"80": 7}}
        ingested(service, report(1, dependencies={}, requests=requests))

        row = Window.objects.get()
        assert (row.dependency, row.calls, row.client_errors, row.server_errors) == ("", 7, 2, 1)

    def test_every_counter_reaches_its_column(self, service: Service) -> None:
        calls = make.calls(
            calls=1, successes=2, failures=3, timeouts=4, slow=5, cancelled=6, retries=7,
            rejected={"open": 8, "forced": 9, "bulkhead": 10, "rate_limit": 11, "throttle": 20,
                      "budget": 12, "degraded": 13},
            recoveries={"attempted": 14, "succeeded": 15},
            fallbacks={"value": 16, "function": 17, "cached": 18, "queue": 19},
        )  # fmt: skip
        ingested(service, report(1, dependencies={"payments-api": calls}))

        names = rules.COUNTERS[:-2]
        assert Window.objects.values_list(*names).get() == (
            *(1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 20, 12, 13, 7, 14, 15, 16, 17, 18, 19),
        )


class TestDiscovery:
    def test_unknown_dependency_reaches_the_services_document(self, service: Service) -> None:
        ingested(service, report())

        usage = Usage.objects.get(service=service)
        assert (usage.dependency.slug, usage.source) == ("payments-api", "discovered")
        fragment = Fragment.objects.current().get(part="use")
        assert (fragment.service, fragment.dependency) == ("checkout", "payments-api")
        entry = Entry.objects.get(action="dependency.discovered")
        assert (entry.actor_kind, entry.revision) == ("automation", fragment.revision)

    def test_known_dependency_is_published_once(self, service: Service) -> None:
        ingested(service, report(1), report(2))

        assert Fragment.objects.filter(part="use").count() == 1

    def test_names_that_are_none_are_left_out(self, service: Service) -> None:
        names = ["payments-api", "No Name", "x" * 81, ""]
        ingested(service, report(dependencies={name: make.calls() for name in names}))

        assert total() == 1
        assert list(InstanceState.objects.get().breakers) == ["payments-api"]

    def test_service_that_makes_up_names_is_stopped(self, service: Service) -> None:
        names = {f"name-{number}": make.calls() for number in range(250)}
        ingest = ingested(service, report(1, dependencies=names))
        accept(ingest, service, report(2, dependencies=names))
        ingest.flush()

        assert Usage.objects.filter(service=service).count() == 200
        assert total() == 400


class TestEvents:
    def moved(self, **members: Any) -> dict[str, Any]:
        data = {"from": "closed", "to": "open", "cause": "failure_rate"}
        return {
            "at": NOON.isoformat(),
            "type": "breaker.state_changed",
            "dependency": "payments-api",
            "data": data,
        } | members

    def written(self, service: Service, **members: Any) -> BreakerEvent:
        with clock.use(lambda: NOON):
            ingested(service, report(**members))
        return BreakerEvent.objects.get()

    def test_reported_event_is_kept(self, service: Service) -> None:
        event = self.written(service, events=[self.moved()])

        assert (event.from_state, event.to_state) == ("closed", "open")
        assert (event.cause, event.at, event.received_at) == ("failure_rate", NOON, NOON)
        assert event.instance_id == UUID(INSTANCE)

    def test_retried_event_is_kept_once(self, service: Service) -> None:
        ingested(service, report(events=[self.moved()]))
        ingested(service, report(events=[self.moved()]))

        assert BreakerEvent.objects.count() == 1

    def test_move_that_no_event_tells_is_noticed(self, service: Service) -> None:
        open_since = {"state": "open", "since": (NOON - timedelta(seconds=4)).isoformat()}
        calls = make.calls(breaker=open_since)
        event = self.written(service, dependencies={"payments-api": calls})

        assert (event.from_state, event.to_state) == ("closed", "open")
        assert event.at == NOON - timedelta(seconds=4)

    def test_move_that_an_event_tells_is_not_told_twice(self, service: Service) -> None:
        calls = make.calls(breaker={"state": "open"})
        members = {"dependencies": {"payments-api": calls}, "events": [self.moved()]}

        assert self.written(service, **members).cause == "failure_rate"

    @pytest.mark.parametrize(
        "at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-22T12:05:00Z"]
    )
    def test_absurd_instants_become_the_receipts(self, service: Service, at: str) -> None:
        event = self.written(service, events=[self.moved(at=at)], started_at=at, applied_at=at)

        assert event.at == NOON

    def test_other_events_and_other_states_do_no_harm(self, service: Service) -> None:
        odd = self.moved(data={"from": 7, "to": ["open"], "cause": {"a": 1}})
        event = self.written(service, events=[odd, self.moved(type="retry.exhausted")])

        assert (event.from_state, event.to_state) == ("", "")


class TestNews:
    """What the wall must show at once is announced after the commit."""

    @pytest.fixture
    def heard(self) -> Any:
        told: list[str] = []
        cancel = bus.subscribe("telemetry", lambda news: told.append(news["reason"]))
        yield told
        cancel()

    @pytest.mark.parametrize(
        ("members", "reasons"),
        [
            ({}, []),
            ({"applied_revision": 9}, ["acknowledged"]),
            ({"refused": [{"path": "flags.x"}]}, ["acknowledged"]),
            ({"stopping": True}, ["acknowledged"]),
            ({"dependencies": {"payments-api": make.calls(breaker={"state": "half_open"})}},
             ["breaker"]),
        ],
    )  # fmt: skip
    def test_only_news_is_announced(
        self,
        service: Service,
        heard: list[str],
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
        members: dict[str, Any],
        reasons: list[str],
    ) -> None:
        ingest = ingested(service, report(1))
        accept(ingest, service, report(2, **members))

        with django_capture_on_commit_callbacks(execute=True):
            ingest.flush()

        assert heard == reasons

    def test_news_wakes_the_loop_and_routine_does_not(self, service: Service) -> None:
        ingest, woken = Ingest(), []
        ingest.wake = lambda: woken.append(True)

        accept(ingest, service, report(1))
        accept(ingest, service, report(2))

        assert len(woken) == 1


class TestCost:
    def statements(self, service: Service, reports: int) -> int:
        with clock.use(lambda: NOON):
            calls = {f"dependency-{number}": make.calls() for number in range(20)}
            ingest = ingested(service, make.report(dependencies=calls))
            for _ in range(reports):
                accept(ingest, service, make.report(dependencies=calls))
            with CaptureQueriesContext(connection) as queries:
                ingest.flush()
        return len(queries)

    def test_ninety_reports_of_one_service_take_as_many_statements_as_one(
        self, service: Service
    ) -> None:
        assert self.statements(service, 1) == self.statements(service, 90)


def _raise(error: Exception) -> Any:
    def fail(*_arguments: Any) -> None:
        raise error

    return fail


def _choosy(hear: Any) -> Any:
    """A database that does not like one name."""

    def choose(instances: Any) -> None:
        found = list(instances)
        if any(row["name"] == "odd" for row in found):
            raise DataError("invalid byte sequence")
        hear(found)

    return choose


@contextmanager
def _commit_without_answer() -> Iterator[None]:
    with transaction.atomic():
        yield
    raise OperationalError("server closed the connection")
