"""Claims and outcomes: nobody has what another has, and what is confirmed is confirmed once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.audit.models import Entry
from apps.core import clock
from apps.deadletters import services
from apps.deadletters.models import Claim, DeadLetter, Group, Redrive, RedriveItem
from apps.fleet.models import Service
from tests import make

CLAIM, OUTCOMES = "/api/v1/redrives/claim", "/api/v1/redrives/outcomes"
MINUTE = timedelta(seconds=60)


class Watch:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    with clock.use(watch):
        yield watch


@pytest.fixture
def service(db: None) -> Service:
    return make.service()


@pytest.fixture
def client(service: Service) -> APIClient:
    return make.client(of=service, scopes=["redrives:work"])


def claimed(client: APIClient, **body: Any) -> list[dict[str, Any]]:
    answer = client.post(CLAIM, {"handlers": ["charge-card"], "lease_seconds": 60} | body)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def told(client: APIClient, work: dict[str, Any], outcome: str, **more: Any) -> str:
    """The verdict on one outcome."""
    item = {"id": work["id"], "claim": work["claim"], "outcome": outcome} | more
    answer = client.post(OUTCOMES, {"items": [item]})
    assert answer.status_code == 200, answer.content
    return str(answer.json()["items"][0]["status"])


def numbers() -> dict[str, int]:
    """Counts of the one redrive that are not zero."""
    redrive = Redrive.objects.get()
    names = ("pending", "claimed", "resolved", "refailed", "skipped")
    return {name: getattr(redrive, name) for name in names if getattr(redrive, name)}


def status() -> str:
    return DeadLetter.objects.get().status


class TestClaim:
    def test_gives_the_letter_with_its_body_and_the_lease(
        self, service: Service, client: APIClient, watch: Watch
    ) -> None:
        (letter,) = make.letters(service, "order-1")
        make.redrive(letter)

        (work,) = claimed(client)

        assert work | {"claim": ""} == {
            "id": letter.pk,
            "claim": "",
            "handler": "charge-card",
            "idempotency_key": "charge-1",
            "redrive_count": 0,
            "lease_remaining_seconds": 60.0,
            "headers": {"task": "charge"},
            "body": {
                "encoding": "utf-8",
                "content_type": "application/json",
                "data": '{"order": 1}',
            },
        }
        assert status() == "redriven"
        assert numbers() == {"claimed": 1}

    def test_bytes_come_back_as_they_went(self, service: Service, client: APIClient) -> None:
        body = {"encoding": "base64", "content_type": "image/png", "data": "AP9oZWxsbwA="}
        make.redrive(*make.letters(service, body=body))

        (work,) = claimed(client)

        assert work["body"] == body

    def test_what_nobody_redrives_is_not_handed_out(
        self, service: Service, client: APIClient
    ) -> None:
        make.letters(service)

        assert claimed(client) == []

    def test_only_the_services_own_for_the_handlers_it_names(
        self, service: Service, client: APIClient
    ) -> None:
        other = make.service(service.environment)
        make.redrive(*make.letters(other), *make.letters(service, handler="send-mail"))

        assert claimed(client) == []
        assert len(claimed(client, handlers=["send-mail"])) == 1

    def test_never_more_than_asked_for_oldest_first(
        self, service: Service, client: APIClient
    ) -> None:
        letters = make.letters(service, "a", "b", "c")
        make.redrive(*letters)

        found = [[work["id"] for work in claimed(client, limit=2)] for _turn in range(3)]

        assert found == [[letters[0].pk, letters[1].pk], [letters[2].pk], []]

    def test_a_paused_redrive_hands_nothing_out(self, service: Service, client: APIClient) -> None:
        redrive = make.redrive(*make.letters(service))
        actor = make.actor(service.environment)
        services.pause_redrive(redrive.pk, version=None, reason="x", actor=actor)

        assert claimed(client) == []

        services.resume_redrive(redrive.pk, version=None, reason="x", actor=actor)
        assert len(claimed(client)) == 1

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"handlers": []}, "handlers"),
            ({"limit": 101}, "limit"),
            ({"lease_seconds": 29}, "lease_seconds"),
            ({"lease_seconds": 601}, "lease_seconds"),
            ({"wait_seconds": 21}, "wait_seconds"),
            ({"more": 1}, "more"),
        ],
    )
    def test_wrong_values_are_named(
        self, client: APIClient, body: dict[str, Any], field: str
    ) -> None:
        answer = client.post(CLAIM, {"handlers": ["a"]} | body)

        assert answer.status_code == 400
        assert field in answer.json()["errors"]

    def test_the_scope_is_needed(self, service: Service) -> None:
        client = make.client(of=service, scopes=["deadletters:write"])

        statuses = {client.post(path, {}).status_code for path in (CLAIM, OUTCOMES)}

        assert statuses == {403}


class TestOutcomes:
    @pytest.fixture
    def work(self, service: Service, client: APIClient, watch: Watch) -> dict[str, Any]:
        """One letter that this worker has for 60 seconds."""
        make.redrive(*make.letters(service, "order-1"))
        watch.advance(1)
        return claimed(client)[0]

    def test_resolved_ends_letter_and_redrive(
        self, client: APIClient, work: dict[str, Any]
    ) -> None:
        verdict = told(client, work, "resolved", duration_seconds=0.2)

        assert verdict == "accepted"
        assert status() == "resolved"
        assert Group.objects.get().unresolved == 0
        assert Redrive.objects.get().state == "done"
        assert numbers() == {"resolved": 1}
        assert Entry.objects.filter(action="redrive.finished").count() == 1

    def test_said_again_it_is_confirmed_once(self, client: APIClient, work: dict[str, Any]) -> None:
        verdicts = [told(client, work, "resolved") for _turn in range(3)]

        assert verdicts == ["accepted"] * 3
        assert numbers() == {"resolved": 1}

    def test_a_worker_that_changes_its_mind_is_late(
        self, client: APIClient, work: dict[str, Any]
    ) -> None:
        verdicts = [told(client, work, each) for each in ("resolved", "refailed", "released")]

        assert verdicts == ["accepted", "late", "late"]
        assert status() == "resolved"

    def test_refailed_waits_for_somebody(self, client: APIClient, work: dict[str, Any]) -> None:
        error = {"class": "Declined", "message": "no money", "stack": "in charge"}

        told(client, work, "refailed", error=error)

        letter = DeadLetter.objects.get()
        assert (letter.status, letter.redrive_count) == ("refailed", 1)
        assert RedriveItem.objects.get().error == "Declined: no money\nin charge"
        assert numbers() == {"refailed": 1}
        assert claimed(client) == []

    def test_released_waits_for_another(self, client: APIClient, work: dict[str, Any]) -> None:
        told(client, work, "released")

        assert numbers() == {"pending": 1}
        assert status() == "redrive_pending"
        (again,) = claimed(client)
        assert (again["id"], again["claim"] != work["claim"]) == (work["id"], True)

    def test_extend_counts_the_lease_anew(
        self, client: APIClient, work: dict[str, Any], watch: Watch
    ) -> None:
        watch.advance(50)
        verdict = told(client, work, "extend")
        watch.advance(50)

        assert services.return_expired() == 0
        assert verdict == "accepted"
        assert told(client, work, "resolved") == "accepted"

    def test_a_dead_workers_letter_goes_to_another_after_its_lease(
        self, client: APIClient, work: dict[str, Any], watch: Watch
    ) -> None:
        watch.advance(59)
        assert (services.return_expired(), claimed(client)) == (0, [])

        watch.advance(1)
        assert (services.return_expired(), services.return_expired()) == (1, 0)

        (again,) = claimed(client)
        assert again["idempotency_key"] == work["idempotency_key"]
        assert told(client, again, "resolved") == "accepted"

    def test_a_late_resolved_still_resolves_and_counts_once(
        self, client: APIClient, work: dict[str, Any], watch: Watch
    ) -> None:
        watch.advance(60)
        services.return_expired()
        (again,) = claimed(client)

        assert told(client, work, "resolved") == "late"
        assert status() == "resolved"
        assert told(client, again, "resolved") == "late"
        assert told(client, again, "refailed") == "late"
        assert numbers() == {"resolved": 1}
        assert not Claim.objects.filter(ended_at=None).exists()

    @pytest.mark.parametrize("outcome", ["refailed", "released", "extend"])
    def test_any_other_late_outcome_changes_nothing(
        self, client: APIClient, work: dict[str, Any], watch: Watch, outcome: str
    ) -> None:
        watch.advance(60)
        services.return_expired()

        assert told(client, work, outcome) == "late"
        assert status() == "redrive_pending"
        assert numbers() == {"pending": 1}

    def test_a_late_resolved_says_nothing_of_a_later_failure(
        self, service: Service, client: APIClient, work: dict[str, Any], watch: Watch
    ) -> None:
        watch.advance(60)
        services.return_expired()
        make.letters(service, "order-1", last_failed_at="2026-11-22T15:00:30Z")

        assert told(client, work, "resolved") == "late"
        assert status() == "redrive_pending"

    def test_resolved_in_time_says_nothing_of_a_later_failure_either(
        self, service: Service, client: APIClient, work: dict[str, Any], watch: Watch
    ) -> None:
        watch.advance(1)
        make.letters(service, "order-1", last_failed_at="2026-11-22T15:00:30Z")

        assert told(client, work, "resolved") == "accepted"
        assert status() == "new"
        assert numbers() == {"resolved": 1}

    def test_what_was_never_claimed_is_unknown(
        self, service: Service, client: APIClient, work: dict[str, Any]
    ) -> None:
        other = make.client(of=make.service(service.environment))

        assert told(client, work | {"id": work["id"] + 1}, "resolved") == "unknown"
        assert told(client, work | {"claim": "0" * 32}, "resolved") == "unknown"
        assert told(other, work, "resolved") == "unknown"
        assert numbers() == {"claimed": 1}

    def test_many_at_once_are_answered_in_their_order(
        self, service: Service, client: APIClient
    ) -> None:
        make.redrive(*make.letters(service, "a", "b", "c", "d"))
        work = claimed(client)
        said = ["resolved", "refailed", "released", "resolved", "resolved"]
        items = [
            {"id": each["id"], "claim": each["claim"], "outcome": outcome}
            for each, outcome in zip([*work, work[0]], said, strict=True)
        ]

        answer = client.post(OUTCOMES, {"items": items}).json()["items"]

        assert [each["status"] for each in answer] == ["accepted"] * 5
        assert numbers() == {"pending": 1, "resolved": 2, "refailed": 1}

    def test_the_third_failed_redrive_quarantines(
        self, service: Service, client: APIClient
    ) -> None:
        (letter,) = make.letters(service)
        seen = []

        for _turn in range(3):
            make.redrive(letter)
            told(client, claimed(client)[0], "refailed")
            seen.append(status())

        assert seen == ["refailed", "refailed", "quarantined"]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_two_workers_never_get_the_same_letter(self) -> None:
        service = make.service()
        make.redrive(*make.letters(service, *(f"order-{number}" for number in range(60))))
        barrier = Barrier(4, timeout=30)

        def work(_worker: int) -> list[int]:
            barrier.wait()
            try:
                return [
                    each.letter.pk
                    for _turn in range(5)
                    for each in services.claim(service, ["charge-card"], limit=5, lease=MINUTE)
                ]
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as threads:
            taken = [key for found in threads.map(work, range(4)) for key in found]

        assert len(taken) == len(set(taken)) == 60
        assert numbers() == {"claimed": 60}

    def test_one_outcome_said_by_many_counts_once(self) -> None:
        service = make.service()
        make.redrive(*make.letters(service))
        (work,) = services.claim(service, ["charge-card"], limit=1, lease=MINUTE)
        said = services.Outcome(work.letter.pk, work.claim, "resolved")
        barrier = Barrier(8, timeout=30)

        def settle(_worker: int) -> list[str]:
            barrier.wait()
            try:
                return list(services.settle(service, [said]))
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as threads:
            verdicts = list(threads.map(settle, range(8)))

        assert verdicts == [["accepted"]] * 8
        assert numbers() == {"resolved": 1}
        assert Group.objects.get().unresolved == 0
