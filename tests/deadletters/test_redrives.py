"""Letters, groups and redrives over HTTP; what is kept, and for how long."""

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.audit.models import Entry
from apps.core import clock
from apps.deadletters import rules, selectors, services
from apps.deadletters.models import DeadLetter, Group, Redrive
from apps.fleet.models import Service
from tests import make

API = "/api/v1"


@pytest.fixture
def service(db: None) -> Service:
    return make.service()


@pytest.fixture
def client(service: Service) -> APIClient:
    return make.client(service.environment, scopes=["config:read", "redrives:write"])


def redrive(client: APIClient, **body: Any) -> Any:
    return client.post(f"{API}/redrives", {"reason": "provider is back"} | body)


class TestLetters:
    def test_lists_are_filtered(self, service: Service, client: APIClient) -> None:
        make.letters(service, "a", "b", handler="send-mail")
        make.letters(service, "c")

        found = client.get(f"{API}/dead-letters?handler=send-mail&status=new").json()["results"]

        assert [each["dedup_key"] for each in found] == ["b", "a"]
        assert "body" not in found[0]

    def test_content_is_for_those_who_may_redrive(self, service: Service) -> None:
        (letter,) = make.letters(service)
        address = f"{API}/dead-letters/{letter.pk}/content"

        reader = make.client(service.environment, scopes=["config:read"]).get(address)
        operator = make.client(service.environment, scopes=["redrives:write"]).get(address)

        assert reader.status_code == 403
        assert operator.json()["body"]["data"] == '{"order": 1}'

    def test_discard_says_why_and_comes_with_if_match(
        self, service: Service, client: APIClient
    ) -> None:
        (letter,) = make.letters(service)
        address, body = f"{API}/dead-letters/{letter.pk}/discard", {"reason": "paid in cash"}

        statuses = [
            client.post(address, body).status_code,
            client.post(address, body, headers={"If-Match": '"9"'}).status_code,
            client.post(address, {}, headers={"If-Match": '"1"'}).status_code,
            client.post(address, body, headers={"If-Match": '"1"'}).status_code,
            client.post(address, body, headers={"If-Match": '"2"'}).status_code,
        ]

        assert statuses == [428, 412, 400, 200, 409]
        assert DeadLetter.objects.get().status == "discarded"
        assert Entry.objects.filter(action="dead_letter.discarded").count() == 1

    def test_a_group_is_given_up_but_for_what_is_under_way(
        self, service: Service, client: APIClient
    ) -> None:
        letters = make.letters(service, "a", "b", "c")
        make.redrive(letters[0])

        answer = client.post(
            f"{API}/dead-letter-groups/{letters[0].group_id}/discard", {"reason": "old"}
        )

        assert answer.json() == {"discarded": 2}
        assert Group.objects.get().unresolved == 1


class TestRedrive:
    def test_the_choice_is_frozen(self, service: Service, client: APIClient) -> None:
        (letter,) = make.letters(service, "a")

        answer = redrive(client, group=letter.group_id)
        make.letters(service, "b")

        assert answer.status_code == 201
        assert answer["Location"] == f"{API}/redrives/{answer.json()['id']}"
        assert answer.json()["total"] == 1
        assert DeadLetter.objects.get(dedup_key="b").status == "new"
        assert Entry.objects.filter(action="redrive.started").count() == 1

    def test_a_letter_is_in_one_redrive_at_a_time(
        self, service: Service, client: APIClient
    ) -> None:
        one, two = make.letters(service, "a", "b")
        redrive(client, letters=[one.pk])

        again = redrive(client, letters=[one.pk])
        both = redrive(client, letters=[one.pk, two.pk])

        assert again.status_code == 409
        counts = both.json()
        assert (counts["total"], counts["pending"], counts["skipped"]) == (2, 1, 1)

    def test_a_group_leaves_poison_out_but_one_may_choose_it(
        self, service: Service, client: APIClient
    ) -> None:
        (letter,) = make.letters(service)
        DeadLetter.objects.update(status="quarantined")

        group = redrive(client, group=letter.group_id)
        one = redrive(client, letters=[letter.pk])

        assert (group.status_code, one.status_code) == (409, 201)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"letters": []},
            {"letters": [0]},
            {"letters": [1], "group": 1},
            {"letters": [2**62]},
            {"letters": ["1"]},
            {"letters": [1], "reason": " "},
        ],
    )
    def test_wrong_choices_are_refused(self, client: APIClient, body: dict[str, Any]) -> None:
        assert redrive(client, **body).status_code == 400

    def test_another_environments_letters_are_not_there(self, client: APIClient) -> None:
        (theirs,) = make.letters(make.service())

        assert redrive(client, letters=[theirs.pk]).status_code == 400
        assert redrive(client, group=theirs.group_id).status_code == 404
        assert not Redrive.objects.exists()

    def test_a_services_token_redrives_nothing(self, service: Service) -> None:
        (letter,) = make.letters(service)

        answer = redrive(make.client(of=service), letters=[letter.pk])

        assert answer.status_code == 403

    def test_cancelling_gives_back_what_waits_as_it_was(
        self, service: Service, client: APIClient
    ) -> None:
        letters = make.letters(service, "a", "b")
        DeadLetter.objects.filter(pk=letters[1].pk).update(status="acknowledged")
        address = redrive(client, letters=[letter.pk for letter in letters])["Location"]
        (work,) = services.claim(service, ["charge-card"], limit=1, lease=timedelta(seconds=60))

        ended = client.post(f"{address}/end", {"reason": "x"}, headers={"If-Match": '"1"'}).json()

        assert (ended["state"], ended["skipped"], ended["claimed"]) == ("cancelled", 1, 1)
        assert ended["ended_at"] is None
        assert DeadLetter.objects.get(pk=letters[1].pk).status == "acknowledged"

        said = services.Outcome(work.letter.pk, work.claim, "resolved")
        assert services.settle(service, [said]) == ["accepted"]
        over = client.get(address).json()
        assert (over["state"], over["resolved"], over["ended_at"] is None) == (
            "cancelled",
            1,
            False,
        )

    def test_a_lease_that_ends_after_the_cancelling_skips(self, service: Service) -> None:
        made = make.redrive(*make.letters(service))
        services.claim(service, ["charge-card"], limit=1, lease=timedelta(seconds=60))
        services.end_redrive(
            made.pk, version=None, reason="x", actor=make.actor(service.environment)
        )

        later = clock.now() + timedelta(seconds=61)
        with clock.use(lambda: later):
            services.return_expired()

        made.refresh_from_db()
        assert (made.state, made.skipped, made.ended_at is None) == ("cancelled", 1, False)
        assert DeadLetter.objects.get().status == "new"

    def test_items_say_what_failed_again(self, service: Service, client: APIClient) -> None:
        address = redrive(client, letters=[make.letters(service)[0].pk])["Location"]
        (work,) = services.claim(service, ["charge-card"], limit=1, lease=timedelta(seconds=60))
        said = services.Outcome(work.letter.pk, work.claim, "refailed", error="Declined")
        services.settle(service, [said])

        (item,) = client.get(f"{address}/items?state=refailed").json()["results"]

        assert (item["letter"], item["error"]) == (work.letter.pk, "Declined")


class TestKeeping:
    def test_what_is_over_goes_after_its_time_and_the_rest_stays(self, service: Service) -> None:
        for status in DeadLetter._meta.get_field("status").choices or ():
            make.letters(service, status[0])
            DeadLetter.objects.filter(dedup_key=status[0]).update(
                status=status[0], discard_reason="x"
            )
        Group.objects.update(unresolved=6)
        later = clock.now() + timedelta(days=31)

        with clock.use(lambda: later):
            removed = services.prune()

        assert removed == 2
        assert set(DeadLetter.objects.values_list("status", flat=True)) == rules.UNRESOLVED
        assert Group.objects.values_list("letters", "unresolved").get() == (6, 6)

    def test_before_their_time_nothing_goes(self, service: Service) -> None:
        make.letters(service)
        DeadLetter.objects.update(status="resolved")

        assert services.prune() == 0

    def test_groups_and_redrives_without_letters_go_too(self, service: Service) -> None:
        make.redrive(*make.letters(service))
        (work,) = services.claim(service, ["charge-card"], limit=1, lease=timedelta(seconds=60))
        services.settle(service, [services.Outcome(work.letter.pk, work.claim, "resolved")])
        later = clock.now() + timedelta(days=31)

        with clock.use(lambda: later):
            services.prune()

        assert not Group.objects.exists()
        assert not Redrive.objects.exists()


class TestDepths:
    def test_every_service_by_name(self, service: Service, django_assert_num_queries: Any) -> None:
        other = make.service(service.environment, "a-first")
        make.letters(service, "a", "b")
        make.letters(other, "c")
        DeadLetter.objects.filter(dedup_key="b").update(status="resolved")
        DeadLetter.objects.filter(dedup_key="c").update(
            captured_at=clock.now() - timedelta(hours=1)
        )

        with django_assert_num_queries(2):
            found = selectors.depths(service.environment_id)

        assert [(each.service, each.unresolved, each.arrived) for each in found] == [
            ("a-first", 1, 0),
            (service.slug, 1, 2),
        ]
        assert found[0].oldest_at == DeadLetter.objects.get(dedup_key="c").first_failed_at

    def test_causes_are_counted_by_the_hour(self, service: Service) -> None:
        make.letters(service, "a", "b")
        make.letters(service, "c", error={"class": "Declined"})
        DeadLetter.objects.filter(dedup_key="b").update(
            captured_at=clock.now() - timedelta(hours=2)
        )

        causes = selectors.causes(frozenset({service.environment_id}), hours=4)

        assert [(cause.error_class, cause.total) for cause in causes] == [
            ("ConnectTimeout", 2),
            ("Declined", 1),
        ]
        assert list(causes[0].by_hour) == [0, 1, 0, 1]
