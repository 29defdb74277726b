"""Heartbeats: jobs that ping count once each, and what never comes is missed."""

import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.core import clock
from apps.fleet.models import Environment
from apps.health import prober, services
from apps.health.models import Check, Result, Transition
from apps.health.runner import Runner
from tests import make

pytestmark = pytest.mark.django_db

NOW = clock.now()
RUN = str(uuid.UUID(int=7))


def at(seconds: float) -> Any:
    return clock.use(lambda: moment(seconds))


def moment(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def job() -> Check:
    """Expected every 100 s, a minute late at most."""
    with at(0):
        return make.check(kind="heartbeat", interval_seconds=100)


def ping(job: Check, said: dict[str, Any] | None = None, *, client: Client | None = None) -> Any:
    client = client or make.client(job.environment)
    answer = client.post(f"/api/v1/checks/{job.pk}/ping", said)
    job.refresh_from_db()
    return answer


def run_due() -> None:
    """What a web process does about checks that are due."""
    runner = Runner(prober.Prober())
    runner.begin()
    while runner.under_way:
        runner.round(stopping)


stopping = threading.Event()
stopping.set()


class TestMissing:
    def test_pinged_in_time_it_is_up(self, job: Check) -> None:
        with at(10):
            answer = ping(job)

        assert answer.status_code == 200
        assert (answer.json()["counted"], answer.json()["status"]) == (True, "up")
        assert job.next_at == moment(170)

    def test_late_it_is_down_at_once_with_history_and_with_a_ping_back(self, job: Check) -> None:
        with at(10):
            ping(job)
        with at(168):  # it is looked for a little before it is due
            run_due()
        still = Check.objects.get().status
        with at(171):
            run_due()
        job.refresh_from_db()
        with at(180):
            ping(job)

        assert (still, job.status) == ("up", "up")
        moves = [each.to_status for each in Transition.objects.order_by("at")]
        assert moves == ["up", "down", "up"]
        assert Transition.objects.get(to_status="down").detail == "no ping came in time"

    def test_one_that_never_pings_is_down_too(self, job: Check) -> None:
        with at(159):
            assert services.claim_due(9) == []
        with at(161):
            run_due()

        job.refresh_from_db()
        assert (job.status, job.next_at) == ("down", moment(261))

    def test_one_that_began_and_never_ends_is_down(self, job: Check) -> None:
        with at(10):
            ping(job, {"state": "start"})
        with at(3500):
            assert services.claim_due(9) == []
        with at(3611):
            run_due()

        job.refresh_from_db()
        assert (job.status, job.started_at) == ("down", None)
        assert "did not end within 3600 s" in job.detail

    def test_a_ping_overtakes_the_runner_that_would_say_it_was_missed(self, job: Check) -> None:
        with at(161):
            (claimed,) = services.claim_due(9)
            ping(job)
            outcome = prober.current.submit(claimed.target).result(5)  # type: ignore[arg-type]

            assert not services.record(claimed, outcome)
        assert Check.objects.get().status == "up"


class TestRuns:
    def test_start_and_end_give_the_duration_and_the_exit_code(self, job: Check) -> None:
        with at(10):
            ping(job, {"run": RUN, "state": "start"})
        with at(52.5):
            ping(job, {"run": RUN, "exit_code": 3})

        assert (job.status, job.latency_seconds) == ("down", 42.5)
        assert job.detail == "its job failed with exit code 3"
        assert job.facts == {"exit_code": 3}

    def test_what_is_sent_again_counts_once_in_whatever_order(self, job: Check) -> None:
        start, end = {"run": RUN, "state": "start"}, {"run": RUN, "duration_seconds": 4}
        with at(10):
            counted = [ping(job, said).json()["counted"] for said in (start, start, end)]
        with at(60):
            counted += [ping(job, said).json()["counted"] for said in (end, start)]

        assert counted == [True, False, True, False, False]
        assert (job.started_at, job.next_at) == (None, moment(170))
        assert [each.latency_seconds for each in Result.objects.all()] == [4]

    def test_of_a_check_that_does_not_run_nothing_counts(self) -> None:
        job = make.check(kind="heartbeat", enabled=False)

        assert ping(job).json() == {"counted": False, "status": "unknown", "expected_by": None}
        assert not Result.objects.exists()


class TestDoor:
    def test_a_services_own_token_is_enough(self, job: Check) -> None:
        service = make.service(job.environment)
        client = make.client(of=service, scopes=["reports:write"])

        answer = client.generic("POST", f"/api/v1/checks/{job.pk}/ping")  # curl -X POST

        assert answer.status_code == 200

    def test_a_token_that_only_reads_is_not(self, job: Check) -> None:
        client = make.client(job.environment, scopes=["config:read"])

        assert ping(job, client=client).status_code == 403

    def test_others_find_nothing(self, job: Check) -> None:
        assert ping(job, client=make.client(make.environment())).status_code == 404

    @pytest.mark.parametrize(
        ("said", "field"),
        [
            ({"state": "begin"}, "state"),
            ({"state": "success", "exit_code": 1}, "state"),
            ({"exit_code": 256}, "exit_code"),
            ({"duration_seconds": -1}, "duration_seconds"),
            ({"run": "7"}, "run"),
            ({"code": 1}, "code"),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_name(
        self, job: Check, said: dict[str, Any], field: str
    ) -> None:
        answer = ping(job, said)

        assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])

    def test_only_heartbeats_are_pinged_and_they_are_not_tested(self, job: Check) -> None:
        check = make.check(job.environment)

        assert ping(check).status_code == 400
        tested = make.client(job.environment).post(f"/api/v1/checks/{job.pk}/test", {})
        assert tested.status_code == 400

    def test_it_has_no_address(self, place: Environment) -> None:
        body = {"name": "backup", "kind": "heartbeat", "address": "http://127.0.0.1/"}

        answer = make.client(place).post("/api/v1/checks", body)

        assert list(answer.json()["errors"]) == ["address"]


class TestPage:
    def test_it_shows_how_to_ping(self, job: Check) -> None:
        answer = make.browser().get(reverse("admin:health_check_change", args=[job.pk]))

        shown = answer.content.decode()
        assert f"http://testserver/api/v1/checks/{job.pk}/ping" in shown
        assert "No ping has come yet" in shown


@pytest.fixture
def place() -> Environment:
    return make.environment()
